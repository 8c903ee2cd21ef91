"""What ablations share: methods that see less, counted steps, differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from flashfm.experiments.ablations import Named, Steps, WithoutMetrics, difference, differences_table
from flashfm.experiments.evaluation import Scores, paired_difference
from flashfm.tasks.config_search import Observations, Shots


class Recorder:
    """Keeps what it is given."""

    name = "recorder"
    per_shots = False
    trained: Observations
    asked: Shots

    def fit(self, train: Observations, *, shots: int, seed: int) -> Recorder:
        self.trained = train
        return self

    def predict(self, shots: Shots) -> np.ndarray:
        self.asked = shots
        return np.ones((len(shots), 6))


def test_without_metrics_none_reaches_the_method(
    synthetic: Callable[..., pd.DataFrame], observe: Callable[..., Observations]
) -> None:
    data = observe(synthetic(4))
    inner = Recorder()
    fitted = WithoutMetrics("no metrics", inner).fit(data, shots=1, seed=0)
    shots = data.shots(np.array([0, 1]), np.array([[0], [2]]))
    fitted.predict(shots)
    assert inner.trained.metric_names == ()
    assert inner.trained.metrics.shape == (4, 6, 0)
    assert inner.asked.metrics.shape == (2, 1, 0)
    assert np.array_equal(inner.asked.log_runtime, shots.log_runtime)
    assert data.metric_names, "the data are not changed"


def test_another_name_changes_nothing_else(
    synthetic: Callable[..., pd.DataFrame], observe: Callable[..., Observations]
) -> None:
    data, inner = observe(synthetic(4)), Recorder()
    named = Named("variant", inner)
    assert named.name == "variant"
    assert named.fit(data, shots=1, seed=0) is inner
    assert inner.trained is data


def test_steps_are_told_one_by_one() -> None:
    seen: list[tuple[int, int]] = []
    step = Steps(lambda *told: seen.append(told), 3)
    for _ in range(3):
        step()
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_difference_is_over_applications() -> None:
    pair, ape = np.arange(12), np.random.default_rng(0).random(12)
    scores, rival = ([Scores(pair, pair, of, 0.0)] for of in (ape, np.zeros(12)))
    apps = [f"app-{i // 2}" for i in range(12)]
    found = difference(scores, rival, apps=apps, dataset="d", method="m", against="a", shots=2)
    expected = paired_difference(scores, rival, apps=apps)
    assert (found.pop("difference"), found.pop("low"), found.pop("high")) == expected
    assert found == {"dataset": "d", "method": "m", "against": "a", "shots": 2}
    assert expected != paired_difference(scores, rival, apps=None)


def test_differences_have_signs_and_intervals() -> None:
    row = {"dataset": "d", "method": "m", "against": "a", "shots": 2, "difference": 0.01, "low": -0.002, "high": 0.03}
    assert differences_table([row]).splitlines()[-1] == "| d | m | a | 2 | +0.0100 | -0.0020 to +0.0300 |"
