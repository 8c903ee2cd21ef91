"""What stands between a decision and a deployment: bounds, steps, pauses and a budget, whoever decided.

Enters: what is wanted, what is in force and in use, and when something was last changed. Leaves: what may be set, and
in words what was clipped. Pure: time comes in, and what is remembered goes out.

Rules give way to those before them: bounds and budget, then memory in use, then cores in use, then steps and pauses.
Where a limit is not changed as wanted, replicas make up for it, so that as many cores are there in all.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from flashfm.act.words import share
from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.dynamics import CPU_CORES, MEMORY_MIB, REPLICAS

SAME = 1e-6
"""Relative difference up to which limits are the same."""
NEVER = -math.inf
UNBOUNDED = 1e6
"""More replicas than are ever meant."""


class Setting(NamedTuple):
    """What a deployment is set to."""

    cpu_cores: float
    """Limit of each replica."""
    memory_mib: float
    """Limit of each replica, in MiB."""
    replicas: int

    def same(self, other: Setting) -> bool:
        """Whether both are the same but for rounding."""
        pairs = ((self.cpu_cores, other.cpu_cores), (self.memory_mib, other.memory_mib))
        return self.replicas == other.replicas and all(math.isclose(a, b, rel_tol=SAME) for a, b in pairs)


class InUse(NamedTuple):
    """What a deployment uses now."""

    cores: float
    """By all replicas together."""
    memory_mib: float
    """Resident in one replica, in MiB."""
    killed: bool = False
    """Whether a replica has run out of memory."""


@dataclass(frozen=True)
class Bounds:
    """What an operator allows.

    Raises:
        ModelError: bounds that are not between those of the dynamics, in the wrong order, or a budget that has no room
            for the smallest deployment.
    """

    cpu_cores: tuple[float, float] = CPU_CORES
    """Least and most of a replica."""
    memory_mib: tuple[float, float] = MEMORY_MIB
    """Least and most of a replica, in MiB."""
    replicas: tuple[int, int] = (int(REPLICAS[0]), int(REPLICAS[1]))
    budget_cores: float | None = None
    """Most of all replicas together; None for no budget."""
    budget_mib: float | None = None
    """Most of all replicas together, in MiB; None for no budget."""

    def __post_init__(self) -> None:
        for name, of, widest in (
            ("cores of a replica", self.cpu_cores, CPU_CORES),
            ("MiB of a replica", self.memory_mib, MEMORY_MIB),
            ("replicas", self.replicas, REPLICAS),
        ):
            if not widest[0] <= of[0] <= of[1] <= widest[1]:
                raise ModelError(
                    f"bounds: {of[0]:g} to {of[1]:g} {name}; expected from at least {widest[0]:g} to at most"
                    f" {widest[1]:g}"
                )
        for name, budget, of in (
            ("cores", self.budget_cores, self.cpu_cores),
            ("MiB", self.budget_mib, self.memory_mib),
        ):
            least = of[0] * self.replicas[0]
            if budget is not None and not budget >= least:
                raise ModelError(
                    f"bounds: a budget of {budget:g} {name}; expected at least the {least:g} of {self.replicas[0]}"
                    f" replicas of {of[0]:g}"
                )


@dataclass(frozen=True)
class GuardConfig:
    """How fast a deployment may be changed.

    Raises:
        ModelError: one of them is out of its range.
    """

    largest_change: float = 2.0
    """Of a limit in one step, as a factor; above 1."""
    most_added: int = 4
    """Replicas in one step, …"""
    most_growth: float = 1.0
    """… or their share of those there are; the larger bound counts. Those of Kubernetes' HPA."""
    most_removed: float = 0.5
    """Share of the replicas that may go in one step; in (0, 1]."""
    pause_s: float = 300.0
    """Between two changes of limits, each of which may restart replicas. Memory that runs out is given at once."""
    reversal_s: float = 600.0
    """After replicas were added, until some may be taken away. So the direction changes at most 2 x 3600 / `reversal_s`
    + 2 times in an hour."""
    memory_margin: float = 1.15
    """Memory limit over what is in use, at least; at least 1."""
    cores_margin: float = 1.05
    """Cores of all replicas over those in use, at least; at least 1."""

    def __post_init__(self) -> None:
        good = {
            "largest_change": self.largest_change > 1,
            "most_added": self.most_added >= 1,
            "most_growth": self.most_growth >= 0,
            "most_removed": 0 < self.most_removed <= 1,
            "pause_s": self.pause_s >= 0,
            "reversal_s": self.reversal_s > 0,
            "memory_margin": self.memory_margin >= 1,
            "cores_margin": self.cores_margin >= 1,
        }
        wrong = [name for name, fine in good.items() if not fine]
        if wrong:
            raise ModelError(f"guardrails: {wrong[0]} is {getattr(self, wrong[0])!r}; see its range in GuardConfig")


