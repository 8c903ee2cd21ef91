"""Observations, actions and reward: hand-worked values, inverses, and that hidden parameters do not show."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import draws, params
from hypothesis import given
from hypothesis import strategies as st

from flashfm.tasks.autoscaling import dynamics
from flashfm.tasks.autoscaling.dynamics import CPU_CORES, MEMORY_MIB, REPLICAS, Limits
from flashfm.tasks.autoscaling.interface import (
    CPU_TARGET,
    LOOSE,
    OBSERVATION,
    Recent,
    decode,
    encode,
    observe,
    remember,
    reward,
)


def settled(rate: float = 20.0, **changed: float) -> tuple:
    p = params(**changed)
    state = dynamics.start(p, Limits(np.array([1.0]), np.array([512.0]), np.array([4.0])), np.zeros(1))
    wanted = Limits(state.cpu_cores, state.memory_mib, state.ready)
    return (p, *dynamics.step(p, state, wanted, np.array([rate]), draws(1)))


def test_the_reward_weighs_the_slo_against_utilisation() -> None:
    _, _, outcome = settled()
    used = (outcome.cpu_use + outcome.memory_use) / 2
    assert reward(outcome, 1.0)[0] == pytest.approx(1.0)
    assert reward(outcome, 0.0)[0] == pytest.approx(used[0])
    assert reward(outcome, 0.25)[0] == pytest.approx(0.25 + 0.75 * used[0])
    # 20 requests a second of 20 ms over 4 cores, and 200 of 512 MiB
    assert used[0] == pytest.approx((0.1 + 200 / 512) / 2, rel=0.01)


def test_the_lesser_slo_preservation_counts() -> None:
    _, _, outcome = settled()
    worse = outcome._replace(slo_latency=np.array([0.5]), slo_throughput=np.array([0.2]))
    assert reward(worse, 1.0)[0] == pytest.approx(0.2)


@given(action=st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_an_action_of_limits_is_where_it_lies_between_the_bounds(action: list[float]) -> None:
    _, state, outcome = settled()
    limits = decode(np.array([action]), "limits", state, outcome, remember(None, outcome))
    for value, (low, high) in zip(limits, (CPU_CORES, MEMORY_MIB, REPLICAS), strict=True):
        assert low * (1 - 1e-9) <= value[0] <= high * (1 + 1e-9)
    np.testing.assert_allclose(encode(limits), np.array([action]), atol=1e-9)


def test_an_action_of_changes_of_zero_leaves_everything_as_it_is() -> None:
    _, state, outcome = settled()
    limits = decode(np.zeros((1, 3)), "changes", state, outcome, remember(None, outcome))
    assert [float(value[0]) for value in limits] == [1.0, 512.0, 4.0]
    doubled = decode(np.full((1, 3), np.log(2) / np.log(2.5)), "changes", state, outcome, remember(None, outcome))
    assert [float(value[0]) for value in doubled] == pytest.approx([2.0, 1024.0, 8.0])


def test_an_action_of_targets_follows_what_is_in_use() -> None:
    _, state, outcome = settled(rate=100.0)
    # 2 cores are in use; at a target of 0.5 that takes 4, of one core each
    half = -np.log(0.5 / CPU_TARGET[1]) / np.log(CPU_TARGET[2] / CPU_TARGET[1])
    one_core = 2 * np.log(1 / 0.1) / np.log(4 / 0.1) - 1
    limits = decode(np.array([[one_core, -1.0, half]]), "targets", state, outcome, remember(None, outcome))
    assert limits.cpu_cores[0] == pytest.approx(1.0)
    assert limits.replicas[0] == pytest.approx(4 + 0.5, abs=0.05)
    assert limits.memory_mib[0] == pytest.approx(0.9 * outcome.service.memory_mib[0])
    nearly = state._replace(cpu_cores=state.cpu_cores * np.exp(0.9 * LOOSE))
    kept = decode(np.array([[one_core, -1.0, half]]), "targets", nearly, outcome, remember(None, outcome))
    assert kept.cpu_cores[0] == nearly.cpu_cores[0]


def test_a_peak_fades_until_a_higher_one_comes() -> None:
    _, _, outcome = settled(rate=100.0)
    once = remember(None, outcome)
    assert once.cores[0] == pytest.approx(2.0, rel=0.02)
    higher = Recent(10 * once.cores, 10 * once.memory_mib)
    assert remember(higher, outcome).cores[0] == pytest.approx(9.7 * once.cores[0])
    assert remember(Recent(0 * once.cores, 0 * once.memory_mib), outcome) == once


def test_what_is_observed_is_named_bounded_and_says_nothing_of_hidden_parameters() -> None:
    p, state, outcome = settled()
    seen = observe(p.slo_s, state, outcome, np.array([20.0]), np.array([10.0]), np.zeros(1), np.array([0.5]))
    assert seen.shape == (1, len(OBSERVATION))
    assert (np.abs(seen) <= 2).all()
    of = dict(zip(OBSERVATION, seen[0], strict=True))
    assert of["load_change"] == pytest.approx(np.log(2))
    assert of["cpu_use"] == pytest.approx(2 * 0.1 - 1)
    assert (of["clock_sin"], of["clock_cos"], of["alpha"]) == (0.0, 1.0, 0.0)
    q, other_state, other = settled(start_steps=15.0, restarts=1.0, timeout_s=3.0)
    same = observe(q.slo_s, other_state, other, np.array([20.0]), np.array([10.0]), np.zeros(1), np.array([0.5]))
    np.testing.assert_array_equal(seen, same)
