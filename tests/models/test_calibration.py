"""Calibration: the conformal quantile by hand, choices by error, and coverage of what was not calibrated on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flashfm.models.calibration import MAX_SHOTS, NOMINAL, Calibration, Held, calibrate
from flashfm.models.flash import NORMAL


def held(observed: np.ndarray, *, mean: float = 0.0, variance: float = 1.0, pair: np.ndarray | None = None) -> Held:
    """Forecasts of `mean` and `variance` for each observation, without a head."""
    n = len(observed)
    pair = np.arange(n) if pair is None else pair
    return Held(pair, observed, np.full(n, mean), np.full(n, variance), np.zeros((n, 4)))


def heavy(rng: np.random.Generator, pairs: int, queries: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Skewed, heavy-tailed errors that the queries of a pair share in part, and whose they are."""
    errors = 0.5 * rng.standard_t(3, (pairs, 1)) + 0.3 * rng.exponential(1.0, (pairs, queries))
    return errors.ravel(), np.repeat(np.arange(pairs), queries)


def covered(calibration: Calibration, k: int, observed: np.ndarray) -> float:
    lower = NORMAL[0] - calibration.of("below", k)
    upper = NORMAL[2] + calibration.of("above", k)
    return float(((lower <= observed) & (observed <= upper)).mean())


def test_the_margins_are_the_conformal_quantiles() -> None:
    # Of 39 pairs the 38th in order is the conformal quantile at 95 %: ceil(0.95 * (39 + 1)).
    observed = np.arange(1.0, 40.0)
    found = calibrate({1: held(observed, mean=20.0)}, NORMAL)
    assert found.of("above", 1) == pytest.approx(38.0 - (20.0 + NORMAL[2]))
    assert found.of("below", 1) == pytest.approx((20.0 + NORMAL[0]) - 2.0)


def test_margins_are_in_posterior_deviations() -> None:
    observed = np.arange(1.0, 40.0)
    found = calibrate({1: held(observed, mean=20.0, variance=4.0)}, NORMAL)
    assert found.of("above", 1) == pytest.approx((38.0 - 20.0) / 2 - NORMAL[2])


def test_intervals_that_are_too_wide_are_narrowed() -> None:
    found = calibrate({1: held(np.random.default_rng(0).normal(0, 0.1, 500))}, NORMAL)
    assert found.of("below", 1) < -1
    assert found.of("above", 1) < -1


def test_pairs_count_alike_however_many_queries_they_have() -> None:
    observed = np.concatenate([np.full(1000, 9.0), np.linspace(-1, 1, 39)])
    pair = np.concatenate([np.zeros(1000, dtype=np.int64), np.arange(1, 40)])
    found = calibrate({1: held(observed, pair=pair)}, NORMAL)
    assert NORMAL[2] + found.of("above", 1) <= 1.0
    weight = held(observed, pair=pair).weight
    assert weight.sum() == pytest.approx(1)
    assert weight[:1000].sum() == pytest.approx(1 / 40)


def test_the_shift_of_least_error_is_chosen() -> None:
    variance = 0.25
    log_normal = np.random.default_rng(0).normal(0, np.sqrt(variance), 4000)
    high = calibrate({1: held(log_normal, variance=variance)}, NORMAL)
    # the point of least percentage error of a log-normal value is exp(mean - variance)
    assert high.of("shift", 1) == pytest.approx(1.0, abs=0.21)
    exact = calibrate({1: held(np.zeros(50), variance=variance)}, NORMAL)
    assert exact.of("shift", 1) == 0.0


@pytest.mark.parametrize(("right", "mix"), [(1.0, 1.0), (0.5, 0.5), (0.0, 0.0), (-1.0, 0.0)])
def test_the_head_is_trusted_as_far_as_it_was_right(right: float, mix: float) -> None:
    rng = np.random.default_rng(0)
    said = rng.normal(0, 0.5, 400)
    of_head = np.zeros((400, 4))
    of_head[:, 0] = said
    found = calibrate({2: replace(held(right * said, variance=1e-6), correction=of_head)}, NORMAL)
    assert found.of("mix", 2) == mix


def test_quantiles_of_the_head_move_the_ends_before_the_margins_are_found() -> None:
    observed = np.arange(1.0, 40.0)
    of_head = np.tile([0.0, -2.0, 0.0, 3.0], (39, 1))
    of_head[:, 0] = np.log(2.0)
    sample = replace(held(observed, mean=20.0), correction=of_head)
    sample = replace(sample, observed=sample.observed + np.log(2.0))
    found = calibrate({1: sample}, NORMAL)
    mix = found.of("mix", 1)
    top = 38.0 + np.log(2.0)
    assert found.of("above", 1) == pytest.approx(top - (20.0 + NORMAL[2] + mix * 3.0))


def test_numbers_of_shots_that_could_not_be_judged_take_the_margins_of_the_next_smaller_ones() -> None:
    wide, narrow = (held(np.random.default_rng(0).normal(0, s, 100)) for s in (3.0, 0.1))
    found = calibrate({0: wide, 2: narrow}, NORMAL)
    for name in ("below", "above"):
        values = getattr(found, name)
        assert values.shape == (MAX_SHOTS + 1,)
        assert values[1] == values[0]
        assert (values[2:] == values[2]).all()
        assert found.of(name, 9) == values[MAX_SHOTS]
    assert found.of("above", 2) < found.of("above", 0)


def test_all_numbers_of_shots_share_shift_and_mix() -> None:
    rng = np.random.default_rng(0)
    of_head = np.zeros((300, 4))
    of_head[:, 0] = rng.normal(0, 0.5, 300)
    right = replace(held(of_head[:, 0] + rng.normal(0, 0.01, 300), variance=1e-4), correction=of_head)
    found = calibrate({0: held(np.zeros(300)), 1: right, 3: right}, NORMAL)
    assert (found.mix[1:] == 1.0).all()
    assert len(set(found.shift[1:])) == 1
    assert found.mix[0] == 0


def test_without_anything_to_judge_by_the_prior_stands_alone() -> None:
    found = calibrate({}, NORMAL)
    assert (found.mix == 0).all()
    assert (found.below == 0).all()
    assert (found.above == 0).all()


def test_intervals_cover_nine_in_ten_of_pairs_that_were_not_calibrated_on() -> None:
    rng = np.random.default_rng(0)
    observed, pair = heavy(rng, 2000)
    found = calibrate({1: held(observed, pair=pair)}, NORMAL)
    fresh, _ = heavy(rng, 20_000)
    assert 0.87 < covered(found, 1, fresh) < 0.93
    below = float((fresh < NORMAL[0] - found.of("below", 1)).mean())
    assert 0.03 < below < 0.07


def test_few_calibration_pairs_cover_no_less_than_nominal_on_average() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        observed, pair = heavy(rng, 50, queries=1)
        fresh, _ = heavy(rng, 500, queries=1)
        shares.append(covered(calibrate({1: held(observed, pair=pair)}, NORMAL), 1, fresh))
    assert NOMINAL - 0.005 < np.mean(shares) < NOMINAL + 0.05
