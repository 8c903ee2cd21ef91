"""Pictures of predictions: they say what is predicted, measured and recommended, and refuse what cannot be drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.errors import DataError
from flashfm.reporting import predicted_curves

Words = Callable[[Path], list[str]]
Size = Callable[[Path], tuple[int, int]]
SIZES = np.array([128.0, 256.0, 512.0, 1024.0, 2048.0, 3008.0])


def predictions(*apps: str, costs: bool = False) -> pd.DataFrame:
    parts = []
    for i, app in enumerate(apps):
        runtime = 20.0 + 60 * (i + 1) / np.minimum(1, SIZES / 1769)
        known = SIZES == 1024
        part = {"app": app, "memory_mb": SIZES, "runtime_ms": runtime, "lower_ms": runtime / 1.2}
        part |= {"upper_ms": runtime * 1.2, "measured_ms": runtime * 1.05, "shot": known}
        if costs:
            cost = runtime * SIZES / 60_000
            part |= {"usd_per_million": cost, "usd_lower": cost / 1.2, "usd_upper": cost * 1.2}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def test_what_the_picture_says(tmp_path: Path, words_of: Words) -> None:
    frame = predictions("booking", "images")
    notes = {"booking": "saves 31 % (12 % to 44 %) of the cost"}
    path = predicted_curves(
        frame, tmp_path / "a.svg", recommended={"booking": 512.0}, title="From one measurement", notes=notes
    )
    shown = words_of(path)
    assert {"From one measurement", "booking", "images", "use 512 MB", "128", "3008", "memory size (MB)"} <= set(shown)
    assert {"predicted", "90 % interval", "measured, given to it", "measured, not given", "recommended"} <= set(shown)
    assert any("saves 31\u00a0%" in words for words in shown)
    assert shown.count("run time") == 2 - 1, "the axis is named once in a row"
    again = predicted_curves(
        frame, tmp_path / "b.svg", recommended={"booking": 512.0}, title="From one measurement", notes=notes
    )
    assert again.read_bytes() == path.read_bytes(), "the same picture is the same file"


def test_only_what_is_there_is_in_the_key(tmp_path: Path, words_of: Words) -> None:
    bare = predictions("booking").drop(columns=["measured_ms", "shot"])
    shown = words_of(predicted_curves(bare, tmp_path / "a.svg"))
    assert not {"measured, given to it", "measured, not given", "recommended"} & set(shown)


def test_costs_add_panels(tmp_path: Path, words_of: Words) -> None:
    frame = predictions("booking", "images", "events", costs=True)
    shown = words_of(predicted_curves(frame, tmp_path / "a.svg", recommended={"events": 256.0}))
    assert "USD per million runs" in shown
    assert "USD per million runs" not in words_of(predicted_curves(predictions("booking"), tmp_path / "b.svg"))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_any_number_of_panels_has_the_size_asked_for(n: int, tmp_path: Path, png_size: Size) -> None:
    names = [f"application-{i}" for i in range(n)]
    assert png_size(predicted_curves(predictions(*names), tmp_path / "a.png")) == (1200, 700)
    if n <= 4:
        path = predicted_curves(predictions(*names, costs=True), tmp_path / "b.png", size_px=(900, 600))
        assert png_size(path) == (900, 600)


def test_another_axis_and_hostile_names(tmp_path: Path, words_of: Words) -> None:
    frame = predictions("$\\frac{<b>").rename(columns={"memory_mb": "cpu_shares"})
    shown = words_of(
        predicted_curves(frame, tmp_path / "a.svg", axis="cpu_shares", recommended={"$\\frac{<b>": 2048.0})
    )
    assert {"$\\frac{<b>", "use 2048", "CPU shares"} <= set(shown)
    one = predictions("a").head(1)
    predicted_curves(one, tmp_path / "b.png", recommended={"a": 128.0})


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    frame = predictions("booking")
    many = predictions(*(f"{i}" for i in range(7)))
    for wrong, said in [
        (frame.drop(columns="upper_ms"), "need the column 'upper_ms', got app"),
        (frame.head(0), "0 applications"),
        (many, "7 applications to draw, expected 1 to 6"),
        (predictions(*"abcde", costs=True), "5 applications to draw with costs, expected 1 to 4"),
        (frame.assign(lower_ms=0.0), "row 1, column 'lower_ms': expected a number above 0, got 0"),
        (frame.assign(memory_mb=np.nan), "row 1, column 'memory_mb'.* got nan"),
    ]:
        with pytest.raises(DataError, match=said):
            predicted_curves(wrong, tmp_path / "a.png")
    with pytest.raises(DataError, match=r"expected a .png or .svg file"):
        predicted_curves(frame, tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []
