"""Reinforcement learning over many pairs: an agent gets better, embeddings are used, and a seed decides everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flashfm.errors import ArtifactError
from flashfm.experiments import scaling
from flashfm.models.ddpg import Ddpg, DdpgConfig
from flashfm.pretraining import identification
from flashfm.pretraining.checkpoints import Checkpoints
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.pretraining.reinforcement import AgentConfig, Cached, _thrift, train
from flashfm.tasks.autoscaling import scenario
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION
from flashfm.tasks.autoscaling.scenario import Scenario

QUICK = AgentConfig(ddpg=DdpgConfig(hidden=(32, 32)), episodes=3, random_episodes=1, batch=64, alpha=(0.5, 0.5))


@pytest.fixture(scope="module")
def few() -> Scenario:
    return scenario.default(0).take(np.arange(0, 240, 4))


def weights(agent: Ddpg) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in agent.kept.parameters()])


def test_an_agent_is_better_than_an_untrained_one(few: Scenario) -> None:
    config = replace(QUICK, episodes=8, batch=256, updates=2)
    agent = train(few.simulator(seed=1), config, seed=0)
    torch.manual_seed(0)
    fresh = Ddpg(1, len(OBSERVATION), len(ACTION), 0, config.ddpg)
    rewards = [
        scaling.judge(few, scaling.agent_acts(a, None, 1), alpha=0.5, episodes=1).reward.mean() for a in (agent, fresh)
    ]
    assert rewards[0] > rewards[1] + 0.03


def test_a_seed_gives_the_same_agent(few: Scenario) -> None:
    config = replace(QUICK, episodes=2)
    agents = [train(few.simulator(seed=1), config, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(weights(agents[0]), weights(agents[1]))
    assert not torch.equal(weights(agents[0]), weights(agents[2]))


def test_each_pair_can_have_an_agent_of_its_own(few: Scenario) -> None:
    two = few.take(np.repeat(np.arange(2), 3))
    agent = train(two.simulator(seed=1), replace(QUICK, episodes=2), seed=0, agents=2)
    assert len(agent.actor.weights[0]) == 2
    assert not torch.equal(agent.actor.weights[0][0], agent.actor.weights[0][1])


def test_an_agent_with_embeddings_also_acts_without(few: Scenario) -> None:
    variants = torch.randn(2, len(few), 4)
    agent = train(few.simulator(seed=1), QUICK, seed=0, embeddings=Cached(variants))
    assert agent.embed == 5
    shown = scaling.judge(few, scaling.agent_acts(agent, variants[0], 1), alpha=0.5, episodes=1)
    hidden = scaling.judge(few, scaling.agent_acts(agent, None, 1), alpha=0.5, episodes=1)
    assert np.isfinite(shown.reward).all()
    assert not np.array_equal(shown.reward, hidden.reward)


def test_progress_is_told(few: Scenario) -> None:
    told: list[tuple[int, int]] = []
    train(few.simulator(seed=1), replace(QUICK, episodes=2), seed=0, on_step=lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]


def test_what_is_trained_is_kept_and_given_back_at_once(few: Scenario, tmp_path: Path) -> None:
    config, told = replace(QUICK, episodes=2), []
    with Checkpoints(tmp_path / "kept") as checkpoints:
        checkpoints.belong({})
        agents = [
            train(
                few.simulator(seed=1),
                config,
                seed=0,
                on_step=lambda *done: told.append(done),
                checkpoints=checkpoints,
            )
            for _ in range(2)
        ]
        assert told == [(1, 2), (2, 2), (2, 2)]
        assert torch.equal(weights(agents[0]), weights(agents[1]))
        wider = replace(config, ddpg=DdpgConfig(hidden=(48, 32)))
        with pytest.raises(ArtifactError, match="'agent' does not fit this version"):
            train(few.simulator(seed=1), wider, seed=0, checkpoints=checkpoints)


def test_the_encoder_finds_out_what_tells_pairs_apart() -> None:
    """Pairs differ in one number that every step after the first shows with noise; the embedding has to hold it."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(200, generator=generator)
    width = 2 * len(OBSERVATION) + len(ACTION) + 1
    read = torch.randn(200, 3, 20, width, generator=generator)
    read[..., len(OBSERVATION) + len(ACTION) :] = hidden[:, None, None, None] + 0.5 * read[..., -1:]
    config = IdentificationConfig(steps=300, read=20)
    encoder = identification.fit(read, hidden[:, None], config, seed=0)
    variants = identification.variants(encoder, read, most=2)
    assert variants.shape == (3 + 2, 200, config.meta.embed)
    train_x, test_x = variants[0][:150], variants[0][150:]
    design = torch.cat([train_x, torch.ones(150, 1)], dim=1)
    ridge = torch.linalg.solve(design.T @ design + torch.eye(design.shape[1]), design.T @ hidden[:150])
    told = torch.cat([test_x, torch.ones(50, 1)], dim=1) @ ridge
    assert float(torch.corrcoef(torch.stack([told, hidden[150:]]))[0, 1]) > 0.9


def test_spare_cores_cost_a_little_beside_the_reward_and_the_less_the_more_alpha_weighs(few: Scenario) -> None:
    simulator = few.simulator(seed=1)
    simulator.reset()
    stepped = simulator.step(torch.zeros(len(few), len(ACTION)))
    alpha = torch.full((len(few),), 0.5)
    cost = -_thrift(stepped, alpha, 0.02)
    used = stepped.outcome.cpu_use
    assert (cost >= 0).all()
    assert torch.equal(cost.argsort(), used.argsort(descending=True)) or len(used.unique()) < len(used)
    torch.testing.assert_close(-_thrift(stepped, 0 * alpha, 0.02), 2 * cost)
    assert not _thrift(stepped, alpha, 0.0).any()
