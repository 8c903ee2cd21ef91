"""Overhead of autoscaling: the arms that are timed, and what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from flashfm.experiments import overhead_rl
from flashfm.experiments.overhead_rl import BASES, GROUPS, PRINTED, PRINTED_AS, TARGETS_MS, run
from flashfm.experiments.overhead_sl import REPETITIONS
from flashfm.models.meta_learner import MetaLearnerConfig


def test_all_arms_are_timed_once_and_stand_beside_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead_rl, "QUICK_SECONDS", 0.0)
    monkeypatch.setattr(overhead_rl, "QUICK_PAIRS", 1)
    monkeypatch.setattr(overhead_rl, "PAPERS", MetaLearnerConfig(hidden=8, layers=1))
    threads = torch.get_num_threads()
    told: list[tuple[int, int]] = []
    path = run(tmp_path / "out", tmp_path, quick=True, on_step=lambda *step: told.append(step))
    assert torch.get_num_threads() == threads
    assert told == [(i + 1, REPETITIONS) for i in range(REPETITIONS)]

    content = json.loads(path.read_text())
    times = content["times_ms"]
    assert {*times} == {*GROUPS}
    assert all(len(of) == REPETITIONS and min(of) > 0 for arms in times.values() for of in arms.values())
    for group, arm in TARGETS_MS:
        assert arm in times[group]
    ratios = {(one["group"], one["arm"]): one for one in content["ratios"]}
    for group in GROUPS:
        first = next(iter(times[group]))
        assert first == BASES[group]
        assert ratios[group, first]["ratio"] == 1
    for group, (without, with_flash, _) in PRINTED.items():
        rows = [row for row in content["rows"] if row["dataset"] == "paper's" and row["metric"] == f"{group}, ms"]
        assert {row["method"]: row["mean"] for row in rows} == dict(
            zip(PRINTED_AS[group], (without, with_flash), strict=True)
        )
        assert {*PRINTED_AS[group]} <= {*times[group]}
    page = path.with_suffix(".md").read_text()
    assert "| 2.3 | 1 |" in page
    assert "| 4950 | 4.1 |" in page

    again = run(tmp_path / "out", tmp_path, quick=True)
    assert json.loads(again.read_text())["times_ms"] == times, "what is there is not timed again"
