"""The hierarchical process: conditioning against the dense formula, and what a fit finds of a known truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.models import hierarchical_gp
from flashfm.models.hierarchical_gp import HierarchicalGP, Kernel, PriorConfig
from flashfm.tasks.config_search import Observations

NONE = np.empty((0, 2), dtype=np.int64)
NOISE = 0.05**2


def kernel(features: int = 1, noise: float = NOISE) -> Kernel:
    """Level of deviation 0.8, slopes of 0.4, and a smooth rest of 0.2."""
    basis = 1 + features
    return Kernel(
        slope_variance=np.array([0.64, *[0.16] * features]),
        loading=np.full(basis, 0.1),
        lengthscale=np.ones(features),
        rbf_variance=0.04,
        noise=noise,
        offset_variance=0.01,
        interactions=NONE,
    )


def truth(configs: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, mean and covariance of the pairs that are drawn."""
    features = np.linspace(-1.6, 1.6, configs)[:, None]
    mean = 5.0 - 0.5 * features[:, 0] + 0.1 * features[:, 0] ** 2
    return features, mean, kernel().between(features, features)


def draw(pairs: int, seed: int = 0, missing: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Features of the grid and noisy log run times."""
    features, mean, covariance = truth()
    rng = np.random.default_rng(seed)
    clean = rng.multivariate_normal(mean, covariance, size=pairs, method="cholesky" if missing < 0 else "svd")
    log_runtime = clean + rng.normal(0, np.sqrt(NOISE), clean.shape)
    gone = rng.random(clean.shape) < missing
    gone[np.arange(pairs), rng.integers(clean.shape[1], size=pairs)] = False
    return features, np.where(gone, np.nan, log_runtime)


@cache
def fitted(missing: float = 0.0) -> HierarchicalGP:
    features, log_runtime = draw(150, missing=missing)
    return hierarchical_gp.fit(features, log_runtime, NONE)


def dense(gp: HierarchicalGP, at: np.ndarray, log_runtime: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of a joint Gaussian given some of it, as textbooks have it."""
    cross = gp.covariance[:, at]
    inverse = np.linalg.inv(gp.covariance[np.ix_(at, at)] + gp.noise * np.eye(len(at)))
    mean = gp.mean + cross @ inverse @ (log_runtime - gp.mean[at])
    return mean, np.diag(gp.covariance - cross @ inverse @ cross.T) + gp.noise


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.integers(0, 1000))
def test_the_posterior_is_that_of_the_dense_formula(at: list[int], seed: int) -> None:
    config = np.array([at, at[::-1]])
    log_runtime = np.random.default_rng(seed).normal(5, 1, config.shape)
    mean, variance = fitted().posterior(config, log_runtime)
    for task in range(2):
        expected = dense(fitted(), config[task], log_runtime[task])
        np.testing.assert_allclose(mean[task], expected[0], rtol=1e-9)
        np.testing.assert_allclose(variance[task], expected[1], rtol=1e-7)


def test_without_shots_the_posterior_is_the_prior() -> None:
    gp = fitted()
    mean, variance = gp.posterior(np.empty((3, 0), dtype=np.int64), np.empty((3, 0)))
    np.testing.assert_array_equal(mean, np.tile(gp.mean, (3, 1)))
    np.testing.assert_allclose(variance, np.tile(np.diag(gp.covariance) + gp.noise, (3, 1)))


@pytest.mark.parametrize("at", range(8))
def test_a_shot_pulls_the_prediction_to_itself(at: int) -> None:
    gp = fitted()
    for far in (-1.5, 2.0):
        shot = np.array([[gp.mean[at] + far]])
        mean, variance = gp.posterior(np.array([[at]]), shot)
        assert abs(mean[0, at] - shot[0, 0]) < 0.05 * abs(far)
        assert variance[0, at] < 2.1 * gp.noise
        # a level that is off is off everywhere, for slopes vary less than levels
        assert (np.sign(mean[0] - gp.mean) == np.sign(far)).all()


def test_without_noise_a_shot_is_met_exactly() -> None:
    gp = replace(fitted(), kernel=replace(fitted().kernel, noise=1e-12))
    mean, variance = gp.posterior(np.array([[2, 5]]), np.array([[4.0, 6.0]]))
    np.testing.assert_allclose(mean[0, [2, 5]], [4.0, 6.0], atol=1e-6)
    np.testing.assert_allclose(variance[0, [2, 5]], 0.0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(8)), st.integers(0, 1000))
