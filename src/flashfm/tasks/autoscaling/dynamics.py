"""The dynamics of a replicated application, written once: limits and replicas from one control step to the next.

Pure batched functions over arrays of shape [env]; NumPy serves single environments, torch thousands, on a CPU or a GPU.
No randomness is drawn here: what chance decides comes in as `Draws`. A batch of N equals N batches of one.

In one step: new limits and replicas are ordered, what started long enough ago becomes ready, replicas whose limits
cannot be changed in place are restarted a quarter at a time (as an evicting updater does, so that capacity is missing
meanwhile), then the requests of the step are served.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from array_api_compat import array_namespace

from flashfm.tasks.autoscaling.parameters import LONGEST_START, STEP_S, Params
from flashfm.tasks.autoscaling.serving import Service, serve

CPU_CORES = (0.1, 4.0)
"""Least and most cores of a replica."""
MEMORY_MIB = (64.0, 15_360.0)
"""Least and most memory of a replica."""
REPLICAS = (1.0, 32.0)
"""Least and most replicas."""
DEAD_BAND = 0.1
"""Change of a limit, in its logarithm, below which it is left as it is: Kubernetes tolerates as much for replicas."""
ROLLED = 0.25
"""Share of the replicas that may be restarting at a time."""
RECALL, SPREAD, USUAL = 0.93, 0.12, 0.35
"""Of the neighbours' load, an AR(1) process in [0, 1]: what stays from step to step, its noise, and its mean."""


class Limits(NamedTuple):
    """What an autoscaler sets."""

    cpu_cores: Any
    """Of each replica, within `CPU_CORES`."""
    memory_mib: Any
    """Of each replica, within `MEMORY_MIB`."""
    replicas: Any
    """Whole, within `REPLICAS`."""


class Draws(NamedTuple):
    """What chance decides in one step."""

    memory: Any
    """Standard normal."""
    restart: Any
    """Uniform in [0, 1): rounds the number of killed replicas."""
    neighbours: Any
    """Standard normal."""


class State(NamedTuple):
    """All that a step needs of the ones before."""

    cpu_cores: Any
    """Limit of a new replica."""
    memory_mib: Any
    """Limit of a new replica."""
    old_cpu_cores: Any
    """Limit of the `stale` replicas."""
    old_memory_mib: Any
    """Limit of the `stale` replicas."""
    ready: Any
    """Replicas that serve."""
    stale: Any
    """Those of the ready ones that still have the old limits and wait for their restart."""
    due: Any
    """Replicas that will be ready within 1, 2, … steps, those of fewer steps included, [`LONGEST_START`, env]."""
    backlog: Any
    """Requests that wait."""
    neighbours: Any
    """Load of the neighbours, in [0, 1]."""


class StepOutcome(NamedTuple):
    """What a step came to, as monitoring would see it."""

    service: Service
    ready: Any
    """Replicas that served."""
    replicas: Any
    """Ready and starting."""
    cpu_cores: Any
    """Cores of the limits of all replicas together."""
    memory_mib: Any
    """Memory of the limits of all replicas together."""
    cpu_use: Any
    """Share of the cores that was used, in [0, 1]."""
    memory_use: Any
    """Share of the memory that was used, in [0, 1]."""
    slo_latency: Any
    """Objective over measured p99, at most 1: FLASH's SLO preservation (appendix A.4)."""
    slo_throughput: Any
    """Requests answered over requests asked, those that waited included; at most 1."""
    restarted: Any
    """Replicas that were restarted for new limits or killed for memory."""


def start(params: Params, limits: Limits, neighbours: Any) -> State:
    """A settled state: all replicas ready, nothing waiting.

    Args:
        params: of the pairs.
        limits: whose replicas are ready.
        neighbours: their load, in [0, 1].
    """
    xp = array_namespace(params.cpu_s)
    none = xp.zeros_like(params.cpu_s)
    due = xp.stack([none] * LONGEST_START, axis=0)
    cpu, memory, replicas = placed(params, limits)
    return State(cpu, memory, cpu, memory, replicas, none, due, none, neighbours)


def placed(params: Params, limits: Limits) -> Limits:
    """The limits within their bounds, and as many of the replicas as the nodes have room for (at least one)."""
    xp = array_namespace(params.cpu_s)
    cpu = xp.minimum(limits.cpu_cores.clip(*CPU_CORES), params.node_cores)
    memory = xp.minimum(limits.memory_mib.clip(*MEMORY_MIB), params.node_memory_mib)
    of_node = xp.minimum(xp.floor(params.node_cores / cpu + 1e-4), xp.floor(params.node_memory_mib / memory + 1e-4))
    room = (params.nodes * of_node).clip(min=1.0)
    return Limits(cpu, memory, xp.minimum(xp.round(limits.replicas).clip(*REPLICAS), room))


