"""What became of an application in the hands of one controller and of another, under the same requests.

Enters: what happened in each step. Leaves: series for pictures, sums for tables, and all of it as JSON-able data.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from flashfm.act.autoscale import Terms
from flashfm.controller.kept import Kept
from flashfm.tasks.autoscaling.interface import MET

FLASH, HPA = "FLASH", "HPA + VPA"
"""Names of the arms."""

Steps = Float[np.ndarray, " step"]


@dataclass(frozen=True, eq=False)
class Arm:
    """What happened to one arm; series are [step]."""

    rate_per_s: Steps
    """That was asked for."""
    replicas: Steps
    cores: Steps
    """Limits of all replicas together."""
    memory_gib: Steps
    """Limits of all replicas together."""
    p99_s: Steps
    """As the client saw it; not a number where nothing was answered."""
    sent: Steps
    failed: Steps
    violated: Steps
    """1 where the p99 missed the objective or requests failed."""
    decisions: tuple[Kept, ...]
    period_s: float
    all_p99_s: float
    """Of all requests that were answered."""
    late_s: float
    """Longest that a request left after its time."""
    core_s: float
    gib_s: float
    kills: int
    restarts: int

    def summary(self) -> dict[str, Any]:
        """What came of it; JSON-able."""
        violated, answered = int(self.violated.sum()), self.p99_s[np.isfinite(self.p99_s)]
        return {
            "p99_s": self.all_p99_s if math.isfinite(self.all_p99_s) else None,
            "median_p99_s": float(np.median(answered)) if answered.size else None,
            "violated_steps": violated,
            "violated_s": violated * self.period_s,
            "core_s": self.core_s,
            "gib_s": self.gib_s,
            "replicas": float(self.replicas.mean()),
            "kills": self.kills,
            "restarts": self.restarts,
            "sent": int(self.sent.sum()),
            "failed": int(self.failed.sum()),
            "late_s": self.late_s,
            "acted": dict(Counter(step.decision["by"] for step in self.decisions)),
            "changes": sum(bool(step.decision["change"]) for step in self.decisions),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Each step; JSON-able."""
        series = ("rate_per_s", "replicas", "cores", "memory_gib", "p99_s", "sent", "failed", "violated")
        values = zip(*(getattr(self, name).tolist() for name in series), strict=True)
        return [
            {
                **{name: x if math.isfinite(x) else None for name, x in zip(series, of, strict=True)},
                "decision": {**step.decision, "status": step.status, "detail": step.detail},
            }
            for of, step in zip(values, self.decisions, strict=True)
        ]


def missed(p99_s: Steps, sent: Steps, failed: Steps, slo_s: float) -> Steps:
    """1 where a step broke the objective: its p99 was longer, or requests failed."""
    return ((p99_s * MET > slo_s) | (failed > (1 - MET) * sent)).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Compared:
    """Both arms, and under what terms."""

    app: str
    terms: Terms
    room: str
    """What replicas and client have of this machine, in words."""
    load: str
    """Where it comes from, in words."""
    alone_s: float
    """Median of a request that nobody else asks beside, under a core."""
    arms: dict[str, Arm]
    predicted: dict[str, Arm]
    """The same arms in the simulator, with what a request costs here."""
    p_value: float | None
    """Of the agent's embedding: share of the pairs of pretraining that lie farther out; None without one."""
