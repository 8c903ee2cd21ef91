"""Metrics as the nearest applications are compared by them."""

from __future__ import annotations

import numpy as np
import pytest

from flashfm.baselines.neighbours import MetricScaler
from flashfm.tasks.features import CLIP


def metrics(missing: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    raw = np.exp(rng.normal(3, 1, (40, 5, 3)))
    raw[rng.random(raw.shape) < missing] = np.nan
    return raw


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_logarithms_are_standardised_where_they_are_known(missing: float) -> None:
    raw = metrics(missing)
    values = MetricScaler.fit(raw).transform(raw)
    np.testing.assert_array_equal(np.isnan(values), np.isnan(raw))
    for value in np.moveaxis(values, -1, 0):
        assert abs(np.nanmean(value)) < 0.01
        assert abs(np.nanstd(value) - 1) < 0.03


def test_one_metric_says_nothing_of_the_others() -> None:
    raw = metrics(0.2)
    scaler = MetricScaler.fit(raw)
    changed = raw.copy()
    changed[..., 0] = np.nan
    values = scaler.transform(changed)
    assert np.isnan(values[..., 0]).all()
    np.testing.assert_array_equal(values[..., 1:], scaler.transform(raw)[..., 1:])


def test_what_never_varied_or_never_was_there_makes_no_difference() -> None:
    raw = metrics(0.0)
    raw[..., 0], raw[..., 1] = 7.0, np.nan
    scaler = MetricScaler.fit(raw)
    assert scaler.scale[:2].tolist() == [1.0, 1.0]
    assert (np.abs(scaler.transform(raw)[..., 0]) < 1e-12).all()


def test_a_strange_value_is_no_stranger_than_the_clip() -> None:
    found = MetricScaler.fit(metrics(0.0)).transform(np.array([[0.0, 1e300, -1e300]]))
    assert (np.abs(found) <= CLIP).all()
    assert found[0, 1:].tolist() == [CLIP, -CLIP]


def test_without_metrics_there_is_nothing_to_scale() -> None:
    assert MetricScaler.fit(np.empty((4, 2, 0))).transform(np.empty((1, 2, 0))).shape == (1, 2, 0)