def step(params: Params, state: State, target: Limits, rate_per_s: Any, draws: Draws) -> tuple[State, StepOutcome]:
    """One control step.

    Args:
        params: of the pairs.
        state: before the step.
        target: what the autoscaler wants; bounded and placed here.
        rate_per_s: requests that arrive in this step.
        draws: what chance decides.

    Returns:
        The state after the step, and what it came to.
    """
    xp = array_namespace(params.cpu_s)
    target, changed = _changed(params, state, target)
    share = state.stale / state.ready.clip(min=1.0)
    old_cpu = xp.where(changed, _mixed(state.cpu_cores, state.old_cpu_cores, share), state.old_cpu_cores)
    old_memory = xp.where(changed, _mixed(state.memory_mib, state.old_memory_mib, share), state.old_memory_mib)

    ready = state.ready + state.due[0]
    due = xp.concat([state.due[1:], state.due[-1:]], axis=0) - state.due[0]
    unready = due[-1]
    fewer = (ready + unready - target.replicas).clip(min=0.0)
    kept = (unready - fewer).clip(min=0.0)
    due = xp.minimum(due, kept)
    ready = ready - (fewer - unready).clip(min=0.0)
    missing = (target.replicas - ready - kept).clip(min=0.0)

    stale = xp.where(changed, ready, xp.minimum(state.stale, ready))
    may_restart = xp.ceil(ROLLED * target.replicas) - (target.replicas - ready)
    rolled = xp.minimum(stale, may_restart.clip(min=0.0))
    ready, stale = ready - rolled, stale - rolled

    load = (RECALL * state.neighbours + (1 - RECALL) * USUAL + SPREAD * draws.neighbours).clip(min=0.0, max=1.0)
    share = stale / ready.clip(min=1.0)
    cpu = _mixed(target.cpu_cores, old_cpu, share)
    memory = _mixed(target.memory_mib, old_memory, share)
    service = serve(
        params,
        cpu,
        memory,
        ready,
        rate_per_s,
        state.backlog,
        speed=params.node_speed * (1 - params.neighbours * load),
        memory_noise=params.memory_noise * xp.abs(draws.memory),
    )
    killed = xp.where(
        service.killed > 0, xp.minimum(xp.floor(0.5 * service.killed * ready + draws.restart), ready), 0.0
    )

    not_ready = kept + missing + rolled
    cores = ready * cpu + not_ready * target.cpu_cores
    mebibytes = ready * memory + not_ready * target.memory_mib
    used = ready * service.memory_mib * (1 - service.killed)
    arrived = rate_per_s + state.backlog / STEP_S
    outcome = StepOutcome(
        service=service,
        ready=ready,
        replicas=ready + not_ready,
        cpu_cores=cores,
        memory_mib=mebibytes,
        cpu_use=(service.cpu_cores / cores).clip(max=1.0),
        memory_use=(used / mebibytes).clip(max=1.0),
        slo_latency=(params.slo_s / service.p99_s).clip(max=1.0),
        slo_throughput=(service.served_per_s / arrived.clip(min=1e-9)).clip(max=1.0),
        restarted=rolled + killed,
    )
    after_steps = xp.arange(LONGEST_START, dtype=ready.dtype, device=ready.device)[:, None]
    begun = xp.astype(after_steps >= params.start_steps - 1, ready.dtype) * (missing + rolled + killed)
    due = due + begun
    left = ready - killed
    after = State(
        target.cpu_cores,
        target.memory_mib,
        old_cpu,
        old_memory,
        left,
        xp.minimum(stale, left),
        due,
        service.backlog,
        load,
    )
    return after, outcome


def _changed(params: Params, state: State, target: Limits) -> tuple[Limits, Any]:
    """Limits that are set, and where that starts a rolling restart; changes within the dead band are not made."""
    xp = array_namespace(params.cpu_s)
    wanted = placed(params, target)
    new_cpu = xp.abs(xp.log(wanted.cpu_cores / state.cpu_cores)) >= DEAD_BAND
    new_memory = xp.abs(xp.log(wanted.memory_mib / state.memory_mib)) >= DEAD_BAND
    cpu = xp.where(new_cpu, wanted.cpu_cores, state.cpu_cores)
    memory = xp.where(new_memory, wanted.memory_mib, state.memory_mib)
    changed = (new_cpu | new_memory) & (params.restarts > 0)
    return placed(params, Limits(cpu, memory, target.replicas)), changed


def _mixed(new: Any, old: Any, share: Any) -> Any:
    """Mean of what a share of the replicas still has and what the others have."""
    return new + share * (old - new)
