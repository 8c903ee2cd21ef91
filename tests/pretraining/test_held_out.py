"""What is found on held-out pairs: nobody is asked for a shot, folds keep their pairs apart, ranks are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flashfm.models.calibration import MAX_SHOTS, Held
from flashfm.models.flash import FlashModel
from flashfm.pretraining.held_out import distances, forecasts, joined, with_held, with_novelty
from flashfm.tasks.config_search import Observations


@pytest.fixture(scope="module")
def holed(unseen: Observations) -> Observations:
    """With pairs of one to six observed configurations."""
    runtime = unseen.log_runtime.copy()
    for pair in range(len(unseen)):
        runtime[pair, 1 + pair % 6 :] = np.nan
    return replace(unseen, log_runtime=runtime, metrics=np.where(np.isnan(runtime)[..., None], np.nan, unseen.metrics))


@pytest.mark.parametrize("networks", [True, False])
def test_each_pair_is_asked_for_all_that_was_observed_beside_its_shots(
    pretrained: FlashModel, holed: Observations, networks: bool
) -> None:
    model = pretrained if networks else replace(pretrained, nets=(), novelty=None, bare=None, environment=None)
    found = forecasts(model, holed, 3, np.random.default_rng(0))
    assert sorted(found) == list(range(MAX_SHOTS + 1))
    for k, held in found.items():
        sets = 3 if k else 1
        for pair, seen in enumerate(holed.observed):
            mine = held.observed[held.pair == pair]
            assert mine.size == (sets * (seen.size - k) if seen.size > k else 0)
            assert set(mine) <= set(holed.log_runtime[pair, seen])
        assert np.isfinite(held.mean).all()
        assert (held.variance > 0).all()
        assert held.correction.shape == (held.observed.size, 4)
        assert bool(np.any(held.correction)) == (networks and k > 0)


def test_forecasts_are_those_of_the_model_before_calibration(pretrained: FlashModel, unseen: Observations) -> None:
    found = forecasts(pretrained, unseen, 1, np.random.default_rng(0))[0]
    posterior, _, _ = pretrained.raw(unseen.shots(np.arange(len(unseen)), np.empty((len(unseen), 0), dtype=np.int64)))
    np.testing.assert_array_equal(found.mean, posterior.mean.ravel())
    np.testing.assert_array_equal(found.variance, posterior.variance.ravel())


def held(pair: list[int], value: float) -> Held:
    n = len(pair)
    return Held(np.array(pair), np.full(n, value), np.zeros(n), np.ones(n), np.zeros((n, 4)))


def test_folds_keep_their_pairs_apart() -> None:
    found = joined([held([0, 0, 1], 1.0), held([0, 1, 1, 1], 2.0)])
    assert np.unique(found.pair).size == 4
    np.testing.assert_array_equal(found.observed, [1.0] * 3 + [2.0] * 4)
    np.testing.assert_allclose(found.weight, [1 / 8, 1 / 8, 1 / 4, 1 / 4, 1 / 12, 1 / 12, 1 / 12])


def test_only_one_part_was_held_out_once() -> None:
    assert joined([held([0, 1], 1.0)]).once
    assert not joined([held([0, 1], 1.0), held([0, 1], 1.0)]).once


def test_distances_are_those_of_unseen_pairs_with_and_without_metrics(
    pretrained: FlashModel, unseen: Observations
) -> None:
    found = distances(pretrained, unseen, np.random.default_rng(0))
    assert set(found) == {"novelty", "bare"}
    for of_k in found.values():
        assert sorted(of_k) == list(range(1, MAX_SHOTS + 1))
        assert all(values.size >= len(unseen) and (values >= 0).all() for values in of_k.values())
    assert not np.array_equal(found["novelty"][1], found["bare"][1])
    assert distances(replace(pretrained, novelty=None), unseen, np.random.default_rng(0)) == {}


def test_held_distances_are_sorted_and_joined_over_folds(pretrained: FlashModel) -> None:
    one, two = np.arange(30.0)[::-1].copy(), np.arange(30.0, 60.0)
    few = np.array([5.0, 1.0])
    model = with_held(pretrained, {"novelty": {1: [one, two], 2: [two, one], 3: [few]}})
    assert model.novelty is not None
    assert model.bare is pretrained.bare
    np.testing.assert_array_equal(model.novelty.held, [np.arange(60.0)] * 2)
    p_value = model.novelty.p_value(np.array([-1.0, 29.5, 59.0, 99.0]), 3)
    np.testing.assert_allclose(p_value, [1.0, 31 / 61, 2 / 61, 1 / 61])


def test_references_are_of_each_pair_and_each_number_of_shots(pretrained: FlashModel, unseen: Observations) -> None:
    model = with_novelty(
        replace(pretrained, novelty=None, bare=None, environment=None), unseen, np.random.default_rng(0)
    )
    assert model.novelty is not None
    assert model.bare is not None
    for bank in (model.novelty, model.bare):
        assert np.bincount(bank.pair, minlength=len(unseen)).tolist() == [2 * MAX_SHOTS] * len(unseen)
        assert bank.reference.shape == (2 * MAX_SHOTS * len(unseen), 8)
