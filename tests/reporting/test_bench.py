"""The picture of ratios: a line for each comparison below its group, and wrong tables are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.errors import DataError
from flashfm.reporting.bench import AROUND_PX, MAX_ROWS, ROW_PX, WIDTH_PX, ratio_ranges
from flashfm.reporting.style import PALETTE


def frame(rows: int, groups: int = 1) -> pd.DataFrame:
    ratio = np.geomspace(2.0, 500.0, rows)
    return pd.DataFrame(
        {
            "group": [f"group {i * groups // rows}" for i in range(rows)],
            "what": [f"ours / rival {i}" for i in range(rows)],
            "ratio": ratio,
            "low": ratio / 1.1,
            "high": ratio * 1.2,
        }
    )


def test_what_the_picture_says(tmp_path: Path, words_of: Callable[[Path], list[str]]) -> None:
    path = ratio_ranges(frame(6, 2), tmp_path / "a.svg", title="Beside rivals", note="small print")
    words = {*words_of(path)}
    assert {"group 0", "group 1", "Beside rivals", "small print", "times as fast as the rival"} <= words
    assert {f"ours / rival {i}" for i in range(6)} | {"2", "500"} <= words
    again = ratio_ranges(frame(6, 2), tmp_path / "b.svg", title="Beside rivals", note="small print")
    assert again.read_bytes() == path.read_bytes()


def test_the_slower_have_a_colour_of_their_own(tmp_path: Path) -> None:
    quick = ratio_ranges(frame(2), tmp_path / "a.svg").read_text().upper()
    slow = ratio_ranges(frame(2).assign(ratio=0.5, low=0.4, high=0.6), tmp_path / "b.svg").read_text().upper()
    assert (PALETTE[1] in quick, PALETTE[0] in quick) == (True, False)
    assert (PALETTE[1] in slow, PALETTE[0] in slow) == (False, True)


def test_targets_are_marked_where_there_are_any(tmp_path: Path, words_of: Callable[[Path], list[str]]) -> None:
    some = frame(3).assign(target=[100.0, np.nan, np.nan])
    assert "small print; diamond: target" in words_of(ratio_ranges(some, tmp_path / "a.svg", note="small print"))
    none = frame(3).assign(target=None)
    assert "small print" in words_of(ratio_ranges(none, tmp_path / "b.svg", note="small print"))


@pytest.mark.parametrize("rows", [1, 30, MAX_ROWS - 1])
def test_it_is_as_tall_as_there_are_rows(
    rows: int, tmp_path: Path, png_size: Callable[[Path], tuple[int, int]]
) -> None:
    path = ratio_ranges(frame(rows), tmp_path / "a.png")
    assert png_size(path) == (WIDTH_PX, AROUND_PX + ROW_PX * (rows + 1))


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for wrong, said in [
        (frame(2).drop(columns="low"), "needs the column 'low'"),
        (frame(2).assign(ratio=0.0), "row 1, column 'ratio': expected a number above 0, got 0"),
        (frame(2).assign(target=-1.0), "row 1, column 'target'"),
        (frame(1).iloc[:0], "0 comparisons"),
        (frame(MAX_ROWS), f"{MAX_ROWS} comparisons in 1 groups to draw, expected at least 1"),
    ]:
        with pytest.raises(DataError, match=said):
            ratio_ranges(wrong, path)
    with pytest.raises(DataError, match=r"expected a .png or .svg"):
        ratio_ranges(frame(2), tmp_path / "a.pdf")
    assert not path.exists()
