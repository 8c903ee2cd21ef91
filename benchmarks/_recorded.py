"""What monitoring would say of targets, recorded from simulated pairs, and the store as a restart would find it.

Half of the pairs the agent has served before, half it gets to know; each target plays the samples of a pair a little
differently. `operator_scale.py` takes its targets from here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from _double import PODS

from flashfm.act.autoscale import Terms
from flashfm.act.guardrails import Bounds
from flashfm.adapt.agent import FlashAgent
from flashfm.controller.keeper import Decision, Keeper, Target
from flashfm.controller.kept import DONE
from flashfm.controller.kube.amounts import Amount
from flashfm.controller.kube.api import Object
from flashfm.controller.sample import Sample
from flashfm.controller.simulated import SimulatedBackend
from flashfm.controller.store import Store
from flashfm.tasks.autoscaling.dynamics import CPU_CORES
from flashfm.tasks.autoscaling.scenario import Scenario, default, split

FIRST = 4
"""Periods that are not counted: targets are taken over, what is free to change changes at once, and time is made up."""
PAIRS, NAMESPACE = 20, 20
"""Pairs that samples are of, and targets of a namespace."""
KNOWN_STEPS, NEW_STEPS, APART_STEPS = 145, 5, 10
"""Steps that pairs have lived: those that the agent has served, those it gets to know, and the next pair of each."""
BOUNDS = Bounds(replicas=(2, 4))
ALPHA, VARIES = 0.7, 0.02
"""Weight of the objective; share by which figures of targets of the same pair differ."""
IMAGE = "registry.example/shop/web@sha256:" + "a" * 64


@dataclass(frozen=True)
class Scale:
    """How much is run, from the command line."""

    targets: int
    periods: int
    """That count."""
    period_s: float

    @property
    def pairs(self) -> int:
        return min(PAIRS, max(2, self.targets // 5))


@dataclass(frozen=True)
class Deployed:
    """A Deployment, and the samples that it plays."""

    namespace: str
    name: str
    slo_s: float
    series: Sequence[Sample]

    def asked(self, mode: str) -> Object:
        """As the double makes it: as many cores as the samples show, on two pods."""
        first = self.series[0].setting()
        cores = min(max(first.cpu_cores * first.replicas / PODS, CPU_CORES[0]), CPU_CORES[1])
        low, high = BOUNDS.replicas
        spec = {
            "slo": {"p99Ms": max(1, round(1e3 * self.slo_s))},
            "alpha": ALPHA,
            "mode": mode,
            "bounds": {"replicas": {"min": low, "max": high}},
        }
        limits = Amount.meant(cores, first.memory_mib).texts()
        return {"namespace": self.namespace, "name": self.name, "limits": limits, "spec": spec}


class Recorded:
    """Where all targets have their figures from, in place of Prometheus."""

    def __init__(self, there: Sequence[Deployed]) -> None:
        self.at = -1
        self._series = {(one.namespace, one.name): (i, one.series) for i, one in enumerate(there)}

    def sample(self, labels: Mapping[str, str], now_s: float) -> Sample:
        i, series = self._series[labels["namespace"], labels["name"]]
        one, more = series[self.at % len(series)], 1 + VARIES * math.sin(i + 7 * self.at)
        assert one.used_cores is not None
        assert one.arrived_per_s is not None
        assert one.served_per_s is not None
        return replace(
            one,
            time_s=now_s,
            used_cores=one.used_cores * more,
            arrived_per_s=one.arrived_per_s * more,
            served_per_s=one.served_per_s * more,
            p99_s=None if one.p99_s is None else one.p99_s * more,
        )


def live(
    agent: FlashAgent, store: Store, pair: Scenario, names: Sequence[str], steps: int, scale: Scale
) -> tuple[float, list[Sample]]:
    """Let a pair live under the keeper up to now, and keep that in the store under several names.

    Returns:
        Its objective in seconds, and its samples from then on.
    """
    (app,), slo_s, more = pair.apps, float(pair.params.slo_s[0]), FIRST + scale.periods
    backend = SimulatedBackend(pair, steps=steps + more + 1)
    target = Target(app, Terms(slo_s, ALPHA), BOUNDS, acting=True)
    keeper, trajectory = Keeper(target, agent), None
    lived: list[tuple[float, Sample, Decision]] = []
    begun_s = time.time() - scale.period_s * steps
    for at in range(steps + more):
        now_s = begun_s + scale.period_s * at
        sample = replace(backend.observe(target), time_s=now_s, image=IMAGE)
        decision, finished = keeper.decide(sample, now_s)
        if decision.change and decision.setting is not None:
            backend.act(target, decision.setting)
        lived.append((now_s, sample, decision))
        trajectory = finished or trajectory
        if at == steps - 1:
            for name in names:
                keeper.target, last = replace(target, name=name), trajectory
                for step in lived[-keeper.place - 1 :]:
                    store.end(name, store.begin(keeper, *step, last), DONE)
                    last = None
            keeper.target = target
    return slo_s, [sample for _, sample, _ in lived[steps:]]


def prepare(agent: FlashAgent, store: Store, scale: Scale) -> list[Deployed]:
    """All targets, each in the middle of its life."""
    pairs, count = split(default(0))[1], scale.pairs
    there: list[Deployed] = []
    for at in range(count):
        names = [(f"shop-{i // NAMESPACE:03d}", f"web-{i:04d}") for i in range(at, scale.targets, count)]
        steps = (NEW_STEPS if at % 2 else KNOWN_STEPS) + at // 2 * APART_STEPS
        slo_s, series = live(agent, store, pairs.take(np.array([at])), ["/".join(of) for of in names], steps, scale)
        there += [Deployed(*name, slo_s, series) for name in names]
    return there
