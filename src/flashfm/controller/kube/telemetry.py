"""What an operator counts of itself, in Prometheus' format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashfm.controller.lifecycle import Phase
from flashfm.controller.loop import Stepped

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

DECIDE_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
"""Bounds of the histogram of the time that deciding takes."""


class Telemetry:
    """Counters and gauges of one operator."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry: CollectorRegistry = CollectorRegistry()
        on, by_target = self.registry, ["target"]
        self._objects = Gauge("flashfm_autoscalers", "FlashAutoscaler objects", ["accepted"], registry=on)
        self._phases = Gauge("flashfm_phase", "1 for the phase of a target", ["target", "phase"], registry=on)
        self._novelty = Gauge("flashfm_novelty_p_value", "Pairs of pretraining farther out", by_target, registry=on)
        self._steps = Counter("flashfm_steps", "Control steps", ["target", "by", "status"], registry=on)
        self._broken = Counter("flashfm_violated_steps", "Steps that broke the objective", by_target, registry=on)
        self._decide = Histogram("flashfm_decide_seconds", "Time that deciding takes", buckets=DECIDE_S, registry=on)

    def objects(self, there: int, accepted: int) -> None:
        """How many there are, and are accepted."""
        self._objects.labels("true").set(accepted)
        self._objects.labels("false").set(there - accepted)

    def step(self, target: str, stepped: Stepped, p_value: float | None) -> None:
        """Count a step."""
        decision = stepped.decision
        self._steps.labels(target, decision.by, stepped.status).inc()
        self._decide.observe(stepped.seconds)
        if decision.violated:
            self._broken.labels(target).inc()
        for phase in Phase:
            self._phases.labels(target, phase.value).set(phase is decision.phase)
        if p_value is not None:
            self._novelty.labels(target).set(p_value)

    def forget(self, target: str) -> None:
        """Show a deployment no more that is not controlled any longer."""
        for one in (self._phases, self._novelty, self._steps, self._broken):
            one.remove_by_labels({"target": target})
