"""Overhead of autoscaling: the arms that are timed, what is kept, and an update through the critic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from flashfm.experiments import overhead_rl
from flashfm.experiments.overhead_rl import BASES, GROUPS, PRINTED, PRINTED_AS, TARGETS_MS, run, through_critic
from flashfm.experiments.overhead_sl import REPETITIONS
from flashfm.models.agent_state import TOKEN
from flashfm.models.ddpg import Batch, Ddpg, DdpgConfig
from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.trajectories import TrajectoryEncoder


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


@pytest.mark.parametrize("kind", ["set", "gru"])
def test_an_update_through_the_critic_trains_the_encoder_too(kind: str) -> None:
    torch.manual_seed(0)
    encoder = TrajectoryEncoder(TOKEN, MetaLearnerConfig(kind=kind, hidden=8, layers=1, dropout=0.0, embed=4)).train()
    agent = Ddpg(1, 3, 2, 5, DdpgConfig(hidden=(16, 16), embed_scale=1.0))
    optimiser = torch.optim.Adam(encoder.parameters(), 1e-2)
    batch = Batch(
        torch.randn(1, 12, 3), torch.randn(1, 12, 2), torch.rand(1, 12), torch.randn(1, 12, 3), torch.zeros(1, 12, 0)
    )
    tokens = torch.randn(4, 2, 6, TOKEN)
    parts = {"encoder": encoder, "actor": agent.actor, "critic": agent.critic}
    before = {name: [one.detach().clone() for one in part.parameters()] for name, part in parts.items()}

    def loss() -> float:
        shown = torch.cat([encoder(tokens), torch.ones(4, 1)], dim=-1).repeat(3, 1)[None]
        return float(agent.critic_loss(batch._replace(embedding=shown)).detach())

    first = loss()
    for _ in range(30):
        through_critic(agent, batch, encoder, optimiser, tokens)
    for name, part in parts.items():
        moved = [not torch.equal(a, b) for a, b in zip(before[name], part.parameters(), strict=True)]
        assert any(moved), name
    assert loss() < first
