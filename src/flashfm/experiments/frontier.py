"""Violations of the SLO against core-hours: the agent that ships over its trade-offs, controllers over their settings.

Enters: the default scenario and the model. Leaves: `frontier.json` with its table and picture. On the unseen pairs a
controller is judged in those settings alone that no other of its settings beats in both figures on training pairs.
Resumable: what each arm gave is kept, under a name that changes with the model, the grid and the number of pairs.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from flashfm.adapt.agent import FlashAgent
from flashfm.baselines.scaling import GRIDS, Controller, Static
from flashfm.baselines.scaling.tuning import MakeController, settings
from flashfm.datasets.files import write_whole
from flashfm.experiments import frontier_page, results
from flashfm.experiments.frontier_page import AFTER, ALIKE, BEFORE, CONTROLLERS, FIGURES, Arm, undominated
from flashfm.experiments.scaling import EPISODES, Judged, controller_acts, decided, judge
from flashfm.models.agent import AgentModel
from flashfm.models.agent_state import digest
from flashfm.pretraining.lived import collect
from flashfm.tasks.autoscaling.dynamics import Limits, State, StepOutcome
from flashfm.tasks.autoscaling.scenario import Scenario, default, split
from flashfm.tasks.autoscaling.simulator import Chance, Simulator, Stepped

Grid = Mapping[str, Sequence[Any]]
OnStep = Callable[[int, int], object]

REMEMBERS = {"HPA + VPA"}
"""Controllers that learn from earlier episodes; they live through one, as the agent does."""
ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
ALPHA = 0.5
"""Told to controllers whose settings have no alpha of their own; only the planner reads it."""


class Alike:
    """Gives every application the same limits and replicas.

    Args:
        limits: values of `Limits` by name: cores and MiB of a replica, and replicas.
    """

    def __init__(self, **limits: float) -> None:
        self._limits = limits
        self._static = Static()

    def reset(self, simulator: Simulator) -> None:
        """Begin an episode."""
        none = 0 * simulator.params.cpu_s
        self._static = Static(Limits(**{name: none + value for name, value in self._limits.items()}))
        self._static.reset(simulator)

    def decide(self, state: State, outcome: StepOutcome, rate_per_s: Any) -> Limits:
        """The limits."""
        return self._static.decide(state, outcome, rate_per_s)


_TARGETS = (0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
_MORE: dict[str, Grid] = {
    "HPA + VPA": {"target": _TARGETS, "memory_margin": (0.15, 0.6)},
    "HPA": {"target": _TARGETS, "window_s": (300.0, 600.0, 1_800.0, 3_600.0)},
    "static": {
        "headroom": (1.5, 3.0, 6.0, 9.0, 12.0, 24.0, 40.0, 72.0),
        "memory_headroom": (1.15, 1.3, 2.0, 4.0),
    },
    "planner": {
        "alpha": (0.5, 0.9),
        "headroom": (1.3, 1.8, 2.5, 4.0),
        "memory_headroom": (1.0, 1.1, 1.4),
    },
}
WIDER: dict[str, tuple[MakeController, Grid]] = {
    **{name: (GRIDS[name][0], {**GRIDS[name][1], **more}) for name, more in _MORE.items()},
    ALIKE: (
        Alike,
        {
            "cpu_cores": (0.7, 1.0, 1.3, 2.0),
            "memory_mib": (512.0, 1_024.0, 1_536.0, 2_048.0, 3_072.0, 4_096.0),
            "replicas": (4.0, 8.0, 16.0, 32.0),
        },
    ),
}
"""`GRIDS`, with more values so that core-hours reach from few to what the agent takes and beyond: 96 settings each."""


@dataclass(frozen=True)
class FrontierConfig:
    """How much is judged."""

    alphas: tuple[float, ...] = ALPHAS
    """Trade-offs that the agent is asked for."""
    training: int = 400
    """Training pairs that settings are chosen on."""
    tested: int = 200
    draws: int = 2000
    """Of the bootstrap over pairs."""
    grids: Mapping[str, tuple[MakeController, Grid]] = field(default_factory=lambda: WIDER)
    model: str = "autoscaling"
    """Name or folder of the agent."""

    @classmethod
    def of(cls, *, quick: bool) -> FrontierConfig:
        """All of it, or a few trade-offs on some pairs, with the first and last value of each option of `GRIDS`."""
        if not quick:
            return cls()
        ends = {
            name: (make, {k: v[:: max(len(v) - 1, 1)] for k, v in of.items()})
            for name, (make, of) in {**WIDER, **GRIDS}.items()
        }
        return cls((0.3, 0.6, 0.9), 60, 40, grids=ends)


def run(
    out: Path,
    folder: Path,
    *,
    quick: bool = False,
    on_step: OnStep = lambda *_: None,
    config: FrontierConfig | None = None,
) -> Path:
    """Judge all arms, and write the result file, its table and its picture.

    Args:
        out: what each arm gave is kept here; a stopped run goes on there.
        folder: of the result file.
        quick: few trade-offs, settings and pairs.
        on_step: told of the settings that are done and of all of them.
        config: settings, in place of those that `quick` chooses.

    Returns:
        The result file.

    Raises:
        ArtifactError: no such model.
        DataError: a file in `out` is damaged, or a file cannot be written.
    """
    config = config or FrontierConfig.of(quick=quick)
    model = FlashAgent.from_pretrained(config.model).model
    train_on, test_on = split(default(0))
    train_on, test_on = train_on.take(np.arange(config.training)), test_on.take(np.arange(config.tested))
    out.mkdir(parents=True, exist_ok=True)
    tried = {BEFORE: [{"alpha": alpha} for alpha in config.alphas]}
    tried |= {AFTER: tried[BEFORE]} | {name: settings(config.grids[name][1]) for name in CONTROLLERS}
    total, done, arms = sum(map(len, tried.values())), 0, {}
    for name, of_arm in tried.items():
        plays = _agent(model, warm_up=name == AFTER) if name in (BEFORE, AFTER) else _controller(name, config)
        path = out / f"{name.translate(_PLAIN)}-{_mark(model, name, of_arm, config)}.npz"
        if not path.exists():
            on_setting = partial(_add, on_step, done, total)
            _keep(path, _arm(plays, of_arm, train_on, test_on, on_setting, every=name in (BEFORE, AFTER)))
        arms[name] = _read(path, of_arm)
        done += len(of_arm)
        on_step(done, total)
    return frontier_page.write(folder, arms, config.alphas, training=len(train_on), draws=config.draws, quick=quick)


Plays = Callable[[dict[str, Any], Scenario, int], Judged]
"""Judges one setting on the pairs of a scenario, so many episodes each."""


def _arm(
    plays: Plays,
    tried: list[dict[str, Any]],
    train_on: Scenario,
    test_on: Scenario,
    on_setting: Callable[[int], object],
    *,
    every: bool,
) -> Arm:
    """One episode of each training pair for every setting, then the unseen pairs for those of the frontier, or all."""
    rows = []
    for i, setting in enumerate(tried):
        on_setting(i)
        rows.append(_figures(plays(setting, train_on, 1)).mean(axis=1))
    training = np.stack(rows)
    chosen = np.arange(len(tried)) if every else undominated(training[:, 1], training[:, 0])
    return Arm(tried, training, chosen, np.stack([_figures(plays(tried[i], test_on, EPISODES)) for i in chosen]))


def _add(on_step: OnStep, before: int, total: int, done: int) -> None:
    on_step(before + done, total)


def _figures(judged: Judged) -> Float[np.ndarray, "figure pair"]:
    return np.stack([getattr(judged, name) for name in FIGURES])


def _agent(model: AgentModel, *, warm_up: bool) -> Plays:
    def plays(setting: dict[str, Any], scenario: Scenario, episodes: int) -> Judged:
        alpha, embedding = setting["alpha"], None
        if warm_up:
            simulator = scenario.simulator(actions=model.actions, seed=31)
            lived = collect(simulator, model.shared, 1, 0.1, 0, (alpha, alpha))
            embedding = model.embed(lived).repeat_interleave(episodes, dim=0)

        def act(observation: Any, simulator: Simulator) -> Stepped:
            return simulator.step(model.act(observation, embedding))

        return judge(scenario, act, alpha=alpha, actions=model.actions, episodes=episodes)

    return plays


def _controller(name: str, config: FrontierConfig) -> Plays:
    def plays(setting: dict[str, Any], scenario: Scenario, episodes: int) -> Judged:
        options = dict(setting)
        alpha = options.pop("alpha", ALPHA)
        controller = config.grids[name][0](**options)
        begin = partial(_after_an_episode, controller) if name in REMEMBERS else controller.reset
        return judge(scenario, controller_acts(controller), alpha=alpha, episodes=episodes, begin=begin)

    return plays


def _after_an_episode(controller: Controller, simulator: Simulator) -> None:
    """Let a controller live through an episode of other chance and load, and go back to the one that was begun."""
    names = ("chance", "state", "outcome", "recent", "load", "t")
    begun = {name: getattr(simulator, name) for name in names}
    simulator.chance = Chance(simulator.params.cpu_s, 31)
    simulator.reset()
    controller.reset(simulator)
    while not simulator.done:
        simulator.apply(decided(controller, simulator))
    for name, value in begun.items():
        setattr(simulator, name, value)
    controller.reset(simulator)


_PLAIN = str.maketrans({" ": "", ",": "-", "+": "-"})


def _mark(model: AgentModel, name: str, tried: list[dict[str, Any]], config: FrontierConfig) -> str:
    """Differs where anything that an arm rests on differs."""
    mark = f"{zlib.crc32(json.dumps([tried, config.training, config.tested]).encode()):08x}"
    return f"{mark}-{digest(model)}" if name in (BEFORE, AFTER) else mark


def _keep(path: Path, arm: Arm) -> None:
    arrays = {"training": arm.training, "chosen": arm.chosen, "tested": arm.tested}
    write_whole(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def _read(path: Path, tried: list[dict[str, Any]]) -> Arm:
    return Arm(tried, **results.read_arrays(path))
