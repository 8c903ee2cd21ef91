"""Metrics as features: standardised where they are known, masked where they are not."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flashfm.tasks.features import CLIP, ShotScaler

NAMES = ("user_cpu_ms", "net_in_bytes", "wait_ms")


def training(seed: int = 0, missing: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    metrics = np.exp(rng.normal(3, 1, (40, 5, 3)))
    metrics[rng.random(metrics.shape) < missing] = np.nan
    log_runtime = rng.normal(5, 1, (40, 5))
    log_runtime[rng.random(log_runtime.shape) < missing] = np.nan
    return metrics, log_runtime


def fitted(seed: int = 0) -> ShotScaler:
    return ShotScaler.fit(*training(seed), NAMES)


def test_a_shot_has_each_metric_each_time_share_and_their_sum_twice_over() -> None:
    scaler = fitted()
    assert scaler.timed == (0, 2)
    assert scaler.width == 2 * (3 + 2 + 1)
    metrics, log_runtime = training()
    assert scaler.transform(metrics, log_runtime).shape == (40, 5, scaler.width)


def test_values_that_are_known_have_mean_0_and_deviation_1_over_training() -> None:
    metrics, log_runtime = training()
    values, mask = np.split(fitted().transform(metrics, log_runtime), 2, axis=-1)
    for value, seen in zip(np.moveaxis(values, -1, 0), np.moveaxis(mask > 0, -1, 0), strict=True):
        assert abs(value[seen].mean()) < 0.01
        assert abs(value[seen].std() - 1) < 0.03


def test_the_mask_says_what_is_known_and_the_rest_is_0() -> None:
    metrics, log_runtime = training()
    values, mask = np.split(fitted().transform(metrics, log_runtime), 2, axis=-1)
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert (values[mask == 0] == 0).all()
    np.testing.assert_array_equal(mask[..., :3] == 0, np.isnan(metrics))
    timed = np.isnan(metrics[..., [0, 2]]) | np.isnan(log_runtime)[..., None]
    np.testing.assert_array_equal(mask[..., 3:5] == 0, timed)
    np.testing.assert_array_equal(mask[..., 5] == 0, timed.any(axis=-1))


@given(st.integers(0, 2), st.floats(0, 1e9), st.integers(0, 10_000))
def test_one_metric_says_nothing_of_the_others(which: int, raw: float, seed: int) -> None:
    scaler = fitted()
    metrics, log_runtime = training(seed, missing=0.3)
    changed = metrics.copy()
    changed[..., which] = raw
    own = [which, *([3 + (0, 2).index(which), 5] if which != 1 else [])]
    others = np.setdiff1d(np.arange(6), own)
    before, after = scaler.transform(metrics, log_runtime), scaler.transform(changed, log_runtime)
    np.testing.assert_array_equal(after[..., others], before[..., others])
    np.testing.assert_array_equal(after[..., 6 + others], before[..., 6 + others])


@given(st.integers(0, 39), st.integers(0, 4), st.floats(-20, 20))
def test_one_shot_says_nothing_of_the_others(task: int, shot: int, log_runtime_there: float) -> None:
    scaler = fitted()
    metrics, log_runtime = training(1)
    changed, changed_runtime = metrics.copy(), log_runtime.copy()
    changed[task, shot], changed_runtime[task, shot] = np.nan, log_runtime_there
    before, after = scaler.transform(metrics, log_runtime), scaler.transform(changed, changed_runtime)
    before[task, shot] = after[task, shot]
    np.testing.assert_array_equal(after, before)


def test_rows_that_are_missing_do_not_move_the_fit() -> None:
    metrics, log_runtime = training()
    more = np.concatenate([metrics, np.full((60, 5, 3), np.nan)])
    again = ShotScaler.fit(more, np.concatenate([log_runtime, np.full((60, 5), np.nan)]), NAMES)
    np.testing.assert_allclose(again.centre, fitted().centre, rtol=1e-12)
    np.testing.assert_allclose(again.scale, fitted().scale, rtol=1e-12)


def test_a_metric_that_never_varies_or_never_is_there_stays_finite() -> None:
    metrics, log_runtime = training()
    metrics[..., 0], metrics[..., 1] = 5.0, np.nan
    scaler = ShotScaler.fit(metrics, log_runtime, NAMES)
    values, mask = np.split(scaler.transform(metrics, log_runtime), 2, axis=-1)
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values[..., :2], 0, atol=1e-9)
    assert (mask[..., 1] == 0).all()


def test_a_metric_that_was_never_there_is_not_taken_for_known_later() -> None:
    metrics, log_runtime = training()
    metrics[..., 1] = np.nan
    scaler = ShotScaler.fit(metrics, log_runtime, NAMES)
    metrics[..., 1] = 1e6
    values, mask = np.split(scaler.transform(metrics, log_runtime), 2, axis=-1)
    assert (values[..., 1] == 0).all()
    assert (mask[..., 1] == 0).all()


def test_outliers_are_clipped() -> None:
    metrics, log_runtime = training()
    values, _ = np.split(fitted().transform(np.full_like(metrics, 1e300), log_runtime), 2, axis=-1)
    assert values.max() == CLIP


def test_zero_and_tiny_shares_are_finite() -> None:
    metrics, log_runtime = training(missing=0.0)
    features = fitted().transform(np.zeros_like(metrics), log_runtime)
    assert np.isfinite(features).all()


def test_without_timed_metrics_there_are_no_shares() -> None:
    metrics, log_runtime = training()
    scaler = ShotScaler.fit(metrics, log_runtime, ("a", "b", "c"))
    assert scaler.timed == ()
    assert scaler.width == 6


def test_without_metrics_there_is_nothing() -> None:
    scaler = ShotScaler.fit(np.empty((4, 2, 0)), np.zeros((4, 2)), ())
    assert scaler.transform(np.empty((1, 2, 0)), np.zeros((1, 2))).shape == (1, 2, 0)
