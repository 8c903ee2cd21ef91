"""MeasurementTable: what it accepts, what it refuses and in which words, and that files hold what was put in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.datasets import MeasurementTable
from flashfm.datasets.repeats import pooled_covs
from flashfm.errors import DataFormatError
from flashfm.records import METRICS, Measurement, Outcome, ResourceConfig


def frame(**columns: object) -> pd.DataFrame:
    """Three good rows of two applications, with columns added or replaced."""
    base: dict[str, object] = {"app": ["a", "a", "b"], "memory_mb": [128, 256, 128], "runtime_ms": [5.0, 2.5, 7.0]}
    return pd.DataFrame(base | columns)


def csv_file(folder: Path, text: str | bytes) -> Path:
    path = folder / "mine.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(source: pd.DataFrame | Path, **options: object) -> str:
    """The message with which a frame or file is refused: one line."""
    load = MeasurementTable.read if isinstance(source, Path) else MeasurementTable.from_frame
    with pytest.raises(DataFormatError) as refused:
        load(source, **options)
    message = str(refused.value)
    assert "\n" not in message
    return message


# -- what a table is -------------------------------------------------------------------------------------------------


def test_three_columns_are_enough() -> None:
    table = MeasurementTable.from_frame(frame())
    assert table.config_columns == ("memory_mb",)
    assert table.pairs == (("a", None), ("b", None))
    assert table.metric_names == ()
    assert list(table.frame.columns) == ["app", "memory_mb", "runtime_ms", "outcome"]
    assert set(table.frame["outcome"]) == {"ok"}
    assert len(table) == 3
    assert "3 rows, 2 pairs" in repr(table)


def test_columns_are_renamed_typed_and_ordered() -> None:
    mine = frame(cost=[1, 2, 3], heap_used_mb_cov=0.1, heap_used_mb_mean=3, cpu_shares=["64", "64", ""])
    mine = mine.rename(columns={"app": "function", "runtime_ms": "mean_duration_ms"})
    table = MeasurementTable.from_frame(mine, app_column="function", target="mean_duration_ms")
    assert list(table.frame.columns) == [
        *("app", "memory_mb", "cpu_shares", "runtime_ms", "outcome", "heap_used_mb_mean", "heap_used_mb_cov", "cost")
    ]
    assert table.config_columns == ("memory_mb", "cpu_shares")
    assert table.metric_names == ("heap_used_mb",)
    assert table.frame["memory_mb"].dtype == np.int64
    assert table.frame["cpu_shares"].tolist()[:2] == [64.0, 64.0]
    assert np.isnan(table.frame["cpu_shares"][2])


def test_categorical_and_conditional_configuration() -> None:
    mine = frame(family=["x86", "arm", None], disk=["2", None, ""])
    table = MeasurementTable.from_frame(mine, config_columns=["family", "disk"])
    assert table.config_columns == ("family", "disk")
    assert table.frame["disk"].tolist()[0] == 2.0
    assert table.frame["family"].isna().tolist() == [False, False, True]
    assert len(table.configurations) == 3


def test_the_frame_is_a_copy() -> None:
    table = MeasurementTable.from_frame(frame())
    taken = table.frame
    taken.loc[0, "runtime_ms"] = -1.0
    assert table.frame["runtime_ms"].min() > 0


def test_selections_are_tables() -> None:
    table = MeasurementTable.from_frame(frame(outcome=["ok", "timeout", "ok"], runtime_ms=[5, None, 7]))
    assert len(table.ok()) == 2
    assert table.of_apps(["b"]).apps == ("b",)
    with pytest.raises(DataFormatError, match="no application 'c'"):
        table.of_apps(["a", "c"])


def test_from_measurements() -> None:
    means = {name: 1.0 + i for i, name in enumerate(METRICS)}
    good = Measurement("a", "lambda", ResourceConfig(128), Outcome.OK, 3, 5.0, 0.1, means, {"rss_mb": 0.2})
    dead = Measurement("a", "lambda", ResourceConfig(64), Outcome.OUT_OF_MEMORY, 0, None, None, detail="killed")
    table = MeasurementTable.from_measurements([good, dead], card={"machine": "m"})
    assert table.metric_names == METRICS
    assert "cpu_shares" not in table.frame
    assert table.frame["detail"].tolist()[1] == "killed"
    assert table.frame["outcome"].tolist() == ["ok", "out_of_memory"]
    assert table.card == {"machine": "m"}
    assert "detail" not in MeasurementTable.from_measurements([good]).frame
    assert "no data rows" in refusal(pd.DataFrame(columns=["app", "memory_mb", "runtime_ms"]))
    with pytest.raises(DataFormatError, match="no data rows"):
        MeasurementTable.from_measurements([])


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "expected", "advice"),
    [
        ("runtime_s", "runtime_ms", "multiply by 1000 "),
        ("duration_us", "runtime_ms", "divide by 1000 "),
        ("duration_ms", "runtime_ms", "rename it"),
        ("memory_gb", "memory_mb", "multiply by 1024 "),
        ("memory_bytes", "memory_mb", "divide by 1048576 "),
        ("memory_kb", "memory_mb", "divide by 1024 "),
        ("mem_MiB", "memory_mb", "rename it"),
        ("user_cpu_us_mean", "user_cpu_ms_mean", "divide by 1000 "),
        ("heap_used_bytes_mean", "heap_used_mb_mean", "divide by 1048576 "),
        ("fs_read_kb_mean", "fs_read_bytes_mean", "multiply by 1024 "),
        ("heap_used_bytes_cov", "heap_used_mb_cov", "rename it"),
    ],
)
def test_names_in_another_unit_say_the_factor(column: str, expected: str, advice: str, tmp_path: Path) -> None:
    renamed = frame().rename(columns={expected: column})
    wrong = renamed if column in renamed else renamed.assign(**{column: 1.0})
    for source in (wrong, csv_file(tmp_path, wrong.to_csv(index=False))):
        message = refusal(source)
        assert repr(column) in message
        assert repr(expected) in message
        assert advice in message + " "


def test_a_target_named_in_another_unit_is_refused() -> None:
    mine = frame().rename(columns={"runtime_ms": "duration_us"})
    assert "divide by 1000" in refusal(mine, target="duration_us")


def test_a_column_in_our_unit_beside_another_is_no_doubt() -> None:
    assert "runtime_s" in MeasurementTable.from_frame(frame(runtime_s=[0.005, 0.0025, 0.007])).frame


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"runtime_ms": [5, -1, 7]}, "row 2, column 'runtime_ms': expected a number above 0, got -1"),
        ({"runtime_ms": [5, 0, 7]}, "row 2, column 'runtime_ms': expected a number above 0, got 0"),
        ({"runtime_ms": [5, "5 ms", 7]}, "row 2, column 'runtime_ms': expected a number, got '5 ms'"),
        ({"runtime_ms": [5, "2,5", 7]}, "decimal point"),
        ({"runtime_ms": [5, None, 7]}, "an empty runtime_ms needs an outcome other than ok"),
        ({"runtime_ms": [5, float("inf"), 7]}, "expected a finite number, got inf"),
        ({"runtime_ms": [5, 2.5, 9e7]}, "row 3, column 'runtime_ms': expected milliseconds, at most one day"),
        ({"runtime_ms": [True, False, True]}, "expected a number, got 'True'"),
        ({"runtime_ms": [1 + 2j, 1, 1]}, "expected a number"),
        ({"memory_mb": [0.125, 0.25, 0.125]}, "row 1, column 'memory_mb': expected MiB from 16 to 10000000, got 0.125"),
        ({"memory_mb": [2**27, 2**28, 2**27]}, "divide bytes by 1048576"),
        ({"memory_mb": [16, 32, 16]}, "multiply by 1024"),
        ({"memory_mb": [128, None, 128]}, None),
        ({"app": ["a", " ", "b"]}, "row 2, column 'app': expected a value, got an empty cell"),
        ({"platform": ["x", None, "x"]}, "row 2, column 'platform': expected a value"),
        ({"outcome": ["ok", "crashed", "ok"]}, "expected one of ok, out_of_memory, timeout, error, got 'crashed'"),
        ({"n_invocations": [1, 0, 1]}, "expected a whole number of at least 1, got 0"),
        ({"n_invocations": [1, 1.5, 1]}, "expected a whole number, got 1.5"),
        ({"n_invocations": [10, 10, 10], "runtime_cov": [0.1, 7.5, 0.1]}, "divide percent by 100"),
        ({"runtime_cov": [0.1, -0.1, 0.1]}, "expected a number of at least 0, got -0.1"),
        ({"rss_mb_mean": [1, -1, 1]}, "column 'rss_mb_mean': expected a number of at least 0"),
        ({"own_mean": [1, "?", 1]}, "column 'own_mean': expected a number, got '?'"),
        ({"user_cpu_ms_mean": [5e3, 2e3, 7e3]}, "Sizeless's userDiff is in µs"),
        ({"cpu_shares": [0, 64, 64]}, "column 'cpu_shares': expected a number above 0"),
    ],
)
def test_values_that_break_the_schema(columns: dict[str, object], said: str | None) -> None:
    if said is None:
        assert MeasurementTable.from_frame(frame(**columns)).frame["memory_mb"].isna().sum() == 1
    else:
        assert said in refusal(frame(**columns))


def test_a_negative_own_metric_is_no_error() -> None:
    assert MeasurementTable.from_frame(frame(drift_mean=[-1, 0, 1])).metric_names == ("drift",)


def test_five_problems_are_spelt_out_and_the_rest_counted() -> None:
    many = pd.DataFrame({"app": [f"a{i}" for i in range(9)], "memory_mb": 128, "runtime_ms": -1.0})
    message = refusal(many)
    assert message.count("expected a number above 0") == 5
    assert "row 5," in message
    assert "row 6," not in message
    assert "and 4 more" in message


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["application", "memory_mb", "runtime_ms"], "no column 'app'"),
        (["app", "memory_mb", "duration"], "if 'duration' is in milliseconds, rename it"),
        (["app", "memory_mb", "seconds"], "no column 'runtime_ms'"),
        (["app", "memory", "runtime_ms"], "if 'memory' is in MiB, rename it to 'memory_mb'"),
        (["app", "size", "runtime_ms"], "config_columns="),
        (["app", "app", "runtime_ms"], "two or more columns are called 'app'"),
        (["f_name", "f_size", "duration_mean"], "load_sizeless"),
    ],
)
def test_missing_and_doubled_columns(columns: list[str], said: str) -> None:
    assert said in refusal(pd.DataFrame([["a", 128, 5.0]], columns=columns))


def test_declared_columns_must_make_sense() -> None:
    assert "no configuration column 'disk'" in refusal(frame(), config_columns=["disk"])
    assert "cannot be a configuration column" in refusal(frame(), config_columns=["runtime_ms"])
    assert "as you named it" in refusal(frame(), target="latency")
    assert "must be plain JSON" in refusal(frame(), card={"when": pd.Timestamp("2026-01-01")})


# -- repeats ---------------------------------------------------------------------------------------------------------


def test_repeats_are_refused_by_both_rows_or_averaged(tmp_path: Path) -> None:
    twice = frame(memory_mb=[128, 128, 128], n_invocations=[1, 3, 1])
    message = refusal(twice)
    assert "row 1 and row 2" in message
    assert "app=a, memory_mb=128" in message
    assert "average_repeats=True" in message
    assert "row 1 (line 2) and row 2 (line 3)" in refusal(csv_file(tmp_path, twice.to_csv(index=False)))
    table = MeasurementTable.from_frame(twice, average_repeats=True)
    assert table.frame["runtime_ms"].tolist() == [(5 + 3 * 2.5) / 4, 7.0]
    assert table.frame["n_invocations"].tolist() == [4, 1]


def test_a_repeat_that_failed_is_not_averaged() -> None:
    rows = frame(memory_mb=128, outcome=["timeout", "ok", "error"], runtime_ms=[900, 2.5, None], note=["x", "y", "z"])
    table = MeasurementTable.from_frame(rows, average_repeats=True)
    assert table.frame["outcome"].tolist() == ["ok", "error"]
    assert table.frame["runtime_ms"].tolist()[0] == 2.5
    assert table.frame["note"].tolist() == ["y", "z"]


@settings(deadline=None)
@given(st.lists(st.lists(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=6), min_size=1, max_size=4), min_size=1))
def test_averaged_spread_is_that_of_all_invocations(groups: list[list[list[float]]]) -> None:
    repeats = [np.array(values) for group in groups for values in group]
    means = np.array([values.mean() for values in repeats])
    covs = np.array([values.std(ddof=1) / values.mean() if values.size > 1 else np.nan for values in repeats])
    counts = np.array([float(values.size) for values in repeats])
    number = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    found = pooled_covs(means, covs, counts, number)
    for group, cov in zip(groups, found, strict=True):
        everything = np.concatenate([np.array(values) for values in group])
        if everything.size < 2:
            assert np.isnan(cov)
        else:
            assert cov == pytest.approx(everything.std(ddof=1) / everything.mean(), rel=1e-6, abs=1e-9)


def test_repeats_far_apart_keep_their_place_and_missing_metrics_count_for_nothing() -> None:
    rows = pd.DataFrame(
        {
            "app": ["a", "b", "a", "c", "a"],
            "memory_mb": 128,
            "runtime_ms": [1.0, 7.0, 3.0, None, 5.0],
            "outcome": ["ok", "ok", "ok", "timeout", "ok"],
            "rss_mb_mean": [10.0, 1.0, None, None, 30.0],
            "rss_mb_cov": [0.1, 0.2, None, None, 0.1],
            "price": [1.0, 2.0, 3.0, 4.0, 8.0],
        }
    )
    table = MeasurementTable.from_frame(rows, average_repeats=True)
    assert table.frame["app"].tolist() == ["a", "b", "c"]
    assert table.frame["runtime_ms"].tolist()[:2] == [3.0, 7.0]
    assert table.frame["rss_mb_mean"].tolist()[:2] == [20.0, 1.0]
    assert table.frame["rss_mb_cov"].tolist()[:2] == [pytest.approx(np.std([10, 30], ddof=1) / 20), 0.2]
    assert table.frame["price"].tolist() == [4.0, 2.0, 4.0]
    assert len(MeasurementTable.from_frame(rows.head(2), average_repeats=True)) == 2
