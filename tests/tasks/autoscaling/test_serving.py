"""Serving: capacity, queues and memory by hand-worked cases, and orderings that any pair keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn import params, various
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.tasks.autoscaling.parameters import STEP_S, Params
from flashfm.tasks.autoscaling.serving import Service, replica_capacity_per_s, serve, service_time_s


def served(
    p: Params, *, cpu: Any = 1.0, memory: Any = 1e4, ready: Any = 1.0, rate: Any = 1.0, backlog: Any = 0.0
) -> Service:
    n = len(p)
    arrays = [np.zeros(n) + value for value in (cpu, memory, ready, rate, backlog)]
    return serve(p, *arrays, speed=p.node_speed, memory_noise=np.zeros(n))


def test_a_request_alone_takes_its_cpu_time_at_the_quota_and_its_waits() -> None:
    p = params(cpu_s=0.02, wait_s=0.03)
    assert service_time_s(p, np.array([0.5]), np.array([1.0]))[0] == pytest.approx(0.02 / 0.5 + 0.03)
    # a request runs on one core, however many there are
    assert service_time_s(p, np.array([4.0]), np.array([2.0]))[0] == pytest.approx(0.02 / 2 + 0.03)


def test_capacity_is_bound_by_cores_workers_or_concurrency() -> None:
    one = np.array([1.0])
    assert replica_capacity_per_s(params(cpu_s=0.02), one, one)[0] == pytest.approx(50)
    assert replica_capacity_per_s(params(cpu_s=0.02, workers=2.0), 4 * one, one)[0] == pytest.approx(100)
    assert replica_capacity_per_s(params(cpu_s=0.02, wait_s=0.08, concurrency=2.0), one, one)[0] == pytest.approx(20)


def test_an_idle_replica_answers_in_its_own_time() -> None:
    found = served(params(tail=3.0), rate=1e-6)
    assert found.p50_s[0] == pytest.approx(0.05, rel=1e-3)
    assert found.p99_s[0] == pytest.approx(0.15, rel=1e-3)


def test_what_is_not_served_waits_and_then_is_given_up() -> None:
    p = params(cpu_s=0.02, timeout_s=5.0)
    found = served(p, rate=60.0)
    assert found.served_per_s[0] == pytest.approx(50)
    assert found.backlog[0] == pytest.approx(50 * 5)
    assert found.dropped[0] == pytest.approx(10 * STEP_S - 50 * 5)
    assert found.p99_s[0] == 5.0
    after = served(p, rate=40.0, backlog=found.backlog)
    assert after.served_per_s[0] == pytest.approx(40 + 250 / STEP_S)
    assert after.backlog[0] == 0


def test_no_ready_replica_serves_next_to_nothing() -> None:
    found = served(params(), ready=0.0, rate=20.0)
    assert found.served_per_s[0] <= 0.05 * 50
    assert found.p99_s[0] == 20.0


def test_memory_grows_with_requests_in_flight() -> None:
    p = params(memory_base_mib=100.0, memory_request_mib=10.0, wait_s=1.0, cpu_s=0.001)
    idle, busy = served(p, rate=1e-6), served(p, rate=10.0)
    assert idle.memory_mib[0] == pytest.approx(100, rel=1e-3)
    # Little's law: 10 requests a second of one second each
    assert busy.memory_mib[0] == pytest.approx(200, rel=0.02)


@pytest.mark.parametrize(("memory", "killed"), [(1000.0, 0.0), (200.0, 0.0), (180.0, 0.9), (100.0, 1.0)])
def test_kills_grow_with_the_excess_over_the_limit(memory: float, killed: float) -> None:
    found = served(params(memory_base_mib=200.0), memory=memory, rate=1e-6)
    assert found.killed[0] == pytest.approx(killed, abs=0.02)
    assert found.capacity_per_s[0] == pytest.approx(50 * (1 - 0.95 * found.killed[0]))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_more_of_everything_is_never_slower_and_more_load_never_faster(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 50
    p = various(rng, n)
    cpu, ready, rate = rng.uniform(0.1, 4, n), rng.integers(1, 20, n).astype(float), np.exp(rng.normal(2, 2, n))
    base = served(p, cpu=cpu, ready=ready, rate=rate)
    for better in (served(p, cpu=cpu, ready=ready + 1, rate=rate), served(p, cpu=cpu, ready=ready, rate=0.8 * rate)):
        assert (better.p99_s <= base.p99_s * (1 + 1e-9)).all()
        assert (better.p50_s <= base.p50_s * (1 + 1e-9)).all()
    assert (base.p50_s <= base.p99_s * (1 + 1e-9)).all()
    assert (base.served_per_s <= base.capacity_per_s * (1 + 1e-9)).all()
    balance = base.served_per_s * STEP_S + base.backlog + base.dropped
    np.testing.assert_allclose(balance, rate * STEP_S, rtol=1e-9)
