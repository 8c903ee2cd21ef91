"""Drops and curves of adaptation: what is drawn, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from flashfm.errors import DataError
from flashfm.reporting.adaptation import SPREAD, drops_and_curves

DROPS = pd.DataFrame([{"arm": arm, **dict(zip(SPREAD, (-0.1, 0.0, 0.1, 0.2, 0.5), strict=True))} for arm in ("A", "B")])
CURVES = pd.DataFrame([{"arm": arm, "episode": i, "reward": 0.5 + i / 50} for arm in ("C", "D") for i in range(5)])


def test_arms_levels_and_words_are_there(tmp_path: Path) -> None:
    path = drops_and_curves(
        DROPS, CURVES, tmp_path / "a.svg", levels={"converged": 0.68}, ours=("A",), title="Moved", note="small"
    )
    text = path.read_text()
    for words in ("Moved", "small", "converged", ">A<", ">B<", ">C<", ">D<"):
        assert words in text


@pytest.mark.parametrize(
    ("drops", "curves", "levels", "words"),
    [
        (DROPS.drop(columns=SPREAD[0]), CURVES, {}, "drops need"),
        (DROPS, CURVES.drop(columns="reward"), {}, "curves need"),
        (DROPS.iloc[:0], CURVES, {}, "0 arms"),
        (DROPS.assign(**{SPREAD[2]: 9.0}), CURVES, {}, "expected finite ascending quantiles"),
        (DROPS, CURVES.assign(reward=float("nan")), {}, "expected a finite reward"),
        (DROPS, CURVES.assign(episode=-1), {}, "after 0 or more episodes, got 0.5 at -1"),
        (DROPS, CURVES, {"converged": float("inf")}, "level 'converged'"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    drops: pd.DataFrame, curves: pd.DataFrame, levels: dict[str, float], words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words):
        drops_and_curves(drops, curves, tmp_path / "a.png", levels=levels)
    assert not (tmp_path / "a.png").exists()
