"""Overhead: repetitions, ratios, and the arms that are timed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from flashfm.experiments import evaluation, overhead_sl
from flashfm.experiments.overhead_sl import REPETITIONS, measure, ratio
from flashfm.pretraining.supervised import PretrainConfig
from flashfm.tasks.config_search import Observations


def test_all_arms_take_turns_in_every_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    times = {"a": 2.0, "b": 6.0}

    def timed(call: Callable[[], object], seconds: float) -> float:
        assert seconds == 0.5
        call()
        return times[order[-1]]

    monkeypatch.setattr(overhead_sl, "_median_ms", timed)
    arms = {"group": {name: lambda name=name: order.append(name) for name in times}}
    steps: list[tuple[int, int]] = []
    found = measure(arms, 0.5, lambda *step: steps.append(step))
    assert order == ["a", "b"] * (1 + REPETITIONS), "one call of each to warm up, then turns"
    assert found == {"group": {"a": [2.0] * REPETITIONS, "b": [6.0] * REPETITIONS}}
    assert steps == [(i + 1, REPETITIONS) for i in range(REPETITIONS)]


def test_a_ratio_is_of_medians_with_the_range_of_repetitions() -> None:
    assert ratio([2.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == (2.0, 2.0, 3.0)


def test_the_embedding_costs_time_and_what_is_there_is_not_timed_again(
    synthetic: Callable[..., pd.DataFrame],
    observe: Callable[..., Observations],
    small: PretrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = observe(synthetic(21, platforms=("fast",)).assign(platform="lambda"))
    monkeypatch.setattr(evaluation, "load", lambda _: data)
    monkeypatch.setattr(overhead_sl, "TINY", small)
    monkeypatch.setattr(overhead_sl, "QUICK_SECONDS", 0.02)
    threads = torch.get_num_threads()
    path = overhead_sl.run(tmp_path / "out", tmp_path / "results", quick=True)
    assert torch.get_num_threads() == threads
    content = json.loads(path.read_text())
    ratios = {(r["group"], r["arm"]): r for r in content["ratios"]}
    for group in overhead_sl.GROUPS:
        found = ratios[group, "FLASH-Sizeless"]
        assert found["ratio"] > 1, "it does what Sizeless does, and embeds"
        assert found["low"] <= found["high"]
    assert 0 < ratios["update", overhead_sl.GRU]["ratio"] < 1.2, "a part of the whole, give or take the clock"
    assert {row["dataset"] for row in content["rows"]} == {"measured", "paper's"}
    assert {row["mean"] for row in content["rows"] if row["dataset"] == "paper's"} >= {2.3, 8.1, 3.5, 4.1, 0.75}
    again = json.loads(overhead_sl.run(tmp_path / "out", tmp_path / "results", quick=True).read_text())
    assert again["times_ms"] == content["times_ms"]
    assert (tmp_path / "results" / "overhead-sl.png").stat().st_size > 10_000
    assert "2.3" in (tmp_path / "results" / "overhead-sl.md").read_text()
