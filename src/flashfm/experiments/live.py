"""The simulator's promise held against real processes: the agent and tuned HPA and VPA, live and in the simulator.

Applications that pretraining never saw are served on this machine under the same load twice, in the hands of the agent
and of HPA and VPA rules (`controller.live`). The rules have the setting that is best for other applications in twins of
this machine. Beside what was measured stands what the simulator said of the same arms under the same rates
(`live_page`). Resumable: each application and repeat is a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from flashfm.adapt.agent import FlashAgent
from flashfm.applications.generator import generate_many
from flashfm.applications.runtime import Application
from flashfm.applications.spec import ApplicationSpec
from flashfm.baselines.scaling import HpaVpa, HpaVpaConfig, tune
from flashfm.controller import twin
from flashfm.controller.arms import Compared
from flashfm.controller.live import LEAST_TIMEOUT_S, compare
from flashfm.controller.live_config import LEAST_CONCURRENCY, SLACK, LiveConfig
from flashfm.controller.twin import Room
from flashfm.datasets.files import write_whole
from flashfm.errors import DataError
from flashfm.measurements.limits import detect
from flashfm.tasks.autoscaling import loads, pairs
from flashfm.tasks.autoscaling.calibration import ApplicationCosts, load_costs
from flashfm.tasks.autoscaling.parameters import Params
from flashfm.tasks.autoscaling.scenario import Scenario, default, split

OnStep = Callable[[int, int], object]

SEED = 0
CPU_MS = (2.0, 8.0)
"""CPU time of a request: shorter ones are mostly HTTP, longer ones give too few requests in a step for a p99."""
START_STEPS = 2
"""Of the applications that rules are tuned on: about as long as a process takes to start here."""
GRID: Mapping[str, Sequence[Any]] = {
    "target": (0.1, 0.2, 0.3, 0.5, 0.6, 0.7),
    "vertical": ("memory", "both"),
    "day_s": (3600.0,),
    "least_cpu_cores": (0.1, 0.25, 0.5, 1.0),
    "least_memory_mib": (64.0,),
}
"""Of HPA and VPA: that of `baselines.scaling.GRIDS`, with smaller replicas since this machine is small."""
KINDS: dict[str, Callable[[ApplicationCosts], float]] = {
    "waiting": lambda costs: costs.wait_s / (costs.cpu_s + costs.wait_s),
    "CPU bound": lambda costs: costs.cpu_s / (costs.cpu_s + costs.wait_s),
    "memory hungry": lambda costs: costs.memory_base_mib + costs.memory_request_mib,
}
"""What an application is said to be, and what it has most of then."""


@dataclass(frozen=True)
class SideBySideConfig:
    """What is served and for how long."""

    of_kind: int = 2
    """Applications of each of `kinds`."""
    kinds: tuple[str, ...] = tuple(KINDS)
    repeats: int = 3
    """Of each application, with other loads."""
    steps: int = 30
    period_s: float = 5.0
    """Length of a control step."""
    core: float = 1 / 16
    """Share of one of this machine's cores that counts as one, so that two of them are a cluster of many slow ones: of
    one core, all for a single replica is the best that anybody can do."""
    mean_share: float = 0.2
    """Of what can be served within the objective, what is asked for in the mean: pretraining has .09 (median) to .35,
    and less gives too few requests in a step for a p99."""
    alpha: float = 0.7
    """Weight of the SLO against utilisation; the rules are tuned for the same."""
    tuned_on: int = 100
    """Applications of pretraining that the rules are tuned on, at most."""
    grid: Mapping[str, Sequence[Any]] = field(default_factory=lambda: GRID)
    model: str = "autoscaling"
    """Name or folder of the agent."""

    @classmethod
    def of(cls, *, quick: bool) -> SideBySideConfig:
        """Six applications in 100 minutes, or one in three."""
        return cls(1, ("CPU bound",), 1, 14, tuned_on=20) if quick else cls()

    @property
    def arm_s(self) -> float:
        """Length of one arm."""
        return self.steps * self.period_s


def run(
    folder: Path,
    results_folder: Path,
    config: SideBySideConfig | None = None,
    *,
    quick: bool = False,
    on_step: OnStep = lambda *_: None,
) -> Path:
    """Serve what is missing below `folder`, then write `live.json`, its tables and its picture.

    Args:
        folder: a file for each application and repeat, and one for the setting of the rules.
        results_folder: where results go.
        config: what is served; absent, the configuration that goes with `quick`.
        quick: one application for three minutes instead of six for 100.
        on_step: told of the control steps that are done and of all of them.

    Returns:
        Path of `live.json`.

    Raises:
        ArtifactError: no such model.
        DataError: a file there is damaged or of other settings, or a result cannot be written.
        LimitsError: this machine cannot set limits.
        FlashError: an application cannot be served.
    """
    from flashfm.experiments.live_page import write

    config = config or SideBySideConfig.of(quick=quick)
    runs = Runs(folder, config, FlashAgent.from_pretrained(config.model))
    of_run = 2 * config.steps
    total = of_run * len(runs.wanted)
    on_step(total - of_run * len(runs.missing), total)
    if runs.missing:
        backend, rules = detect(), runs.rules()
        for name in runs.missing:
            spec, repeat = runs.wanted[name]
            before = total - of_run * len(runs.missing)
            live = LiveConfig(
                steps=config.steps,
                period_s=config.period_s,
                alpha=config.alpha,
                core=config.core,
                mean_share=config.mean_share,
                rules=rules,
                seed=SEED + repeat,
            )
            done = compare(spec, runs.agent, backend, live, on_step=partial(_shift, on_step, before, total))
            runs.write(name, record(done, runs.kinds[spec.name], repeat))
    return write(results_folder, [runs.read(name) for name in runs.wanted], runs.rules(), config)


def chosen(costs: Sequence[ApplicationCosts], of_kind: int, kinds: Sequence[str] = tuple(KINDS)) -> dict[str, str]:
    """Applications and their kind: of each kind in turn those that have most of what makes it, among those left.

    Args:
        costs: of the applications to choose from.
        of_kind: so many of each.
        kinds: of `KINDS`.

    Raises:
        DataError: there are too few.
    """
    if len(costs) < of_kind * len(kinds):
        raise DataError(f"{len(costs)} applications to choose {of_kind} of each of {len(kinds)} kinds from; too few")
    picked: dict[str, str] = {}
    for kind in kinds:
        left = [one for one in costs if one.name not in picked]
        left.sort(key=lambda one: (-KINDS[kind](one), one.name))
        picked |= {one.name: kind for one in left[:of_kind]}
    return picked


def fitting(apps: Sequence[str]) -> list[ApplicationCosts]:
    """Costs of those of some generated applications that call no services and compute for `CPU_MS` a request."""
    shipped = load_costs()
    specs = {spec.name: spec for spec in generate_many(SEED, len(shipped.costs))}
    names = set(apps)
    return [
        one
        for one in shipped.costs
        if one.name in names and CPU_MS[0] <= 1e3 * one.cpu_s <= CPU_MS[1] and not Application.services(specs[one.name])
    ]


def others_here(costs: Sequence[ApplicationCosts], room: Room, mean_share: float) -> Scenario:
    """Applications as they would be on this machine, under loads as `controller.live` draws them.

    Args:
        costs: of the applications, under whole cores.
        room: for replicas.
        mean_share: of what can be served within the objective, what is asked for.
    """
    each = []
    for whole in costs:
        one = replace(whole, cpu_s=whole.cpu_s / room.core)
        slo_s = SLACK * (one.wait_s + one.cpu_s)
        each.append(
            twin.parameters(
                one,
                room,
                slo_s=slo_s,
                timeout_s=max(LEAST_TIMEOUT_S, 2 * slo_s),
                concurrency=twin.concurrency(one, LEAST_CONCURRENCY),
                start_steps=START_STEPS,
            )
        )
    params = Params(**{of.name: np.concatenate([getattr(one, of.name) for one in each]) for of in fields(Params)})
    capacity = np.asarray(pairs.capacity_per_s(params))
    drawn = loads.draw(np.random.default_rng([SEED, 5]), len(costs))
    drawn = replace(drawn, mean_per_s=mean_share * capacity)
    return Scenario(tuple(one.name for one in costs), params, drawn, capacity)


class Runs:
    """What came of each application and repeat, a file each.

    Args:
        folder: of the files; created if absent.
        config: what is served.
        agent: the pretrained agent.
    """

    def __init__(self, folder: Path, config: SideBySideConfig, agent: FlashAgent) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.config, self.agent = folder, config, agent
        train_on, test_on = split(default(0))
        self._train_on = train_on.apps
        self.kinds = chosen(fitting(test_on.apps), config.of_kind, config.kinds)
        """Of each application that is served."""
        specs = {spec.name: spec for spec in generate_many(SEED, len(load_costs().costs))}
        self.wanted: dict[str, tuple[ApplicationSpec, int]] = {
            f"{name}-{repeat}": (specs[name], repeat) for repeat, name in product(range(config.repeats), self.kinds)
        }
        """Application and repeat of each file."""
        self._settings = json.loads(json.dumps({**asdict(config), "agent": agent.digest}))

    @property
    def missing(self) -> list[str]:
        """What was not served yet."""
        return [name for name in self.wanted if not self._path(name).exists()]

    def rules(self) -> HpaVpaConfig:
        """The best setting of HPA and VPA for other applications here, found where it was not yet."""
        path = self._path("rules")
        if not path.exists():
            config, others = self.config, fitting(self._train_on)[: self.config.tuned_on]
            scenario = others_here(others, Room.here(config.core), config.mean_share)
            best = tune(_controller, config.grid, lambda of: scenario.simulator(alpha=of, seed=1), config.alpha)[0]
            self.write("rules", {"setting": dict(best.setting), "applications": len(others)})
        try:
            return HpaVpaConfig(**self.read("rules")["setting"])
        except (TypeError, KeyError) as error:
            raise DataError(f"{path}: not what this experiment writes ({error}); delete it and run again") from None

    def read(self, name: str) -> dict[str, Any]:
        """What was kept.

        Raises:
            DataError: its file is damaged or of other settings.
        """
        path = self._path(name)
        try:
            data = json.loads(path.read_text())
            settings, kept = data["settings"], dict(data["kept"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: not what this experiment writes ({error}); delete it and run again") from None
        if settings != self._settings:
            raise DataError(f"{path}: of other settings; give another folder, or delete it and run again")
        return kept

    def write(self, name: str, kept: Mapping[str, Any]) -> None:
        """Keep something JSON-able."""
        text = json.dumps({"settings": self._settings, "kept": kept}).encode()
        write_whole(self._path(name), lambda file: file.write(text))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def record(done: Compared, kind: str, repeat: int) -> dict[str, Any]:
    """What came of one application in one repeat; JSON-able.

    Args:
        done: both arms, live and in the simulator.
        kind: of the application.
        repeat: its number.
    """
    return {
        "app": done.app,
        "kind": kind,
        "repeat": repeat,
        "slo_s": done.terms.slo_s,
        "alone_s": done.alone_s,
        "room": done.room,
        "load": done.load,
        "p_value": done.p_value,
        "live": {name: arm.summary() for name, arm in done.arms.items()},
        "simulated": {name: arm.summary() for name, arm in done.predicted.items()},
        "steps": {
            source: {name: arm.rows() for name, arm in arms.items()}
            for source, arms in (("live", done.arms), ("simulated", done.predicted))
        },
    }


def _controller(**setting: Any) -> HpaVpa:
    return HpaVpa(HpaVpaConfig(**setting))


def _shift(on_step: OnStep, before: int, total: int, done: int, _: int) -> None:
    on_step(before + done, total)
