"""How a deployment is scaled: a pure decision from the actions of a policy and what monitoring shows, with its reason.

Enters: actions, observations, and what an operator says of objective and nodes. Leaves: `ScalingDecision` in cores, MiB
and whole replicas. Hidden parameters are not needed, and nothing is remembered here: the same arguments give the same
decisions. In the simulator a decision is what its dynamics make of the action.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from flashfm.act.words import millis, ratio, share
from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.dynamics import CPU_CORES, DEAD_BAND, MEMORY_MIB, REPLICAS, Limits, State, StepOutcome
from flashfm.tasks.autoscaling.interface import BOUNDS, FADES, LOOSE, OBSERVATION, Actions, Recent, decode
from flashfm.tasks.autoscaling.serving import Service

PerEnv = Float[np.ndarray, " env"]
CLOSE = 1e-3
"""Share by which observed values may be off: observations are rounded."""


@dataclass(frozen=True)
class ScalingDecision:
    """What a deployment is to have for the next control step."""

    cpu_cores: float
    """Limit of each replica, within `CPU_CORES`."""
    memory_mib: float
    """Limit of each replica in MiB, within `MEMORY_MIB`."""
    replicas: int
    """Within `REPLICAS`, and no more than there is room for."""
    why: str
    """One sentence that rests on figures."""
    held: bool = False
    """Whether it is the last decision again, because the observation could not be read."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)

    def same_limits(self, other: ScalingDecision) -> bool:
        """Whether both set the same, but for the rounding of what is observed, whatever their reasons."""
        ours, theirs = (self.cpu_cores, self.memory_mib), (other.cpu_cores, other.memory_mib)
        close = all(math.isclose(a, b, rel_tol=CLOSE) for a, b in zip(ours, theirs, strict=True))
        return close and self.replicas == other.replicas


@dataclass(frozen=True)
class Nodes:
    """Nodes that the replicas may be placed on, all alike.

    Raises:
        ModelError: no node, or none that has room for the smallest replica.
    """

    count: int
    """At least 1."""
    cores: float
    """Of each node, those that replicas may have."""
    memory_mib: float
    """Of each node, what replicas may have, in MiB."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ModelError(f"nodes: {self.count} of them; expected at least 1")
        if not (self.cores >= CPU_CORES[0] and self.memory_mib >= MEMORY_MIB[0]):
            least = f"{CPU_CORES[0]:g} cores and {MEMORY_MIB[0]:g} MiB, which the smallest replica needs"
            raise ModelError(f"nodes: {self.cores:g} cores and {self.memory_mib:g} MiB each; expected at least {least}")


@dataclass(frozen=True)
class Terms:
    """What an operator says of a deployment.

    Raises:
        ModelError: the objective is no time above 0, or alpha is outside [0, 1].
    """

    slo_s: float
    """Objective for the p99 of latency in seconds; above 0."""
    alpha: float = 0.5
    """Weight of the SLO against utilisation, in [0, 1]."""
    nodes: Nodes | None = None
    """None where nobody says what room there is."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slo_s) and self.slo_s > 0):
            raise ModelError(f"SLO: {self.slo_s:g} s; expected seconds above 0 for the p99 of latency")
        if not 0 <= self.alpha <= 1:
            raise ModelError(f"alpha: {self.alpha:g}; expected the weight of the SLO in [0, 1]")


@dataclass(frozen=True, eq=False)
class Shown:
    """What monitoring shows of some pairs, in plain units; arrays [env]."""

    limits: Limits
    """In force: cores and MiB of a replica, and replicas that serve or start."""
    recent: Recent
    """Peaks of late: cores that all replicas use together, and MiB resident in one."""
    latency: PerEnv
    """p99 over its objective."""
    killed: PerEnv
    """Share of the replicas that ran out of memory."""


