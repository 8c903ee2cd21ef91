"""Pictures of scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.errors import DataError
from flashfm.reporting import score_dots

Words = Callable[[Path], list[str]]
Size = Callable[[Path], tuple[int, int]]


def scores(
    methods: int = 3, shots: tuple[int, ...] = (1, 2, 3), datasets: tuple[str, ...] = ("lambda",)
) -> pd.DataFrame:
    rows = [
        {"dataset": data, "method": f"method {m}", "shots": k, "mean": 0.3 / (m + 1) / k, "sd": 0.01}
        for data in datasets
        for k in shots
        for m in range(methods)
    ]
    return pd.DataFrame(rows)


def test_what_the_picture_says(tmp_path: Path, words_of: Words) -> None:
    frame = scores().assign(printed=np.nan, floor=0.021)
    frame.loc[0, "printed"] = 0.046
    shown = words_of(score_dots(frame, tmp_path / "a.svg", ours=["method 2"], title="Unseen", note="20 splits"))
    assert {"Unseen", "20 splits", "1 shot", "2 shots", "method 0", "method 2", "30 %", "3.33 %", "lambda"} <= set(
        shown
    )
    assert {"noise 2.1 %", "mean ± standard deviation of splits", "printed in the paper", "repeat noise"} <= set(shown)


def test_only_what_is_there_is_in_the_key(tmp_path: Path, words_of: Words) -> None:
    shown = words_of(score_dots(scores().drop(columns=["sd", "dataset"]), tmp_path / "a.svg"))
    assert "mean" in shown
    assert not {"printed in the paper", "repeat noise"} & set(shown)


def test_a_printed_value_alone(tmp_path: Path, words_of: Words) -> None:
    frame = pd.concat(
        [scores(2), pd.DataFrame([{"dataset": "lambda", "method": "paper", "shots": 1, "printed": 0.05}])]
    )
    assert "paper" in words_of(score_dots(frame, tmp_path / "a.svg"))


@pytest.mark.parametrize(("methods", "datasets"), [(1, 1), (16, 1), (9, 4)])
def test_few_and_many(methods: int, datasets: int, tmp_path: Path, png_size: Size) -> None:
    frame = scores(methods, (1, 2, 3), tuple(f"data set {i}" for i in range(datasets)))
    assert png_size(score_dots(frame, tmp_path / "a.png", size_px=(1200, 900))) == (1200, 900)
    score_dots(frame.assign(mean=0.3), tmp_path / "b.png")
    score_dots(scores(2, (1,)), tmp_path / "c.png")


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    for wrong, said in [
        (scores().drop(columns="mean"), "need the column 'mean', got dataset"),
        (scores(17), "17 methods in 3 panels to draw, expected 1 to 16"),
        (scores(1, (1, 2, 3), tuple("abcdef")), "1 methods in 18 panels"),
        (scores().head(0), "0 methods"),
        (scores().assign(mean=0.0), "numbers above 0"),
        (scores().assign(mean=np.nan), "numbers above 0"),
    ]:
        with pytest.raises(DataError, match=said):
            score_dots(wrong, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
