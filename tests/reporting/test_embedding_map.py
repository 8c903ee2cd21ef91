"""Maps of applications."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flashfm.errors import DataError
from flashfm.reporting import embedding_map

Words = Callable[[Path], list[str]]
Size = Callable[[Path], tuple[int, int]]


def test_groups_platforms_and_new_applications_are_named(tmp_path: Path, words_of: Words) -> None:
    rng = np.random.default_rng(0)
    groups = [f"group-{min(i % 12, 10)}" for i in range(120)]
    new: list[str | None] = [None] * 120
    new[3], new[4] = "airline-booking", "$event_processing$"
    shown = words_of(
        embedding_map(
            rng.normal(size=(120, 2)),
            groups,
            tmp_path / "a.svg",
            platforms=["lambda", "openwhisk"] * 60,
            new=new,
            title="A map",
            note="two components",
        )
    )
    assert {"A map", "two components", "lambda", "openwhisk", "airline-booking", "$event_processing$", "new"} <= set(
        shown
    )
    assert {"group-10 (20)", "group-0 (10)", "other (30)"} <= set(shown), (
        "eight groups have a colour, the largest first"
    )
    assert "group-9 (10)" not in shown


def test_small_maps(tmp_path: Path, png_size: Size) -> None:
    one = embedding_map(np.array([[1.0, 2.0]]), ["a"], tmp_path / "a.png")
    assert png_size(one) == (1200, 700)
    same = np.zeros((5, 2))
    names = [f"an application with a long name {i}" for i in range(5)]
    embedding_map(same, list("abcde"), tmp_path / "b.png", new=names, size_px=(800, 500))


def test_the_key_says_only_what_differs(tmp_path: Path, words_of: Words) -> None:
    shown = words_of(embedding_map(np.eye(2), ["a", "other"], tmp_path / "a.svg", platforms=["lambda"] * 2))
    assert "a (1)" in shown
    assert "other (1)" in shown
    assert not {"lambda", "new"} & set(shown)


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    places = np.eye(2)
    for call, said in [
        (lambda: embedding_map(np.zeros((0, 2)), [], tmp_path / "a.png"), "0 places"),
        (lambda: embedding_map(places, ["a"], tmp_path / "a.png"), "2 places, 1 groups"),
        (lambda: embedding_map(places * np.nan, ["a", "b"], tmp_path / "a.png"), "row 1"),
        (
            lambda: embedding_map(np.zeros((7, 2)), ["a"] * 7, tmp_path / "a.png", platforms=list("abcdefg")),
            "7 platforms to draw, expected at most 6",
        ),
    ]:
        with pytest.raises(DataError, match=said):
            call()
    assert list(tmp_path.iterdir()) == []
