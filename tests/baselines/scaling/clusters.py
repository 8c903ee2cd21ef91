"""Pairs, bursty loads and snapshots of monitoring for tests of autoscalers."""

from __future__ import annotations

from typing import Any

import numpy as np
from drawn import one
from drawn import params as plain

from flashfm.tasks.autoscaling import dynamics
from flashfm.tasks.autoscaling.dynamics import Draws, Limits, State, StepOutcome
from flashfm.tasks.autoscaling.parameters import Params
from flashfm.tasks.autoscaling.simulator import Chance, Load, Simulator

__all__ = ["calm", "one", "params", "seen", "simulator", "various"]


def params(n: int = 1, **changed: float | np.ndarray) -> Params:
    """`n` pairs as `drawn.params` has them, with two workers, some noise of memory and a nearer objective."""
    return plain(n, **{"workers": 2.0, "memory_noise": 0.02, "slo_s": 0.3} | changed)


def various(n: int, seed: int = 0) -> Params:
    """Pairs that differ in everything that matters to an autoscaler."""
    rng = np.random.default_rng(seed)
    return params(
        n,
        cpu_s=np.exp(rng.uniform(-5, -2, n)),
        wait_s=rng.uniform(0, 0.2, n),
        workers=rng.integers(1, 5, n).astype(float),
        concurrency=rng.integers(4, 64, n).astype(float),
        memory_base_mib=rng.uniform(50, 900, n),
        memory_request_mib=rng.uniform(0.5, 40, n),
        start_steps=rng.integers(1, 6, n).astype(float),
        restarts=rng.integers(0, 2, n).astype(float),
        slo_s=rng.uniform(0.3, 3, n),
        neighbours=rng.uniform(0, 0.4, n),
    )


def simulator(of: Params, *, steps: int = 40, burst: float = 6.0, alpha: Any = 0.5, seed: int = 0) -> Simulator:
    """Half a core of demand on average; after a quarter of the episode it is `burst` times as much, for half of it."""
    n = len(of)

    def load(chance: Chance) -> Load:
        noise = np.exp(0.1 * np.asarray(chance.normal(steps + 1, n), dtype=np.float64))
        t = np.arange(steps + 1)[:, None]
        shape = np.where((t > steps // 4) & (t <= 3 * steps // 4), burst, 1.0)
        return Load(of.cpu_s.dtype.type(1) * (shape * noise * 0.5 / of.cpu_s), np.zeros(n))

    return Simulator(of, load, alpha=alpha, seed=seed)


def seen(
    *,
    cpu_use: float = 0.5,
    memory_use: float = 0.5,
    ready: float = 4.0,
    starting: float = 0.0,
    cpu: float = 1.0,
    memory: float = 500.0,
    killed: float = 0.0,
) -> tuple[State, StepOutcome]:
    """One pair: so many ready replicas in these limits, each using this share of them."""
    p = params(1)
    state = dynamics.start(p, Limits(*(np.full(1, value) for value in (cpu, memory, ready))), np.zeros(1))
    _, outcome = dynamics.step(p, state, Limits(cpu + np.zeros(1), memory + np.zeros(1), ready + np.zeros(1)), *calm())
    replicas = ready + starting
    share = ready / replicas if replicas else 0.0
    service = outcome.service._replace(memory_mib=np.full(1, memory_use * memory), killed=np.full(1, killed))
    values = {
        "ready": ready,
        "replicas": replicas,
        "cpu_cores": replicas * cpu,
        "memory_mib": replicas * memory,
        "cpu_use": cpu_use * share,
        "memory_use": memory_use * share,
    }
    return state, outcome._replace(service=service, **{name: np.full(1, value) for name, value in values.items()})


def calm() -> tuple[Any, Draws]:
    """A rate and chance for one pair."""
    return np.full(1, 10.0), Draws(np.zeros(1), np.zeros(1), np.zeros(1))
