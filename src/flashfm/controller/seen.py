"""A checked sample as what agents and rules read: the same state, outcome and observation as in the simulator.

Enters: samples of a deployment and its terms. Leaves: arrays of one environment. The formulas are those of
`tasks.autoscaling.interface`; monitoring tells less than the simulator knows, and what it does not tell is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from flashfm.act.autoscale import Terms
from flashfm.act.guardrails import InUse, Setting
from flashfm.controller.sample import Sample
from flashfm.tasks.autoscaling.dynamics import Limits, State, StepOutcome
from flashfm.tasks.autoscaling.interface import Recent, as_targets, observe, remember, reward, violated
from flashfm.tasks.autoscaling.loads import CLOCK_STEPS
from flashfm.tasks.autoscaling.parameters import STEP_S
from flashfm.tasks.autoscaling.serving import Service


@dataclass(frozen=True, eq=False)
class Seen:
    """One step of one deployment; arrays are of shape [1]."""

    sample: Sample
    state: State
    outcome: StepOutcome
    recent: Recent
    """Peaks of late."""
    observation: Float[np.ndarray, "1 feature"]
    reward: float
    """In [0, 1]."""
    violated: bool
    """Whether the step broke the objective."""

    @property
    def setting(self) -> Setting:
        """What is in force."""
        return self.sample.setting()

    @property
    def used(self) -> InUse:
        """What guardrails need to know."""
        s = self.sample
        assert s.used_cores is not None
        assert s.used_mib is not None
        return InUse(s.used_cores, s.used_mib, bool(s.killed))

    def action(self, setting: Setting) -> Float[np.ndarray, "1 action"]:
        """The action of an agent of kind `targets` that asks for a setting here, whoever chose it."""
        limits = Limits(*(np.array([float(value)]) for value in setting))
        return np.asarray(as_targets(limits, self.recent), np.float32)


def see(sample: Sample, before: Seen | None, terms: Terms) -> Seen:
    """Read a sample.

    Args:
        sample: one that was checked.
        before: the step before, whose peaks fade; None at the start.
        terms: of the operator.
    """
    (cpu, memory, replicas), s = sample.setting(), sample
    assert s.time_s is not None
    assert s.ready is not None
    assert s.used_cores is not None
    assert s.used_mib is not None
    assert s.arrived_per_s is not None
    assert s.served_per_s is not None
    assert s.killed is not None
    last_p99_s = float(before.outcome.service.p99_s[0]) if before is not None else terms.slo_s
    p99_s = max(last_p99_s if s.p99_s is None else s.p99_s, 1e-6)
    cores, mebibytes = replicas * cpu, replicas * memory

    def array(value: float | int) -> Float[np.ndarray, " 1"]:
        return np.array([value], np.float64)

    none = array(0.0)
    service = Service(
        p50_s=none,
        p99_s=array(p99_s),
        capacity_per_s=none,
        served_per_s=array(s.served_per_s),
        backlog=none,
        dropped=none,
        cpu_cores=array(s.used_cores),
        memory_mib=array(s.used_mib),
        killed=array(min(s.killed / max(s.ready, 1), 1.0)),
    )
    outcome = StepOutcome(
        service=service,
        ready=array(s.ready),
        replicas=array(replicas),
        cpu_cores=array(cores),
        memory_mib=array(mebibytes),
        cpu_use=array(min(s.used_cores / cores, 1.0)),
        memory_use=array(min(s.ready * s.used_mib / mebibytes, 1.0)),
        slo_latency=array(min(terms.slo_s / p99_s, 1.0)),
        slo_throughput=array(_answered(s.ready, s.arrived_per_s, s.served_per_s)),
        restarted=none,
    )
    state = State(array(cpu), array(memory), array(cpu), array(memory), array(s.ready), none, none[None], none, none)
    recent = remember(before.recent if before is not None else None, outcome)
    came = before.sample.arrived_per_s if before is not None else None
    clock = array(2 * math.pi * (s.time_s / STEP_S % CLOCK_STEPS) / CLOCK_STEPS)
    rate = array(s.arrived_per_s)
    shown = observe(array(terms.slo_s), state, outcome, rate, rate if came is None else array(came), clock, terms.alpha)
    return Seen(
        sample,
        state,
        outcome,
        recent,
        np.asarray(shown, np.float32),
        float(reward(outcome, terms.alpha)[0]),
        bool(violated(outcome)[0]),
    )


def _answered(ready: int, arrived_per_s: float, served_per_s: float) -> float:
    """Share of the requests that were answered; none where nobody is there, whom nobody counts requests for."""
    if not ready:
        return 0.0
    return min(served_per_s / arrived_per_s, 1.0) if arrived_per_s > 0 else 1.0
