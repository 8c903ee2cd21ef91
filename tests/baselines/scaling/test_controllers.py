"""What holds for every autoscaler: batches equal singles, torch equals NumPy, bounds, monitoring, static limits."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from clusters import calm, one, params, seen, simulator, various
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.baselines.scaling import (
    Controller,
    Hpa,
    HpaConfig,
    HpaVpa,
    HpaVpaConfig,
    Planner,
    Static,
    StaticConfig,
    Vpa,
    VpaConfig,
    play,
    usage,
)
from flashfm.tasks.autoscaling.dynamics import CPU_CORES, MEMORY_MIB, REPLICAS, Limits

MAKE: dict[str, Callable[[], Controller]] = {
    "static": Static,
    "HPA": lambda: Hpa(HpaConfig(target=0.5, memory_target=0.8)),
    "VPA": lambda: Vpa(VpaConfig(day_s=900.0)),
    "HPA + VPA": lambda: HpaVpa(HpaVpaConfig(target=0.6, day_s=900.0)),
    "planner": Planner,
}
every = pytest.mark.parametrize("name", MAKE)


@every
def test_it_is_a_controller(name: str) -> None:
    assert isinstance(MAKE[name](), Controller)


@every
def test_a_batch_equals_singles(name: str) -> None:
    n, alpha = 5, np.array([0.2, 0.4, 0.5, 0.7, 0.9])
    of = simulator(various(n), steps=24, alpha=alpha)
    of.reset()
    batch, singles = MAKE[name](), [MAKE[name]() for _ in range(n)]
    batch.reset(of)
    for i, single in enumerate(singles):
        single.reset(SimpleNamespace(params=one(of.params, i), outcome=one(of.outcome, i), alpha=alpha[i]))
    while not of.done:
        rate = of.load.rate_per_s[of.t]
        limits = batch.decide(of.state, of.outcome, rate)
        for i, single in enumerate(singles):
            alone = single.decide(one(of.state, i), one(of.outcome, i), rate[i : i + 1])
            for field, same in zip(limits, alone, strict=True):
                assert field[i] == pytest.approx(same[0], rel=1e-9)
        of.apply(limits)


@every
def test_torch_equals_numpy(name: str) -> None:
    of = simulator(various(6), steps=16)
    of.reset()
    plain, other = MAKE[name](), MAKE[name]()
    plain.reset(of)

    def tensors(values: Any) -> Any:
        return type(values)(*map(tensors, values)) if isinstance(values, tuple) else torch.from_numpy(values)

    with torch.inference_mode():
        other.reset(
            SimpleNamespace(params=of.params.map(torch.from_numpy), outcome=tensors(of.outcome), alpha=of.alpha)
        )
        while not of.done:
            rate = of.load.rate_per_s[of.t]
            limits = plain.decide(of.state, of.outcome, rate)
            same = other.decide(tensors(of.state), tensors(of.outcome), torch.from_numpy(rate))
            for field, tensor in zip(limits, same, strict=True):
                assert isinstance(tensor, torch.Tensor)
                assert field == pytest.approx(tensor.numpy(), rel=1e-9)
            of.apply(limits)


@every
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), burst=st.floats(0.0, 60.0))
def test_limits_stay_within_bounds(name: str, seed: int, burst: float) -> None:
    of = simulator(various(4, seed), steps=12, burst=burst, seed=seed)
    of.reset()
    controller = MAKE[name]()
    controller.reset(of)
    while not of.done:
        limits = controller.decide(of.state, of.outcome, of.load.rate_per_s[of.t])
        for values, (low, high) in zip(limits, (CPU_CORES, MEMORY_MIB, REPLICAS), strict=True):
            assert values.shape == (4,)
            assert np.isfinite(values).all()
            assert ((values >= low) & (values <= high)).all()
        assert (limits.replicas == np.round(limits.replicas)).all()
        of.apply(limits)


@pytest.mark.parametrize("name", ["HPA", "HPA + VPA", "planner"])
def test_a_burst_is_met_better_than_by_limits_set_once(name: str) -> None:
    p = various(32)
    once = play(simulator(p), Static(), {})
    moved = play(simulator(p), MAKE[name](), {})
    assert moved.reward > once.reward
    assert moved.violations < once.violations


@every
def test_a_second_episode_begins_anew(name: str) -> None:
    of, again = simulator(various(4), steps=20, seed=1), simulator(various(4), steps=20, seed=1)
    controller = MAKE[name]()
    first = play(of, controller, {})
    assert play(again, controller, {}) == first


def test_monitoring_shows_ready_replicas_only() -> None:
    shown = usage(*seen(ready=3, starting=2, cpu=0.5, memory=400.0, cpu_use=0.6, memory_use=0.7))
    found = [float(of[0]) for of in shown[:6]]
    assert found == pytest.approx([0.5, 400.0, 0.3, 280.0, 3.0, 5.0])
    assert not shown.oom[0]
    assert usage(*seen(killed=0.1)).oom[0]
    assert float(usage(*seen(ready=0, starting=2, cpu=0.5)).cpu_limit[0]) == 0.5


def test_static_limits_leave_headroom_above_the_first_step() -> None:
    static = Static(config=StaticConfig(headroom=2.0, memory_headroom=1.5))
    static.reset(SimpleNamespace())
    # 4 replicas of one core use 0.8 each: 6.4 cores, and half of 500 MiB
    limits = static.decide(*seen(cpu_use=0.8, memory_use=0.5), calm()[0])
    assert [float(of[0]) for of in limits] == [1.0, 375.0, 7.0]
    assert [float(of[0]) for of in static.decide(*seen(cpu_use=0.1), calm()[0])] == [1.0, 375.0, 7.0]
    static.reset(SimpleNamespace())
    killed = static.decide(*seen(cpu_use=0.8, memory_use=1.0, killed=1.0), calm()[0])
    assert float(killed.memory_mib[0]) == 1500.0
    large = Static(config=StaticConfig(headroom=2.0, cpu_cores=2.0))
    large.reset(SimpleNamespace())
    assert [float(of[0]) for of in large.decide(*seen(cpu_use=0.8), calm()[0])][::2] == [2.0, 4.0]


def test_static_limits_may_be_given() -> None:
    p = params(2)
    static = Static(Limits(np.array([2.0, 9.0]), np.array([300.0, 300.0]), np.array([3.0, 3.0])))
    of = simulator(p)
    of.reset()
    static.reset(of)
    limits = static.decide(of.state, of.outcome, of.load.rate_per_s[0])
    assert limits.cpu_cores.tolist() == [2.0, 4.0]
    assert limits.replicas.tolist() == [3.0, 3.0]
