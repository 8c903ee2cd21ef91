"""Both autoscalers together: who moves what, and that they do not chase each other."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from clusters import calm, params, seen, simulator

from flashfm.baselines.scaling import HpaVpa, HpaVpaConfig


def begun(config: HpaVpaConfig, replicas: float = 4.0) -> HpaVpa:
    both = HpaVpa(config)
    both.reset(SimpleNamespace(outcome=seen(ready=replicas)[1]))
    return both


def test_cpu_limits_wait_while_replicas_move() -> None:
    both = begun(HpaVpaConfig(target=0.5, day_s=900.0))
    for _ in range(3):
        limits = both.decide(*seen(cpu_use=1.0), calm()[0])
        assert float(limits.replicas[0]) > 4
        assert float(limits.cpu_cores[0]) == 1.0


def test_cpu_limits_move_where_hpa_cannot() -> None:
    both = begun(HpaVpaConfig(target=0.5, day_s=900.0), replicas=32)
    for _ in range(3):
        limits = both.decide(*seen(cpu_use=1.0, ready=32), calm()[0])
    assert float(limits.replicas[0]) == 32
    assert 2.0 <= float(limits.cpu_cores[0]) <= 2.0 * 1.06  # percentile over the target


def test_memory_limits_move_alone_where_vpa_has_no_say_in_cpu() -> None:
    both = begun(HpaVpaConfig(target=0.5, vertical="memory", day_s=900.0), replicas=32)
    for _ in range(3):
        limits = both.decide(*seen(cpu_use=1.0, memory_use=1.0, killed=0.2, ready=32), calm()[0])
    assert float(limits.cpu_cores[0]) == 1.0
    assert float(limits.memory_mib[0]) >= 600 * 1.15


@pytest.mark.parametrize("target", [0.5, 0.7])
def test_a_steady_load_comes_to_rest_near_the_target(target: float) -> None:
    of = simulator(params(8), steps=150, burst=1.0)
    of.reset()
    both = HpaVpa(HpaVpaConfig(target=target, day_s=900.0))
    both.reset(of)
    history = []
    while not of.done:
        outcome = of.apply(both.decide(of.state, of.outcome, of.load.rate_per_s[of.t])).outcome
        history.append((outcome.replicas, of.state.cpu_cores, outcome.cpu_use))
    replicas, limits, use = (np.stack(column)[-30:] for column in zip(*history, strict=True))
    assert (replicas.max(axis=0) - replicas.min(axis=0) <= 1).all()
    assert (limits.max(axis=0) / limits.min(axis=0) < 1.2).all()
    assert (use.mean(axis=0) > 0.4 * target).all()
    assert (use.mean(axis=0) < 1.2 * target).all()
