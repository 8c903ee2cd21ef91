"""Kubernetes' Vertical Pod Autoscaler: limits by percentiles of what replicas used, over histograms that forget.

The recommender takes a sample a step (Kubernetes: a minute). The updater works as mode Recreate or InPlaceOrRecreate
does, whichever the pair allows: replicas get the target when their limits are outside the recommended range, when they
ran out of memory, or when they are old and off the target.

Source: kubernetes/autoscaler, vertical-pod-autoscaler/pkg: recommender/logic (estimators), recommender/model (samples,
peaks, kills for memory), updater/priority. Requests equal limits. Deviation: replicas that are added between updates
get the limits in force, not the target, because all replicas of a pair have the same limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from array_api_compat import array_namespace

from flashfm.baselines.scaling.controller import Begun, Usage, bounded, usage
from flashfm.baselines.scaling.histogram import Buckets
from flashfm.tasks.autoscaling.dynamics import CPU_CORES, MEMORY_MIB, Limits, State, StepOutcome
from flashfm.tasks.autoscaling.parameters import STEP_S

CPU_BUCKETS = Buckets(first=0.01, most=CPU_CORES[1])
MEMORY_BUCKETS = Buckets(first=1e7 / 2**20, most=1.5 * MEMORY_MIB[1])
LEAST_WEIGHT = 0.1
"""Least weight of a sample of CPU use, which otherwise weighs as much as the CPU limit of its replica."""
TARGET, LOWER, UPPER = 0.9, 0.5, 0.95
"""Percentiles."""
OFF = 0.1
"""Distance of limits from the target at which replicas that are old enough are updated, CPU and memory together."""


@dataclass(frozen=True)
class VpaConfig:
    """Of one autoscaler; defaults are those of Kubernetes."""

    day_s: float = 86_400.0
    """What counts as a day: half-life of the histograms, window of the peaks of memory, and unit of confidence."""
    cpu_margin: float = 0.15
    """Added to percentiles of CPU use, as a share."""
    memory_margin: float = 0.15
    """Added to percentiles of the peaks of memory, as a share."""
    least_cpu_cores: float = 0.025
    """Recommended at least."""
    least_memory_mib: float = 250.0
    """Recommended at least."""
    oom_ratio: float = 1.2
    """Memory that a replica which ran out of it is taken to need, over what it had; …"""
    oom_mib: float = 100.0
    """… and this much more at least."""
    old_s: float = 43_200.0
    """Age from which replicas whose limits are within the range, but off the target, are updated."""
    remembers: bool = True
    """Whether the use of earlier episodes of the same simulator counts, as that of earlier days does in a cluster."""


class Range(NamedTuple):
    """A recommendation for one resource, arrays of shape [env]."""

    lower: Any
    target: Any
    upper: Any


class Recommender:
    """Keeps what replicas used, and recommends limits.

    Args:
        config: settings.
        like: array of shape [env] of the kind that is wanted.
    """

    def __init__(self, config: VpaConfig, like: Any) -> None:
        self.config = config
        self._cpu, self._memory = CPU_BUCKETS.empty(like), MEMORY_BUCKETS.empty(like)
        self._peak = 0 * like
        self._steps = 0

    def record(self, seen: Usage) -> None:
        """Take in one step."""
        xp, config = array_namespace(seen.ready), self.config
        if self._steps and self._steps % max(round(config.day_s / STEP_S), 1) == 0:
            self._memory, self._peak = self._memory_so_far(), 0 * self._peak
        faded = 0.5 ** (STEP_S / config.day_s)
        weight = seen.ready * seen.cpu_limit.clip(min=LEAST_WEIGHT)
        self._cpu = CPU_BUCKETS.add(faded * self._cpu, seen.cpu_used, weight)
        self._memory = faded * self._memory
        held = xp.maximum(seen.memory_limit, self._peak)
        needed = xp.maximum(held * config.oom_ratio, held + config.oom_mib)
        self._peak = xp.maximum(self._peak, xp.where(seen.oom, needed, seen.memory_used))
        self._steps += 1

    def recommend(self) -> tuple[Range, Range]:
        """Limits of CPU and memory of a replica."""
        config, memory = self.config, self._memory_so_far()
        cpu = [
            self._limit(CPU_BUCKETS.percentile(self._cpu, share), share, config.cpu_margin, config.least_cpu_cores)
            for share in (LOWER, TARGET, UPPER)
        ]
        peak = [
            self._limit(MEMORY_BUCKETS.percentile(memory, share), share, config.memory_margin, config.least_memory_mib)
            for share in (LOWER, TARGET, UPPER)
        ]
        return Range(*(value.clip(*CPU_CORES) for value in cpu)), Range(*(value.clip(*MEMORY_MIB) for value in peak))

    def _limit(self, value: Any, share: float, margin: float, least: float) -> Any:
        """A percentile with its margin, made uncertain by the little time that it rests on."""
        days = max((self._steps - 1) * STEP_S / self.config.day_s, 1e-6)
        trust = {LOWER: (1 + 0.001 / days) ** -2, TARGET: 1.0, UPPER: 1 + 1 / days}[share]
        return (value * (1 + margin) * trust).clip(min=least)

    def _memory_so_far(self) -> Any:
        some = array_namespace(self._peak).astype(self._peak > 0, self._peak.dtype)
        return MEMORY_BUCKETS.add(self._memory, self._peak, some)


class Updater:
    """Says for which pairs limits are due for a change.

    Args:
        old_s: as of `VpaConfig`.
        like: array of shape [env] of the kind that is wanted.
    """

    def __init__(self, old_s: float, like: Any) -> None:
        self._old = old_s
        self._age = 0 * like

    def due(self, now: tuple[Any, Any], cpu: Range, memory: Range, oom: Any) -> Any:
        """Whether limits should be set to the targets.

        Args:
            now: limits of CPU and memory of a new replica.
            cpu: recommended.
            memory: recommended.
            oom: whether a replica was killed for memory.
        """
        xp = array_namespace(oom)
        self._age = self._age + STEP_S
        out = (now[0] < cpu.lower) | (now[0] > cpu.upper) | (now[1] < memory.lower) | (now[1] > memory.upper)
        off = xp.abs(cpu.target / now[0] - 1) + xp.abs(memory.target / now[1] - 1)
        old = (self._age > self._old) & (off >= OFF)
        return out | old | (oom & (memory.target > now[1]))

    def updated(self, where: Any) -> None:
        """Note where limits were changed, so that replicas there are new."""
        self._age = array_namespace(self._age).where(where, 0.0, self._age)


class Vpa:
    """Sets limits; replicas stay as they are.

    Args:
        config: settings.
    """

    def __init__(self, config: VpaConfig | None = None) -> None:
        self.config = config or VpaConfig()
        self._of: Begun | None = None
        self._recommender: Recommender
        self._updater: Updater
        self._replicas: Any = None

    def reset(self, simulator: Begun) -> None:
        """Begin an episode."""
        like = simulator.outcome.ready
        if not (self.config.remembers and simulator is self._of):
            self._recommender = Recommender(self.config, like)
        self._updater = Updater(self.config.old_s, like)
        self._of, self._replicas = simulator, simulator.outcome.replicas

    def decide(self, state: State, outcome: StepOutcome, rate_per_s: Any) -> Limits:  # noqa: ARG002
        """Limits for the next step, with the replicas that the episode began with."""
        xp, seen = array_namespace(outcome.ready), usage(state, outcome)
        self._recommender.record(seen)
        cpu, memory = self._recommender.recommend()
        due = self._updater.due((state.cpu_cores, state.memory_mib), cpu, memory, seen.oom)
        self._updater.updated(due)
        return bounded(
            Limits(
                xp.where(due, cpu.target, state.cpu_cores),
                xp.where(due, memory.target, state.memory_mib),
                self._replicas,
            )
        )
