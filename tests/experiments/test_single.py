"""Agents of single pairs: trained side by side as if each were alone, and each serves the pair that it is told to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from flashfm.errors import ModelError
from flashfm.experiments.scaling import agent_acts, judge
from flashfm.experiments.single import SINGLE, acts_each, train_each
from flashfm.models.ddpg import DdpgConfig
from flashfm.tasks.autoscaling.scenario import default

TINY = replace(SINGLE, ddpg=DdpgConfig(hidden=(16, 16)), episodes=2, random_episodes=1, batch=8)


def test_each_pair_is_served_by_the_agent_that_it_is_given() -> None:
    scenario = default(0).take(np.arange(5))
    told: list[tuple[int, int]] = []
    agents = train_each(
        scenario, np.array([0, 3, 4]), config=TINY, envs_each=2, seed=0, on_step=lambda *d: told.append(d)
    )
    assert told == [(1, 2), (2, 2)]
    assert len(agents.kept.weights[0]) == 3
    assert not torch.equal(agents.kept.weights[0][0], agents.kept.weights[0][1])
    judged = judge(scenario, acts_each(agents, np.array([0, 2, 2, 1, 0]), 2), alpha=0.5, actions="targets", episodes=2)
    for agent, pairs in ((0, [0, 4]), (1, [3]), (2, [1, 2])):
        alone = agents.take(np.array([agent]))
        each = judge(scenario, agent_acts(alone, None, 2), alpha=0.5, actions="targets", episodes=2)
        np.testing.assert_allclose(judged.reward[pairs], each.reward[pairs], rtol=1e-4)


def test_training_goes_on_from_agents() -> None:
    scenario, pairs = default(0).take(np.arange(2)), np.array([0, 1])
    first = train_each(scenario, pairs, config=TINY, envs_each=1, seed=0)
    before = [weight.detach().clone() for weight in first.kept.weights]
    second = train_each(scenario, pairs, config=TINY, envs_each=1, seed=1, start=first.take(pairs[::-1].copy()))
    assert all(torch.equal(weight, kept) for weight, kept in zip(first.kept.weights, before, strict=True))
    moved = [(new - old[[1, 0]]).abs().max() for new, old in zip(second.kept.weights, before, strict=True)]
    assert 0 < max(moved) < 0.1


@pytest.mark.parametrize(("pairs", "envs"), [(np.array([], dtype=np.int64), 2), (np.array([0]), 0)])
def test_no_pair_and_no_environment_are_refused(pairs: np.ndarray, envs: int) -> None:
    with pytest.raises(ModelError, match=f"{len(pairs)} pairs, {envs} environments"):
        train_each(default(0).take(np.arange(2)), pairs, config=TINY, envs_each=envs, seed=0)
