"""The ablation of the autoscaling agent: all arms, a run that goes on, and what the gap figures say."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flashfm.experiments import ablation_rl, scaling
from flashfm.experiments.ablation_rl import (
    FIXED,
    KINDS,
    LEARNED,
    NONE,
    ONE,
    PARTS,
    PRIVILEGED,
    REWARD,
    THREE,
    WRONG,
    AblationConfig,
    best,
    gap,
    run,
)
from flashfm.experiments.scaling import Judged
from flashfm.models.ddpg import DdpgConfig
from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.replay import tokens
from flashfm.pretraining.end_to_end import EndToEndConfig
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.pretraining.reinforcement import AgentConfig
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION

AGENT = AgentConfig(
    ddpg=DdpgConfig(hidden=(16, 16)), episodes=2, random_episodes=1, batch=16, updates=1, alpha=(0.5, 0.5), without=0.0
)
SMALL = {name: MetaLearnerConfig(meta.kind, hidden=4, layers=1, dropout=0.0) for name, meta in KINDS.items()}
TINY = AblationConfig(
    (0, 1),
    12,
    2,
    6,
    4,
    AGENT,
    IdentificationConfig(steps=5, tasks=4),
    EndToEndConfig(SMALL["GRU by itself"], pairs=4),
    lived=2,
)


def test_all_arms_are_judged_and_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grids = {name: (make, {k: v[:1] for k, v in grid.items()}) for name, (make, grid) in scaling.GRIDS.items()}
    monkeypatch.setattr(scaling, "GRIDS", grids)
    monkeypatch.setattr(ablation_rl, "KINDS", SMALL)
    told: list[tuple[int, int]] = []
    path = run(tmp_path / "out", tmp_path, config=TINY, on_step=lambda *done: told.append(done))
    content = json.loads(path.read_text())
    assert told == [(i, 3 + 2 * PARTS) for i in range(1, 4 + 2 * PARTS)]
    assert {row["method"] for row in content["rows"]} == {*FIXED, *LEARNED}
    rewards = [row["mean"] for row in content["rows"] if row["metric"] == "reward"]
    assert all(0 < reward < 1 for reward in rewards)
    assert set(content["settings"]) == set(FIXED)

    (tmp_path / "out" / "seed-1.npz").unlink()
    monkeypatch.setattr(ablation_rl, "tuned", None)  # what is there is not done again
    again = json.loads(run(tmp_path / "out", tmp_path, config=TINY).read_text())
    assert again["rows"] == content["rows"]


def judged(reward: float) -> Judged:
    other = np.zeros(20)
    return Judged(
        **{of.name: reward + np.linspace(0, 0.1, 20) if of.name == "reward" else other for of in fields(Judged)}
    )


def test_the_gap_is_a_share_of_the_reward_and_the_embedding_closes_a_share_of_it() -> None:
    one = {NONE: judged(0.45), ONE: judged(0.475), THREE: judged(0.49), WRONG: judged(0.44), PRIVILEGED: judged(0.5)}
    found = gap([one, {name: replace(of, reward=of.reward + 0.01) for name, of in one.items()}], draws=50)
    assert found["privileged over none, share of reward"]["mean"] == pytest.approx(0.05 / 0.505)
    assert found[f"share closed, {ONE}"]["mean"] == pytest.approx(0.5)
    assert found[f"share closed, {THREE}"]["high"] == pytest.approx(0.8)
    assert found[f"share closed, {WRONG}"]["mean"] == pytest.approx(-0.2)
    assert found[f"gain, {THREE}"]["mean"] == pytest.approx(0.04)


def test_the_best_trajectories_are_those_of_most_reward() -> None:
    def episode(reward: list[float]) -> torch.Tensor:
        state, action = torch.randn(5, 2, len(OBSERVATION)), torch.randn(4, 2, len(ACTION))
        return tokens(state, action, torch.tensor(reward).expand(4, 2))

    lived = torch.stack([episode([0.1, 0.9]), episode([0.2, 0.8]), episode([0.3, 0.7])], dim=1)
    chosen = best(lived, 2)
    assert torch.equal(chosen[0], lived[0, [2, 1]])
    assert torch.equal(chosen[1], lived[1, [0, 1]])
    assert chosen[..., REWARD].mean(dim=(1, 2)).tolist() == pytest.approx([3 * 0.25 - 2, 3 * 0.85 - 2])