def see(observation: Float[np.ndarray, "env feature"], before: Shown | None = None) -> Shown:
    """Read observations back into plain units; the inverse of `interface.observe`, as far as decisions need it.

    Where all replicas run out of memory, what is resident does not show: the lower of the limits now and before stands
    for it, as replicas that wait for their restart have the old one. Where none serves, nothing is added to the peak.

    Args:
        observation: of each pair; finite where there is no `before`.
        before: what was shown a step earlier: its peaks fade, and it stays where an observation is not finite.
    """
    at = dict(zip(OBSERVATION, observation.T.astype(np.float64), strict=True))
    places = (at["cpu_limit"], at["memory_limit"], at["replicas"])
    limits = Limits(*(low * (high / low) ** ((x + 1) / 2) for x, (low, high) in zip(places, BOUNDS, strict=True)))
    killed = (at["killed"] + 1) / 2
    ready = REPLICAS[1] ** ((at["ready"] + 1) / 2) - 0.5
    serving = ready * (1 - killed)
    hidden = limits.memory_mib
    if before is not None:
        hidden = np.where(ready > CLOSE, np.minimum(hidden, before.limits.memory_mib), 0.0)
    used = 10 ** (2 * at["memory_used"] + 3) - 1
    resident = np.where(serving > CLOSE, used / serving.clip(min=CLOSE), hidden)
    recent = Recent(10 ** (2 * at["cores_used"]), resident)
    latency = 10 ** -at["latency_headroom"]
    if before is None:
        return Shown(limits, recent, latency, killed)
    peaks = Recent(*(np.maximum(a, (1 - FADES) * b) for a, b in zip(recent, before.recent, strict=True)))
    whole = np.isfinite(observation).all(axis=1)

    def read(now: tuple[PerEnv, ...], then: tuple[PerEnv, ...]) -> list[PerEnv]:
        return [np.where(whole, a, b) for a, b in zip(now, then, strict=True)]

    rest = read((latency, killed), (before.latency, before.killed))
    return Shown(Limits(*read(limits, before.limits)), Recent(*read(peaks, before.recent)), *rest)


def decide(
    action: Float[np.ndarray, "env action"], kind: Actions, shown: Shown, terms: Sequence[Terms] = ()
) -> list[ScalingDecision]:
    """What actions come to, within all bounds: of limits and replicas, and of the nodes where they are known.

    A limit that would change by less than `DEAD_BAND` stays as it is: it may restart replicas.

    Args:
        action: of each pair, in [-1, 1].
        kind: how it is meant.
        shown: what monitoring shows of the pairs.
        terms: of each pair; none where nobody says.

    Raises:
        ModelError: terms of another number of pairs, or a limit in force that is above the node it is said to be on.
    """
    check_terms(terms, len(action))
    nodes = [one.nodes or _BOUNDLESS for one in terms] or [_BOUNDLESS] * len(action)
    count, cores, memory = np.array([(n.count, n.cores, n.memory_mib) for n in nodes], dtype=np.float64).T
    now = shown.limits
    for name, unit, limit, most in (("CPU", "cores", now.cpu_cores, cores), ("memory", "MiB", now.memory_mib, memory)):
        above = np.flatnonzero(limit > most * (1 + CLOSE))
        if above.size:
            i = int(above[0])
            raise ModelError(
                f"decide: pair {i} runs with a {name} limit of {limit[i]:.4g} {unit} on nodes of {most[i]:.4g} {unit};"
                " expected limits that a node has room for: correct the size of the nodes"
            )
    asked = decode(action.astype(np.float64), kind, *_stand_ins(shown), shown.recent)
    cpu = _settle(np.minimum(asked.cpu_cores.clip(*CPU_CORES), cores), now.cpu_cores)
    mebibytes = _settle(np.minimum(asked.memory_mib.clip(*MEMORY_MIB), memory), now.memory_mib)
    room = (count * np.minimum(np.floor(cores / cpu + 1e-4), np.floor(memory / mebibytes + 1e-4))).clip(min=1.0)
    replicas = np.minimum(np.round(asked.replicas).clip(*REPLICAS), room)
    chosen = Limits(cpu, mebibytes, replicas)
    why = [_why(i, kind, shown, asked, chosen, terms[i] if terms else None) for i in range(len(action))]
    values = zip(cpu.tolist(), mebibytes.tolist(), replicas.tolist(), why, strict=True)
    return [ScalingDecision(of, mib, round(n), said) for of, mib, n, said in values]


