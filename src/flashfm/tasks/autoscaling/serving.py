"""How replicas serve requests for one step: capacity, queueing, latency, memory and the kills for lack of it.

Pure functions over arrays of shape [env], NumPy's or torch's. `dynamics.py` moves replicas and limits from step to step
and asks here what that means for requests; `experiments/reality.py` holds it against real processes.

A replica is some worker processes, each on one core at most, under a CPU quota and a memory limit. Requests reach the
replicas at random (kube-proxy, SO_REUSEPORT), so replicas do not share a queue.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from array_api_compat import array_namespace

from flashfm.tasks.autoscaling.parameters import STEP_S, Params

BUSIEST = 0.98
"""Utilisation beyond which the formula of a steady queue is not followed; what is left over is backlog."""
KILL_SLOPE = 8.0
"""How fast kills grow with the excess over the memory limit: all replicas are hit when it is an eighth of the limit."""
KILLED = 0.95
"""Share of its capacity that a replica loses in a step in which it is killed for memory, again and again."""
LEAST_READY = 0.05
"""Stands for no ready replica, so that nothing is divided by zero."""


class Service(NamedTuple):
    """What came of the requests of one step."""

    p50_s: Any
    """Median latency; at most the time-out."""
    p99_s: Any
    """99th percentile of latency; at most the time-out."""
    capacity_per_s: Any
    """Requests a second that the ready replicas can serve."""
    served_per_s: Any
    """Requests a second that were answered."""
    backlog: Any
    """Requests that wait at the end of the step."""
    dropped: Any
    """Requests given up at their time-out."""
    cpu_cores: Any
    """Cores in use, all replicas together."""
    memory_mib: Any
    """Resident memory of one ready replica."""
    killed: Any
    """Share of the ready replicas that ran out of memory, in [0, 1]."""


def service_time_s(params: Params, cpu_cores: Any, speed: Any) -> Any:
    """Latency of a request that meets nobody: CPU time stretched by the quota and the speed of the node, and waits."""
    return params.cpu_s / (cpu_cores.clip(max=1.0) * speed) + params.wait_s


def replica_capacity_per_s(params: Params, cpu_cores: Any, speed: Any) -> Any:
    """Requests a second that one replica can serve: bound by its cores, or by the requests it works on at a time."""
    xp = array_namespace(params.cpu_s)
    by_cpu = xp.minimum(cpu_cores, params.workers) * speed / params.cpu_s
    return xp.minimum(by_cpu, params.concurrency / service_time_s(params, cpu_cores, speed))


def serve(
    params: Params,
    cpu_cores: Any,
    memory_mib: Any,
    ready: Any,
    rate_per_s: Any,
    backlog: Any,
    *,
    speed: Any,
    memory_noise: Any,
    step_s: float = STEP_S,
) -> Service:
    """Serve one step.

    The mean wait is Sakasegawa's approximation of M/M/c for the cores of a replica; waits that occur are taken as
    exponential. Kills for lack of memory follow from the mean number of requests in flight, before capacity is lost.

    Args:
        params: of the pairs.
        cpu_cores: limit of one replica.
        memory_mib: limit of one replica.
        ready: replicas that serve.
        rate_per_s: requests that arrive, all replicas together.
        backlog: requests that waited at the start of the step.
        speed: of a core, neighbours deducted.
        memory_noise: peak of memory over its mean, as a share, at least 0.
        step_s: length of the step.

    Source: waiting time of M/M/c: Sakasegawa 1977, as in Hopp and Spearman, Factory Physics, eq. 8.6.
    """
    xp = array_namespace(params.cpu_s)
    ready_or_few = ready.clip(min=LEAST_READY)
    alone = service_time_s(params, cpu_cores, speed)
    on_cpu = alone - params.wait_s
    of_replica = replica_capacity_per_s(params, cpu_cores, speed)
    arrived = rate_per_s * step_s + backlog

    def wait(busy: Any) -> tuple[Any, Any]:
        """Chance to wait, and the mean wait of those that do."""
        cores = xp.minimum(cpu_cores, params.workers).clip(min=1.0)
        chance = busy ** (xp.sqrt(2 * (cores + 1)) - 1)
        return chance, on_cpu / (cores * (1 - busy))

    wanted = ready_or_few * of_replica
    busy = (arrived / (wanted * step_s)).clip(max=BUSIEST)
    chance, mean = wait(busy)
    in_flight = xp.minimum(busy * of_replica * (alone + chance * mean) + backlog / ready_or_few, params.concurrency)
    used = params.memory_base_mib + params.memory_request_mib * in_flight
    killed = ((used * (1 + memory_noise) / memory_mib - 1) * KILL_SLOPE).clip(min=0.0, max=1.0)

    capacity = wanted * (1 - KILLED * killed)
    served = xp.minimum(arrived, capacity * step_s)
    left = arrived - served
    after = xp.minimum(left, capacity * params.timeout_s)
    busy = (served / (capacity * step_s)).clip(max=BUSIEST)
    chance, mean = wait(busy)
    queued = (backlog + after) / (2 * capacity)
    p50 = alone + LN2 * chance * mean + queued
    p99 = params.tail * alone + mean * xp.log((100 * chance).clip(min=1.0)) + 2 * queued
    return Service(
        p50_s=xp.minimum(p50, params.timeout_s),
        p99_s=xp.minimum(p99, params.timeout_s),
        capacity_per_s=capacity,
        served_per_s=served / step_s,
        backlog=after,
        dropped=left - after,
        cpu_cores=served / step_s * params.cpu_s / speed,
        memory_mib=xp.minimum(used, memory_mib),
        killed=killed,
    )


LN2 = 0.6931471805599453
