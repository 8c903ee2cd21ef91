"""A table as dense arrays over a grid, and shots that index into it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.datasets.table import MeasurementTable
from flashfm.errors import DataFormatError, FlashError
from flashfm.tasks import config_search
from flashfm.tasks.config_search import Fitted, Method, Observations, Shots

FRAME = pd.DataFrame(
    [
        ("b", "slow", 512, 30.0, "ok", 7.0),
        ("a", "fast", 1024, 8.0, "ok", np.nan),
        ("a", "fast", 512, 10.0, "ok", 3.0),
        ("a", "slow", 512, 20.0, "ok", 4.0),
        ("b", "slow", 1024, np.nan, "timeout", np.nan),
        ("c", "slow", 256, np.nan, "out_of_memory", np.nan),
    ],
    columns=["app", "platform", "memory_mb", "runtime_ms", "outcome", "user_cpu_ms_mean"],
)


def observations(frame: pd.DataFrame = FRAME, like: Observations | None = None) -> Observations:
    return Observations.from_table(MeasurementTable.from_frame(frame), like=like)


def test_every_row_that_ended_well_has_its_place() -> None:
    data = observations()
    assert data.pairs == (("b", "slow"), ("a", "fast"), ("a", "slow"))
    assert data.apps == ("b", "a")
    assert data.grid["memory_mb"].tolist() == [512.0, 1024.0]
    np.testing.assert_allclose(
        np.exp(data.log_runtime), [[30.0, np.nan], [10.0, 8.0], [20.0, np.nan]], rtol=1e-14, equal_nan=True
    )
    np.testing.assert_array_equal(data.metrics[:, :, 0], [[7, np.nan], [3, np.nan], [4, np.nan]])
    assert data.metric_names == ("user_cpu_ms",)
    assert [seen.tolist() for seen in data.observed] == [[0], [0, 1], [0]]


def test_configurations_that_only_failed_are_not_in_the_grid() -> None:
    assert 256.0 not in observations().grid["memory_mb"].tolist()


def test_a_table_without_platforms_has_pairs_without_one() -> None:
    data = observations(FRAME.drop(columns="platform").drop(index=3))
    assert data.pairs == (("b", None), ("a", None))


def test_a_table_without_metrics_has_none() -> None:
    data = observations(FRAME.drop(columns="user_cpu_ms_mean"))
    assert data.metrics.shape == (3, 2, 0)
    assert data.shots(np.array([1]), np.array([[0, 1]])).metrics.shape == (1, 2, 0)


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(len(FRAME))))
def test_the_order_of_rows_changes_nothing_but_that_of_pairs(order: list[int]) -> None:
    data, shuffled = observations(), observations(FRAME.iloc[order])
    assert set(shuffled.pairs) == set(data.pairs)
    pd.testing.assert_frame_equal(shuffled.grid, data.grid)
    same = [shuffled.pairs.index(pair) for pair in data.pairs]
    np.testing.assert_array_equal(shuffled.log_runtime[same], data.log_runtime)
    np.testing.assert_array_equal(shuffled.metrics[same], data.metrics)
    np.testing.assert_array_equal(shuffled.features, data.features)


def test_choosing_applications_keeps_the_grid_and_their_values(
    synthetic: Callable[..., pd.DataFrame], observe: Callable[..., Observations]
) -> None:
    data = observe(synthetic(5, platforms=("fast", "slow")))
    some = data.of_apps({data.apps[3], data.apps[1]})
    assert some.apps == (data.apps[1], data.apps[3])
    assert len(some) == 4
    pd.testing.assert_frame_equal(some.grid, data.grid)
    np.testing.assert_array_equal(some.log_runtime, data.log_runtime[[2, 3, 6, 7]])
    np.testing.assert_array_equal(some.metrics, data.metrics[[2, 3, 6, 7]])
    assert not data.of_apps(set()).pairs


def test_choosing_pairs_follows_the_given_order() -> None:
    data = observations()
    turned = data.of_pairs(np.array([2, 0]))
    assert turned.pairs == (data.pairs[2], data.pairs[0])
    np.testing.assert_array_equal(turned.log_runtime, data.log_runtime[[2, 0]])


def test_shots_hold_what_was_measured_there() -> None:
    data = observations()
    shots = data.shots(np.array([1, 1]), np.array([[0, 1], [1, 0]]))
    assert shots.count == 2
    assert len(shots) == 2
    np.testing.assert_allclose(np.exp(shots.log_runtime), [[10, 8], [8, 10]], rtol=1e-14)
    np.testing.assert_array_equal(shots.metrics[..., 0], [[3, np.nan], [np.nan, 3]])
    part = shots.part(slice(1, 2))
    np.testing.assert_array_equal(part.config, [[1, 0]])
    np.testing.assert_array_equal(part.log_runtime, shots.log_runtime[1:])


def test_another_table_can_be_laid_out_like_a_first() -> None:
    data = observations()
    other = pd.DataFrame(
        {"app": ["z", "z"], "memory_mb": [1024, 512], "runtime_ms": [5.0, 6.0], "io_read_mb_mean": [1.0, 2.0]}
    )
    laid = observations(other, like=data)
    assert laid.metric_names == data.metric_names
    assert np.isnan(laid.metrics).all()
    np.testing.assert_allclose(np.exp(laid.log_runtime), [[6.0, 5.0]], rtol=1e-14)
    pd.testing.assert_frame_equal(laid.grid, data.grid)


@pytest.mark.parametrize(("memory", "words"), [(2048, "2048"), (768, "row 2")])
def test_a_configuration_that_the_first_has_not_is_named(memory: int, words: str) -> None:
    other = pd.DataFrame({"app": ["z", "z"], "memory_mb": [512, memory], "runtime_ms": [5.0, 6.0]})
    with pytest.raises(FlashError, match=words):
        observations(other, like=observations())


def test_a_table_without_run_times_is_refused() -> None:
    with pytest.raises(DataFormatError, match="no row of the table ended well"):
        observations(FRAME[FRAME["outcome"] != "ok"])


def test_too_many_configurations_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_search, "MAX_CONFIGURATIONS", 1)
    with pytest.raises(DataFormatError, match="2 different configurations, expected at most 1"):
        observations()


def test_methods_are_known_by_what_they_can_do() -> None:
    class Constant:
        name, per_shots = "constant", False

        def fit(self, train: Observations, *, shots: int, seed: int) -> Constant:
            return self

        def predict(self, shots: Shots) -> np.ndarray:
            return np.ones((len(shots), 2))

    assert isinstance(Constant(), Method)
    assert isinstance(Constant(), Fitted)
    assert not isinstance(object(), Method)
