"""How arms adapt: what is noted of episodes, agents that move and train on, and a pretrained agent that warms up."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from flashfm.experiments.adapting import (
    LIVED,
    Grid,
    Recorder,
    Transfer,
    from_arrays,
    live,
    network_acts,
    to_arrays,
    transfer,
    tune_transfer,
    warm_up,
)
from flashfm.experiments.scaling import agent_acts, judge
from flashfm.experiments.single import SINGLE, acts_each
from flashfm.models.ddpg import Ddpg, DdpgConfig
from flashfm.pretraining.autoscaling import AutoscalingConfig, pretrain
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION
from flashfm.tasks.autoscaling.scenario import Scenario, default

CONFIG = replace(SINGLE, ddpg=DdpgConfig(hidden=(16, 16)), episodes=2, random_episodes=1, batch=8)
WITH = {"alpha": 0.5, "actions": "targets", "seed": 3}


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return default(0).take(np.arange(3))


@pytest.fixture(scope="module")
def agents() -> Ddpg:
    torch.manual_seed(0)
    return Ddpg(3, len(OBSERVATION), len(ACTION), 0, CONFIG.ddpg)


def test_loads_are_the_same_whoever_acts(scenario: Scenario, agents: Ddpg) -> None:
    rates, rewards = [], []
    for act in (network_acts(agents.kept), network_acts(agents.take(np.array([2, 0, 1])).kept)):
        recorder = Recorder(scenario, alpha=0.5, actions="targets", seed=3)
        live(recorder, act, 2)
        rates.append(recorder.load.rate_per_s)
        rewards.append(recorder.lived["reward"])
        assert {name: of.shape for name, of in recorder.lived.items()} == dict.fromkeys(LIVED, (2, 3))
    assert torch.equal(*rates)
    assert (rewards[0] != rewards[1]).any()


def test_agents_come_back_from_arrays(agents: Ddpg) -> None:
    again = from_arrays(to_arrays(agents) | {"other": np.zeros(1)}, CONFIG.ddpg)
    seen = torch.randn(3, 5, len(OBSERVATION))
    assert torch.equal(again.act(seen, seen[..., :0]), agents.act(seen, seen[..., :0], kept=True))
    assert torch.equal(again.critic.weights[0], agents.critic.weights[0])


def test_networks_side_by_side_serve_as_agents_do(scenario: Scenario, agents: Ddpg) -> None:
    side, each = (
        judge(scenario, act, alpha=0.5, actions="targets")
        for act in (network_acts(agents.kept), acts_each(agents, np.arange(3)))
    )
    np.testing.assert_array_equal(side.reward, each.reward)
    one = judge(scenario, agent_acts(agents.take(np.array([1])), None), alpha=0.5, actions="targets")
    assert side.reward[1] == pytest.approx(one.reward[1], rel=1e-4)


def test_moved_agents_begin_as_they_were_and_train_on(scenario: Scenario, agents: Ddpg) -> None:
    other, before = np.array([1, 2, 0]), to_arrays(agents)
    rewards, lived = transfer(scenario, agents, other, Transfer(), CONFIG, judged_at=range(3), **WITH)  # type: ignore[arg-type]
    moved = judge(scenario, acts_each(agents, other), alpha=0.5, actions="targets")
    np.testing.assert_array_equal(rewards["kept"][0], moved.reward)
    assert (rewards["kept"][2] != moved.reward).all()
    assert lived["violations"].shape == (2, 3)
    after = to_arrays(agents)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_all_settings_are_tried_and_the_best_comes_first(scenario: Scenario, agents: Ddpg) -> None:
    told: list[tuple[int, int]] = []
    tried = tune_transfer(
        scenario,
        agents,
        np.array([1, 2, 0]),
        Grid(noise=(0.1,)),
        CONFIG,
        on_step=lambda *done: told.append(done),
        **WITH,  # type: ignore[arg-type]
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert {(one["actor_rate"], one["acts"]) for one in tried} == {
        (rate, acts) for rate in (1e-3, 3e-4) for acts in ("actor", "kept")
    }
    rewards = [one["reward"] for one in tried]
    assert rewards == sorted(rewards, reverse=True)


def test_a_pretrained_agent_changes_with_each_warm_up_and_then_no_more(scenario: Scenario) -> None:
    small = AutoscalingConfig(agent=CONFIG, identification=IdentificationConfig(steps=5, tasks=4), episodes=3)
    model = pretrain(default(0).take(np.arange(6)), small, seed=0)
    judged, lived = warm_up(scenario, model, alpha=0.5, seed=3, warmups=2, episodes=4)
    assert len(judged) == 3
    assert all((one.reward != two.reward).any() for one, two in itertools.pairwise(judged))
    assert {name: of.shape for name, of in lived.items()} == dict.fromkeys(LIVED, (4, 3))
