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
PERIOD_S = 0.1
"""Period over which a CPU quota counts: Linux's and Kubernetes' default."""
CALM_P50, CALM_P99 = 1.6, 0.25
"""How fast a quota is felt as it fills up, in the median and in the tail: fitted to a simulation of requests of 3 to
30 ms under quotas of 0.25 to 0.5 cores."""
EVEN = 0.72
"""Waits of requests that share a processor and need alike, over those of exponential ones (same simulation)."""
SLOT_P50, SLOT_P99 = 0.5, 0.7
"""Share of the wait for a place among `concurrency` that comes on top of the wait for a core."""
LN2 = 0.6931471805599453
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


def latency(params: Params, cpu_cores: Any, speed: Any, rate_per_s: Any) -> tuple[Any, Any]:
    """Median and 99th percentile of the latency of a replica in a steady state.

    Two queues are blended. While the quota of a period is not used up, requests run as if there were none; once it is,
    they flow at the quota. How often that is grows with utilisation, the less the more requests a period's quota holds.
    Beside cores, requests may wait for a place among `concurrency`. The application's own tail and the waits are taken
    as independent.

    Args:
        params: of the pairs.
        cpu_cores: limit of the replica.
        speed: of a core.
        rate_per_s: requests that the replica answers.
    """
    xp = array_namespace(params.cpu_s)
    cpu = params.cpu_s / speed
    cores = xp.minimum(cpu_cores, params.workers)
    slowed = cpu / cores.clip(max=1.0)
    busy = (rate_per_s * cpu / cores).clip(max=BUSIEST)
    free_p50, free_p99 = _waits(params.workers, rate_per_s * cpu / params.workers, cpu)
    flow_p50, flow_p99 = _waits(cores.clip(min=1.0), busy, slowed)
    fits = cores * PERIOD_S / cpu
    throttled = cores < params.workers
    felt_p50 = xp.where(throttled, busy ** (CALM_P50 * fits), 1.0)
    felt_p99 = xp.where(throttled, busy ** (CALM_P99 * fits), 1.0)
    alone_p50 = cpu + felt_p50 * (slowed - cpu) + params.wait_s
    alone_p99 = cpu + felt_p99 * (slowed - cpu) + params.wait_s
    slot_p50, slot_p99 = _waits(params.concurrency, rate_per_s * alone_p50 / params.concurrency, alone_p50)
    p50 = alone_p50 + free_p50 + felt_p50 * (flow_p50 - free_p50) + SLOT_P50 * slot_p50
    waited = free_p99 + felt_p99 * (flow_p99 - free_p99) + SLOT_P99 * slot_p99
    p99 = alone_p99 + xp.sqrt(((params.tail - 1) * alone_p99) ** 2 + waited**2)
    return p50, xp.maximum(p50, p99)


def _waits(servers: Any, busy: Any, service_s: Any) -> tuple[Any, Any]:
    """Median and 99th percentile of the wait in a queue of M/M/c; waits that occur are exponential.

    Source: Sakasegawa 1977, as in Hopp and Spearman, Factory Physics, eq. 8.6.
    """
    xp = array_namespace(servers)
    busy = busy.clip(max=BUSIEST)
    chance = busy ** (xp.sqrt(2 * (servers + 1)) - 1)
    mean = service_s / (servers * (1 - busy))
    return LN2 * chance * mean, EVEN * mean * xp.log((100 * chance).clip(min=1.0))


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

    Kills for lack of memory follow from the requests in flight before capacity is lost, by Little's law.

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
    """
    xp = array_namespace(params.cpu_s)
    ready_or_few = ready.clip(min=LEAST_READY)
    of_replica = replica_capacity_per_s(params, cpu_cores, speed)
    wanted = ready_or_few * of_replica
    arrived = rate_per_s * step_s + backlog
    begun = (arrived / (wanted * step_s)).clip(max=BUSIEST) * of_replica
    alone = service_time_s(params, cpu_cores, speed)
    busy = begun * params.cpu_s / (speed * xp.minimum(cpu_cores, params.workers))
    held_s = (alone - params.wait_s) / (1 - busy) + params.wait_s
    in_flight = xp.minimum(begun * held_s + backlog / ready_or_few, params.concurrency)
    used = params.memory_base_mib + params.memory_request_mib * in_flight
    killed = ((used * (1 + memory_noise) / memory_mib - 1) * KILL_SLOPE).clip(min=0.0, max=1.0)

    capacity = wanted * (1 - KILLED * killed)
    served = xp.minimum(arrived, capacity * step_s)
    left = arrived - served
    after = xp.minimum(left, capacity * params.timeout_s)
    p50, p99 = latency(params, cpu_cores, speed * (1 - KILLED * killed), served / (ready_or_few * step_s))
    queued = (backlog + after) / (2 * capacity)
    return Service(
        p50_s=xp.minimum(p50 + queued, params.timeout_s),
        p99_s=xp.minimum(p99 + 2 * queued, params.timeout_s),
        capacity_per_s=capacity,
        served_per_s=served / step_s,
        backlog=after,
        dropped=left - after,
        cpu_cores=served / step_s * params.cpu_s / speed,
        memory_mib=xp.minimum(used, memory_mib),
        killed=killed,
    )
