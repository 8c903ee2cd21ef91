"""The simulator's promise held against real processes: the agent and tuned HPA and VPA, live and in the simulator.

Applications that pretraining never saw are served on this machine under the same load twice, in the hands of the agent
and of HPA and VPA rules (`controller.live`). The rules are tuned on other applications in twins of this machine
(`live_tuning`). Beside what was measured stands what the simulator said of the same arms under the same rates
(`live_page`). Resumable: each application and repeat is a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product, starmap
from pathlib import Path
from typing import Any

from flashfm.adapt.agent import FlashAgent
from flashfm.applications.generator import generate_many
from flashfm.applications.runtime import Application
from flashfm.applications.spec import ApplicationSpec
from flashfm.baselines.scaling import HpaVpaConfig
from flashfm.controller.arms import Compared
from flashfm.controller.live import compare
from flashfm.controller.live_config import LiveConfig
from flashfm.controller.twin import Room
from flashfm.datasets.files import write_whole
from flashfm.errors import DataError
from flashfm.experiments.live_tuning import ALPHAS, LEAST_CORES, TARGETS, AgentSetting, settings, slack, tune
from flashfm.measurements.limits import detect
from flashfm.tasks.autoscaling.calibration import ApplicationCosts, load_costs
from flashfm.tasks.autoscaling.scenario import default, split

OnStep = Callable[[int, int], object]

SEED = 0
CPU_MS = (2.0, 8.0)
"""CPU time of a request: shorter ones are mostly HTTP, longer ones give too few requests in a step for a p99."""
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
    steps: int = 40
    period_s: float = 2.5
    """Length of a control step."""
    core: float = 1 / 16
    """Share of one of this machine's cores that counts as one, so that two of them are a cluster of many slow ones: of
    one core, all for a single replica is the best that anybody can do."""
    mean_share: float = 0.2
    """Of what can be served within the objective, what is asked for in the mean: pretraining has .09 (median) to .35,
    and less gives too few requests in a step for a p99."""
    tuned_on: int = 30
    """Applications of pretraining that the rules are tuned on, at most."""
    targets: tuple[float, ...] = TARGETS
    least_cores: tuple[float, ...] = LEAST_CORES
    """Settings of the rules that are tried, as of `live_tuning.settings`; the least limits are also the agent's."""
    alphas: tuple[float, ...] = ALPHAS
    """Of the agent."""
    model: str = "autoscaling"
    """Name or folder of the agent."""

    @classmethod
    def of(cls, *, quick: bool) -> SideBySideConfig:
        """Six applications in 70 minutes, or one in three."""
        few = cls(1, ("CPU bound",), 1, tuned_on=4, targets=(0.2, 0.4), least_cores=(0.1, 1.0), alphas=(0.3, 0.9))
        return few if quick else cls()

    @property
    def live(self) -> LiveConfig:
        """Of each application, but for seed and what is tuned."""
        return LiveConfig(
            steps=self.steps,
            period_s=self.period_s,
            core=self.core,
            mean_share=self.mean_share,
        )

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
        quick: one application for three minutes instead of six for 70.
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
        backend, (rules, of_agent, _) = detect(), runs.tuned()
        for name in runs.missing:
            spec, repeat = runs.wanted[name]
            before = total - of_run * len(runs.missing)
            settled = replace(config.live, rules=rules, **of_agent._asdict())
            live = replace(settled, slack=slack(spec.name), seed=SEED + repeat)
            done = compare(spec, runs.agent, backend, live, on_step=partial(_shift, on_step, before, total))
            runs.write(name, record(done, runs.kinds[spec.name], repeat))
    return write(results_folder, [runs.read(name) for name in runs.wanted], *runs.tuned(), config)


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

    def tuned(self) -> tuple[HpaVpaConfig, AgentSetting, dict[str, Any]]:
        """HPA and VPA and the setting of the agent that are best for others here, and what they were chosen from."""
        path, config = self._path("rules"), self.config
        if not path.exists():
            others = fitting(self._train_on)[: config.tuned_on]
            tried = settings(config.targets, config.least_cores)
            of_agent = list(starmap(AgentSetting, product(config.alphas, config.least_cores)))
            self.write("rules", tune(others, Room.here(config.core), config.live, self.agent, tried, of_agent))
        tuned = self.read("rules")
        try:
            return HpaVpaConfig(**tuned["rules"]), AgentSetting(tuned["alpha"], tuned["least_cores"]), tuned
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


def _shift(on_step: OnStep, before: int, total: int, done: int, _: int) -> None:
    on_step(before + done, total)
