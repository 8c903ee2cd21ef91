"""The dynamics: replicas, restarts and limits by hand-worked cases, and what holds for any pair and any target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from drawn import draws, one, params, various
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.tasks.autoscaling import dynamics
from flashfm.tasks.autoscaling.dynamics import CPU_CORES, MEMORY_MIB, REPLICAS, Limits, State
from flashfm.tasks.autoscaling.parameters import Params


def limits(n: int = 1, cpu: float = 1.0, memory: float = 512.0, replicas: float = 4.0) -> Limits:
    return Limits(np.full(n, cpu), np.full(n, memory), np.full(n, replicas))


def run(p: Params, state: State, targets: list[Limits], rate: float = 10.0) -> list[Any]:
    """Outcomes of some steps, and the state after them."""
    found = []
    for target in targets:
        state, outcome = dynamics.step(p, state, target, np.full(len(p), rate), draws(len(p)))
        found.append(outcome)
    return [*found, state]


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_a_replica_serves_so_many_steps_after_its_order(steps: int) -> None:
    p = params(start_steps=float(steps))
    state = dynamics.start(p, limits(replicas=2), np.zeros(1))
    *outcomes, _ = run(p, state, [limits(replicas=5)] * (steps + 2))
    assert [float(o.ready[0]) for o in outcomes] == [2.0] * steps + [5.0] * 2
    assert all(float(o.replicas[0]) == 5.0 for o in outcomes)


def test_scaling_down_takes_what_is_still_starting_first() -> None:
    p = params(start_steps=5.0)
    state = dynamics.start(p, limits(replicas=2), np.zeros(1))
    *outcomes, after = run(p, state, [limits(replicas=6), limits(replicas=3), limits(replicas=1)])
    assert [float(o.ready[0]) for o in outcomes] == [2.0, 2.0, 1.0]
    assert [float(o.replicas[0]) for o in outcomes] == [6.0, 3.0, 1.0]
    assert after.due[-1].sum() == 0


def test_of_those_that_start_the_latest_are_taken_back() -> None:
    p = params(start_steps=3.0)
    state = dynamics.start(p, limits(replicas=1), np.zeros(1))
    *outcomes, _ = run(p, state, [limits(replicas=r) for r in (3, 6, 4, 4, 4)])
    # two were ordered in the first step and are kept; of the three of the second one is
    assert [float(o.ready[0]) for o in outcomes] == [1.0, 1.0, 1.0, 3.0, 4.0]


def test_limits_are_changed_in_place_at_once() -> None:
    p = params(restarts=0.0)
    state = dynamics.start(p, limits(), np.zeros(1))
    outcome, _ = run(p, state, [limits(cpu=2.0)])
    assert float(outcome.ready[0]) == 4
    assert float(outcome.cpu_cores[0]) == pytest.approx(8.0)
    assert float(outcome.restarted[0]) == 0


def test_restarts_roll_over_a_quarter_of_the_replicas_at_a_time() -> None:
    p = params(restarts=1.0, start_steps=2.0)
    state = dynamics.start(p, limits(replicas=8), np.zeros(1))
    *outcomes, after = run(p, state, [limits(cpu=2.0, replicas=8)] * 10)
    # two go at once, and the next two when these are back after two steps
    assert [float(o.ready[0]) for o in outcomes[:8]] == [6.0] * 8
    assert [float(o.ready[0]) for o in outcomes[8:]] == [8.0, 8.0]
    assert sum(float(o.restarted[0]) for o in outcomes) == 8
    used = [float(o.cpu_cores[0]) for o in outcomes]
    assert used[:3] == pytest.approx([2 * 2 + 6 * 1.0, 2 * 2 + 6 * 1.0, 4 * 2 + 4 * 1.0])
    assert used[-1] == pytest.approx(16.0)
    assert float(after.stale[0]) == 0


def test_small_changes_of_the_limits_are_not_made() -> None:
    p = params(restarts=1.0)
    state = dynamics.start(p, limits(), np.zeros(1))
    outcome, after = run(p, state, [limits(cpu=1.03, memory=520.0)])
    assert float(outcome.restarted[0]) == 0
    assert float(after.cpu_cores[0]) == 1.0
    assert float(after.memory_mib[0]) == 512.0


def test_nodes_have_room_for_so_many() -> None:
    p = params(nodes=2.0, node_cores=4.0)
    placed = dynamics.placed(p, limits(cpu=1.5, replicas=30))
    assert float(placed.replicas[0]) == 2 * 2
    by_memory = dynamics.placed(p, limits(cpu=0.1, memory=7000.0, replicas=30))
    assert float(by_memory.replicas[0]) == 2 * 2


def test_replicas_without_memory_are_killed_and_come_back() -> None:
    p = params(memory_base_mib=600.0, start_steps=3.0)
    state = dynamics.start(p, limits(memory=512.0), np.zeros(1))
    *outcomes, after = run(p, state, [limits(memory=512.0)] * 2)
    assert float(outcomes[0].service.killed[0]) == 1.0
    assert float(outcomes[0].service.capacity_per_s[0]) == pytest.approx(0.05 * 4 * 50)
    assert float(outcomes[1].ready[0]) == 2.0
    assert float(after.ready[0] + after.due[-1, 0]) == 4.0


seeds = st.integers(0, 2**32 - 1)


def _rolled(seed: int, n: int, steps: int) -> tuple[Params, list[tuple[State, Limits, np.ndarray, Any]]]:
    rng = np.random.default_rng(seed)
    p = various(rng, n)
    state = dynamics.start(
        p, Limits(rng.uniform(0.1, 4, n), rng.uniform(64, 4000, n), rng.uniform(1, 32, n)), rng.random(n)
    )
    found = []
    for _ in range(steps):
        wanted = Limits(np.exp(rng.normal(0, 2, n)), np.exp(rng.normal(6, 2, n)), np.exp(rng.normal(1, 2, n)))
        rate, chance = np.exp(rng.normal(2, 2, n)), draws(n, rng)
        found.append((state, wanted, rate, chance))
        state, _ = dynamics.step(p, state, wanted, rate, chance)
    return p, found


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_any_target_leaves_everything_within_bounds(seed: int) -> None:
    p, rolled = _rolled(seed, 6, 12)
    for state, wanted, rate, chance in rolled:
        after, outcome = dynamics.step(p, state, wanted, rate, chance)
        for value, (low, high) in ((after.cpu_cores, CPU_CORES), (after.memory_mib, MEMORY_MIB)):
            assert ((value >= low - 1e-9) & (value <= high + 1e-9)).all()
        assert ((outcome.replicas >= 1) & (outcome.replicas <= REPLICAS[1])).all()
        assert np.array_equal(outcome.replicas, np.round(outcome.replicas))
        assert np.array_equal(after.ready, np.round(after.ready))
        assert np.array_equal(after.ready + after.due[-1], outcome.replicas)
        assert ((after.stale >= 0) & (after.stale <= after.ready)).all()
        for share in (outcome.cpu_use, outcome.memory_use, outcome.slo_latency, outcome.slo_throughput):
            assert ((share >= 0) & (share <= 1)).all()
        assert np.isfinite(np.concatenate([np.ravel(v) for v in outcome.service])).all()


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_a_batch_equals_its_pairs_one_by_one(seed: int) -> None:
    n = 5
    p, rolled = _rolled(seed, n, 6)
    for state, wanted, rate, chance in rolled:
        together = dynamics.step(p, state, wanted, rate, chance)
        for i in range(n):
            alone = dynamics.step(one(p, i), one(state, i), one(wanted, i), rate[i : i + 1], one(chance, i))
            for a, b in zip(_flat(together), _flat(alone), strict=True):
                np.testing.assert_allclose(a[..., i : i + 1], b, rtol=1e-12)


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_torch_gives_what_numpy_gives(seed: int) -> None:
    p, rolled = _rolled(seed, 5, 6)
    for state, wanted, rate, chance in rolled:
        plain = dynamics.step(p, state, wanted, rate, chance)
        tensors = [type(t)(*map(torch.from_numpy, t)) for t in (state, wanted, chance)]
        other = dynamics.step(p.map(torch.from_numpy), tensors[0], tensors[1], torch.from_numpy(rate), tensors[2])
        for a, b in zip(_flat(plain), _flat(other), strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-9, atol=1e-12)


def _flat(values: Any) -> list[Any]:
    return [leaf for value in values for leaf in _flat(value)] if isinstance(values, tuple) else [values]
