"""Pictures of error distributions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flashfm.errors import DataError
from flashfm.reporting import error_cdf

Words = Callable[[Path], list[str]]
Size = Callable[[Path], tuple[int, int]]


def errors(*scales: float, n: int = 400) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f"method {i}": scale * np.exp(rng.normal(size=n)) for i, scale in enumerate(scales)}


def test_each_curve_is_labelled_with_its_median(tmp_path: Path, words_of: Words) -> None:
    given = {"base": np.full(100, 0.5), "adapted": np.full(100, 0.04)}
    shown = words_of(error_cdf(given, tmp_path / "a.svg", title="Errors", note="20 splits"))
    assert {"Errors", "20 splits", "base", "adapted", "share of predictions", "absolute percentage error"} <= set(shown)
    assert {"median 50 %, mean 50 %", "median 4 %, mean 4 %"} <= set(shown)
    assert {"5 %", "10 %", "50 %"} <= set(shown)


@pytest.mark.parametrize("n", [1, 6])
def test_few_and_many_curves(n: int, tmp_path: Path, png_size: Size) -> None:
    assert png_size(error_cdf(errors(*np.geomspace(0.001, 2, n)), tmp_path / "a.png")) == (1200, 700)
    error_cdf({"one": np.array([0.0])}, tmp_path / "b.png")


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    for wrong, said in [
        ({}, "0 error curves"),
        (errors(*[0.1] * 7), "7 error curves to draw, expected 1 to 6"),
        ({"a": np.array([])}, "errors of 'a': expected at least one"),
        ({"a": np.array([0.1, -0.1])}, "errors of 'a'"),
        ({"a": np.array([0.1, np.nan])}, "errors of 'a'"),
    ]:
        with pytest.raises(DataError, match=said):
            error_cdf(wrong, tmp_path / "a.png")
    with pytest.raises(DataError, match="cannot be written"):
        error_cdf(errors(0.1), tmp_path / "no" / "a.png")
