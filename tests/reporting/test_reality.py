"""The picture of predictions against measurements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.errors import DataError
from flashfm.reporting.reality import PANELS, predicted_against_measured


def frame(loads: tuple[float, ...] = (0.25, 0.5, 0.75)) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"load": np.repeat(loads, 4)})
    for name in PANELS:
        table[name] = np.exp(rng.normal(-2, 1, len(table)))
        table[f"{name}_predicted"] = 1.1 * table[name]
    return table


def test_a_panel_a_quantity_with_its_error(tmp_path: Path) -> None:
    path = predicted_against_measured(frame(), tmp_path / "a.svg", title="Served")
    words = path.read_text()
    for heading in PANELS.values():
        assert f"{heading}: median error 10 %" in words
    for load in ("25", "50", "75"):
        assert f"at {load} % of capacity" in words
    again = predicted_against_measured(frame(), tmp_path / "b.svg", title="Served")
    assert again.read_bytes() == path.read_bytes()


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="need the column 'p99_predicted'"):
        predicted_against_measured(frame().drop(columns="p99_predicted"), tmp_path / "a.png")
    with pytest.raises(DataError, match="expected a number above 0"):
        predicted_against_measured(frame().assign(p50=0.0), tmp_path / "a.png")
    with pytest.raises(DataError, match="7 loads to draw"):
        predicted_against_measured(frame(tuple(np.linspace(0.1, 0.7, 7))), tmp_path / "a.png")
