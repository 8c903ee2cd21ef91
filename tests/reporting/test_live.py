"""Simulated beside live figures: what is drawn, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flashfm.errors import DataError
from flashfm.reporting.live import simulated_beside_live


def frame_of(**changes: Any) -> pd.DataFrame:
    rows = [
        {
            "app": app,
            "repeat": repeat,
            "source": source,
            "arm": arm,
            "violated_s": 10.0 * repeat,
            "core_s": 100.0 + repeat,
            "p99_over_slo": 0.3 + repeat,
        }
        for app in ("a", "b")
        for repeat in range(2)
        for source in ("live", "simulated")
        for arm in ("FLASH", "HPA + VPA")
    ]
    return pd.DataFrame(rows).assign(**changes)


def test_each_figure_has_a_panel_and_each_arm_a_mark(tmp_path: Path, words_of: Callable[[Path], list[str]]) -> None:
    path = simulated_beside_live(frame_of(), tmp_path / "live.svg", ours="FLASH", title="Both", note="small")
    words = words_of(path)
    for shown in ("SLO-violating seconds", "core-seconds", "p99 over objective", "FLASH", "HPA + VPA", "Both", "small"):
        assert words.count(shown) == 1
    assert words.count("live") == 3
    assert words.index("FLASH") < words.index("HPA + VPA")


def test_arms_that_answered_nothing_and_violated_nothing_are_drawn(tmp_path: Path) -> None:
    frame = frame_of(p99_over_slo=float("nan"), violated_s=0.0)
    assert simulated_beside_live(frame, tmp_path / "live.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (frame_of().drop(columns="core_s"), "core_s"),
        (frame_of().iloc[:0], "0 arms"),
        (frame_of(core_s=-1.0), "at least 0"),
        (frame_of(core_s=float("inf")), "finite"),
        (frame_of(p99_over_slo=0.0), "p99 above 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path: Path, frame: pd.DataFrame, words: str) -> None:
    with pytest.raises(DataError, match=words):
        simulated_beside_live(frame, tmp_path / "live.png")
    assert not list(tmp_path.iterdir())
