"""A day of one application: both arms meet the same load, the agent gets to know it, and wrong calls are told."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flashfm.adapt.agent import FlashAgent
from flashfm.datasets.rate_trace import RateTrace
from flashfm.errors import DataError, ModelError
from flashfm.experiments.day import TYPICAL, Simulated, simulate, unseen
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS


@pytest.fixture(scope="module")
def agent() -> FlashAgent:
    return FlashAgent.from_pretrained("autoscaling")


@pytest.fixture(scope="module")
def long(agent: FlashAgent) -> Simulated:
    """Two episodes and a half."""
    return simulate(agent, hours=2.5 * EPISODE_STEPS / 120)


def test_both_arms_meet_the_same_load_and_a_seed_decides(agent: FlashAgent) -> None:
    app = unseen().apps[7]
    done = simulate(agent, app, hours=0.25)
    assert (done.app, list(done.days), done.load) == (app, ["FLASH", "HPA + VPA"], "generated")
    ours, theirs = done.days.values()
    np.testing.assert_array_equal(ours.rate_per_s, theirs.rate_per_s)
    assert len(ours.rate_per_s) == len(done.decisions) == 30
    assert not np.array_equal(ours.cores, theirs.cores)
    again = simulate(agent, app, hours=0.25).days["FLASH"]
    np.testing.assert_array_equal(again.reward, ours.reward)
    assert not np.array_equal(simulate(agent, app, hours=0.25, seed=1).days["FLASH"].rate_per_s, ours.rate_per_s)


def test_a_summary_adds_up_what_was_reserved(long: Simulated) -> None:
    day = long.days["FLASH"]
    hours, told = len(day.cores) / 120, day.summary()
    assert told["core_hours"] == pytest.approx(day.cores.mean() * hours)
    assert told["gib_hours"] == pytest.approx(day.memory_mib.mean() / 1024 * hours)
    assert told["violations"] == pytest.approx(np.mean(day.violated > 0))


def test_what_is_decided_is_what_is_done(long: Simulated) -> None:
    done = np.array([decision.replicas for decision in long.decisions])
    np.testing.assert_array_equal(done, long.days["FLASH"].replicas)
    assert long.changes[0] == 0
    changed = np.flatnonzero(np.diff(done)) + 1
    assert {*changed.tolist()} <= {*long.changes}
    assert long.summary() == {"decisions": len(done), "changes": len(long.changes), "held": 0, "embedded": 2}


def test_the_agent_embeds_the_application_after_each_episode(agent: FlashAgent, long: Simulated) -> None:
    assert long.embedded == (EPISODE_STEPS, 2 * EPISODE_STEPS)
    assert simulate(agent, hours=EPISODE_STEPS / 120).embedded == ()
    warm = simulate(agent, hours=0.25, warm_ups=1)
    assert warm.embedded == (0,)
    assert not np.array_equal(warm.days["FLASH"].cores, long.days["FLASH"].cores[:30])


def test_an_objective_of_ones_own_decides_what_is_missed(agent: FlashAgent) -> None:
    loose, tight = (simulate(agent, hours=0.25, slo_s=slo).days["FLASH"] for slo in (60.0, 0.001))
    assert loose.violated.mean() < tight.violated.mean() == 1.0


def test_a_trace_is_replayed_from_its_first_gapless_window_on(agent: FlashAgent) -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(500, 200)
    counts[10:40] = 0
    done = simulate(agent, hours=0.5, trace=RateTrace("mine", counts, 30.0))
    rate = done.days["FLASH"].rate_per_s
    np.testing.assert_array_equal(rate, done.days["HPA + VPA"].rate_per_s)
    # bin 40 is what came before the first decision
    np.testing.assert_allclose(rate / rate.mean(), counts[41:101] / counts[41:101].mean(), rtol=1e-5)
    assert done.load.startswith("trace mine from 0.342 h on, its mean of 16.")
    own = unseen().loads.mean_per_s[unseen().apps.index(TYPICAL)]
    assert rate.mean() == pytest.approx(own, rel=0.01)
    assert done.load.endswith(f"scaled to {own:.3g}, the application's own")


def test_a_trace_of_exactly_the_hours_is_long_enough(agent: FlashAgent) -> None:
    fine = RateTrace("mine", np.arange(1, 1801), 1.0)
    rate = simulate(agent, hours=0.5, trace=fine).days["FLASH"].rate_per_s
    assert len(rate) == 60
    assert rate[-1] / rate[0] == pytest.approx((1771 + 1800) / (1 + 30), rel=1e-4)


def test_a_trace_that_nobody_could_serve_is_scaled_to_less(agent: FlashAgent) -> None:
    counts = np.full(60, 100)
    counts[30] = 100_000
    done = simulate(agent, hours=0.5, trace=RateTrace("spike", counts, 30.0))
    assert "the most that all of it can be served at" in done.load


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"alpha": 1.5}, "expected the weight of the SLO"),
        ({"alpha": math.nan}, "expected the weight of the SLO"),
        ({"slo_s": 0.0}, "SLO: 0 s; expected seconds above 0"),
        ({"slo_s": math.nan}, "SLO: nan s"),
        ({"hours": 0.0}, "expected 0.00833 to 168"),
        ({"hours": 1000.0}, "expected 0.00833 to 168"),
        ({"warm_ups": 4}, "expected 0 to 3"),
        ({"app": "nothing-like-it"}, "no unseen application 'nothing-like-it'"),
    ],
)
def test_what_is_out_of_bounds_is_told(agent: FlashAgent, wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        simulate(agent, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("counts", "bin_s", "words"),
    [
        (np.ones(59, np.int64), 30.0, "trace 'mine' lasts 0.492 hours; expected at least the 0.5 that are simulated"),
        (np.ones(100, np.int64), 45.0, "bins of 45 s, expected up to 30 s or a multiple"),
        (np.tile([200] * 30 + [0] * 30, 3), 30.0, "none of its .* windows of 61 x 30 s can be replayed"),
        (np.array([1] + [0] * 99), 30.0, "hold fewer requests than bins"),
    ],
)
def test_a_trace_that_cannot_be_replayed_is_told(
    agent: FlashAgent, counts: np.ndarray, bin_s: float, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        simulate(agent, hours=0.5, trace=RateTrace("mine", counts, bin_s))
