"""Guardrails: what always holds whatever is wanted, what each of them does, and what is said of it."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.act.guardrails import NEVER, Bounds, GuardConfig, InUse, Past, Setting, guard
from flashfm.errors import ModelError

NOW = Setting(1.0, 512.0, 4)
IDLE = InUse(0.1, 50.0)

anything = st.floats(allow_nan=True, allow_infinity=True)
wild = st.builds(Setting, anything, anything, st.integers(-1000, 100_000))
limits = st.tuples(st.floats(0.1, 4.0), st.floats(64.0, 15_360.0))
there = st.builds(Setting, st.floats(0.1, 4.0), st.floats(64.0, 15_360.0), st.integers(1, 32))
usage = st.builds(InUse, st.floats(0.0, 200.0), st.floats(0.0, 20_000.0), st.booleans())


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    def pair(low: float, high: float) -> tuple[float, float]:
        a, b = draw(st.floats(low, high)), draw(st.floats(low, high))
        return min(a, b), max(a, b)

    counts = sorted(draw(st.tuples(st.integers(1, 32), st.integers(1, 32))))
    cpu, memory = pair(0.1, 4.0), pair(64.0, 15_360.0)
    room = st.floats(1.0, 50.0)
    return Bounds(
        cpu,
        memory,
        (counts[0], counts[1]),
        draw(st.none() | room.map(lambda of: of * cpu[0] * counts[0])),
        draw(st.none() | room.map(lambda of: of * memory[0] * counts[0])),
    )


@given(wild, there, usage, bounds(), st.floats(0, 1e6), st.floats(0, 1e6))
@settings(max_examples=500)
def test_bounds_and_budget_hold_whatever_is_wanted(
    wanted: Setting, now: Setting, used: InUse, of: Bounds, time_s: float, changed_s: float
) -> None:
    done = guard(wanted, now, used, Past(changed_s, changed_s), time_s, bounds=of).setting
    assert of.cpu_cores[0] <= done.cpu_cores <= of.cpu_cores[1]
    assert of.memory_mib[0] <= done.memory_mib <= of.memory_mib[1]
    assert of.replicas[0] <= done.replicas <= of.replicas[1]
    assert isinstance(done.replicas, int)
    for budget, each in ((of.budget_cores, done.cpu_cores), (of.budget_mib, done.memory_mib)):
        assert budget is None or done.replicas * each <= budget * (1 + 1e-5)


@given(wild, there, usage, st.floats(0, 1e6), st.floats(0, 1e6))
@settings(max_examples=300)
def test_within_wide_bounds_memory_stays_above_its_use_and_nothing_leaps(
    wanted: Setting, now: Setting, used: InUse, time_s: float, changed_s: float
) -> None:
    done = guard(wanted, now, used, Past(changed_s, changed_s), time_s).setting
    assert done.memory_mib >= min(1.15 * used.memory_mib, 15_360.0)
    assert now.cpu_cores / 2 * (1 - 1e-9) <= done.cpu_cores <= now.cpu_cores * 2
    assert done.replicas <= now.replicas + max(4, now.replicas)
    assert done.replicas >= now.replicas // 2
    cores = done.replicas * done.cpu_cores
    assert cores >= min(used.cores, now.replicas * done.cpu_cores, 32 * done.cpu_cores) * (1 - 1e-5)


@given(st.lists(st.integers(1, 32), min_size=120, max_size=120))
def test_direction_changes_in_an_hour_are_bounded(wanted: list[int]) -> None:
    now, past, directions = Setting(1.0, 512.0, 8), Past(), []
    for step, replicas in enumerate(wanted):  # an hour of steps of 30 s
        done = guard(Setting(1.0, 512.0, replicas), now, IDLE, past, 30.0 * step)
        if done.setting.replicas != now.replicas:
            directions.append(done.setting.replicas > now.replicas)
        now, past = done.setting, done.past
    changes = sum(a != b for a, b in itertools.pairwise(directions))
    assert changes <= 2 * 3600 / GuardConfig().reversal_s + 2


def test_what_is_allowed_is_done_and_nothing_is_said() -> None:
    wanted = Setting(1.5, 700.0, 6)
    done = guard(wanted, NOW, IDLE, Past(), 1000.0)
    assert done.setting == wanted
    assert done.clipped == ()
    assert done.past == Past(1000.0, 1000.0)


def test_limits_rest_for_a_while_and_replicas_make_up_for_it() -> None:
    past = Past(limits_s=900.0)
    done = guard(Setting(2.0, 512.0, 2), NOW, IDLE, past, 1000.0)
    assert done.setting == NOW, "two replicas of two cores would be four of one"
    assert done.clipped == ("limits were changed 100 s ago and stay for 300 s",)
    assert done.past == past
    later = guard(Setting(2.0, 512.0, 2), NOW, IDLE, past, 1200.0)
    assert later.setting == Setting(2.0, 512.0, 2)
    assert later.past.limits_s == 1200.0


def test_memory_that_runs_out_is_given_at_once() -> None:
    past = Past(limits_s=990.0)
    starved = guard(Setting(1.0, 900.0, 4), NOW, InUse(0.1, 512.0, killed=True), past, 1000.0)
    assert starved.setting.memory_mib == 900.0
    assert guard(Setting(1.0, 900.0, 4), NOW, IDLE, past, 1000.0).setting.memory_mib == 512.0


def test_replicas_that_were_just_added_stay() -> None:
    grown = Past(grown_s=0.0)
    done = guard(Setting(1.0, 512.0, 2), NOW, IDLE, grown, 599.0)
    assert done.setting.replicas == 4
    assert done.clipped == ("replicas were added 599 s ago and stay for 600 s",)
    assert guard(Setting(1.0, 512.0, 2), NOW, IDLE, grown, 600.0).setting.replicas == 2


@pytest.mark.parametrize(
    ("wanted", "used", "expected", "said"),
    [
        (Setting(1.0, 512.0, 30), IDLE, Setting(1.0, 512.0, 8), "4 replicas at most are added in one step"),
        (Setting(1.0, 512.0, 1), IDLE, Setting(1.0, 512.0, 2), "50 % of the replicas at most go in one step"),
        (Setting(1.0, 512.0, 2), InUse(2.7, 50.0), Setting(1.0, 512.0, 3), "2.7 cores are in use, which takes 3"),
        (Setting(1.0, 100.0, 4), InUse(0.1, 400.0), Setting(1.0, 460.0, 4), "1.15 times the 400 MiB in use"),
        (Setting(4.0, 512.0, 4), IDLE, Setting(2.0, 512.0, 8), "CPU limits change 2-fold at most in one step"),
        (Setting(math.nan, 512.0, 4), IDLE, NOW, "what was decided is no number"),
    ],
)  # fmt: skip
def test_each_rail_says_what_it_did(wanted: Setting, used: InUse, expected: Setting, said: str) -> None:
    done = guard(wanted, NOW, used, Past(), 1000.0)
    assert done.setting == pytest.approx(expected)
    assert any(said in one for one in done.clipped), done.clipped


def test_bounds_and_budget_say_so() -> None:
    done = guard(Setting(1.0, 512.0, 8), NOW, IDLE, Past(), 0.0, bounds=Bounds(replicas=(1, 6), budget_cores=5.0))
    assert done.setting == Setting(1.0, 512.0, 5)
    assert done.clipped == (
        "8 replicas are outside the bounds of 1 to 6",
        "the budget of 5 cores has room for 5 replicas",
    )


def test_within_a_budget_larger_limits_do_not_cost_replicas_that_were_just_added() -> None:
    tight, wanted = Bounds(budget_cores=4.0), Setting(2.0, 512.0, 2)
    soon = guard(wanted, NOW, IDLE, Past(grown_s=900.0), 1000.0, bounds=tight)
    assert soon.setting == NOW
    assert "larger CPU limits would cost replicas that were added 100 s ago" in soon.clipped
    assert guard(wanted, NOW, IDLE, Past(), 1000.0, bounds=tight).setting == wanted


def test_a_clock_that_goes_back_frees_nothing_and_stops_nothing_for_good() -> None:
    done = guard(Setting(2.0, 512.0, 2), NOW, IDLE, Past(5000.0, 5000.0), 1000.0)
    assert done.setting == NOW
    assert done.past == Past(1000.0, 1000.0)
    assert guard(Setting(2.0, 512.0, 2), NOW, IDLE, done.past, 1700.0).setting == Setting(2.0, 512.0, 2)


def test_what_is_remembered_survives_json() -> None:
    for past in (Past(), Past(3.5, 4.5), Past(grown_s=1.0)):
        assert Past.from_dict(past.to_dict()) == past
    assert Past().to_dict() == {"limits_s": None, "grown_s": None}
    assert Past().grown_s == NEVER


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicas": (0, 4)},
        {"replicas": (5, 4)},
        {"cpu_cores": (0.5, 8.0)},
        {"memory_mib": (math.nan, 512.0)},
        {"budget_cores": 0.05},
        {"budget_mib": math.nan},
    ],
)
def test_bounds_that_make_no_sense_are_one_line(wrong: dict) -> None:
    with pytest.raises(ModelError, match=r"^bounds: .*; expected"):
        Bounds(**wrong)


@pytest.mark.parametrize("wrong", [{"largest_change": 1.0}, {"reversal_s": 0.0}, {"most_removed": 0.0}])
def test_guardrails_that_guard_nothing_are_one_line(wrong: dict) -> None:
    with pytest.raises(ModelError, match="guardrails: "):
        GuardConfig(**wrong)
