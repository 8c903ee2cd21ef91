"""The shots that a user gives: read in any form, and refused in one line that says where and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flashfm.adapt.shots import read_shots
from flashfm.errors import ShotsError
from flashfm.models.flash import FlashModel

ROWS = pd.DataFrame(
    {
        "app": ["shop", "shop", "shop"],
        "memory_mb": [1024.0, 256.0, 2048.0],
        "runtime_ms": [120.0, 400.0, 100.0],
        "user_cpu_ms_mean": [50.0, np.nan, 60.0],
        "net_in_bytes_mean": [2e4, 2e4, np.nan],
    }
)


def test_rows_become_one_task_over_the_grid(pretrained: FlashModel) -> None:
    model, read = read_shots(pretrained, ROWS)
    assert model is pretrained
    assert read.pair == ("shop", None)
    assert not len(read.failed)
    assert read.shots.config.tolist() == [[3, 1, 4]]
    np.testing.assert_allclose(np.exp(read.shots.log_runtime), [[120.0, 400.0, 100.0]], rtol=1e-14)
    np.testing.assert_array_equal(read.shots.metrics, [[[50, 2e4], [np.nan, 2e4], [60, np.nan]]])


def test_the_index_the_order_of_columns_and_further_columns_do_not_matter(pretrained: FlashModel) -> None:
    _, plain = read_shots(pretrained, ROWS)
    other = ROWS[ROWS.columns[::-1]].set_axis([9, 9, 4]).assign(note="x", runtime_cov=0.1)
    before = other.copy()
    _, read = read_shots(pretrained, other)
    pd.testing.assert_frame_equal(other, before)
    for name in ("config", "log_runtime", "metrics"):
        np.testing.assert_array_equal(getattr(read.shots, name), getattr(plain.shots, name))


@pytest.mark.parametrize("convert", ["Int64", "object", "string", "float32"])
def test_numbers_come_in_many_types(pretrained: FlashModel, convert: str) -> None:
    columns = {"memory_mb": convert, "runtime_ms": convert}
    rows = ROWS.astype({"memory_mb": "int64", "runtime_ms": "int64"}).astype(columns)
    _, read = read_shots(pretrained, rows)
    assert read.shots.config.tolist() == [[3, 1, 4]]
    np.testing.assert_allclose(np.exp(read.shots.log_runtime), [[120.0, 400.0, 100.0]], rtol=1e-6)


@pytest.mark.parametrize("absent", ["NaN", "dropped", "NA", "None"])
def test_a_metric_that_is_empty_is_one_that_is_absent(pretrained: FlashModel, absent: str) -> None:
    rows = ROWS.drop(columns="net_in_bytes_mean")
    if absent != "dropped":
        rows["net_in_bytes_mean"] = pd.array([{"NaN": np.nan, "NA": pd.NA, "None": None}[absent]] * 3, dtype="object")
    _, read = read_shots(pretrained, rows)
    np.testing.assert_array_equal(read.shots.metrics[..., 1], [[np.nan] * 3])
    np.testing.assert_array_equal(read.shots.metrics[..., 0], [[50, np.nan, 60]])


def test_rows_of_one_configuration_are_averaged(pretrained: FlashModel) -> None:
    twice = pd.concat([ROWS, ROWS.assign(runtime_ms=[480.0, 100.0, 400.0], user_cpu_ms_mean=[70.0, 30.0, np.nan])])
    _, read = read_shots(pretrained, twice)
    assert read.shots.config.tolist() == [[3, 1, 4]]
    np.testing.assert_allclose(np.exp(read.shots.log_runtime), [[240.0, 200.0, 200.0]], rtol=1e-12)
    np.testing.assert_allclose(read.shots.metrics[0, :, 0], [60.0, 30.0, 60.0])
    np.testing.assert_array_equal(read.shots.metrics[0, :, 1], [2e4, 2e4, np.nan])


def test_no_rows_are_no_shots(pretrained: FlashModel) -> None:
    for rows in (ROWS[:0], pretrained.grid[:0]):
        _, read = read_shots(pretrained, rows)
        assert read.shots.config.shape == (1, 0)
        assert read.shots.metrics.shape == (1, 0, 2)
        assert read.pair == ("", None)


def test_measurements_that_failed_are_kept_apart(pretrained: FlashModel) -> None:
    rows = ROWS.assign(outcome=["ok", "timeout", None], runtime_ms=[120.0, np.nan, 100.0])
    _, read = read_shots(pretrained, rows)
    assert read.shots.config.tolist() == [[3, 4]]
    assert read.failed[["memory_mb", "outcome"]].to_numpy().tolist() == [[256.0, "timeout"]]


def test_where_all_failed_there_are_no_shots(pretrained: FlashModel) -> None:
    rows = ROWS.assign(outcome="out_of_memory").drop(columns="runtime_ms").assign(runtime_ms=np.nan)
    _, read = read_shots(pretrained, rows)
    assert read.shots.count == 0
    assert len(read.failed) == 3


def test_what_a_failed_measurement_holds_does_not_matter(pretrained: FlashModel) -> None:
    rows = ROWS.assign(outcome=["ok", "error", "ok"], runtime_ms=[120.0, -3.0, 100.0])
    rows.loc[1, "user_cpu_ms_mean"] = -1.0
    _, read = read_shots(pretrained, rows)
    assert read.shots.count == 2


@pytest.mark.parametrize("dtype", ["object", "category", "string"])
def test_outcomes_come_in_many_types_and_may_be_empty(pretrained: FlashModel, dtype: str) -> None:
    rows = ROWS.assign(outcome=pd.Series([None, "timeout", None], dtype=dtype))
    _, read = read_shots(pretrained, rows)
    assert read.shots.count == 2


def test_a_configuration_between_those_of_the_grid_extends_the_model(pretrained: FlashModel) -> None:
    rows = ROWS.assign(memory_mb=[1024.0, 300.0, 300.0])
    model, read = read_shots(pretrained, rows)
    assert len(pretrained.grid) == 6
    assert model.grid["memory_mb"].tolist() == [*pretrained.grid["memory_mb"], 300.0]
    assert read.shots.config.tolist() == [[3, 6]]


def test_the_same_number_to_nine_digits_is_the_same_configuration(pretrained: FlashModel) -> None:
    model, read = read_shots(pretrained, ROWS.assign(memory_mb=[1024.0000000001, 256.0, 2048.0]))
    assert model is pretrained
    assert read.shots.config.tolist() == [[3, 1, 4]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"app": ["shop", "cart", "shop"]}, ("2 applications", "'shop', 'cart'", "on its own")),
        ({"platform": ["a", "b", "a"]}, ("2 platforms", "'a', 'b'")),
        ({"runtime_ms": [1.0, -2.0, 3.0]}, ("row 2", "'runtime_ms'", "above 0", "got -2")),
        ({"runtime_ms": [1.0, 0.0, 3.0]}, ("row 2", "'runtime_ms'", "got 0")),
        ({"runtime_ms": [1.0, np.nan, 3.0]}, ("row 2", "'runtime_ms'", "empty cell")),
        ({"runtime_ms": [1.0, np.inf, 3.0]}, ("row 2", "'runtime_ms'", "got inf")),
        ({"runtime_ms": [1.0, -np.inf, 3.0]}, ("row 2", "'runtime_ms'", "got -inf")),
        ({"runtime_ms": [1.0, 1e300, 3.0]}, ("row 2", "'runtime_ms'", "got 1e+300")),
        ({"runtime_ms": [1.0, "12 ms", 3.0]}, ("row 2", "'runtime_ms'", "expected a number", "'12 ms'")),
        ({"runtime_ms": [1.0, None, 3.0]}, ("row 2", "'runtime_ms'", "empty cell")),
        ({"memory_mb": [1024.0, 64.0, 256.0]}, ("row 2", "'memory_mb'", "from 128 to 3008", "got 64")),
        ({"memory_mb": [1024.0, np.nan, 256.0]}, ("row 2", "'memory_mb'", "empty cell")),
        ({"memory_mb": [1024.0, "big", 256.0]}, ("row 2", "'memory_mb'", "expected a number", "'big'")),
        ({"user_cpu_ms_mean": [1.0, -1.0, 1.0]}, ("row 2", "'user_cpu_ms_mean'", "at least 0", "got -1")),
        ({"user_cpu_ms_mean": [1.0, np.inf, 1.0]}, ("row 2", "'user_cpu_ms_mean'", "finite", "got inf")),
        ({"user_cpu_ms_mean": [1.0, "low", 1.0]}, ("row 2", "'user_cpu_ms_mean'", "'low'")),
        ({"outcome": ["ok", "crashed", "ok"]}, ("row 2", "'outcome'", "out_of_memory", "'crashed'")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bad_value_is_named(pretrained: FlashModel, change: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ShotsError) as caught:
        read_shots(pretrained, ROWS.astype("object").assign(**change))
    message = str(caught.value)
    assert message.startswith("shots: ")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "huge"}, ("'family'", "big, small", "'huge'")),
        ({"family": None}, ("'family'", "empty cell")),
        ({"family": pd.NA}, ("'family'", "empty cell")),
        ({"shares": 1e9}, ("'shares'", "got 1e+09")),
    ],
)
def test_an_unknown_level_is_named(mixed: FlashModel, change: dict[str, Any], words: tuple[str, ...]) -> None:
    row = {"memory_mb": 512.0, "family": "small", "shares": 256.0, "runtime_ms": 100.0}
    read_shots(mixed, pd.DataFrame([row]))
    with pytest.raises(ShotsError) as caught:
        read_shots(mixed, pd.DataFrame([row | change]))
    for word in ("row 1", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("rename", "words"),
    [
        ({"runtime_ms": "runtime_s"}, ("'runtime_s'", "'runtime_ms'", "multiply by 1000")),
        ({"runtime_ms": "duration_us"}, ("'duration_us'", "divide by 1000")),
        ({"runtime_ms": "duration"}, ("no column 'runtime_ms'", "'duration'", "rename")),
        ({"runtime_ms": "y"}, ("no column 'runtime_ms'", "got app, memory_mb, y")),
        ({"memory_mb": "memory_gb"}, ("'memory_gb'", "'memory_mb'", "multiply by 1024")),
        ({"memory_mb": "size"}, ("no configuration column 'memory_mb'",)),
        ({"app": "memory_mb"}, ("two or more columns", "'memory_mb'")),
        ({"user_cpu_ms_mean": "app"}, ("two or more columns", "'app'")),
        ({"user_cpu_ms_mean": "user_cpu_s_mean"}, ("'user_cpu_s_mean'", "'user_cpu_ms_mean'", "multiply by 1000")),
    ],
)
def test_a_bad_column_is_named(pretrained: FlashModel, rename: dict[str, str], words: tuple[str, ...]) -> None:
    with pytest.raises(ShotsError) as caught:
        read_shots(pretrained, ROWS.rename(columns=rename))
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("rows", [{"memory_mb": [128]}, [{"memory_mb": 128}], 3])
def test_what_is_no_frame_is_refused(pretrained: FlashModel, rows: Any) -> None:
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ShotsError, match="DataFrame"):
            read_shots(pretrained, rows)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("unit", "factor", "mend"),
    [("seconds", 1e-3, "multiply by 1000"), ("microseconds", 1e3, "divide by 1000")],
)
def test_another_unit_is_named(
    pretrained: FlashModel, synthetic: Callable[..., pd.DataFrame], unit: str, factor: float, mend: str
) -> None:
    rows = synthetic(1, seed=5).assign(runtime_ms=lambda frame: frame["runtime_ms"] * factor)
    with pytest.raises(ShotsError) as caught:
        read_shots(pretrained, rows)
    for word in ("row 1", "'runtime_ms'", f"looks like {unit}", mend, "check_units=False"):
        assert word in str(caught.value)
    _, read = read_shots(pretrained, rows, check_units=False)
    np.testing.assert_allclose(np.exp(read.shots.log_runtime[0]), rows["runtime_ms"], rtol=1e-12)


def test_no_unseen_application_of_the_same_world_is_taken_for_another_unit(
    pretrained: FlashModel, synthetic: Callable[..., pd.DataFrame]
) -> None:
    for _, rows in synthetic(100, seed=6).groupby("app"):
        _, read = read_shots(pretrained, rows)
        assert read.shots.count == len(rows)
