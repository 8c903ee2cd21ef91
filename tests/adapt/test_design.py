"""Which configuration to measure next, against brute force."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.adapt.design import designed_shots, expected_improvement, most_informative
from flashfm.models.hierarchical_gp import HierarchicalGP

NOISE = 0.01


def covariance(seed: int, n: int = 6) -> np.ndarray:
    factor = np.random.default_rng(seed).normal(size=(n, 3))
    return factor @ factor.T + 0.05 * np.eye(n)


def after(prior: np.ndarray, at: int) -> np.ndarray:
    """Covariance after a measurement, by the inverse of the joint precision."""
    precision = np.linalg.inv(prior)
    precision[at, at] += 1 / NOISE
    return np.linalg.inv(precision)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.sets(st.integers(0, 5), min_size=1), st.sets(st.integers(0, 5), min_size=1))
def test_the_most_informative_leaves_the_least_variance(seed: int, may: set[int], matter: set[int]) -> None:
    prior, candidates, asked = covariance(seed), np.array(sorted(may)), np.array(sorted(matter))
    best, before, left = most_informative(prior, NOISE, candidates, asked)
    remaining = {c: float(np.diag(after(prior, c))[asked].sum()) for c in may}
    assert best in may
    assert remaining[best] == pytest.approx(min(remaining.values()), rel=1e-9)
    assert before == pytest.approx(np.sqrt(np.diag(prior)[asked]).mean())
    assert left == pytest.approx(np.sqrt(np.diag(after(prior, best))[asked]).mean(), rel=1e-6)
    assert left <= before


def process(prior: np.ndarray) -> HierarchicalGP:
    """Only what the design reads."""
    return cast(Any, SimpleNamespace(covariance=prior, mean=np.zeros(len(prior)), noise=NOISE))


@pytest.fixture(autouse=True)
def stand_ins() -> Any:
    """Lets stand-ins through the type checks of tests."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 8))
def test_designed_shots_are_distinct_and_each_is_the_best_after_those_before(seed: int, n: int) -> None:
    prior = covariance(seed)
    chosen = designed_shots(process(prior), np.ones((4, 6)), n)
    assert len(chosen) == len(set(chosen)) == min(n, 6)
    now = prior
    for i, at in enumerate(chosen):
        left = [c for c in range(6) if c not in chosen[:i]]
        sums = {c: float(np.trace(after(now, c))) for c in left}
        assert sums[at] == pytest.approx(min(sums.values()), rel=1e-6)
        now = after(now, at)


def test_designs_are_nested() -> None:
    full = designed_shots(process(covariance(3)), np.ones((4, 6)), 6)
    assert all(designed_shots(process(covariance(3)), np.ones((4, 6)), n) == full[:n] for n in range(6))


def test_configurations_that_few_pairs_worked_in_are_not_designed() -> None:
    observed = np.ones((40, 6))
    observed[:3, 2] = 0
    observed[:, 5] = 0
    chosen = designed_shots(process(covariance(1)), observed, 6)
    assert set(chosen) == {0, 1, 3, 4}


def test_where_none_worked_for_most_the_most_tried_ones_are_designed() -> None:
    observed = np.zeros((10, 6))
    observed[:5, 1] = observed[:5, 4] = observed[:2, 0] = 1
    assert set(designed_shots(process(covariance(1)), observed, 6)) == {1, 4}


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (1.0, 0.5), (-2.0, 1.0), (3.0, 0.1)])
def test_expected_improvement_is_that_of_draws(mean: float, deviation: float) -> None:
    draws = np.random.default_rng(0).normal(mean, deviation, 400_000)
    found = expected_improvement(np.array([mean]), np.array([deviation**2]), 0.5)
    assert found[0] == pytest.approx(np.maximum(0.5 - draws, 0).mean(), abs=0.005)


@given(st.floats(-5, 5), st.floats(0, 4), st.floats(-5, 5))
def test_expected_improvement_is_at_least_that_of_the_mean(mean: float, variance: float, best: float) -> None:
    found = expected_improvement(np.array([mean]), np.array([variance]), best)[0]
    assert found >= max(best - mean - 1e-9, 0)
