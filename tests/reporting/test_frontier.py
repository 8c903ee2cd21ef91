"""The picture of violations against core-hours: a line an arm, and wrong tables are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.errors import DataError
from flashfm.reporting.frontier import MAX_FAMILIES, violations_against_core_hours
from flashfm.reporting.style import PALETTE


def frame(arms: int) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "arm": f"arm {i}",
                "core_hours": np.linspace(4, 12, 3) + i,
                "violations": np.array([0.4, 0.2, 0.1]) / (1 + i),
                "label": ["first", "", ""] if i == 0 else "",
            }
        )
        for i in range(arms)
    ]
    return pd.concat(parts, ignore_index=True)


def test_a_line_an_arm_with_its_name_and_labels(tmp_path: Path, words_of: Callable[[Path], list[str]]) -> None:
    path = violations_against_core_hours(frame(MAX_FAMILIES), tmp_path / "a.svg", title="Frontiers", note="small print")
    words = words_of(path)
    assert {f"arm {i}" for i in range(MAX_FAMILIES)} | {"first", "Frontiers", "small print", "core-hours"} <= {*words}
    assert {"10 %", "20 %", "5", "10"} <= {*words}
    again = violations_against_core_hours(
        frame(MAX_FAMILIES), tmp_path / "b.svg", title="Frontiers", note="small print"
    )
    assert again.read_bytes() == path.read_bytes()


def test_arms_named_alike_up_to_a_comma_have_one_colour(tmp_path: Path) -> None:
    arms = pd.concat([frame(1).assign(arm=name) for name in ("FLASH, before", "FLASH, after", "HPA")])
    words = violations_against_core_hours(arms, tmp_path / "a.svg").read_text()
    assert PALETTE[0] in words.upper()
    assert PALETTE[1] in words.upper()
    assert PALETTE[2] not in words.upper()


def test_labels_may_be_absent(tmp_path: Path, png_size: Callable[[Path], tuple[int, int]]) -> None:
    path = violations_against_core_hours(frame(1).drop(columns="label"), tmp_path / "a.png", size_px=(800, 600))
    assert png_size(path) == (800, 600)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(DataError, match="need the column 'violations'"):
        violations_against_core_hours(frame(1).drop(columns="violations"), path)
    with pytest.raises(DataError, match="expected a number above 0"):
        violations_against_core_hours(frame(1).assign(violations=0.0), path)
    with pytest.raises(DataError, match="7 families"):
        violations_against_core_hours(frame(MAX_FAMILIES + 1), path)
    with pytest.raises(DataError, match="0 families"):
        violations_against_core_hours(frame(1).iloc[:0], path)
    many = [frame(1).assign(arm=f"FLASH, {i} warm-ups") for i in range(4)]
    with pytest.raises(DataError, match="1 families of at most 4 arms"):
        violations_against_core_hours(pd.concat(many), path)
    assert not path.exists()
