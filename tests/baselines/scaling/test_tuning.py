"""Tuning: the same effort for all, the same result each time, and objectives that pick what they say."""

from __future__ import annotations

import numpy as np
import pytest
from clusters import params, simulator, various

from flashfm.baselines.scaling import GRIDS, Static, Trial, by_reward, by_violations, play, tune
from flashfm.baselines.scaling.tuning import settings
from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.dynamics import Limits

GRID = {"headroom": (1.5, 4.0), "memory_headroom": (1.1, 1.5)}


def trial(violations: float, cores: float) -> Trial:
    return Trial({}, 0.5, violations, cores, 1.0, 0.0)


def test_every_controller_gets_the_same_effort() -> None:
    assert {name: len(settings(grid)) for name, (_, grid) in GRIDS.items()} == dict.fromkeys(GRIDS, 24)


@pytest.mark.parametrize("name", GRIDS)
def test_every_setting_makes_a_controller_that_plays(name: str) -> None:
    make, grid = GRIDS[name]
    for setting in settings(grid)[::11]:
        assert 0 < play(simulator(params(2), steps=3), make(**setting), setting).reward < 1


def test_trials_come_best_first_and_again_the_same() -> None:
    make, told = GRIDS["static"][0], []
    found = [
        tune(make, GRID, lambda alpha: simulator(various(12), alpha=alpha), 0.5, on_trial=lambda *at: told.append(at))
        for _ in range(2)
    ]
    assert found[0] == found[1]
    rewards = [one.reward for one in found[0]]
    assert rewards == sorted(rewards, reverse=True)
    assert sorted(map(str, settings(GRID))) == sorted(str(one.setting) for one in found[0])
    assert told[:4] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_objective_decides() -> None:
    make = GRIDS["static"][0]
    best = {
        objective: tune(make, GRID, lambda alpha: simulator(various(12), alpha=alpha), 0.1, objective=objective)[0]
        for objective in (by_reward, by_violations(100.0))
    }
    spare, safe = best.values()
    assert spare.reward > safe.reward
    assert safe.violations < spare.violations


def test_violations_are_compared_within_the_budget_of_cores() -> None:
    ranked = sorted(
        [trial(0.1, 9.0), trial(0.3, 3.0), trial(0.2, 5.0), trial(0.0, 7.0)], key=by_violations(5.0), reverse=True
    )
    assert [(one.violations, one.core_hours) for one in ranked] == [(0.2, 5), (0.3, 3), (0.0, 7), (0.1, 9)]


def test_a_trial_is_the_mean_over_steps_of_all_episodes() -> None:
    limits = Limits(np.full(2, 3.0), np.full(2, 2048.0), np.array([3.0, 5.0]))
    done = play(simulator(params(2), steps=10, burst=1.0), Static(limits), {"a": 1}, episodes=2)
    assert done.setting == {"a": 1}
    assert done.core_hours == pytest.approx(3.0 * 4)
    assert done.gib_hours == pytest.approx(2.0 * 4)
    assert done.violations == done.restarts == 0
    starved = Limits(np.full(2, 0.1), np.full(2, 2048.0), np.ones(2))
    assert play(simulator(params(2), steps=10), Static(starved), {}).violations == 1


def test_refusals() -> None:
    def none(alpha: float) -> None:
        pytest.fail("must not be asked")

    with pytest.raises(ModelError, match=r"alpha .* \[0, 1\], got 1.5"):
        tune(Static, GRID, none, 1.5)
    with pytest.raises(ModelError, match="no settings"):
        tune(Static, {"headroom": ()}, none, 0.5)
    with pytest.raises(ModelError, match="at least one episode, got 0"):
        play(simulator(params(1)), Static(), {}, episodes=0)
