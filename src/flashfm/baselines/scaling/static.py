"""Limits that somebody set once: given, or sized by what was used in the first step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from array_api_compat import array_namespace

from flashfm.baselines.scaling.controller import bounded, usage
from flashfm.tasks.autoscaling.dynamics import Limits, State, StepOutcome

if TYPE_CHECKING:
    from flashfm.tasks.autoscaling.simulator import Simulator


@dataclass(frozen=True)
class StaticConfig:
    """How much room is left above what the first step used."""

    headroom: float = 2.5
    """Cores of all replicas together over the cores in use."""
    cpu_cores: float | None = None
    """CPU limit of a replica; None keeps the one that is in force."""
    memory_headroom: float = 1.3
    """Memory of a replica over what it held; twice as much where it was killed for memory in that step."""


class Static:
    """Sets limits in the first step and leaves them.

    Args:
        limits: what is set, arrays of shape [env]; None sizes it by the first step.
        config: how it is sized.
    """

    def __init__(self, limits: Limits | None = None, config: StaticConfig | None = None) -> None:
        self._given, self._config = limits, config or StaticConfig()
        self._limits: Limits | None = None

    def reset(self, simulator: Simulator) -> None:  # noqa: ARG002
        """Begin an episode: what was sized before is forgotten."""
        self._limits = self._given

    def decide(self, state: State, outcome: StepOutcome, rate_per_s: Any) -> Limits:  # noqa: ARG002
        """The limits of the first decision, again and again."""
        if self._limits is None:
            xp, seen = array_namespace(outcome.ready), usage(state, outcome)
            cores = seen.ready * seen.cpu_used * self._config.headroom
            held = seen.memory_used * self._config.memory_headroom
            kept = self._config.cpu_cores
            cpu = state.cpu_cores if kept is None else 0 * state.cpu_cores + kept
            self._limits = Limits(cpu, xp.where(seen.oom, 2 * held, held), xp.ceil(cores / cpu))
        return bounded(self._limits)
