"""Hidden values: standardised like the pairs of pretraining, and telling what limits a pair needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flashfm.tasks.autoscaling.hidden import FARTHEST, Hidden
from flashfm.tasks.autoscaling.scenario import Scenario, default


@pytest.fixture(scope="module")
def pairs() -> Scenario:
    return default(0).take(np.arange(0, 400, 4))


def test_values_are_standardised_by_the_pairs_they_are_told_like(pairs: Scenario) -> None:
    scales = Hidden.like(pairs)
    values = scales.of(pairs)
    assert values.dtype == np.float32
    assert np.abs(values).max() <= FARTHEST
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=0.15)
    np.testing.assert_array_equal(scales.of(pairs.take(np.array([7, 3]))), values[[7, 3]])


def test_what_is_alike_in_all_pairs_is_left_out(pairs: Scenario) -> None:
    alike = replace(pairs, params=replace(pairs.params, start_steps=np.full(len(pairs), 3.0)))
    assert Hidden.like(alike).of(alike).shape[1] == Hidden.like(pairs).of(pairs).shape[1] - 1


def test_a_looser_objective_shows_in_what_a_replica_can_do(pairs: Scenario) -> None:
    scales = Hidden.like(pairs)
    looser = replace(pairs, params=replace(pairs.params, slo_s=3 * pairs.params.slo_s))
    more = scales.of(looser) - scales.of(pairs)
    assert (more >= -1e-6).all(axis=1).all()
    assert (more.max(axis=1) > 0).mean() > 0.9
