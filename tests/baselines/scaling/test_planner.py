"""The planner: what it promises is what a calm cluster gives, and how it minds its trade-off."""

from __future__ import annotations

import numpy as np
import pytest
from clusters import params, simulator, various

from flashfm.baselines.scaling import Planner, PlannerConfig, Static, StaticConfig, play
from flashfm.tasks.autoscaling import scenario
from flashfm.tasks.autoscaling.simulator import Load, Simulator


def settled(of: Simulator, config: PlannerConfig) -> np.ndarray:
    """Mean rewards of the last ten of thirty steps."""
    of.reset()
    planner = Planner(config)
    planner.reset(of)
    rewards = [of.apply(planner.decide(of.state, of.outcome, of.load.rate_per_s[of.t])).reward for _ in range(30)]
    return np.stack(rewards[-10:]).mean(axis=0)


def test_a_promise_is_kept_in_a_calm_cluster() -> None:
    p = params(4, memory_noise=0.0, slo_s=np.array([0.15, 0.3, 0.6, 2.0]))
    of = Simulator(p, lambda _: Load(np.ones((41, 1)) / p.cpu_s, np.zeros(4)))
    config = PlannerConfig(headroom=1.0, reluctance=0.0)
    got = settled(of, config)
    planner = Planner(config)
    planner.reset(of)
    limits, promised = planner._predicted(of.state, of.load.rate_per_s[0][:, None, None])
    assert got == pytest.approx(promised.reshape(4, -1).max(axis=1), abs=0.04)
    assert limits.memory_mib.shape == promised.shape


def test_more_weight_on_the_slo_buys_more_cores_and_fewer_violations() -> None:
    p = various(24)
    trials = [play(simulator(p, alpha=alpha), Planner(), {}) for alpha in (0.2, 0.5, 0.9)]
    assert trials[0].core_hours < trials[1].core_hours < trials[2].core_hours
    assert trials[0].violations > trials[1].violations > trials[2].violations


def test_reluctance_leaves_limits_alone() -> None:
    p = various(24)
    of = simulator(p)
    for reluctance, most in ((2.0, 0.0), (0.0, np.inf)):
        of.reset()
        planner = Planner(PlannerConfig(reluctance=reluctance))
        planner.reset(of)
        limits = planner.decide(of.state, of.outcome, of.load.rate_per_s[0])
        moved = np.abs(limits.cpu_cores - of.state.cpu_cores) + np.abs(limits.memory_mib - of.state.memory_mib)
        assert moved.max() <= most
        assert (moved > 0).any() == (most > 0)


def test_alpha_may_differ_between_pairs() -> None:
    p, alpha = various(6), np.array([0.1, 0.9, 0.5, 0.5, 0.9, 0.1])
    of = simulator(p, alpha=alpha)
    of.reset()
    planner = Planner()
    planner.reset(of)
    mixed = planner.decide(of.state, of.outcome, of.load.rate_per_s[0])
    for value in (0.1, 0.5, 0.9):
        of.alpha = value
        planner.reset(of)
        plain = planner.decide(of.state, of.outcome, of.load.rate_per_s[0])
        for field, same in zip(mixed, plain, strict=True):
            assert np.array_equal(field[alpha == value], same[alpha == value])


def test_it_beats_what_was_set_once() -> None:
    pairs = scenario.default(0).take(np.arange(0, 1000, 10))
    planned = play(pairs.simulator(seed=3, kind="numpy"), Planner(), {})
    for headroom in (2.0, 4.0, 8.0, 16.0):
        fixed = Static(config=StaticConfig(headroom=headroom))
        assert planned.reward > play(pairs.simulator(seed=3, kind="numpy"), fixed, {}).reward
