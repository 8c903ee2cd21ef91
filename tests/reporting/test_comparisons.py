"""Pictures that put arms side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from flashfm.errors import DataError
from flashfm.reporting.comparisons import predicted_lines, time_ranges

Words = Callable[[Path], list[str]]


def lines(panels: int = 2, of: int = 3) -> pd.DataFrame:
    rows = [
        {"panel": f"method {p}", "line": f"from {i}", "memory_mb": mb, "runtime_ms": 90.0 + i, "measured_ms": 9e4 / mb}
        for p in range(panels)
        for i in range(of)
        for mb in (128, 512, 3008)
    ]
    return pd.DataFrame(rows)


def times(groups: int = 2, arms: int = 3) -> pd.DataFrame:
    rows = [
        {"group": f"group {g}", "arm": f"arm {a}", "ms": 2.0 * 10**a, "low": 1.0 * 10**a, "high": 3.0 * 10**a}
        for g in range(groups)
        for a in range(arms)
    ]
    return pd.DataFrame(rows)


def test_every_panel_and_line_is_named(tmp_path: Path, words_of: Words) -> None:
    shown = words_of(predicted_lines(lines(), tmp_path / "a.svg", title="Two methods", note="one split"))
    assert {"Two methods", "one split", "method 0", "method 1", "from 0", "from 2", "measured", "run time"} <= set(
        shown
    )
    assert {"128", "512", "3008"} <= set(shown)


def test_times_are_said_beside_their_dots(tmp_path: Path, words_of: Words) -> None:
    shown = words_of(time_ranges(times(), tmp_path / "a.svg", title="Cost"))
    assert {"Cost", "group 0", "group 1", "arm 0", "2 ms", "20 ms", "200 ms"} <= set(shown)
    shown = words_of(time_ranges(times().assign(words="so long"), tmp_path / "b.svg"))
    assert shown.count("so long") == 6


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lines().drop(columns="line"), "needs the column 'line'"),
        (lines(panels=5), "5 panels of 3 lines to draw"),
        (lines(of=7), "2 panels of 7 lines"),
        (lines().assign(runtime_ms=0.0), "row 1, column 'runtime_ms': expected a number above 0, got 0"),
    ],
)
def test_lines_that_cannot_be_drawn(wrong: pd.DataFrame, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        predicted_lines(wrong, tmp_path / "a.png")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (times().drop(columns="high"), "needs the column 'high'"),
        (times(groups=5), "5 groups of 3 arms to draw"),
        (times(arms=15), "2 groups of 15 arms"),
        (times().assign(low=-1.0), "row 1, column 'low'"),
    ],
)
def test_times_that_cannot_be_drawn(wrong: pd.DataFrame, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        time_ranges(wrong, tmp_path / "a.png")
