"""The spread of arms: what is drawn, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flashfm.errors import DataError
from flashfm.reporting.scaling_bars import MAX_ARMS, spread_bars


def frame_of(**changes: Any) -> pd.DataFrame:
    rows = [
        {
            "section": section,
            "panel": panel,
            "arm": arm,
            "low": 0.1,
            "lower": 0.2,
            "middle": 0.4,
            "upper": 0.5,
            "high": 2.0,
        }
        for section, arms in (("unseen", ("A", "B")), ("updates", ("A", "C", "D")))
        for panel in ("reward", "p99")
        for arm in arms
    ]
    return pd.DataFrame(rows).assign(**changes)


def test_every_section_has_its_own_arms(tmp_path: Path) -> None:
    path = spread_bars(frame_of(), tmp_path / "bars.svg", ours=("A",), log=("p99",), title="Arms", note="small")
    text = path.read_text()
    for words in ("Arms", "unseen", "updates", "reward", "p99", "small", ">A<", ">B<", ">C<", ">D<"):
        assert words in text
    assert text.count(">A<") == 2
    assert text.count(">B<") == text.count(">C<") == 1


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (frame_of().drop(columns="upper"), "upper"),
        (frame_of().iloc[:0], "0 sections"),
        (frame_of(lower=0.6), "ascending quantiles"),
        (frame_of(high=float("inf")), "finite"),
        (frame_of(low=-0.1), "above 0 on a logarithmic axis"),
        (
            frame_of(arm=[f"arm {i}" for i in range(10)]).pipe(lambda f: pd.concat([f] * 3).assign(arm=range(30))),
            "arms",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path: Path, frame: pd.DataFrame, words: str) -> None:
    with pytest.raises(DataError, match=words):
        spread_bars(frame, tmp_path / "bars.png", log=("p99",))
    assert not list(tmp_path.iterdir())
    assert MAX_ARMS < 30


def test_a_linear_axis_takes_values_below_zero(tmp_path: Path) -> None:
    assert spread_bars(frame_of(low=-0.1), tmp_path / "bars.png").stat().st_size > 0