@dataclass(frozen=True)
class Past:
    """What the guardrails remember of a deployment, in seconds of the caller's clock."""

    limits_s: float = NEVER
    """When limits were last changed."""
    grown_s: float = NEVER
    """When replicas were last added."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; what never happened is None."""
        return {name: None if value == NEVER else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Past:
        """Inverse of `to_dict`."""
        return cls(**{name: NEVER if value is None else float(value) for name, value in kept.items()})


@dataclass(frozen=True)
class Guarded:
    """What may be set."""

    setting: Setting
    clipped: tuple[str, ...]
    """What was not done as wanted, and why; one phrase each."""
    past: Past
    """To be remembered once it is set."""


def guard(
    wanted: Setting,
    now: Setting,
    used: InUse,
    past: Past,
    time_s: float,
    *,
    bounds: Bounds | None = None,
    config: GuardConfig | None = None,
) -> Guarded:
    """Let through what may be done of what is wanted.

    Args:
        wanted: by whoever decides; a value that is not finite is not wanted.
        now: in force.
        used: now.
        past: what was remembered after the last change.
        time_s: the time; a clock that went back counts as no time at all.
        bounds: of the operator.
        config: of the guardrails.
    """
    bounds, config, said = bounds or Bounds(), config or GuardConfig(), []
    past = Past(min(past.limits_s, time_s), min(past.grown_s, time_s))
    if not all(map(math.isfinite, wanted)):
        said.append("what was decided is no number: nothing is changed")
        wanted = now
    asked = wanted
    most = _most(bounds)
    wanted = Setting(
        _within(wanted.cpu_cores, (bounds.cpu_cores[0], most[0]), "cores", said),
        _within(wanted.memory_mib, (bounds.memory_mib[0], most[1]), "MiB", said),
        wanted.replicas,
    )
    needed = used.memory_mib * config.memory_margin
    cpu, memory = _limits(wanted, now, needed, time_s - past.limits_s, config, said, starved=used.killed)
    cpu, memory = min(max(cpu, bounds.cpu_cores[0]), most[0]), min(max(memory, bounds.memory_mib[0]), most[1])
    affordable = _kept_affordable(now, time_s - past.grown_s, bounds, config)
    if cpu > affordable:
        said.append(f"larger CPU limits would cost replicas that were added {time_s - past.grown_s:.0f} s ago")
        cpu = affordable
    replicas = asked.replicas
    if not math.isclose(cpu, asked.cpu_cores, rel_tol=SAME):
        replicas = math.ceil(min(max(asked.replicas, 0) * max(asked.cpu_cores, 0.0) / cpu, UNBOUNDED) - SAME)
    replicas = _replicas(replicas, now, cpu, used, time_s - past.grown_s, config, said)
    replicas = _affordable(replicas, cpu, memory, bounds, said)
    setting = Setting(cpu, memory, replicas)
    moved = not setting._replace(replicas=now.replicas).same(now)
    past = replace(past, limits_s=time_s) if moved else past
    return Guarded(setting, tuple(said), replace(past, grown_s=time_s) if replicas > now.replicas else past)


def _most(bounds: Bounds) -> tuple[float, float]:
    """Largest limits that leave room in the budget for the fewest replicas."""
    budgets = ((bounds.budget_cores, bounds.cpu_cores), (bounds.budget_mib, bounds.memory_mib))
    cpu, memory = (
        of[1] if budget is None else min(of[1], max(budget / bounds.replicas[0], of[0])) for budget, of in budgets
    )
    return cpu, memory


def _kept_affordable(now: Setting, grown_ago_s: float, bounds: Bounds, config: GuardConfig) -> float:
    """Largest CPU limit with which replicas that were just added stay within the budget."""
    if bounds.budget_cores is None or grown_ago_s >= config.reversal_s:
        return math.inf
    return max(now.cpu_cores, bounds.budget_cores / now.replicas, bounds.cpu_cores[0])


def _limits(
    wanted: Setting,
    now: Setting,
    needed: float,
    waited_s: float,
    config: GuardConfig,
    said: list[str],
    *,
    starved: bool,
) -> tuple[float, float]:
    """Limits after the pause, the largest step, and what is in use."""
    cpu, memory = wanted.cpu_cores, wanted.memory_mib
    if waited_s < config.pause_s:
        if not wanted._replace(replicas=now.replicas).same(now):
            said.append(f"limits were changed {waited_s:.0f} s ago and stay for {config.pause_s:.0f} s")
        # more memory where it runs out does not wait
        cpu, memory = now.cpu_cores, max(now.memory_mib, memory) if starved else now.memory_mib
    stepped = [
        min(max(value, then / config.largest_change), then * config.largest_change)
        for value, then in ((cpu, now.cpu_cores), (memory, now.memory_mib))
    ]
    for value, allowed, name in ((cpu, stepped[0], "CPU"), (memory, stepped[1], "memory")):
        if not math.isclose(value, allowed, rel_tol=SAME):
            said.append(f"{name} limits change {config.largest_change:g}-fold at most in one step")
    cpu, memory = stepped
    if memory < needed:
        said.append(
            f"memory is not set below {config.memory_margin:g} times the {needed / config.memory_margin:.0f} MiB in use"
        )
        memory = needed
    return cpu, memory


def _within(value: float, of: tuple[float, float], unit: str, said: list[str]) -> float:
    bounded = min(max(value, of[0]), of[1])
    if bounded != value:
        said.append(f"{value:.4g} {unit} are outside the bounds of {of[0]:g} to {of[1]:g}")
    return bounded


def _replicas(
    wanted: int, now: Setting, cpu: float, used: InUse, grown_ago_s: float, config: GuardConfig, said: list[str]
) -> int:
    """Replicas after steps, pause and what is in use."""
    most = now.replicas + max(config.most_added, math.floor(config.most_growth * now.replicas))
    least = math.ceil(now.replicas * (1 - config.most_removed))
    busy = math.ceil(used.cores * config.cores_margin / cpu - SAME) if math.isfinite(used.cores) else now.replicas
    allowed = wanted
    if allowed > most:
        said.append(f"{most - now.replicas} replicas at most are added in one step")
        allowed = most
    if allowed < now.replicas and grown_ago_s < config.reversal_s:
        said.append(f"replicas were added {grown_ago_s:.0f} s ago and stay for {config.reversal_s:.0f} s")
        allowed = now.replicas
    if allowed < least:
        said.append(f"{share(config.most_removed)} of the replicas at most go in one step")
        allowed = least
    if allowed < min(busy, now.replicas):
        said.append(f"{used.cores:.3g} cores are in use, which takes {busy} replicas")
        allowed = min(busy, now.replicas)
    return allowed


def _affordable(replicas: int, cpu: float, memory: float, bounds: Bounds, said: list[str]) -> int:
    """Replicas within their bounds and the budget."""
    low, high = bounds.replicas
    bounded = min(max(replicas, low), high)
    if bounded != replicas:
        said.append(f"{replicas} replicas are outside the bounds of {low} to {high}")
    for budget, each, unit in ((bounds.budget_cores, cpu, "cores"), (bounds.budget_mib, memory, "MiB")):
        if budget is not None and bounded * each > budget * (1 + SAME):
            bounded = max(math.floor(budget / each + SAME), low)
            said.append(f"the budget of {budget:g} {unit} has room for {bounded} replicas")
    return bounded
