"""The picture of a day: it is drawn, and wrong arms or files are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flashfm.errors import DataError
from flashfm.reporting.day import PANELS, day_panels

ARM = {column: np.linspace(1, 20, 50) for column in PANELS}


def test_it_is_drawn_with_a_panel_for_each_value(tmp_path: Path, words_of: Callable[[Path], list[str]]) -> None:
    load = np.linspace(0, 5, 50)
    for step_s, unit in ((300.0, "hours"), (30.0, "minutes")):
        path = day_panels(load, {"one": ARM, "two": ARM}, 3.0, tmp_path / "day.svg", title="a day", step_s=step_s)
        assert {*PANELS.values(), "SLO", "one", "two", "a day", unit, "20"} <= {*words_of(path)}


def test_from_when_on_the_first_arm_knows_the_application_is_marked(
    tmp_path: Path, words_of: Callable[[Path], list[str]]
) -> None:
    drawn = {}
    for step in (None, 0, 20):
        path = tmp_path / f"{step}.svg"
        day_panels(np.ones(50), {"one": ARM}, 3.0, path, title="", step_s=30.0, known_from=step)
        drawn[step] = "from here on one knows the application" in words_of(path)
    assert drawn == {None: False, 0: False, 20: True}


def test_wrong_arms_and_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 arms"):
        day_panels(np.ones(50), {}, 3.0, tmp_path / "day.png", title="", step_s=30.0)
    with pytest.raises(DataError, match="gif"):
        day_panels(np.ones(50), {"one": ARM}, 3.0, tmp_path / "day.gif", title="", step_s=30.0)
