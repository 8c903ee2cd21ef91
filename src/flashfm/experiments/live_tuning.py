"""Both arms of `live`, tuned alike: on other applications, in the simulator, as they are tried live.

Enters: costs of applications that pretraining saw, room and settings. Leaves: what each setting of the rules and of the
agent comes to, under guardrails and from the same first setting as live. Of the rules the one of fewest violations is
taken, of the agent the one of fewest violations that takes no more core-seconds than that; of those alike the one of
fewest core-seconds.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product, starmap
from typing import Any, NamedTuple, TypeVar

import numpy as np

from flashfm.adapt.agent import FlashAgent
from flashfm.baselines.scaling import HpaVpaConfig
from flashfm.controller import twin
from flashfm.controller.arms import FLASH, HPA, Arm
from flashfm.controller.live_config import LEAST_CONCURRENCY, LiveConfig
from flashfm.controller.plan import Plan
from flashfm.controller.twin import Room
from flashfm.tasks.autoscaling.calibration import ApplicationCosts

START_S = 6.0
"""About as long as a process takes to start under slow cores."""
SLACK = (5.0, 50.0)
"""Of objectives, over the median of a request alone: three in four of pretraining's pairs are in between. Stricter ones
leave room for so few requests that a step has no p99."""
ALPHAS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Trade-offs of the agent."""
DAY_S, LEAST_MIB = 3600.0, 64.0
"""Of VPA: what counts as a day, since an arm lasts minutes, and the least memory of a replica."""
TARGETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
LEAST_CORES = (0.1, 0.5, 1.0, 2.0)
"""Least limits of a replica, of VPA where it sets CPU and of the agent."""


T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What a setting, or the agent, comes to in the mean over applications."""

    violated_s: float
    core_s: float


class AgentSetting(NamedTuple):
    """What is tuned of the agent."""

    alpha: float
    least_cores: float


def settings(
    targets: Sequence[float] = TARGETS, least_cores: Sequence[float] = LEAST_CORES
) -> tuple[HpaVpaConfig, ...]:
    """All that are tried: HPA by CPU with VPA of memory, and of both from some least CPU on.

    Args:
        targets: of HPA.
        least_cores: of VPA, where it sets CPU.
    """
    base = HpaVpaConfig(day_s=DAY_S, least_memory_mib=LEAST_MIB)
    memory = [replace(base, target=target, vertical="memory") for target in targets]
    both = [
        replace(base, target=target, vertical="both", least_cpu_cores=least)
        for target, least in product(targets, least_cores)
    ]
    return (*memory, *both)


def plan(costs: ApplicationCosts, room: Room, config: LiveConfig) -> Plan:
    """An application as it would be tried on this machine.

    Args:
        costs: under whole cores of the machine that they were measured on.
        room: for replicas.
        config: settings.
    """
    here = replace(costs, cpu_s=costs.cpu_s / room.core)
    concurrency, start_steps = twin.concurrency(here, LEAST_CONCURRENCY), math.ceil(START_S / config.period_s)
    return Plan.of(here, room, config, concurrency=concurrency, start_steps=start_steps)


def slack(app: str) -> float:
    """Objective of an application, over the median of a request alone: log-uniform in `SLACK`, always the same.

    Args:
        app: its name.
    """
    low, high = np.log(SLACK)
    return float(np.exp(np.random.default_rng(zlib.crc32(app.encode())).uniform(low, high)))


def outcome(arms: Sequence[Arm]) -> Outcome:
    """Of one arm with several applications."""
    violated = [float(arm.violated.sum()) * arm.period_s for arm in arms]
    return Outcome(float(np.mean(violated)), float(np.mean([arm.core_s for arm in arms])))


def tune(
    others: Sequence[ApplicationCosts],
    room: Room,
    config: LiveConfig,
    agent: FlashAgent,
    tried: Sequence[HpaVpaConfig] | None = None,
    of_agent: Sequence[AgentSetting] | None = None,
) -> dict[str, Any]:
    """The settings of the rules and of the agent, and what they are chosen from.

    Args:
        others: applications that are not served live.
        room: for replicas.
        config: settings of live; its rules, slack and what is tuned of the agent are replaced, its seed goes on by one
            for each application.
        agent: watches the rules; gets to know each application by episodes of the chosen rules.
        tried: settings of rules; those of `settings` if None.
        of_agent: settings of the agent; each of `ALPHAS` with each of `LEAST_CORES` if None.

    Returns:
        JSON-able: `rules`, `alpha` and `least_cores`, the chosen ones; `tried` and `agent`, the `Outcome` of each
        setting of rules and of the agent, with what tells it from others; `applications`, how many.
    """

    def plans(rules: HpaVpaConfig, agent: AgentSetting | None = None) -> list[Plan]:
        settled = replace(config, rules=rules, **({} if agent is None else agent._asdict()))
        return [
            plan(one, room, replace(settled, seed=config.seed + i, slack=slack(one.name)))
            for i, one in enumerate(others)
        ]

    by_rules = [
        (rules, outcome([of.predicted(HPA, agent) for of in plans(rules)]))
        for rules in (settings() if tried is None else tried)
    ]
    best, cost = _fewest(by_rules)
    by_agent = [
        (one, outcome([of.predicted(FLASH, agent, of.known(agent)) for of in plans(best, one)]))
        for one in (starmap(AgentSetting, product(ALPHAS, LEAST_CORES)) if of_agent is None else of_agent)
    ]
    affordable = [(one, what) for one, what in by_agent if what.core_s <= cost.core_s]
    return {
        "rules": vars(best),
        **_fewest(affordable or by_agent)[0]._asdict(),
        "tried": [{**_told(rules), **vars(what)} for rules, what in by_rules],
        "agent": [{**one._asdict(), **vars(what)} for one, what in by_agent],
        "applications": len(others),
    }


def of_chosen(tuned: Mapping[str, Any]) -> dict[str, Any]:
    """What the chosen setting of the agent came to.

    Args:
        tuned: as of `tune`.
    """
    chosen = AgentSetting(tuned["alpha"], tuned["least_cores"])
    return next(one for one in tuned["agent"] if AgentSetting(one["alpha"], one["least_cores"]) == chosen)


def level(tuned: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of what was tried, the setting of fewest violations that takes no more core-seconds than the agent, if any.

    Args:
        tuned: as of `tune`.
    """
    there = [one for one in tuned["tried"] if one["core_s"] <= of_chosen(tuned)["core_s"]]
    return min(there, key=lambda one: (one["violated_s"], one["core_s"]), default=None)


def _fewest(found: Sequence[tuple[T, Outcome]]) -> tuple[T, Outcome]:
    return min(found, key=lambda one: (one[1].violated_s, one[1].core_s))


def _told(rules: HpaVpaConfig) -> dict[str, Any]:
    return {name: getattr(rules, name) for name in ("target", "vertical", "least_cpu_cores")}
