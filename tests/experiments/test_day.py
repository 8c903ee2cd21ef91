"""A day of one application: both arms meet the same load, and what is out of bounds is told."""

from __future__ import annotations

import numpy as np
import pytest

from flashfm.adapt.agent import FlashAgent
from flashfm.errors import ModelError
from flashfm.experiments.day import simulate, unseen


@pytest.fixture(scope="module")
def agent() -> FlashAgent:
    return FlashAgent.from_pretrained("autoscaling")


def test_both_arms_meet_the_same_load_and_a_seed_decides(agent: FlashAgent) -> None:
    app = unseen().apps[7]
    name, slo_s, days = simulate(agent, app, hours=1.0)
    assert (name, list(days)) == (app, ["FLASH", "HPA + VPA"])
    assert slo_s > 0
    ours, theirs = days.values()
    np.testing.assert_array_equal(ours.rate_per_s, theirs.rate_per_s)
    assert len(ours.rate_per_s) == 120
    assert not np.array_equal(ours.cores, theirs.cores)
    again = simulate(agent, app, hours=1.0)[2]["FLASH"]
    np.testing.assert_array_equal(again.reward, ours.reward)
    assert not np.array_equal(simulate(agent, app, hours=1.0, seed=1)[2]["FLASH"].rate_per_s, ours.rate_per_s)


def test_a_summary_adds_up_what_was_reserved(agent: FlashAgent) -> None:
    day = simulate(agent, hours=0.5, warm_ups=0)[2]["FLASH"]
    told = day.summary()
    assert told["core_hours"] == pytest.approx(day.cores.mean() * 0.5)
    assert told["gib_hours"] == pytest.approx(day.memory_mib.mean() / 1024 * 0.5)
    assert told["violations"] == pytest.approx(np.mean(day.violated > 0))


def test_warm_ups_change_what_the_agent_does(agent: FlashAgent) -> None:
    none, some = (simulate(agent, hours=0.5, warm_ups=n)[2]["FLASH"] for n in (0, 2))
    assert not np.array_equal(none.cores, some.cores)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"alpha": 1.5}, "expected the weight of the SLO"),
        ({"alpha": float("nan")}, "expected the weight of the SLO"),
        ({"hours": 0.0}, "expected 0.00833 to 168"),
        ({"hours": 1000.0}, "expected 0.00833 to 168"),
        ({"warm_ups": 4}, "expected 0 to 3"),
        ({"app": "nothing-like-it"}, "no unseen application 'nothing-like-it'"),
    ],
)
def test_what_is_out_of_bounds_is_told(agent: FlashAgent, wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        simulate(agent, **wrong)  # type: ignore[arg-type]
