"""Work that a benchmark gives out; workers import this module as they cannot import the script that runs."""

from __future__ import annotations

import time

import numpy as np
import torch

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.engine.base import Told
from flashfm.engine.group import Group
from flashfm.pretraining.reinforcement import AgentConfig, train
from flashfm.pretraining.supervised import PretrainConfig, pretrain
from flashfm.tasks.autoscaling.scenario import training_pairs
from flashfm.tasks.config_search import Observations


def loaded(_item: object, _told: Told) -> None:
    """Load what pretraining needs: this module, and what torch loads with the first optimiser."""
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])


def trained(data: Observations, config: PretrainConfig, seed: int, _told: Told) -> float:
    """Pretrain a model for configuration search; the run time in ms that it expects of its first pair."""
    model = FlashRegressor(pretrain(data, config, seed=seed))
    shot = data.grid[:1].assign(runtime_ms=100.0)
    return float(model.adapt(shot, check_units=False).predict(data.grid[:1])["runtime_ms"].iloc[0])


def agent(pairs: int, environments: int, episodes: int, group: Group, _told: Told) -> float:
    """Train an agent on this worker's share of the pairs; the seconds of it, without what comes before."""
    scenario = training_pairs(pairs, environments)
    simulator = scenario.take(np.arange(len(scenario))[group.part(len(scenario))]).simulator(
        actions="targets", seed=group.rank
    )
    begun_s = time.perf_counter()
    train(simulator, AgentConfig(episodes=episodes, random_episodes=1), seed=0, group=group)
    return time.perf_counter() - begun_s