def test_each_shot_lowers_the_variance_and_it_never_falls_below_the_noise(order: list[int], seed: int) -> None:
    gp = fitted()
    log_runtime = np.random.default_rng(seed).normal(5, 3, 8)
    before = np.full(8, np.inf)
    for k in range(9):
        at = np.array(order[:k], dtype=np.int64)[None]
        _, variance = gp.posterior(at, log_runtime[at])
        assert (variance[0] <= before * (1 + 1e-9)).all()
        assert (variance >= gp.noise).all()
        before = variance[0]


def test_the_fit_finds_the_noise_within_a_factor_of_two_and_the_level() -> None:
    assert NOISE / 2 < fitted().noise < NOISE * 2
    _, mean, covariance = truth()
    np.testing.assert_allclose(fitted().mean, mean, atol=0.2)
    deviation = np.sqrt(np.diag(fitted().covariance) / np.diag(covariance))
    assert (deviation > 0.8).all()
    assert (deviation < 1.25).all()


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_the_fit_tells_unseen_pairs_better_than_the_additive_model(missing: float) -> None:
    _, log_runtime = draw(200, seed=1)
    _, training = draw(150, missing=missing)
    gp = fitted(missing)
    average = np.nanmean(training, axis=0)
    errors: dict[str, float] = {}
    for name, k in (("one", 1), ("two", 2)):
        config = np.stack([np.random.default_rng(i).permutation(8)[:k] for i in range(200)])
        shots = np.take_along_axis(log_runtime, config, axis=1)
        mean, variance = gp.posterior(config, shots)
        additive = average + (shots - average[config]).mean(axis=1, keepdims=True)
        errors[name] = float(np.abs(mean - log_runtime).mean())
        assert errors[name] < 0.95 * float(np.abs(additive - log_runtime).mean())
        standard = (mean - log_runtime) / np.sqrt(variance)
        assert 0.8 < float(np.sqrt((standard**2).mean())) < 1.25
    assert errors["two"] < errors["one"]


def test_missing_cells_change_the_fit_little() -> None:
    np.testing.assert_allclose(fitted(0.4).mean, fitted().mean, atol=0.15)
    assert 0.5 < fitted(0.4).noise / fitted().noise < 2


def test_profiles_keep_what_was_observed_and_are_sure_of_it() -> None:
    _, log_runtime = draw(150, missing=0.4)
    gp = fitted(0.4)
    seen = ~np.isnan(log_runtime)
    np.testing.assert_allclose(gp.profiles[seen], log_runtime[seen], atol=1e-3)
    assert np.isfinite(gp.profiles).all()
    left = np.diagonal(gp.residual, axis1=1, axis2=2)[gp.pattern]
    assert left[seen].max() < 1e-5
    assert left[~seen].min() > 1e-5


def test_profiles_of_what_is_missing_are_conditional_means() -> None:
    _, log_runtime = draw(150, missing=0.4)
    gp = replace(fitted(0.4), kernel=replace(fitted().kernel, noise=hierarchical_gp.JITTER))
    for pair in range(0, 150, 10):
        at = np.flatnonzero(~np.isnan(log_runtime[pair]))
        mean, _ = gp.posterior(at[None], log_runtime[None, pair, at])
        rest = np.isnan(log_runtime[pair])
        np.testing.assert_allclose(gp.profiles[pair, rest], mean[0, rest], atol=1e-6)


def test_hyper_parameters_can_be_handed_over() -> None:
    features, log_runtime = draw(30, seed=2)
    gp = hierarchical_gp.fit(features, log_runtime, NONE, kernel=fitted().kernel)
    assert gp.kernel is fitted().kernel
    assert len(gp.profiles) == 30


