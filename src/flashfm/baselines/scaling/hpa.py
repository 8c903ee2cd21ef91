"""Kubernetes' Horizontal Pod Autoscaler, autoscaling/v2: replicas by the utilisation of those that are ready.

The controller synchronises every 15 s, twice in a control step. Both times it sees the work of the last step: the
second time spread over the replicas that the first left, and those that the first ordered are not ready yet.

Source: kubernetes/pkg/controller/podautoscaler, `replica_calculator.go` (GetResourceReplicas) and `horizontal.go`
(normalizeDesiredReplicasWithBehaviors), with the default behaviour of autoscaling/v2. Deviations: replicas that are
starting count as not ready for memory as well; all that are ready have the mean limits and the mean use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from flashfm.baselines.scaling.controller import Begun, bounded, usage
from flashfm.tasks.autoscaling.dynamics import REPLICAS, Limits, State, StepOutcome
from flashfm.tasks.autoscaling.parameters import STEP_S

SYNC_S = 15.0
"""Period of the controller, and of the policies that bound how fast it adds replicas."""
SYNCS = round(STEP_S / SYNC_S)
"""Synchronisations in a control step."""
ROUNDING = 1e-4
"""What floating point may add to a ratio or a count that is whole on paper."""


@dataclass(frozen=True)
class HpaConfig:
    """Of one autoscaler; defaults are those of Kubernetes."""

    target: float = 0.8
    """Utilisation of the CPU limits that is aimed at, above 0."""
    memory_target: float | None = None
    """The same for memory, of which the larger number of replicas counts; None leaves memory out."""
    tolerance: float = 0.1
    """Relative distance from the target within which nothing is done."""
    window_s: float = 300.0
    """Stabilisation: replicas fall to no less than the most that was recommended in this time."""
    most_added: float = 4.0
    """Replicas that may be added in 15 s, …"""
    most_growth: float = 1.0
    """… or their share of the replicas there were; the larger bound counts."""


class Hpa:
    """Sets replicas; limits stay as they are.

    Args:
        config: settings.
    """

    def __init__(self, config: HpaConfig | None = None) -> None:
        self.config = config or HpaConfig()
        self._recommended: list[Any] = []

    def reset(self, simulator: Begun) -> None:
        """Begin an episode: all that was ever recommended are the replicas that are there."""
        self._recommended = [simulator.outcome.replicas]

    def decide(self, state: State, outcome: StepOutcome, rate_per_s: Any) -> Limits:  # noqa: ARG002
        """Replicas for the next step, with the limits of the last."""
        return bounded(Limits(state.cpu_cores, state.memory_mib, self.replicas(state, outcome)))

    def replicas(self, state: State, outcome: StepOutcome) -> Any:
        """Replicas for the next step."""
        xp, seen = array_namespace(outcome.ready), usage(state, outcome)
        work = [(self.config.target, seen.ready * seen.cpu_used / seen.cpu_limit)]
        if self.config.memory_target is not None:
            work.append((self.config.memory_target, seen.ready * seen.memory_used / seen.memory_limit))
        current = seen.replicas
        for _ in range(SYNCS):
            ready = xp.minimum(seen.ready, current)
            wanted = desired(current, ready, work[0][1], work[0][0], self.config.tolerance)
            for target, used in work[1:]:
                wanted = xp.maximum(wanted, desired(current, ready, used, target, self.config.tolerance))
            current = self._rated(current, self._stabilised(current, wanted))
        return current

    def _stabilised(self, current: Any, wanted: Any) -> Any:
        """Up at once, down to the most of the window."""
        xp = array_namespace(wanted)
        kept = max(round(self.config.window_s / SYNC_S), 1)
        self._recommended = [*self._recommended, wanted][-kept:]
        most = self._recommended[0]
        for one in self._recommended[1:]:
            most = xp.maximum(most, one)
        return xp.maximum(wanted, xp.minimum(current, most))

    def _rated(self, current: Any, wanted: Any) -> Any:
        """No more than may be added in one period, and within bounds."""
        xp = array_namespace(wanted)
        grown = xp.ceil(current * (1 + self.config.most_growth) - ROUNDING)
        return xp.minimum(wanted, xp.maximum(current + self.config.most_added, grown)).clip(*REPLICAS)


def desired(current: Any, ready: Any, work: Any, target: float, tolerance: float = 0.1) -> Any:
    """Replicas that one metric asks for, before stabilisation and bounds.

    When replicas are to be added, those that are not ready yet count as idle, so that they are waited for; where that
    turns the direction, or none is ready, nothing is done.

    Args:
        current: replicas, ready or not.
        ready: of them.
        work: utilisation summed over the ready replicas: 1 fills one of them.
        target: utilisation that is aimed at.
        tolerance: relative distance from it within which nothing is done.
    """
    xp = array_namespace(current)

    def ratio(pods: Any) -> Any:
        percent = xp.floor(100 * work / pods.clip(min=1.0) + ROUNDING)  # Kubernetes reckons in whole per cent
        return percent / (100 * target)

    waited = (current > ready) & (ratio(ready) > 1 + ROUNDING)
    pods = xp.where(waited, current, ready)
    off = ratio(pods)
    count = xp.ceil(off * pods - ROUNDING)
    turned = waited & ((off < 1) | (count < current))
    return xp.where((xp.abs(1 - off) <= tolerance + ROUNDING) | turned | (ready <= 0), current, count)
