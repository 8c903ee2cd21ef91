"""The loop on simulated deployments: what it does when all is well, and the matrix of what may go wrong.

In every case bounds hold, the direction of replicas changes no more often than is stated, every step is kept, and the
deployment ends no worse served than one that nothing happened to.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from rig import STEPS, Rig

from flashfm.act.guardrails import Bounds, GuardConfig, Setting
from flashfm.controller.kept import BEGUN, DONE, FAILED, NOTHING, UNKNOWN
from flashfm.controller.lifecycle import Phase
from flashfm.controller.loop import Stepped
from flashfm.errors import BackendError

Make = Callable[[int], Rig]
PAIR = 2
FEW = Bounds(cpu_cores=(0.2, 2.0), memory_mib=(64.0, 4096.0), replicas=(2, 12), budget_cores=16.0)


def held(rig: Rig, done: list[Stepped]) -> None:
    """What always holds."""
    of = rig.target.bounds
    for stepped in done:
        setting = stepped.decision.setting
        if stepped.decision.change:
            assert setting is not None
            assert of.cpu_cores[0] <= setting.cpu_cores <= of.cpu_cores[1]
            assert of.memory_mib[0] <= setting.memory_mib <= of.memory_mib[1]
            assert of.replicas[0] <= setting.replicas <= of.replicas[1]
            assert of.budget_cores is None or setting.cpu_cores * setting.replicas <= of.budget_cores * (1 + 1e-6)
        assert stepped.decision.why
    for first in range(0, len(done), 120):  # hours
        changed = [
            s.decision.setting.replicas for s in done[first : first + 120] if s.decision.change and s.decision.setting
        ]
        up = [b > a for a, b in itertools.pairwise(changed) if a != b]
        assert sum(a != b for a, b in itertools.pairwise(up)) <= 2 * 3600 / GuardConfig().reversal_s + 2
    kept = rig.store.steps(rig.target.name, STEPS)
    assert [one.n for one in kept] == list(range(len(kept))), "no step is lost"
    assert len(kept) >= len(done)


def broken(done: list[Stepped]) -> float:
    """Share of the steps that broke the objective."""
    return float(np.mean([stepped.decision.violated for stepped in done if stepped.decision.violated is not None]))


def test_a_deployment_is_taken_over_step_by_step_and_served_well(rig: Make) -> None:
    one = rig(PAIR)
    one.target = replace(one.target, acting=False)
    shadow = one.steps(20)
    assert {stepped.status for stepped in shadow} == {NOTHING}
    assert {stepped.decision.phase for stepped in shadow} == {Phase.SHADOW}
    assert {(s.cpu_cores, s.memory_mib, s.replicas) for s in one.samples[1:]} == {one.samples[0].setting()}, "untouched"
    one.target = replace(one.target, acting=True)
    done = one.steps(400)
    phases = [stepped.decision.phase for stepped in done]
    assert phases[0] is Phase.BOOTSTRAP
    assert phases[-1] is Phase.SERVING
    assert {stepped.decision.by for stepped in done[:80]} == {"rules"}
    assert done[-1].decision.by == "agent"
    assert {stepped.status for stepped in done} <= {DONE, NOTHING}
    assert broken(done[200:]) < 0.1
    held(one, done)


def test_bounds_of_the_operator_hold(rig: Make) -> None:
    one = rig(PAIR)
    one.target = replace(one.target, bounds=FEW)
    done = one.steps(300)
    held(one, done)
    assert all(2 <= sample.replicas <= 12 for sample in one.samples[30:] if sample.replicas is not None)
    assert any(stepped.decision.clipped for stepped in done)


def test_a_backend_that_cannot_be_asked_for_five_minutes_changes_nothing(rig: Make) -> None:
    one = rig(PAIR)
    before = one.steps(250)

    def down(_: object) -> None:
        raise BackendError("connection refused")

    one.observing = down  # type: ignore[assignment]
    blind = one.steps(10)
    assert {(stepped.decision.by, stepped.status) for stepped in blind} == {("nobody", NOTHING)}
    assert blind[0].decision.why == "nothing is changed, not observed: connection refused"
    one.observing = lambda sample: sample
    after = one.steps(200)
    assert broken(after[20:]) < 0.1
    held(one, before + blind + after)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"p99_s": float("nan")}, "no number"),
        ({"used_cores": None}, "missing: used_cores"),
        ({"used_cores": 1e9}, "contradiction"),
        ({"replicas": 0, "ready": 0}, "no replica"),
    ],
)
def test_nonsense_from_monitoring_changes_nothing(rig: Make, fault: dict, said: str) -> None:
    one = rig(PAIR)
    before = one.steps(150)
    one.observing = lambda sample: replace(sample, **fault)
    blind = one.steps(10)
    assert all(said in stepped.decision.why and not stepped.decision.change for stepped in blind)
    one.observing = lambda sample: sample
    held(one, before + blind + one.steps(100))


def test_figures_that_are_frozen_change_nothing_after_the_second(rig: Make) -> None:
    one = rig(PAIR)
    before = one.steps(150)
    last = one.samples[-1]
    one.observing = lambda sample: replace(last, time_s=sample.time_s)
    frozen = one.steps(10)
    assert all("frozen" in stepped.decision.why for stepped in frozen[2:])
    one.observing = lambda sample: sample
    held(one, before + frozen + one.steps(100))


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_that_jumps_begins_another_episode_or_waits(rig: Make, jump_s: float) -> None:
    one = rig(PAIR)
    before = one.steps(250)
    one.skew_s = jump_s
    after = one.steps(200)
    assert all(stepped.decision.by == "nobody" for stepped in after[:100]) == (jump_s < 0), (
        "older figures are not believed"
    )
    held(one, before + after)


@pytest.mark.parametrize("fault", ["409 conflict", "429 too many requests", "500 internal error", "timed out"])
def test_what_was_not_done_is_decided_anew(rig: Make, fault: str) -> None:
    one = rig(PAIR)

    def refuse(_: Setting) -> None:
        raise BackendError(fault)

    one.acting = refuse
    failed = one.steps(60)
    assert FAILED in {stepped.status for stepped in failed}
    assert {stepped.detail for stepped in failed if stepped.status == FAILED} == {fault}
    one.acting = lambda _: None
    held(one, failed + one.steps(300))


def test_an_action_that_was_half_done_is_decided_anew_from_what_is_there(rig: Make) -> None:
    one = rig(PAIR)
    before = one.steps(150)

    def half(setting: Setting) -> None:
        now = one.samples[-1].setting()
        one.backend.act(one.target, Setting(now.cpu_cores, now.memory_mib, setting.replicas))
        raise BackendError("replicas were set, limits were not")

    one.acting = half
    middle = one.steps(50)
    one.acting = lambda _: None
    after = one.steps(200)
    assert broken(after[50:]) < 0.1
    held(one, before + middle + after)


def test_a_load_of_twenty_times_as_much_is_met_within_minutes(rig: Make) -> None:
    one = rig(PAIR)
    before = one.steps(250)
    simulator = one.backend._simulators[one.target.name]
    load = simulator.load.rate_per_s
    now = simulator.t + 1
    most = 0.6 * one.scenario.capacity_per_s[0]
    load[now:] = np.minimum(20 * load[now - 5 : now].mean(), most)
    after = one.steps(120)
    cores = [
        s.decision.setting.replicas * s.decision.setting.cpu_cores for s in before[-1:] + after if s.decision.setting
    ]
    assert max(cores[1:]) > 1.5 * cores[0]
    assert broken(after[-40:]) < 0.2, "served again within the hour"
    held(one, before + after)


def test_an_application_that_is_updated_is_got_to_know_anew(rig: Make) -> None:
    one = rig(PAIR)
    before = one.steps(250)
    assert one.loop.keeper(one.target).embedded
    one.observing = lambda sample: replace(sample, image="another")
    after = one.steps(200)
    assert after[0].decision.phase is Phase.BOOTSTRAP
    assert after[0].decision.turned == f"something else runs: another in place of {one.target.name}"
    assert {stepped.decision.by for stepped in after[:99]} == {"rules"}
    assert len(one.store._trajectories(one.target.name)) == 1, "what was lived through before is of another one"
    held(one, before + after)


class Killed(BaseException):
    """Stands for kill -9: nothing after it is run."""


@pytest.mark.parametrize("where", ["before it is kept", "before it is done", "after it is done"])
def test_a_controller_that_is_killed_goes_on_and_repeats_nothing_blindly(rig: Make, where: str) -> None:
    one, whole = rig(PAIR), rig(PAIR)
    one.steps(240)
    whole.steps(240)
    asked: list[Setting] = []

    def killed(*_: object, **__: object) -> int:
        raise Killed

    if where == "before it is kept":
        one.store.begin = killed  # type: ignore[method-assign]
    elif where == "before it is done":
        one.acting = killed  # type: ignore[assignment]
    else:
        one.store.end = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        one.steps(60)
    kept = len(one.store.steps(one.target.name, STEPS))
    one.store.close()
    one.acting = asked.append
    one.begin()
    first = one.steps(1)[0]
    last = one.store.steps(one.target.name, 2)[0]
    assert (last.status == UNKNOWN) == (where != "before it is kept")
    assert len(one.store.steps(one.target.name, STEPS)) == kept + 1
    assert len(asked) == int(first.decision.change), "nothing but the new decision is carried out"
    keeper = one.loop.keeper(one.target)
    assert keeper.embedded
    assert BEGUN not in {step.status for step in one.store.steps(one.target.name, STEPS)}
    # it remembers what one that was never killed does
    whole.steps(len(one.samples) - len(whole.samples))
    other = whole.loop.keeper(whole.target)
    assert keeper.life.phase is other.life.phase
    np.testing.assert_allclose(keeper.buffer.embedding, other.buffer.embedding, atol=1e-5)
    held(one, one.steps(60))


def test_the_loop_runs_until_it_is_told_to_stop_and_forgets_what_is_gone(rig: Make) -> None:
    one, stop, seen = rig(PAIR), threading.Event(), []

    def on_step(stepped: Stepped) -> None:
        seen.append(stepped)
        if len(seen) == 5:
            stop.set()

    there = [one.target]
    one.loop.run(lambda: there, period_s=0.01, stop=stop, on_step=on_step)
    assert len(seen) == 5
    stop.clear()
    there.clear()
    threading.Timer(0.2, stop.set).start()
    one.loop.run(lambda: there, period_s=0.01, stop=stop)
    assert not one.loop._keepers
