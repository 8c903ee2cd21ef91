"""What an application of this machine is in the simulator: room, first setting, load, and episodes for the agent."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashfm.act.autoscale import Terms
from flashfm.act.guardrails import Bounds
from flashfm.adapt.agent import FlashAgent
from flashfm.controller import twin
from flashfm.controller.keeper import Target
from flashfm.controller.rules import SAFE
from flashfm.controller.twin import Room
from flashfm.datasets.rate_trace import RateTrace
from flashfm.errors import DataError
from flashfm.tasks.autoscaling.calibration import ApplicationCosts
from flashfm.tasks.autoscaling.loads import MEAN_SHARE, PEAK_SHARE
from flashfm.tasks.autoscaling.pairs import capacity_per_s
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS

COSTS = ApplicationCosts("app", 0.01, 0.005, 1.5, 40.0, 0.1)
ROOM = Room(frozenset({1}), frozenset({0}), 2048.0)
PARAMS = twin.parameters(COSTS, ROOM, slo_s=0.1, timeout_s=10.0, concurrency=4, start_steps=1)
TRACE = RateTrace("shape", np.arange(10, 40, dtype=np.int64), 30.0)


def test_this_machine_has_room_and_says_so() -> None:
    here = Room.here()
    assert here.cores >= 1
    assert here.bounds.budget_cores == here.cores
    assert f"share {here.cores:g} core" in here.describe()
    alone = Room(frozenset({0}), frozenset({0}), 2048.0)
    assert alone.describe().endswith("the client has the same, so latencies include its work")


def test_slow_cores_are_many_and_leave_something_to_the_client() -> None:
    slow = Room.here(1 / 16)
    assert slow.replica_cpus == slow.client_cpus
    assert slow.cores == 16 * (len(slow.client_cpus) - twin.CLIENT_CORES)
    assert slow.bounds.cpu_cores == (0.1, min(4.0, slow.cores))
    assert f"share {slow.cores:g} cores, each 1/16 of one of this machine, and" in slow.describe()


@pytest.mark.parametrize(("cpu_s", "wait_s", "expected"), [(0.01, 0.0, 4), (0.01, 0.09, 20), (0.001, 9.0, 64)])
def test_places_do_not_run_out_before_cores_do(cpu_s: float, wait_s: float, expected: int) -> None:
    assert twin.concurrency(replace(COSTS, cpu_s=cpu_s, wait_s=wait_s), 4) == expected


cores = st.integers(1, 64).map(lambda n: Room(frozenset(range(n)), frozenset({0}), 4096.0))


@given(cores, st.floats(1e-4, 10.0), st.floats(10.0, 3000.0), st.floats(0.0, 1e4))
def test_the_first_setting_fits_whatever_the_application_needs(
    room: Room, cpu_s: float, resident_mib: float, rate_per_s: float
) -> None:
    bounds, costs = room.bounds, replace(COSTS, cpu_s=cpu_s, memory_base_mib=resident_mib)
    cpu, memory, replicas = twin.first(costs, room, rate_per_s)
    for value, (low, high) in ((cpu, bounds.cpu_cores), (memory, bounds.memory_mib), (replicas, bounds.replicas)):
        assert low <= value <= high
    assert replicas * cpu <= room.cores * (1 + 1e-6)
    assert replicas * memory <= room.memory_mib * (1 + 1e-6)


def load(trace: RateTrace | None, mean_per_s: float | None, steps: int = 20) -> tuple[np.ndarray, str]:
    return twin.scaled(trace, PARAMS, steps=steps, period_s=10.0, mean_per_s=mean_per_s, seed=3)


def test_a_trace_keeps_its_shape_and_a_load_asks_for_what_can_be_served() -> None:
    capacity = float(capacity_per_s(PARAMS)[0])
    rates, words = load(TRACE, 7.0)
    assert rates == pytest.approx(7.0 * TRACE.counts[:20] / TRACE.counts[:20].mean())
    assert words.startswith("trace shape from 0 h on, 3 times as fast, scaled to a mean of 7 requests/s")
    for trace in (TRACE, None):
        rates, _ = load(trace, None)
        assert rates.shape == (20,)
        assert rates.mean() <= MEAN_SHARE * capacity * (1 + 1e-9)
        assert rates.max() <= PEAK_SHARE * capacity * (1 + 1e-9)
        np.testing.assert_array_equal(rates, load(trace, None)[0])
    with pytest.raises(DataError, match="too short"):
        load(TRACE, None, steps=31)


def test_an_episode_of_the_twin_lets_the_agent_know_the_application(agent: FlashAgent) -> None:
    scenario = twin.twin("app", PARAMS, 1.0, seed=0)
    target = Target("app/FLASH", Terms(0.1, 0.7, ROOM.nodes), ROOM.bounds, acting=True)
    lived = twin.lived(scenario, agent, target, SAFE, seed=0)
    assert lived.reward.shape == (EPISODE_STEPS, 1)
    assert np.isfinite(lived.observation).all()
    assert 0 < lived.reward.mean() < 1
    embedding = agent.embed(lived)
    busier = twin.twin("app", PARAMS, 15.0, seed=0)
    other = agent.embed(twin.lived(busier, agent, target, SAFE, seed=0))
    assert math.isfinite(float(embedding.sum()))
    assert np.abs(embedding - other).max() > 1e-3, "another load is lived through in another way"


def test_bounds_are_those_of_the_guardrails() -> None:
    assert ROOM.bounds == Bounds((0.1, 1.0), (64.0, 2048.0), (1, 10), 1.0, 2048.0)
