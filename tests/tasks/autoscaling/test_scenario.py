"""The default scenario and its simulators: applications apart, loads that can be served, seeds that decide."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flashfm.datasets.rate_trace import RateTrace
from flashfm.tasks.autoscaling import scenario
from flashfm.tasks.autoscaling.dynamics import Limits
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION
from flashfm.tasks.autoscaling.scenario import Kind, Scenario
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS, Simulator


@pytest.fixture(scope="module")
def everything() -> Scenario:
    return scenario.default(0)


def test_applications_of_training_and_testing_differ(everything: Scenario) -> None:
    training, testing = scenario.split(everything)
    assert (len(training), len(testing)) == (800, 200)
    assert not set(training.apps) & set(testing.apps)
    assert len(set(everything.apps)) == 1000


def test_every_load_can_be_served(everything: Scenario) -> None:
    load, start = everything.load(np.random.default_rng(0))
    assert load.shape == (EPISODE_STEPS + 1, 1000)
    assert ((start >= 0) & (start < 60)).all()
    assert (load >= 0).all()
    assert (load.max(axis=0) <= 0.6 * everything.capacity_per_s * (1 + 1e-9)).all()
    assert (load.mean(axis=0) <= 0.35 * everything.capacity_per_s * (1 + 1e-9)).all()


def test_the_best_limits_serve_the_load_within_the_objective_for_nearly_all(everything: Scenario) -> None:
    """A load that even plenty does not serve would be no test of an autoscaler."""
    generous = everything.simulator(seed=3, kind="numpy")
    generous.reset()
    p = generous.params
    memory = np.minimum(1.3 * (p.memory_base_mib + p.memory_request_mib * p.concurrency), p.node_memory_mib / 2)
    for _ in range(30):
        many = np.full(len(p), 32.0)
        stepped = generous.apply(Limits(np.full(len(p), 1.0), memory, many))
    assert (stepped.outcome.slo_throughput > 0.99).mean() > 0.8


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_seed_gives_the_same_episode(everything: Scenario, kind: str) -> None:
    few = everything.take(np.arange(6))
    found = []
    for seed in (1, 1, 2):
        simulator = few.simulator(seed=seed, kind=kind)  # type: ignore[arg-type]
        observation = simulator.reset()
        total = 0.0
        while not simulator.done:
            action = observation[:, : len(ACTION)] * 0.5
            observation, rewarded, _ = simulator.step(action)
            total += float(rewarded.sum())
        assert observation.shape == (6, len(OBSERVATION))
        found.append(total)
    assert found[0] == found[1] != found[2]
    assert simulator.t == EPISODE_STEPS


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_an_episode_with_a_number_owes_nothing_to_those_before(everything: Scenario, kind: Kind) -> None:
    few = everything.take(np.arange(6))

    def lived(simulator: Simulator, episode: int) -> np.ndarray:
        seen = [simulator.reset(episode)]
        seen += [simulator.step(0.5 * seen[-1][:, : len(ACTION)]).observation for _ in range(5)]
        return np.stack([np.asarray(one) for one in seen])

    one, other = few.simulator(seed=1, kind=kind), few.simulator(seed=1, kind=kind)
    for episode in (0, 1):
        lived(one, episode)
    third = lived(one, 2)
    np.testing.assert_array_equal(third, lived(other, 2))
    assert not np.array_equal(third, lived(other, 3))
    assert not np.array_equal(third, lived(few.simulator(seed=2, kind=kind), 2))


def test_torch_simulators_are_float32(everything: Scenario) -> None:
    simulator = everything.take(np.arange(3)).simulator()
    assert simulator.reset().dtype == torch.float32


def test_a_real_trace_can_stand_for_the_drawn_loads(everything: Scenario) -> None:
    counts = np.random.default_rng(0).poisson(40, 500)
    few = everything.take(np.arange(5))
    replayed = Scenario(few.apps, few.params, few.loads, few.capacity_per_s, RateTrace("real", counts, 30.0))
    load, _ = replayed.load(np.random.default_rng(1))
    np.testing.assert_allclose(load.mean(axis=0), few.loads.mean_per_s, rtol=1e-6)
