"""Claims about the data set that ships with the package, checked on its rows."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from flashfm.applications.generator import generate_many
from flashfm.applications.segments import REAL
from flashfm.datasets.sources import load_measured
from flashfm.datasets.table import MeasurementTable
from flashfm.experiments.measured import cpu_bound, slowdowns
from flashfm.records import METRICS


@pytest.fixture(scope="module")
def table() -> MeasurementTable:
    return load_measured()


@pytest.fixture(scope="module")
def frame(table: MeasurementTable) -> pd.DataFrame:
    return table.frame


def test_it_is_small_enough_to_ship() -> None:
    assert len(files("flashfm.datasets").joinpath("measured.parquet").read_bytes()) <= 3 * 2**20


def test_applications_platforms_and_configurations(frame: pd.DataFrame) -> None:
    on_lambda = frame[frame.platform == "lambda"]
    assert on_lambda.app.nunique() >= 404
    assert set(REAL) <= set(on_lambda.app)
    assert sorted(on_lambda.memory_mb.unique()) == [128, 256, 512, 1024, 2048, 3008]
    assert (on_lambda.groupby("app").size() == 6).all()
    shared = frame[frame.platform.str.startswith("openwhisk")]
    assert shared.platform.nunique() == 2
    for _, level in shared.groupby("platform"):
        assert level.app.nunique() >= 154
        assert set(REAL) <= set(level.app)
        assert (level.groupby("app").size() >= 8).all()
        assert level[["memory_mb", "cpu_shares"]].drop_duplicates().shape[0] >= 8


def test_applications_are_those_of_the_stated_seed(frame: pd.DataFrame, table: MeasurementTable) -> None:
    (seed,) = table.card["seeds"]
    names = {app.name for app in generate_many(seed, 400)}
    assert set(frame.app) - set(REAL) == names


def test_every_configuration_was_called_at_least_ten_times_or_says_why(frame: pd.DataFrame) -> None:
    ok = frame[frame.outcome == "ok"]
    few = ok[ok.n_invocations < 10]
    assert (few.runtime_ms > 4000).all()
    assert len(ok) > 0.97 * len(frame)
    if len(ok) < len(frame):
        assert frame.loc[frame.outcome != "ok", "detail"].notna().all()


def test_metrics_are_rich_and_physical(frame: pd.DataFrame) -> None:
    ok = frame[frame.outcome == "ok"]
    for name in METRICS:
        assert ok[f"{name}_mean"].notna().all()
        assert (ok[f"{name}_mean"] >= 0).all()
    cpu = ok.user_cpu_ms_mean + ok.system_cpu_ms_mean
    assert (cpu <= ok.runtime_ms * 1.1 + 1).mean() > 0.99, "an instance runs one thread"
    assert (ok.rss_mb_mean <= ok.memory_mb * 1.35).all()


def test_cpu_bound_applications_slow_down_by_the_inverse_of_the_quota(frame: pd.DataFrame) -> None:
    """Within 15 % between 128 and 1,024 MB, where the quota falls to an eighth.

    The machine's own speed wavers, so single applications are judged at equal CPU time.
    """
    found = slowdowns(frame, cpu_bound(generate_many(0, 400)))
    assert len(found) >= 40
    assert found.ratio.median() == pytest.approx(8, rel=0.15)
    assert ((found.ratio_at_equal_cpu / 8 - 1).abs() < 0.15).mean() > 0.9


def test_sleeping_applications_do_not(frame: pd.DataFrame) -> None:
    names = {app.name for app in generate_many(0, 400) if {s.kind for s in app.segments} == {"sleep"}}
    asleep = frame[(frame.platform == "lambda") & frame.app.isin(names)]
    assert asleep.app.nunique() >= 3
    spread = asleep.groupby("app").runtime_ms.agg(lambda r: r.max() / r.min())
    assert (spread < 1.15).all()


def test_more_neighbours_and_fewer_shares_are_slower(frame: pd.DataFrame) -> None:
    ok = frame[(frame.outcome == "ok") & frame.platform.str.startswith("openwhisk")]
    wide = ok.pivot_table(index=["app", "memory_mb", "cpu_shares"], columns="platform", values="runtime_ms").dropna()
    few, many = sorted(wide.columns)
    assert np.log(wide[many] / wide[few]).mean() > 0.1
    by_shares = ok.groupby("cpu_shares").runtime_ms.median()
    assert by_shares.is_monotonic_decreasing


def test_the_card_says_where_it_comes_from(table: MeasurementTable) -> None:
    card = table.card
    assert {"title", "date", "command", "commit", "machine", "seeds", "campaigns", "limits", "noise"} <= set(card)
    noise = card["noise"]
    assert 0 < noise["repeat_soon_shape_mape"] < noise["repeat_soon_mape"] < 0.3
    assert 0 < noise["repeat_late_shape_mape"] < noise["repeat_late_mape"] < 0.3
