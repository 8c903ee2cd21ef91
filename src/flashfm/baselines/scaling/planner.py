"""A planner that knows the application: each step the limits and replicas of the best reward that the model predicts.

It is told the parameters of the pairs, which no autoscaler of a cluster is; not told are the neighbours and the load to
come. It plans for one settled step at a time, so that start-up delays and restarts enter through its headroom, its
window and its reluctance only: a strong reference, not an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from array_api_compat import array_namespace

from flashfm.baselines.scaling.controller import bounded
from flashfm.tasks.autoscaling.dynamics import MEMORY_MIB, USUAL, Limits, State, StepOutcome, placed
from flashfm.tasks.autoscaling.parameters import STEP_S, Params
from flashfm.tasks.autoscaling.serving import serve

if TYPE_CHECKING:
    from flashfm.tasks.autoscaling.simulator import Simulator


@dataclass(frozen=True)
class PlannerConfig:
    """How the planner guards itself against what it does not foresee."""

    headroom: float = 1.8
    """Rate planned for over the highest of the window, above 0."""
    window_steps: int = 24
    """Steps of which the highest rate counts; at least 1."""
    memory_headroom: float = 1.0
    """Memory over what the requests in flight are predicted to need, beside three deviations of its noise."""
    reluctance: float = 0.08
    """Reward that other limits must promise beyond those in force before they are changed; replicas move freely."""
    cpu_cores: tuple[float, ...] = (0.1, 0.2, 0.4, 0.7, 1.0, 1.3, 1.95, 3.9)
    """CPU limits considered beside the one in force."""
    replicas: tuple[float, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 27, 32)
    """Numbers of replicas considered."""


class Planner:
    """Sets all limits by a queueing model.

    Args:
        config: settings.
    """

    def __init__(self, config: PlannerConfig | None = None) -> None:
        self.config = config or PlannerConfig()
        self._params: Params
        self._alpha: Any = None
        self._rates: list[Any] = []

    def reset(self, simulator: Simulator) -> None:
        """Begin an episode; the parameters and the trade-off of the simulator are read."""
        self._params = simulator.params.map(lambda of: of[:, None, None])
        self._alpha = (simulator.alpha + 0 * simulator.params.cpu_s)[:, None, None]
        self._rates = []

    def decide(self, state: State, outcome: StepOutcome, rate_per_s: Any) -> Limits:  # noqa: ARG002
        """Limits for the next step."""
        xp, config = array_namespace(rate_per_s), self.config
        self._rates = [*self._rates, rate_per_s][-config.window_steps :]
        rate = self._rates[0]
        for one in self._rates[1:]:
            rate = xp.maximum(rate, one)
        limits, promised = self._predicted(state, (rate * config.headroom)[:, None, None])
        env, choices = rate.shape[0], len(config.replicas)
        flat = promised.reshape(env, -1)
        rows, first = xp.arange(env, device=flat.device), xp.arange(flat.shape[1], device=flat.device) < choices
        stay = xp.argmax(xp.where(first, flat, -1.0), axis=1)
        move = xp.argmax(xp.where(first, -1.0, flat), axis=1)
        worth = flat[rows, move] - flat[rows, stay] > config.reluctance
        chosen = xp.where(worth, move, stay)
        return bounded(Limits(*((of + 0 * promised).reshape(env, -1)[rows, chosen] for of in limits)))

    def _predicted(self, state: State, rate_per_s: Any) -> tuple[Limits, Any]:
        """What may be set, and the reward of a settled step in it, [env, CPU limit, replicas].

        The first CPU limit is the one in force, with the memory limit in force; the others get the memory they need.
        """
        p, xp, config = self._params, array_namespace(rate_per_s), self.config
        none, now = 0 * rate_per_s, state.memory_mib[:, None, None]
        cpu = xp.concat([none + state.cpu_cores[:, None, None], *(none + cores for cores in config.cpu_cores)], axis=1)
        replicas = xp.concat([none + count for count in config.replicas], axis=2)
        known = {"speed": p.node_speed * (1 - p.neighbours * USUAL), "backlog": state.backlog[:, None, None]}

        free = placed(p, Limits(cpu, now, replicas))
        enough = serve(p, cpu, none + 1e9, free.replicas, rate_per_s, memory_noise=none, **known)
        need = enough.memory_mib * config.memory_headroom * (1 + 3 * p.memory_noise)
        memory = xp.concat([now + 0 * need[:, :1], need[:, 1:].clip(*MEMORY_MIB)], axis=1)
        limits = placed(p, Limits(cpu, memory, replicas))
        got = serve(p, *limits, rate_per_s, memory_noise=2 * p.memory_noise, **known)

        arrived = rate_per_s + known["backlog"] / STEP_S
        answered = (got.served_per_s / arrived.clip(min=1e-9)).clip(max=1.0)
        kept = xp.minimum((p.slo_s / got.p99_s).clip(max=1.0), answered)
        used = (got.cpu_cores / (limits.replicas * limits.cpu_cores)).clip(max=1.0)
        held = (got.memory_mib / limits.memory_mib).clip(max=1.0)
        return limits, self._alpha * kept + (1 - self._alpha) * 0.5 * (used + held)
