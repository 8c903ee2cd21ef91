"""What holds for every predictor."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from flashfm.baselines import PREDICTORS, Boosting, BoostingConfig, CopyNearest, NearestApplications
from flashfm.errors import ModelError
from flashfm.tasks.config_search import Shots

QUICK = Boosting(BoostingConfig(trees=60, learning_rate=0.15, bags=1))
METHODS = [QUICK if isinstance(method, Boosting) else method for method in PREDICTORS]
TRAIN, TEST = np.arange(40), np.arange(40, 60)


def error(method, data, shots, train=TRAIN, test=TEST):
    fitted = method.fit(data.of_pairs(train), shots=shots, seed=0)
    rng = np.random.default_rng(1)
    apes = []
    for _ in range(5):
        config = np.stack([rng.permutation(data.observed[i])[:shots] for i in test])
        found = fitted.predict(data.shots(test, config)) / np.exp(data.log_runtime[test]) - 1
        np.put_along_axis(found, config, np.nan, axis=1)
        apes.append(np.nanmean(np.abs(found)))
    return np.mean(apes)


@pytest.mark.parametrize("shots", [1, 2])
@pytest.mark.parametrize("method", METHODS[1:], ids=lambda method: method.name)
def test_all_beat_copying_the_nearest_shot(two_term, method, shots):
    data = two_term(60, cpu=True)
    assert error(method, data, shots) < 0.75 * error(CopyNearest(), data, shots)


@pytest.mark.parametrize("method", [QUICK, NearestApplications()], ids=lambda method: method.name)
def test_cpu_time_tells_the_curve_from_one_shot(two_term, method):
    assert error(method, two_term(60, cpu=True), 1) < 0.8 * error(method, two_term(60), 1)


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_batch_equals_singles_and_shot_order_changes_nothing(two_term, method, shots):
    data = two_term(30, cpu=True, missing=0.2)
    rng = np.random.default_rng(0)
    fitted = method.fit(data.of_pairs(np.arange(20)), shots=shots, seed=0)
    able = np.array([i for i in range(20, 30) if data.observed[i].size > shots])
    config = np.stack([rng.permutation(data.observed[i])[:shots] for i in able])
    batch = fitted.predict(data.shots(able, config))
    singles = [fitted.predict(data.shots(able[[t]], config[[t]])) for t in range(len(able))]
    np.testing.assert_allclose(batch, np.concatenate(singles), rtol=1e-9)
    np.testing.assert_allclose(batch, fitted.predict(data.shots(able, config[:, ::-1])), rtol=1e-9)
    assert batch.shape == (len(able), 6)
    assert np.isfinite(batch).all()
    assert (batch > 0).all()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_missing_metrics_and_unseen_configurations_still_give_run_times(build, method):
    grid = pd.DataFrame([(p, n) for p in "abc" for n in (1.0, 2.0, 4.0, 8.0)], columns=["provider", "nodes"])
    rng = np.random.default_rng(0)
    runtime = rng.uniform(10, 1000, (12, 1)) + rng.uniform(10, 1000, (12, 1)) / grid["nodes"].to_numpy()
    runtime[:10, -1] = np.nan
    metrics = rng.uniform(0, 10, (12, 12, 2))
    metrics[rng.random(metrics.shape) < 0.5] = np.nan
    data = build(grid, runtime, metrics, ("user_cpu_ms", "rss_mb"))
    fitted = method.fit(data.of_pairs(np.arange(10)), shots=2, seed=0)
    shots = data.shots(np.array([10, 11]), np.array([[0, 11], [3, 7]]))
    blind = Shots(shots.config, shots.log_runtime, np.full_like(shots.metrics, np.nan))
    for some in (shots, blind):
        found = fitted.predict(some)
        assert np.isfinite(found).all()
        assert (found > 0).all()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_same_seed_gives_the_same_answer(two_term, method):
    data = two_term(20)
    shots = data.shots(np.array([1, 2]), np.array([[0], [3]]))
    first, second = (method.fit(data, shots=1, seed=3).predict(shots) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("method", [QUICK, NearestApplications()], ids=lambda method: method.name)
def test_too_few_applications_are_refused(two_term, method):
    with pytest.raises(ModelError, match="applications"):
        method.fit(two_term(1), shots=1, seed=0)


def test_boosting_refuses_more_shots_than_any_pair_has_room_for(two_term):
    with pytest.raises(ModelError, match="more than 6 observed configurations"):
        QUICK.fit(two_term(5), shots=6, seed=0)


def test_neighbours_are_tuned_on_other_applications_only(build):
    grid = pd.DataFrame({"size": [1.0, 2.0, 4.0, 8.0, 16.0]})
    runtime = np.repeat(np.exp(np.random.default_rng(0).normal(5, 0.5, (20, 5))), 2, axis=0)
    strangers = build(grid, runtime)
    pairs = tuple((f"app-{i // 2}", "ab"[i % 2]) for i in range(40))
    twins = replace(strangers, pairs=pairs)
    likeness = {
        name: NearestApplications().fit(data, shots=2, seed=0).likeness
        for name, data in (("strangers", strangers), ("twins", twins))
    }
    assert likeness["strangers"].neighbours <= 5
    assert likeness["twins"].neighbours >= 12


def test_boosting_without_lightgbm_says_how_to_get_it(two_term, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ModelError, match="flashfm\\[baselines\\]"):
        QUICK.fit(two_term(5), shots=1, seed=0)
