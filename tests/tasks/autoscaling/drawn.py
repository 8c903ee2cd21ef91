"""Pairs and states for tests of the dynamics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from flashfm.tasks.autoscaling.dynamics import Draws
from flashfm.tasks.autoscaling.parameters import Params


def params(n: int = 1, **changed: float | np.ndarray) -> Params:
    """`n` plain pairs: 20 ms of CPU, 30 ms of waiting, 200 MiB, ready one step after the order, changed in place."""
    values: dict[str, float] = {
        "cpu_s": 0.02,
        "wait_s": 0.03,
        "tail": 2.0,
        "workers": 1.0,
        "concurrency": 32.0,
        "memory_base_mib": 200.0,
        "memory_request_mib": 2.0,
        "memory_noise": 0.0,
        "start_steps": 1.0,
        "restarts": 0.0,
        "slo_s": 0.5,
        "timeout_s": 20.0,
        "nodes": 5.0,
        "node_cores": 4.0,
        "node_memory_mib": 15_360.0,
        "node_speed": 1.0,
        "neighbours": 0.0,
    }
    plain = Params(**{name: np.full(n, value) for name, value in values.items()})
    return replace(plain, **{name: np.zeros(n) + value for name, value in changed.items()})


def various(rng: np.random.Generator, n: int) -> Params:
    """Pairs that differ in everything."""
    return params(
        n,
        cpu_s=np.exp(rng.uniform(-6, 0, n)),
        wait_s=rng.uniform(0, 0.5, n),
        tail=rng.uniform(1, 6, n),
        workers=rng.integers(1, 5, n).astype(float),
        concurrency=rng.integers(4, 100, n).astype(float),
        memory_base_mib=rng.uniform(20, 2000, n),
        memory_request_mib=rng.uniform(0.1, 40, n),
        memory_noise=rng.uniform(0, 0.1, n),
        start_steps=rng.integers(1, 21, n).astype(float),
        restarts=rng.integers(0, 2, n).astype(float),
        node_speed=rng.uniform(0.5, 2, n),
        neighbours=rng.uniform(0, 0.6, n),
    )


def draws(n: int, rng: np.random.Generator | None = None) -> Draws:
    """Chance, or none of it."""
    if rng is None:
        return Draws(np.zeros(n), np.zeros(n), np.zeros(n))
    return Draws(rng.standard_normal(n), rng.random(n), rng.standard_normal(n))


def one(values: Any, i: int) -> Any:
    """Pair `i` of a named tuple of arrays or of a struct of them, as a batch of one."""
    if isinstance(values, tuple):
        return type(values)(*(one(value, i) for value in values))
    return values.map(lambda a: a[i : i + 1]) if isinstance(values, Params) else values[..., i : i + 1]
