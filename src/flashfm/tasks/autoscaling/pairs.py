"""Draws <application, environment> pairs: applications by their costs, all else from a declared distribution.

What a state does not show is in it on purpose, because clusters have it: containers that take long to start, limits
that cannot be changed without a restart, objectives that are near to or far from an application's own latency, nodes
of different speed, neighbours, and jobs by the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float

from flashfm.tasks.autoscaling.calibration import ApplicationCosts
from flashfm.tasks.autoscaling.dynamics import CPU_CORES, MEMORY_MIB, REPLICAS, Limits, placed
from flashfm.tasks.autoscaling.parameters import LONGEST_START, Params
from flashfm.tasks.autoscaling.serving import latency, replica_capacity_per_s

Range = tuple[float, float]
BUSY = (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98)
"""Shares of a replica's throughput at which its latency is looked at."""


@dataclass(frozen=True)
class PairDistribution:
    """Where deployments and environments come from; ranges are log-uniform where nothing else is said."""

    workers: tuple[int, ...] = (1, 2, 4)
    """Processes of a replica, equally likely."""
    concurrency: Range = (1.0, 256.0)
    """Requests that a replica works on at a time; never fewer than workers."""
    held_mib: Range = (20.0, 2000.0)
    """Memory that a deployment holds beside what its code was measured to need: runtime, models, caches."""
    request_mib: Range = (0.5, 60.0)
    """Memory of a request in flight, payload and working set, added to the measured one."""
    memory_noise: Range = (0.01, 0.10)
    """Uniform."""
    tail: Range = (1.2, 8.0)
    """p99 over p50 of an unloaded replica in production; never less than was measured."""
    start_steps: Range = (1.0, 20.99)
    """Rounded down: half a minute to ten minutes."""
    restarts: float = 0.5
    """Share of deployments whose limits cannot be changed in place."""
    slack: Range = (1.1, 12.0)
    """Objective over the p99 of an unloaded replica with one core, whatever its neighbours do."""
    timeout_s: Range = (5.0, 60.0)
    """At least twice the objective, which could not be missed otherwise."""
    nodes: tuple[int, int] = (4, 10)
    """Whole, equally likely; the paper has five."""
    node_cores: float = 3.9
    """The paper's nodes have four cores and 16 GB."""
    node_memory_mib: float = 15_360.0
    node_speed: Range = (0.6, 1.6)
    neighbours: Range = (0.0, 0.5)
    """Uniform."""
    demand_cores: float = 1.1
    """Standard deviation of the log of the mean demand, whose median is one core."""
    demand_bounds: Range = (0.08, 6.0)


def draw(
    rng: np.random.Generator, costs: Sequence[ApplicationCosts], distribution: PairDistribution | None = None
) -> tuple[Params, Float[np.ndarray, " env"]]:
    """One pair for each application, and the mean rate of requests that its demand comes to, before any clamping.

    Args:
        rng: draws deployments and environments.
        costs: of the applications, one a pair, in the order of the result.
        distribution: where they come from.

    Returns:
        Parameters as float64, and requests a second.
    """
    d, n = distribution or PairDistribution(), len(costs)

    def log_uniform(of: Range) -> Any:
        return np.exp(rng.uniform(np.log(of[0]), np.log(of[1]), n))

    def measured(name: str) -> Any:
        return np.array([getattr(one, name) for one in costs], dtype=np.float64)

    cpu_s, wait_s = measured("cpu_s"), measured("wait_s")
    workers = rng.choice(np.array(d.workers, dtype=np.float64), n)
    concurrency = np.maximum(np.floor(log_uniform(d.concurrency)), workers)
    base = workers * measured("memory_base_mib") + log_uniform(d.held_mib)
    tail = np.maximum(measured("tail"), log_uniform(d.tail))
    speed, neighbours = log_uniform(d.node_speed), rng.uniform(*d.neighbours, n)
    alone = cpu_s / (speed * (1 - neighbours)) + wait_s
    slo_s = log_uniform(d.slack) * tail * alone
    params = Params(
        cpu_s=cpu_s,
        wait_s=wait_s,
        tail=tail,
        workers=workers,
        concurrency=concurrency,
        memory_base_mib=base,
        memory_request_mib=measured("memory_request_mib") + log_uniform(d.request_mib),
        memory_noise=rng.uniform(*d.memory_noise, n),
        start_steps=np.clip(np.floor(log_uniform(d.start_steps)), 1.0, float(LONGEST_START)),
        restarts=(rng.random(n) < d.restarts).astype(np.float64),
        slo_s=slo_s,
        timeout_s=np.maximum(log_uniform(d.timeout_s), 2 * slo_s),
        nodes=rng.integers(d.nodes[0], d.nodes[1] + 1, n).astype(np.float64),
        node_cores=np.full(n, d.node_cores),
        node_memory_mib=np.full(n, d.node_memory_mib),
        node_speed=speed,
        neighbours=neighbours,
    )
    demand = np.clip(np.exp(rng.normal(0.0, d.demand_cores, n)), *d.demand_bounds)
    return params, demand / cpu_s


def capacity_per_s(params: Params) -> Any:
    """Most requests a second that a pair can serve within its objective, whatever the neighbours do.

    The best of some limits, with all replicas that there is room for and memory for all requests that a replica works
    on. Where even the least load misses the objective, it is what can be served at all.
    """
    xp = array_namespace(params.cpu_s)
    speed = params.node_speed * (1 - params.neighbours)
    needed = 1.2 * (params.memory_base_mib + params.memory_request_mib * params.concurrency)
    memory = xp.minimum(needed.clip(*MEMORY_MIB), params.node_memory_mib)
    none = xp.zeros_like(params.cpu_s)
    best = at_all = none
    for cores in (0.1, 0.25, 0.5, 1.0, 1.3, 1.95, 3.9):
        limits = placed(params, Limits(none + min(max(cores, CPU_CORES[0]), CPU_CORES[1]), memory, none + REPLICAS[1]))
        most, within = replica_capacity_per_s(params, limits.cpu_cores, speed), none
        for share in BUSY:
            _, p99 = latency(params, limits.cpu_cores, speed, share * most)
            within = xp.where(p99 <= params.slo_s, share, within)
        best = xp.maximum(best, limits.replicas * within * most)
        at_all = xp.maximum(at_all, limits.replicas * most)
    return xp.where(best > 0, best, at_all)
