"""Pretraining of the autoscaling agent as a whole: policies and an encoder that fit together, the same for a seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from flashfm.models.agent import AgentModel
from flashfm.models.ddpg import PAPER, DdpgConfig
from flashfm.pretraining.autoscaling import AutoscalingConfig, collect, pretrain
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.pretraining.reinforcement import AgentConfig, train
from flashfm.tasks.autoscaling import scenario
from flashfm.tasks.autoscaling.interface import ACTION
from flashfm.tasks.autoscaling.scenario import Scenario

AGENT = AgentConfig(ddpg=DdpgConfig(hidden=(16, 16)), episodes=2, random_episodes=1, batch=32)
QUICK = AutoscalingConfig(agent=AGENT, identification=IdentificationConfig(steps=5, tasks=8), episodes=4)


@pytest.fixture(scope="module")
def few() -> Scenario:
    return scenario.default(0).take(np.arange(0, 200, 10))


@pytest.fixture(scope="module")
def model(few: Scenario) -> AgentModel:
    told: list[tuple[int, int]] = []
    found = pretrain(few, QUICK, seed=1, on_step=lambda *done: told.append(done))
    assert told[-1] == (8, 8)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    return found


def test_a_pair_acts_without_an_embedding_and_otherwise_with_one(few: Scenario, model: AgentModel) -> None:
    simulator = few.simulator(actions=model.actions, seed=2)
    lived = collect(simulator, model.shared, 1, 0.1, seed=0, alpha=(0.5, 0.5))
    embedding = model.embed(lived)
    assert embedding.shape == (len(few), QUICK.identification.meta.embed)
    observation = simulator.reset()
    alone, knowing = model.act(observation), model.act(observation, embedding)
    for action in (alone, knowing):
        assert action.shape == (len(few), len(ACTION))
        assert bool((action.abs() <= 1).all())
    assert not torch.equal(alone, knowing)
    assert not torch.equal(knowing, model.act(observation, embedding.flip(0)))


def test_a_seed_gives_the_same_model(few: Scenario, model: AgentModel) -> None:
    again = pretrain(few, QUICK, seed=1)
    for name in ("shared", "conditioned", "encoder"):
        for a, b in zip(getattr(model, name).parameters(), getattr(again, name).parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_settings_of_the_paper_train(few: Scenario) -> None:
    agent = train(few.simulator(seed=1), replace(AGENT, ddpg=PAPER), seed=0)
    assert all(bool(torch.isfinite(weight).all()) for weight in agent.kept.parameters())
