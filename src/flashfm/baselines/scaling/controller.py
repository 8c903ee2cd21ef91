"""What every autoscaler of the comparison is asked, and what monitoring lets it see of the last step.

Enters: a simulator, then its state and outcome after each step. Leaves: limits, arrays of shape [env], NumPy's or
torch's. Controllers read states and outcomes through `usage` only, so that nothing hidden reaches them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from array_api_compat import array_namespace

from flashfm.tasks.autoscaling.dynamics import CPU_CORES, MEMORY_MIB, REPLICAS, Limits, State, StepOutcome

if TYPE_CHECKING:  # a controller of a real cluster needs no simulator
    from flashfm.tasks.autoscaling.simulator import Simulator


@runtime_checkable
class Begun(Protocol):
    """What controllers that know nothing hidden read of an episode that begins: a simulator has it, and a cluster."""

    @property
    def outcome(self) -> StepOutcome:
        """Of the step before the first decision."""


@runtime_checkable
class Controller(Protocol):
    """An autoscaler of a batch of pairs."""

    def reset(self, simulator: Simulator) -> None:
        """Begin an episode; called after `simulator.reset()`.

        Args:
            simulator: tells the number of pairs, and the trade-off alpha that is wanted.
        """

    def decide(self, state: State, outcome: StepOutcome, rate_per_s: Any) -> Limits:
        """Limits for the next step, within their bounds.

        Args:
            state: after the last step.
            outcome: of the last step.
            rate_per_s: requests that arrived in it.
        """


class Usage(NamedTuple):
    """What monitoring shows of a step; every field is an array of shape [env]."""

    cpu_limit: Any
    """Cores of a ready replica, the mean while limits are being rolled out."""
    memory_limit: Any
    """Memory of a ready replica in MiB, the mean while limits are being rolled out."""
    cpu_used: Any
    """Cores that a ready replica used on average."""
    memory_used: Any
    """Resident memory of a ready replica in MiB."""
    ready: Any
    """Replicas that served."""
    replicas: Any
    """Ready and starting."""
    oom: Any
    """Whether a replica was killed for memory."""


def usage(state: State, outcome: StepOutcome) -> Usage:
    """Read what monitoring shows.

    Args:
        state: after the step; its limits are those that replicas start with.
        outcome: of the step.
    """
    xp = array_namespace(outcome.ready)
    pods, starting = outcome.ready.clip(min=1.0), outcome.replicas - outcome.ready
    some = outcome.ready > 0
    return Usage(
        cpu_limit=xp.where(some, (outcome.cpu_cores - starting * state.cpu_cores) / pods, state.cpu_cores),
        memory_limit=xp.where(some, (outcome.memory_mib - starting * state.memory_mib) / pods, state.memory_mib),
        cpu_used=outcome.cpu_use * outcome.cpu_cores / pods,
        memory_used=outcome.service.memory_mib,
        ready=outcome.ready,
        replicas=outcome.replicas,
        oom=outcome.service.killed > 0,
    )


def bounded(limits: Limits) -> Limits:
    """The limits within their bounds, replicas whole."""
    xp = array_namespace(limits.cpu_cores)
    return Limits(
        limits.cpu_cores.clip(*CPU_CORES),
        limits.memory_mib.clip(*MEMORY_MIB),
        xp.round(limits.replicas).clip(*REPLICAS),
    )
