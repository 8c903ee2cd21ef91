import sys

import numpy as np
import pandas as pd
import pytest

from flashfm.baselines import (
    SEARCHERS,
    BayesianOptimisation,
    BestAverageList,
    BestPortfolio,
    RandomSearch,
    regret_curve,
)
from flashfm.errors import ModelError


@pytest.fixture(scope="module")
def smooth(build):
    """Pairs whose run time is a bowl over two columns, the bottom elsewhere for each; some cells missing."""
    grid = pd.DataFrame([(a, b) for a in np.linspace(1, 3, 7) for b in np.linspace(1, 3, 7)], columns=["a", "b"])
    rng = np.random.default_rng(0)
    bottom = rng.uniform(1.2, 2.8, (24, 2, 1))
    bowl = (grid["a"].to_numpy() - bottom[:, 0]) ** 2 + (grid["b"].to_numpy() - bottom[:, 1]) ** 2
    runtime = np.exp(rng.normal(5, 1, (24, 1)) + bowl)
    runtime[rng.random(runtime.shape) < 0.1] = np.nan
    return build(grid, runtime)


@pytest.mark.parametrize("searcher", SEARCHERS, ids=lambda searcher: searcher.name)
def test_no_configuration_is_measured_twice_nor_one_that_the_pair_lacks(smooth, searcher):
    fitted = searcher.fit(smooth.of_pairs(np.arange(12)), 0)
    rng = np.random.default_rng(0)
    candidates = smooth.observed[20]
    measured = np.empty(0, dtype=np.int64)
    for _ in range(8):
        chosen = fitted.next(measured, smooth.log_runtime[20, measured], candidates, rng)
        assert chosen in candidates
        assert chosen not in measured
        measured = np.append(measured, chosen)
    with pytest.raises(ModelError, match="none to measure next"):
        fitted.next(candidates, smooth.log_runtime[20, candidates], candidates, rng)


@pytest.mark.parametrize("searcher", SEARCHERS, ids=lambda searcher: searcher.name)
def test_regret_is_not_negative_and_never_rises(smooth, searcher):
    fitted = searcher.fit(smooth.of_pairs(np.arange(12)), 0)
    for pair in (20, 21):
        curve = regret_curve(fitted, smooth, pair, picks=(1, 2, 4, 6), seed=0)
        assert (curve >= 0).all()
        assert (np.diff(curve) <= 0).all()
        np.testing.assert_array_equal(curve, regret_curve(fitted, smooth, pair, picks=(1, 2, 4, 6), seed=0))


def test_regret_is_nil_once_all_is_measured(smooth):
    curve = regret_curve(RandomSearch().fit(smooth, 0), smooth, 0, picks=(1, 49, 80), seed=0)
    assert curve[0] > 0
    assert curve[1] == curve[2] == 0


def test_regret_after_no_measurement_is_refused(smooth):
    with pytest.raises(ModelError, match="got 0, 1"):
        regret_curve(RandomSearch().fit(smooth, 0), smooth, 0, picks=(0, 1))


def test_bayesian_optimisation_beats_random_search_on_a_smooth_function(smooth):
    mean = {
        searcher.name: np.mean(
            [regret_curve(searcher.fit(smooth, 0), smooth, pair, picks=(1, 8), seed=1) for pair in range(10)], axis=0
        )
        for searcher in (RandomSearch(), BayesianOptimisation())
    }
    ours, random = mean["Bayesian optimisation"], mean["random search"]
    assert ours[0] == random[0]
    assert ours[1] < 0.3 * random[1]


def test_lists_know_what_was_fast_for_others(build):
    grid = pd.DataFrame({"kind": ["a", "b", "c", "d"]})
    runtime = np.array([[10.0, 11, 12, 90], [10, 11, 12, 90], [90, 80, 70, 10], [10, 11, 12, np.nan]])
    data = build(grid, runtime)
    assert BestAverageList().fit(data, 0).order.tolist() == [0, 1, 2, 3]
    assert BestPortfolio().fit(data, 0).order[:2].tolist() == [2, 3]
    average = regret_curve(BestAverageList().fit(data, 0), data, 2, picks=(1, 2, 4))
    portfolio = regret_curve(BestPortfolio().fit(data, 0), data, 2, picks=(1, 2, 4))
    assert portfolio[1] < average[1]
    assert portfolio[2] == average[2] == 0


def test_the_start_of_bayesian_optimisation_is_random_or_the_head_of_the_list(smooth):
    none = np.empty(0, dtype=np.int64)
    candidates = smooth.observed[0]
    firsts = {
        BayesianOptimisation().fit(smooth, 0).next(none, np.empty(0), candidates, np.random.default_rng(seed))
        for seed in range(10)
    }
    assert len(firsts) > 3
    head = BayesianOptimisation(start="average").fit(smooth, 0)
    listed = BestAverageList().fit(smooth, 0)
    rng = np.random.default_rng(0)
    assert head.next(none, np.empty(0), candidates, rng) == listed.next(none, np.empty(0), candidates, rng)
    with pytest.raises(ModelError, match="'middle'"):
        BayesianOptimisation(start="middle").fit(smooth, 0)


def test_bayesian_optimisation_without_scikit_learn_says_how_to_get_it(smooth, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.exceptions", None)
    fitted = BayesianOptimisation().fit(smooth, 0)
    with pytest.raises(ModelError, match="flashfm\\[baselines\\]"):
        fitted.next(np.array([1]), np.array([2.0]), np.array([1, 2, 3]), np.random.default_rng(0))
