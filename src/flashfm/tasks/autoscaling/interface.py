"""What an agent sees, does and is rewarded for: observations, actions and the reward, as pure functions over arrays.

Source: FLASH, table 4: limits, utilisation, SLO preservation and load change make the state, limits and replicas the
action. Added to the state, because an agent acts on them: the numbers of replicas, the phase of the clock by which jobs
run, the cores and memory in use as absolute amounts, and the trade-off alpha that is wanted.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from array_api_compat import array_namespace

from flashfm.tasks.autoscaling.dynamics import CPU_CORES, MEMORY_MIB, REPLICAS, Limits, State, StepOutcome

Actions = Literal["limits", "changes", "targets"]
"""`limits`: the action says the limits themselves, on a log scale between their bounds (the paper's); `changes`: by how
much they change, at most `LARGEST_CHANGE` times up or down; `targets`: what limits are to follow: cores of a replica,
memory over its recent peak, and the share of all cores that the recent peak of demand is to use. Limits that are within
`LOOSE` of their target stay as they are, since changing them may restart replicas."""
ACTION = ("cpu_cores", "memory_mib", "replicas")
"""What the three numbers of an action are of."""
LARGEST_CHANGE = 2.5
MEMORY_HEADROOM = (0.9, 8.0)
"""Of `targets`: memory limit over the recent peak of memory in use."""
CPU_TARGET = (0.004, 0.3, 1.1)
"""Of `targets`: share of the cores that the recent peak of demand is to use, at an action of 1, 0 and -1. Above 1 the
replicas become fewer. Below the middle the scale is quadratic in the action: some pairs need very many idle cores, most
are told apart near the middle."""
LOOSE = 0.2
"""Of `targets`: distance of a limit from its target, in its logarithm, up to which it stays."""
LEAST_DEMAND = 0.01
"""Cores that are taken to be in use at least."""
FADES = 0.03
"""Share of a recent peak that is forgotten a step: half of it in about twelve minutes."""
OBSERVATION = (
    "cpu_limit",
    "memory_limit",
    "cpu_use",
    "memory_use",
    "slo_latency",
    "slo_throughput",
    "load_change",
    "ready",
    "replicas",
    "clock_sin",
    "clock_cos",
    "cores_used",
    "memory_used",
    "latency_headroom",
    "killed",
    "alpha",
)
"""Names of the features of an observation, in order; all of them are within [-2, 2]."""
MET = 0.999
"""SLO preservation from which it is kept; floating point keeps 1 from being compared with."""
BOUNDS = (CPU_CORES, MEMORY_MIB, REPLICAS)


def reward(outcome: StepOutcome, alpha: Any) -> Any:
    """Alpha SP + (1 - alpha) (RU_cpu + RU_memory) / 2, in [0, 1]; SP is the lesser of both SLO preservations.

    Args:
        outcome: of a step.
        alpha: weight of the SLO against utilisation, in [0, 1].

    Source: FLASH, table 4. (Its appendix A.4 writes the same in sums: twice as large.)
    """
    xp = array_namespace(outcome.slo_latency)
    kept = xp.minimum(outcome.slo_latency, outcome.slo_throughput)
    return alpha * kept + (1 - alpha) * 0.5 * (outcome.cpu_use + outcome.memory_use)


def violated(outcome: StepOutcome) -> Any:
    """Where a step broke the SLO: its p99 missed the objective, or requests were left waiting."""
    return (outcome.slo_latency < MET) | (outcome.slo_throughput < MET)


def observe(
    slo_s: Any, state: State, outcome: StepOutcome, rate_per_s: Any, rate_before: Any, clock: Any, alpha: Any
) -> Any:
    """What monitoring shows after a step, [env, feature]; hidden parameters are not in it.

    Args:
        slo_s: objective for the p99 of latency, which an operator knows.
        state: after the step.
        outcome: of the step.
        rate_per_s: requests that arrived in it.
        rate_before: requests that arrived in the step before.
        clock: phase of the clock, in radians.
        alpha: weight of the SLO that is wanted, in [0, 1].
    """
    xp = array_namespace(outcome.ready)
    replicas = math.log(REPLICAS[1])
    columns = [
        _place(state.cpu_cores, CPU_CORES),
        _place(state.memory_mib, MEMORY_MIB),
        2 * outcome.cpu_use - 1,
        2 * outcome.memory_use - 1,
        2 * outcome.slo_latency - 1,
        2 * outcome.slo_throughput - 1,
        xp.log((rate_per_s + 1e-6) / (rate_before + 1e-6)).clip(min=-2.0, max=2.0),
        2 * xp.log(outcome.ready + 0.5) / replicas - 1,
        2 * xp.log(outcome.replicas) / replicas - 1,
        xp.sin(clock),
        xp.cos(clock),
        (xp.log10(outcome.cpu_use * outcome.cpu_cores + 1e-2) / 2).clip(min=-2.0, max=2.0),
        ((xp.log10(outcome.memory_use * outcome.memory_mib + 1.0) - 3) / 2).clip(min=-2.0, max=2.0),
        xp.log10(slo_s / outcome.service.p99_s).clip(min=-2.0, max=2.0),
        2 * outcome.service.killed - 1,
        2 * alpha - 1 + 0 * outcome.cpu_use,
    ]
    return xp.stack(columns, axis=-1)


class Recent(NamedTuple):
    """Peaks of late, which fade, as arrays [env]: what `targets` are meant against."""

    cores: Any
    """Used by all replicas together."""
    memory_mib: Any
    """Resident in one replica."""


def remember(recent: Recent | None, outcome: StepOutcome) -> Recent:
    """The recent peaks after a step.

    Args:
        recent: before the step; None at the start of an episode.
        outcome: of the step.
    """
    xp = array_namespace(outcome.ready)
    now = Recent(outcome.cpu_use * outcome.cpu_cores + LEAST_DEMAND, outcome.service.memory_mib)
    return (
        now if recent is None else Recent(*(xp.maximum(a, (1 - FADES) * b) for a, b in zip(now, recent, strict=True)))
    )


def decode(action: Any, kind: Actions, state: State, outcome: StepOutcome, recent: Recent) -> Limits:
    """Limits that an action asks for.

    Args:
        action: [env, 3], in [-1, 1], of `ACTION`.
        kind: how it is meant.
        state: before the step; not read for `limits`.
        outcome: of the step before; not read for `limits`.
        recent: peaks; read for `targets` alone.
    """
    xp = array_namespace(action)
    if kind == "limits":
        values = [xp.exp(_within(action[:, i], *BOUNDS[i])) for i in range(len(BOUNDS))]
    elif kind == "targets":
        cores = xp.exp(_within(action[:, 0], *CPU_CORES))
        memory = recent.memory_mib * xp.exp(_within(action[:, 1], *MEMORY_HEADROOM))
        cores, memory = _loosely(cores, state.cpu_cores), _loosely(memory, state.memory_mib)
        wanted = recent.cores / _target(action[:, 2])
        values = [cores, memory, wanted / cores + 0.5]
    else:
        now = (state.cpu_cores, state.memory_mib, outcome.replicas)
        values = [value * xp.exp(math.log(LARGEST_CHANGE) * action[:, i]) for i, value in enumerate(now)]
    return Limits(values[0], values[1], values[2])


def encode(limits: Limits) -> Any:
    """The action of kind `limits` that asks for these limits, [env, 3]."""
    xp = array_namespace(limits.cpu_cores)
    return xp.stack([_place(value, bounds) for value, bounds in zip(limits, BOUNDS, strict=True)], axis=-1)


def as_targets(limits: Limits, recent: Recent) -> Any:
    """The action of kind `targets` that asks for these limits as closely as its bounds allow, [env, 3]."""
    xp = array_namespace(limits.cpu_cores)
    memory = _place(limits.memory_mib / recent.memory_mib, MEMORY_HEADROOM)
    asked = _target_place(recent.cores / (limits.replicas * limits.cpu_cores))
    return xp.stack([_place(limits.cpu_cores, CPU_CORES), memory, asked], axis=-1).clip(min=-1.0, max=1.0)


def _loosely(target: Any, now: Any) -> Any:
    xp = array_namespace(target)
    return xp.where(xp.abs(xp.log(target / now)) < LOOSE, now, target)


def _target(action: Any) -> Any:
    """Share of the cores that an action wants used."""
    xp = array_namespace(action)
    least, middle, most = CPU_TARGET
    few, many = action.clip(max=0.0), action.clip(min=0.0)
    return middle * xp.exp(-few * math.log(most / middle) - many**2 * math.log(middle / least))


def _target_place(share: Any) -> Any:
    """Inverse of `_target`."""
    xp = array_namespace(share)
    least, middle, most = CPU_TARGET
    above = xp.log(share / middle).clip(min=0.0) / math.log(most / middle)
    below = xp.log(middle / share).clip(min=0.0) / math.log(middle / least)
    return below**0.5 - above


def _within(action: Any, low: float, high: float) -> Any:
    return math.log(low) + (action + 1) / 2 * math.log(high / low)


def _place(value: Any, bounds: tuple[float, float]) -> Any:
    """Place of a value between its bounds on a log scale, in [-1, 1]."""
    xp = array_namespace(value)
    return 2 * xp.log(value / bounds[0]) / math.log(bounds[1] / bounds[0]) - 1