def test_the_order_of_pairs_does_not_matter() -> None:
    features, log_runtime = draw(20, seed=3, missing=0.3)
    order = np.random.default_rng(0).permutation(20)
    one = hierarchical_gp.fit(features, log_runtime, NONE, PriorConfig(em_steps=3), fitted().kernel)
    other = hierarchical_gp.fit(features, log_runtime[order], NONE, PriorConfig(em_steps=3), fitted().kernel)
    np.testing.assert_allclose(other.mean, one.mean, rtol=1e-8)
    np.testing.assert_allclose(other.covariance, one.covariance, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(other.profiles, one.profiles[order], rtol=1e-8)


@pytest.mark.parametrize("pairs", [1, 2])
@pytest.mark.parametrize("configs", [1, 2, 8])
def test_few_pairs_and_few_configurations_are_enough_to_go_on(pairs: int, configs: int) -> None:
    features, log_runtime = draw(pairs, seed=4)
    gp = hierarchical_gp.fit(features[:configs], log_runtime[:, :configs], NONE, PriorConfig(steps=5))
    mean, variance = gp.posterior(np.array([[0]]), np.array([[5.0]]))
    assert np.isfinite(mean).all()
    assert (variance > 0).all()


def test_pairs_that_are_all_alike_leave_little_variance() -> None:
    features, _, _ = truth()
    gp = hierarchical_gp.fit(features, np.full((30, 8), 4.0), NONE, PriorConfig(steps=10))
    np.testing.assert_allclose(gp.mean, 4.0, atol=1e-2)
    assert gp.noise < NOISE


def test_the_structured_covariance_is_symmetric_and_positive() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20, 3))
    products = np.array([[0, 1], [1, 2]])
    made = replace(kernel(3), slope_variance=np.full(6, 0.1), loading=np.linspace(-1, 1, 6), interactions=products)
    covariance = made.between(a, a)
    np.testing.assert_allclose(covariance, covariance.T, rtol=1e-12)
    assert np.linalg.eigvalsh(covariance).min() > -1e-10
    np.testing.assert_allclose(made.between(a[:4], a[2:9]), covariance[:4, 2:9], rtol=1e-12)
    np.testing.assert_array_equal(made.basis(a)[:, 4:], np.stack([a[:, 0] * a[:, 1], a[:, 1] * a[:, 2]], axis=1))


@pytest.mark.parametrize("at", range(8))
def test_extending_by_a_configuration_of_the_grid_gives_that_configuration(at: int) -> None:
    gp = fitted(0.4)
    wider = gp.extended(gp.features[[at]])
    assert wider.mean[-1] == pytest.approx(gp.mean[at], abs=1e-3)
    np.testing.assert_allclose(wider.covariance[-1, :-1], gp.covariance[at], atol=1e-3)
    np.testing.assert_allclose(wider.covariance[-1, -1], gp.covariance[at, at], atol=1e-3)
    np.testing.assert_allclose(wider.profiles[:, -1], gp.profiles[:, at], atol=3e-3)
    shots = np.array([[3]]), np.array([[6.0]])
    mean, variance = wider.posterior(*shots)
    np.testing.assert_allclose(mean[0, -1], mean[0, at], atol=1e-3)
    np.testing.assert_allclose(variance[0, -1], variance[0, at], atol=1e-3)


def test_extending_leaves_the_grid_as_it_was() -> None:
    gp = fitted(0.4)
    wider = gp.extended(np.array([[0.1], [0.9], [-1.3]]))
    np.testing.assert_array_equal(wider.mean[:8], gp.mean)
    np.testing.assert_allclose(wider.covariance[:8, :8], gp.covariance, rtol=1e-12)
    np.testing.assert_array_equal(wider.profiles[:, :8], gp.profiles)
    np.testing.assert_allclose(wider.residual[:, :8, :8], gp.residual, atol=1e-12)
    shots = np.array([[0, 6]]), np.array([[5.0, 4.0]])
    for new, old in zip(wider.posterior(*shots), gp.posterior(*shots), strict=True):
        np.testing.assert_allclose(new[:, :8], old, rtol=1e-9)


def test_a_new_configuration_does_not_depend_on_those_that_come_with_it() -> None:
    gp = fitted()
    alone, together = gp.extended(np.array([[0.1]])), gp.extended(np.array([[0.9], [0.1]]))
    assert together.mean[-1] == pytest.approx(alone.mean[-1], rel=1e-9)
    np.testing.assert_allclose(together.covariance[-1, :8], alone.covariance[-1, :8], rtol=1e-8)
    assert together.covariance[-1, -1] == pytest.approx(alone.covariance[-1, -1], rel=1e-8)


def test_the_covariance_stays_positive_when_extended() -> None:
    gp = fitted()
    wider = gp.extended(np.linspace(-1.6, 1.6, 40)[:, None])
    np.testing.assert_allclose(wider.covariance, wider.covariance.T, atol=1e-12)
    assert np.linalg.eigvalsh(wider.covariance).min() > -1e-6


def test_between_neighbours_of_a_falling_curve_predictions_fall(
    synthetic: Callable[..., pd.DataFrame], observe: Callable[..., Observations]
) -> None:
    data = observe(synthetic(40, noise=0.0))
    gp = hierarchical_gp.fit(data.features, data.log_runtime, NONE)
    between = np.linspace(data.features.min(), data.features[3, 0], 25)[:, None]
    wider = gp.extended(between)
    for pair in range(0, 40, 5):
        shots = np.array([[0, 3]]), data.log_runtime[[pair]][:, [0, 3]]
        curve = wider.posterior(*shots)[0][0, len(gp.mean) :]
        assert (np.diff(curve) < 1e-3).all()
