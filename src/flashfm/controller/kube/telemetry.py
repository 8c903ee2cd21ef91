"""What an operator counts of itself, in Prometheus' format; `deploy/grafana/flashfm.json` shows it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from flashfm.controller.kept import DONE, FAILED
from flashfm.controller.lifecycle import Phase
from flashfm.controller.loop import Stepped

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

DECIDE_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
"""Bounds of the histogram of the time that deciding takes."""

DECIDE = ("agent", "rules", "nobody")
"""Who may have decided."""


class Telemetry:
    """Counters and gauges of one operator."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry: CollectorRegistry = CollectorRegistry()
        on, by_target = self.registry, ["target"]
        self._objects = Gauge("flashfm_autoscalers", "FlashAutoscaler objects", ["accepted"], registry=on)
        self._phases = Gauge("flashfm_phase", "1 for the phase of a target", ["target", "phase"], registry=on)
        self._novelty = Gauge("flashfm_novelty_p_value", "Pairs of pretraining farther out", by_target, registry=on)
        self._steps = Counter("flashfm_steps", "Control steps, by who decided", ["target", "by"], registry=on)
        self._decide = Histogram("flashfm_decide_seconds", "Time that deciding takes", buckets=DECIDE_S, registry=on)
        self._broken, self._unread, self._done, self._failed, self._clipped, self._turned = counters = [
            Counter(f"flashfm_{name}", words, by_target, registry=on)
            for name, words in (
                ("violated_steps", "Steps that broke the objective"),
                ("unread_samples", "Samples that could not be acted on: the step is held"),
                ("done_actions", "Settings that were set"),
                ("failed_actions", "Settings that were not set, or not wholly"),
                ("clipped_decisions", "Decisions that guardrails have changed"),
                ("phase_changes", "Changes of the phase"),
            )
        ]
        self._of_target = (self._phases, self._novelty, self._steps, *counters)

    def objects(self, there: int, accepted: int) -> None:
        """How many there are, and are accepted."""
        self._objects.labels("true").set(accepted)
        self._objects.labels("false").set(there - accepted)

    def step(self, target: str, stepped: Stepped, p_value: float | None, trouble: str | None = None) -> None:
        """Count a step.

        Args:
            target: its name.
            stepped: the step.
            p_value: share of the pairs of pretraining that lie farther out; None where that is not known.
            trouble: why pods could not be brought to what is set; None where they could.
        """
        decision = stepped.decision
        self._decide.observe(stepped.seconds)
        # counters begin at 0, so that rates see the first time too
        for who in DECIDE:
            self._steps.labels(target, who).inc(who == decision.by)
        for counter, happened in (
            (self._broken, decision.violated),
            (self._unread, decision.by == "nobody"),
            (self._done, stepped.status == DONE),
            (self._failed, stepped.status == FAILED or trouble is not None),
            (self._clipped, decision.clipped),
            (self._turned, decision.turned is not None),
        ):
            counter.labels(target).inc(bool(happened))
        for phase in Phase:
            self._phases.labels(target, phase.value).set(phase is decision.phase)
        if p_value is None:
            with suppress(KeyError):
                self._novelty.remove(target)
        else:
            self._novelty.labels(target).set(p_value)

    def forget(self, target: str) -> None:
        """Show a deployment no more that is not controlled any longer."""
        for one in self._of_target:
            one.remove_by_labels({"target": target})