def hold(last: ScalingDecision, observation: Float[np.ndarray, " feature"]) -> ScalingDecision:
    """The last decision once more, since an observation is not finite."""
    unread = [name for name, value in zip(OBSERVATION, observation, strict=True) if not math.isfinite(value)]
    return replace(
        last, held=True, why=f"the observation is not finite ({', '.join(unread)}): the last decision is held"
    )


def check_terms(terms: Sequence[Terms], pairs: int) -> None:
    """Raise a ModelError where there are terms, but of another number of pairs."""
    if terms and len(terms) != pairs:
        raise ModelError(f"decide: terms of {len(terms)} pairs; expected those of {pairs}, or none")


_BOUNDLESS = Nodes(1, math.inf, math.inf)


def _stand_ins(shown: Shown) -> tuple[State, StepOutcome]:
    """A state and an outcome that hold what `decode` reads; the rest of them is 0."""
    cpu, memory, replicas = shown.limits
    none = np.zeros_like(cpu)
    state = State(cpu, memory, cpu, memory, replicas, *[none] * (len(State._fields) - 5))
    service = Service(*[none] * len(Service._fields))
    return state, StepOutcome(service, replicas, replicas, *[none] * (len(StepOutcome._fields) - 3))


def _settle(wanted: PerEnv, now: PerEnv) -> PerEnv:
    """The wanted limits, but those in force where they are within the dead band."""
    return np.where(np.abs(np.log(wanted / now)) >= DEAD_BAND, wanted, now)


def _why(i: int, kind: Actions, shown: Shown, asked: Limits, chosen: Limits, terms: Terms | None) -> str:
    """The reason for the decision of one pair."""
    before, (cpu, memory, replicas) = [float(v[i]) for v in shown.limits], (float(v[i]) for v in chosen)
    demand, resident = (float(v[i]) for v in shown.recent)
    late, wanted = float(shown.latency[i]), float(np.round(asked.replicas[i]))
    if terms is None:
        p99 = f"{share(late)} of the SLO"
    else:
        p99 = f"{millis(1e3 * late * terms.slo_s)} against an SLO of {millis(1e3 * terms.slo_s)}"
    held = f"{replicas:.0f} replica{'s' * (replicas != 1)}{_was(replicas, before[2], '.0f')}"
    each = f"{cpu:.3g} cores{_was(cpu, before[0], '.3g')} and {memory:.0f} MiB{_was(memory, before[1], '.0f')}"
    said = [
        f"{held} of {each}: the recent peak of demand of {demand:.2g} cores takes {share(demand / (cpu * replicas))} of"
        f" the cores, memory has {ratio(memory / resident)} times its recent peak of {resident:.0f} MiB,"
        f" and the p99 was {p99}"
    ]
    if shown.killed[i] > CLOSE:
        said.append(f"{share(shown.killed[i])} of the replicas ran out of memory")
    loose = LOOSE if kind == "targets" else DEAD_BAND
    same = [(cpu, before[0], asked.cpu_cores), (memory, before[1], asked.memory_mib)]
    if any(value == then and abs(math.log(float(of[i]) / then)) < loose for value, then, of in same):
        said.append(f"limits within {share(loose)} of what is asked for are kept")
    if wanted > replicas:
        most = "is the most" if replicas == REPLICAS[1] else "is what the nodes have room for"
        said.append(f"of {wanted:.0f} replicas asked for, {replicas:.0f} {most}")
    return "; ".join(said)


def _was(value: float, before: float, form: str) -> str:
    now, then = format(value, form), format(before, form)
    return "" if now == then else f" ({then} before)"
