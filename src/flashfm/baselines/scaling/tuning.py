"""Tunes controllers on training pairs: every setting of a grid plays the same episodes, the best score wins.

All controllers get the same effort: `GRIDS` has as many settings for each. Enters: what makes a controller, its grid
and fresh simulators. Leaves: the trials, best first. Nothing is drawn but by the simulator, from its own seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from flashfm.baselines.scaling.controller import Controller
from flashfm.baselines.scaling.hpa import Hpa, HpaConfig
from flashfm.baselines.scaling.hpa_vpa import HpaVpa, HpaVpaConfig
from flashfm.baselines.scaling.planner import Planner, PlannerConfig
from flashfm.baselines.scaling.static import Static, StaticConfig
from flashfm.baselines.scaling.vpa import Vpa, VpaConfig
from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.interface import violated
from flashfm.tasks.autoscaling.parameters import STEP_S

if TYPE_CHECKING:
    from flashfm.tasks.autoscaling.simulator import Simulator

Setting = Mapping[str, Any]
MakeController = Callable[..., Controller]
"""Given the values of a setting by name."""


@dataclass(frozen=True)
class Trial:
    """How one setting did, means over steps and pairs."""

    setting: Setting
    reward: float
    """In [0, 1]."""
    violations: float
    """Share of the steps whose p99 missed the SLO or in which requests were left waiting, in [0, 1]."""
    core_hours: float
    """Of the limits, a pair and hour."""
    gib_hours: float
    """Memory of the limits in GiB, a pair and hour."""
    restarts: float
    """Replicas restarted, a pair and hour."""


Objective = Callable[[Trial], float]
"""The more, the better."""


def by_reward(trial: Trial) -> float:
    """The mean reward."""
    return trial.reward


def by_violations(core_hours: float) -> Objective:
    """Fewest violations among the settings that take no more cores; where none does, the one that takes the fewest.

    Args:
        core_hours: that may be spent, a pair and hour.
    """

    def objective(trial: Trial) -> float:
        over = trial.core_hours - core_hours
        return -trial.violations if over <= 0 else -1.0 - over

    return objective


def settings(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of the values of a grid, in order."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def play(simulator: Simulator, controller: Controller, setting: Setting, episodes: int = 1) -> Trial:
    """Let a controller run episodes.

    Args:
        simulator: of the pairs.
        controller: what acts in all of them.
        setting: noted in the result.
        episodes: one after the other; at least 1.

    Raises:
        ModelError: fewer than one episode.
    """
    if episodes < 1:
        raise ModelError(f"controllers are played for at least one episode, got {episodes}")
    sums = dict.fromkeys(("reward", "violations", "core_hours", "gib_hours", "restarts"), 0.0)
    steps = 0
    for _ in range(episodes):
        simulator.reset()
        controller.reset(simulator)
        while not simulator.done:
            rate = simulator.load.rate_per_s[simulator.t]
            stepped = simulator.apply(controller.decide(simulator.state, simulator.outcome, rate))
            outcome, steps = stepped.outcome, steps + 1
            sums["reward"] += float(stepped.reward.mean())
            sums["violations"] += float((violated(outcome) * 1.0).mean())
            sums["core_hours"] += float(outcome.cpu_cores.mean())
            sums["gib_hours"] += float(outcome.memory_mib.mean()) / 1024
            sums["restarts"] += float(outcome.restarted.mean()) * 3600 / STEP_S
    return Trial(dict(setting), **{name: total / max(steps, 1) for name, total in sums.items()})


def tune(
    make: MakeController,
    grid: Mapping[str, Sequence[Any]],
    simulators: Callable[[float], Simulator],
    alpha: float,
    *,
    objective: Objective = by_reward,
    episodes: int = 1,
    on_trial: Callable[[int, int], object] = lambda *_: None,
) -> list[Trial]:
    """Try every setting of a grid on the same episodes.

    Args:
        make: gives a controller of a setting.
        grid: values to try of each option.
        simulators: gives a fresh simulator of the training pairs at a trade-off, with the same seed each time.
        alpha: weight of the SLO, in [0, 1].
        objective: what is best.
        episodes: that each setting plays.
        on_trial: told of the trials that are done and of all of them.

    Returns:
        All trials, best first; ties keep the order of the grid.

    Raises:
        ModelError: alpha outside [0, 1], or a grid without settings.
    """
    if not 0 <= alpha <= 1:
        raise ModelError(f"tuning: alpha weighs the SLO and lies in [0, 1], got {alpha:g}")
    tried = settings(grid)
    if not tried:
        raise ModelError(f"tuning: the grid has no settings, options {list(grid)}; give each at least one value")
    trials = []
    for setting in tried:
        trials.append(play(simulators(alpha), make(**setting), setting, episodes))
        on_trial(len(trials), len(tried))
    return sorted(trials, key=objective, reverse=True)


def static(**setting: Any) -> Controller:
    """`Static` of a setting."""
    return Static(config=StaticConfig(**setting))


def hpa(**setting: Any) -> Controller:
    """`Hpa` of a setting."""
    return Hpa(HpaConfig(**setting))


def vpa(**setting: Any) -> Controller:
    """`Vpa` of a setting."""
    return Vpa(VpaConfig(**setting))


def hpa_vpa(**setting: Any) -> Controller:
    """`HpaVpa` of a setting."""
    return HpaVpa(HpaVpaConfig(**setting))


def planner(**setting: Any) -> Controller:
    """`Planner` of a setting."""
    return Planner(PlannerConfig(**setting))


GRIDS: dict[str, tuple[MakeController, dict[str, Sequence[Any]]]] = {
    "static": (
        static,
        {"headroom": (3.0, 6.0, 12.0, 24.0), "memory_headroom": (1.15, 1.3), "cpu_cores": (1.0, 1.3, 2.0)},
    ),
    "HPA": (
        hpa,
        {"target": (0.08, 0.15, 0.3, 0.5, 0.6, 0.7), "memory_target": (None, 0.8), "window_s": (300.0, 1800.0)},
    ),
    "VPA": (
        vpa,
        {
            "day_s": (86_400.0, 3_600.0),
            "cpu_margin": (0.15, 0.7, 2.0),
            "memory_margin": (0.15, 0.3),
            "least_cpu_cores": (1.0, 2.0),
            "least_memory_mib": (64.0,),
        },
    ),
    "HPA + VPA": (
        hpa_vpa,
        {
            "target": (0.1, 0.2, 0.3, 0.5, 0.6, 0.7),
            "vertical": ("memory", "both"),
            "day_s": (3_600.0,),
            "least_cpu_cores": (1.0, 2.0),
            "least_memory_mib": (64.0,),
        },
    ),
    "planner": (
        planner,
        {
            "headroom": (1.3, 1.8, 2.5),
            "window_steps": (8, 24),
            "memory_headroom": (1.0, 1.1),
            "reluctance": (0.03, 0.08),
        },
    ),
}
"""How each controller is made, and what is tried of it: 24 settings each.

The SLO weighs so much more than spare cores in the reward that targets far below what operators choose are in here.
"""
