"""Both live arms tuned alike on other applications: what is tried, what is chosen, and what it is held against."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from flashfm.adapt.agent import FlashAgent
from flashfm.baselines.scaling import HpaVpaConfig
from flashfm.controller.arms import FLASH, HPA
from flashfm.controller.live_config import LiveConfig
from flashfm.controller.twin import Room
from flashfm.experiments.live import fitting
from flashfm.experiments.live_tuning import SLACK, AgentSetting, level, of_chosen, plan, settings, slack, tune
from flashfm.tasks.autoscaling.calibration import ApplicationCosts
from flashfm.tasks.autoscaling.loads import MEAN_SHARE
from flashfm.tasks.autoscaling.scenario import default, split

ROOM = Room(frozenset({0, 1}), frozenset({0, 1}), 8192.0, 1 / 16)
CONFIG = LiveConfig(steps=20, period_s=2.5, core=1 / 16, mean_share=0.2)


@pytest.fixture(scope="module")
def others() -> list[ApplicationCosts]:
    return fitting(split(default(0))[0].apps)[:3]


def test_objectives_are_spread_as_those_of_pretraining_and_always_the_same() -> None:
    drawn = np.array([slack(f"app-{i}") for i in range(400)])
    assert drawn.min() >= SLACK[0]
    assert drawn.max() <= SLACK[1]
    assert np.median(drawn) == pytest.approx(np.sqrt(SLACK[0] * SLACK[1]), rel=0.2)
    assert slack("app-3") == drawn[3]


def test_loads_and_objectives_are_such_as_pretraining_has() -> None:
    """What `SLACK` and `SideBySideConfig.mean_share` say of pretraining's pairs."""
    pairs = split(default(0))[0]
    p = pairs.params
    alone_s = p.cpu_s / (p.node_speed * (1 - p.neighbours)) + p.wait_s
    over = p.slo_s / alone_s
    assert np.mean((over >= SLACK[0]) & (over <= SLACK[1])) == pytest.approx(0.75, abs=0.03)
    share = pairs.loads.mean_per_s / pairs.capacity_per_s
    assert np.median(share) == pytest.approx(0.09, abs=0.005)
    assert share.max() == pytest.approx(MEAN_SHARE)


def test_what_is_tried_differs_and_a_plan_counts_slow_cores(others: list[ApplicationCosts]) -> None:
    tried = settings((0.2, 0.5), (0.5, 1.0))
    assert len(set(map(repr, tried))) == len(tried) == 2 + 4
    for one in others:
        made = plan(one, ROOM, CONFIG)
        assert made.params.cpu_s.tolist() == [pytest.approx(16 * one.cpu_s)]
        assert made.params.node_cores.tolist() == [28.0]
        assert made.params.start_steps.tolist() == [3.0]
        assert made.terms.slo_s == pytest.approx(CONFIG.slack * (16 * one.cpu_s + one.wait_s))
        assert made.rates.shape == (CONFIG.steps,)
        assert made.params.concurrency[0] >= 4
    assert CONFIG.mean_share < MEAN_SHARE


def test_the_agent_has_its_least_limit_and_rules_have_not(others: list[ApplicationCosts]) -> None:
    agent = FlashAgent.from_pretrained("autoscaling")
    made = plan(others[0], ROOM, replace(CONFIG, least_cores=0.75))
    assert made.target(HPA).bounds == ROOM.bounds
    assert made.target(FLASH).bounds == replace(ROOM.bounds, cpu_cores=(0.75, ROOM.bounds.cpu_cores[1]))
    arm = made.predicted(FLASH, agent, made.known(agent))
    each = arm.cores / arm.replicas
    assert each[:2].min() >= made.setting.cpu_cores - 1e-9
    assert each[2:].min() >= 0.75 - 1e-9


def test_a_room_with_less_than_the_least_limit_gives_all_that_it_has(others: list[ApplicationCosts]) -> None:
    small = replace(ROOM, replica_cpus=frozenset({0}), core=0.5)
    made = plan(others[0], small, replace(CONFIG, core=0.5, least_cores=4.0))
    assert made.target(FLASH).bounds.cpu_cores == (small.cores, small.cores) == (1.5, 1.5)


def test_of_rules_the_fewest_violations_are_taken_and_of_the_agent_those_that_cost_no_more(
    others: list[ApplicationCosts],
) -> None:
    agent = FlashAgent.from_pretrained("autoscaling")
    of_agent = [AgentSetting(0.3, 0.1), AgentSetting(0.9, 2.0)]
    found = tune(others, ROOM, CONFIG, agent, settings((0.3, 0.7), (1.0,)), of_agent)
    assert json.loads(json.dumps(found)) == found
    assert (len(found["tried"]), found["applications"]) == (4, 3)
    best = min(found["tried"], key=lambda one: (one["violated_s"], one["core_s"]))
    rules = HpaVpaConfig(**found["rules"])
    assert (rules.target, rules.vertical) == (best["target"], best["vertical"])
    assert [AgentSetting(one["alpha"], one["least_cores"]) for one in found["agent"]] == of_agent
    affordable = [one for one in found["agent"] if one["core_s"] <= best["core_s"]]
    assert 0 < len(affordable) < len(of_agent), "the bound decides"
    assert of_chosen(found) == min(affordable, key=lambda one: (one["violated_s"], one["core_s"]))
    again = plan(others[0], ROOM, CONFIG).predicted(HPA, agent)
    assert again.core_s == plan(others[0], ROOM, CONFIG).predicted(HPA, agent).core_s, "the same each time"


def test_the_rival_at_no_more_core_seconds_is_the_best_of_those_that_take_no_more() -> None:
    tried = [
        {"target": 0.1, "violated_s": 1.0, "core_s": 300.0},
        {"target": 0.3, "violated_s": 7.0, "core_s": 150.0},
        {"target": 0.5, "violated_s": 9.0, "core_s": 100.0},
    ]
    agent = [{"alpha": 0.5, "least_cores": least, "core_s": core_s} for least, core_s in ((0.1, 90.0), (1.0, 150.0))]
    assert level({"tried": tried, "agent": agent, "alpha": 0.5, "least_cores": 1.0}) == tried[1]
    assert level({"tried": tried, "agent": agent, "alpha": 0.5, "least_cores": 0.1}) is None
