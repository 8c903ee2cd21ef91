"""Fine-tuning of single pairs: it begins as the pretrained policy, each pair learns alone, and the gate guards it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from flashfm.adapt.agent import FlashAgent, Trajectory
from flashfm.adapt.agent_finetune import FineTuneConfig, FineTuner
from flashfm.models.ddpg import DdpgConfig
from flashfm.pretraining.autoscaling import AutoscalingConfig, pretrain
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.pretraining.reinforcement import AgentConfig
from flashfm.tasks.autoscaling import scenario
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION

STEPS = 20
FAST = FineTuneConfig(updates=20, batch=32, critic_first=1, actor_rate=1e-3)


@pytest.fixture(scope="module")
def agent() -> FlashAgent:
    config = AgentConfig(ddpg=DdpgConfig(hidden=(16, 16)), episodes=2, random_episodes=1, batch=16, updates=1)
    few = scenario.default(0).take(np.arange(6))
    whole = AutoscalingConfig(agent=config, identification=IdentificationConfig(steps=5, tasks=4), episodes=3)
    return FlashAgent(pretrain(few, whole, seed=0))


def episode(seed: int, pairs: int = 2) -> Trajectory:
    rng = np.random.default_rng(seed)
    action = rng.uniform(-1, 1, (STEPS, pairs, len(ACTION)))
    return Trajectory(rng.uniform(-1, 1, (STEPS + 1, pairs, len(OBSERVATION))), action, (action[..., 0] + 1) / 2)


def seen(pairs: int = 2) -> np.ndarray:
    return np.random.default_rng(9).uniform(-1, 1, (pairs, len(OBSERVATION)))


def test_it_begins_as_the_pretrained_policy_and_the_critic_learns_first(agent: FlashAgent) -> None:
    known = agent.adapt(episode(0))
    assert known.embedding is not None
    before = agent.model.act(torch.from_numpy(seen().astype(np.float32)), torch.from_numpy(known.embedding)).numpy()
    tuner = FineTuner(agent.model, known.embedding, STEPS, config=FAST)
    np.testing.assert_allclose(tuner.act(seen(), explore=False), before, atol=1e-6)
    tuner.learn(episode(1))
    np.testing.assert_allclose(tuner.act(seen(), explore=False), before, atol=1e-6)
    tuner.learn(episode(2))
    assert np.abs(tuner.act(seen(), explore=False) - before).max() > 1e-5


def test_it_learns_what_pays_and_leaves_the_model_alone(agent: FlashAgent) -> None:
    known = agent.adapt(episode(0))
    assert known.embedding is not None
    first = known.act(seen()).copy()
    tuner = FineTuner(agent.model, known.embedding, STEPS, config=replace(FAST, updates=200, critic_first=0))
    before = tuner.act(seen(), explore=False)
    for seed in range(4):
        tuner.learn(episode(seed))
    assert (tuner.act(seen(), explore=False)[:, 0] > before[:, 0]).all()
    np.testing.assert_array_equal(known.act(seen()), first)


def test_pairs_learn_alone(agent: FlashAgent) -> None:
    known = agent.adapt(episode(0))
    assert known.embedding is not None
    tuners = [FineTuner(agent.model, known.embedding, STEPS, config=FAST) for _ in range(2)]
    whole = episode(1)
    other = replace(whole, reward=np.stack([whole.reward[:, 0], 1 - whole.reward[:, 1]], axis=1))
    for tuner, lived in zip(tuners, (whole, other), strict=True):
        for _ in range(3):
            tuner.learn(lived)
    one, two = (tuner.act(seen(), explore=False) for tuner in tuners)
    np.testing.assert_allclose(one[0], two[0], atol=1e-6)
    assert np.abs(one[1] - two[1]).max() > 1e-5


def test_exploring_is_bounded_and_held(agent: FlashAgent) -> None:
    known = agent.adapt(episode(0))
    assert known.embedding is not None
    tuner = FineTuner(agent.model, known.embedding, STEPS, config=replace(FAST, hold=1.0))
    plain = tuner.act(seen(), explore=False)
    first, second = tuner.act(seen(), explore=True), tuner.act(seen(), explore=True)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first).max() <= 1
    assert np.abs(first - plain).max() > 0
