"""What the simulator says of an arm: the dynamics' own figures, whatever the length of a step."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flashfm.act.autoscale import Terms
from flashfm.act.guardrails import Setting
from flashfm.adapt.agent import FlashAgent
from flashfm.controller import twin
from flashfm.controller.arms import Arm
from flashfm.controller.keeper import Keeper, Target
from flashfm.controller.predicted import predict
from flashfm.controller.rules import SAFE
from flashfm.controller.twin import Room
from flashfm.tasks.autoscaling.calibration import ApplicationCosts
from flashfm.tasks.autoscaling.serving import service_time_s

COSTS = ApplicationCosts("app", 0.02, 0.005, 1.5, 40.0, 0.1)
ROOM = Room(frozenset({1}), frozenset({0}), 2048.0)
SLO_S = 0.2
FIRST = Setting(0.5, 128.0, 1)
"""Serves 25 requests a second."""


def played(agent: FlashAgent, rates: np.ndarray, period_s: float, *, acting: bool = False, warm_steps: int = 0) -> Arm:
    params = twin.parameters(COSTS, ROOM, slo_s=SLO_S, timeout_s=10.0, concurrency=4, start_steps=1)
    target = Target("app/HPA + VPA", Terms(SLO_S, 0.7, ROOM.nodes), ROOM.bounds, acting=acting)
    keeper = Keeper(target, agent, twin.rules_only(SAFE))
    return predict(keeper, params, FIRST, rates, period_s=period_s, warm_steps=warm_steps)


def test_a_load_that_fits_is_served_as_the_dynamics_say(agent: FlashAgent) -> None:
    arm = played(agent, np.full(5, 2.0), 10.0)
    assert arm.violated.sum() == arm.failed.sum() == arm.kills == 0
    alone_s = 0.02 + 0.005
    assert (arm.p99_s > alone_s).all()
    assert (arm.p99_s < SLO_S).all()
    assert arm.core_s == pytest.approx(5 * 10.0 * 0.5)
    assert arm.gib_s == pytest.approx(5 * 10.0 * 0.125)
    assert arm.sent.tolist() == [20.0] * 5
    assert arm.summary()["p99_s"] is None
    assert arm.summary()["median_p99_s"] == pytest.approx(float(np.median(arm.p99_s)))
    assert math.isfinite(arm.rows()[-1]["p99_s"])


def test_what_waits_does_not_depend_on_the_length_of_a_step(agent: FlashAgent) -> None:
    """Nobody acts on 6 s of 30 requests a second, 5 more than are served, in two steps or in six."""
    params = twin.parameters(COSTS, ROOM, slo_s=SLO_S, timeout_s=10.0, concurrency=4, start_steps=1)
    each_s = float(service_time_s(params, np.array([0.5]), 1.0)[0])
    assert each_s == pytest.approx(0.045)
    short, long = (played(agent, np.full(n, 30.0), 6.0 / n) for n in (6, 2))
    # the last steps end with 30 requests waiting; halfway through a step there are 5 x half its length fewer
    waited = [float(of.p99_s[-1]) for of in (short, long)]
    assert waited[0] - waited[1] == pytest.approx(2 * 5 * (3 - 1) / 2 / 25, rel=0.01)
    assert short.violated.all()
    assert short.failed.sum() == long.failed.sum() == 0


def test_rules_act_on_what_they_see_and_warm_steps_do_not_count(agent: FlashAgent) -> None:
    rates = 22.0 + 0.1 * np.arange(12)  # figures that repeat themselves are not acted on
    idle, acted = played(agent, rates, 10.0), played(agent, rates, 10.0, acting=True)
    assert idle.cores.tolist() == [0.5] * 12
    assert acted.cores.max() > 0.9
    assert acted.cores.max() <= ROOM.cores + 1e-6
    assert acted.violated.sum() < idle.violated.sum()
    assert acted.summary()["acted"].keys() == {"rules"}
    late = played(agent, rates, 10.0, acting=True, warm_steps=4)
    np.testing.assert_array_equal(late.p99_s, acted.p99_s[4:])
    assert late.core_s == pytest.approx(float(acted.cores[4:].sum()) * 10.0)
    assert len(late.decisions) == 8
