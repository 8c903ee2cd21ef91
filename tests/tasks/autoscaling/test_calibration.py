"""Costs of applications: read out of synthetic measurements whose costs are known, and those that ship."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashfm.applications.generator import generate_many, named
from flashfm.applications.spec import SegmentSpec
from flashfm.datasets.sources import load_measured
from flashfm.datasets.table import MeasurementTable
from flashfm.errors import DataFormatError, ModelError
from flashfm.tasks.autoscaling.calibration import (
    FLOORS,
    QUANTITIES,
    ApplicationCosts,
    CostModel,
    ShippedCosts,
    fit_error,
    from_measurements,
    load_costs,
)

SIZES = np.array([128.0, 256.0, 512.0, 1024.0, 2048.0, 3008.0])
QUOTA = np.minimum(1.0, SIZES / 1769)


def measured(cpu_ms: float, wait_ms: float, *, app: str = "a", cov: float = 0.1, moved: float = 0.0) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "app": app,
            "platform": "lambda",
            "memory_mb": SIZES,
            "runtime_ms": wait_ms + cpu_ms / QUOTA,
            "runtime_cov": cov,
            "user_cpu_ms_mean": 0.75 * cpu_ms,
            "system_cpu_ms_mean": 0.25 * cpu_ms,
            "rss_mb_mean": 40.0,
            "fs_read_bytes_mean": moved,
            "fs_write_bytes_mean": 0.0,
            "net_rx_bytes_mean": moved,
            "net_tx_bytes_mean": 0.0,
        }
    )


def costs_of(frame: pd.DataFrame) -> ApplicationCosts:
    (found,) = from_measurements(MeasurementTable.from_frame(frame))
    return found


@given(st.floats(0.5, 500.0), st.floats(0.0, 500.0))
def test_cpu_time_and_wait_are_told_apart_by_the_quota(cpu_ms: float, wait_ms: float) -> None:
    found = costs_of(measured(cpu_ms, wait_ms))
    assert found.cpu_s == pytest.approx(cpu_ms / 1e3, rel=1e-3)
    assert found.wait_s == pytest.approx(wait_ms / 1e3, rel=1e-3, abs=1e-6)
    assert found.measured


def test_one_size_that_was_disturbed_does_not_spoil_the_fit() -> None:
    frame = measured(20, 30)
    frame.loc[2, "runtime_ms"] *= 3
    found = costs_of(frame)
    assert found.cpu_s == pytest.approx(0.02, rel=0.05)
    assert found.wait_s == pytest.approx(0.03, rel=0.05)


def test_the_wait_is_never_negative() -> None:
    frame = measured(20, 0)
    frame.loc[4:, "runtime_ms"] *= 0.8
    assert costs_of(frame).wait_s == 0


def test_the_tail_grows_with_the_spread_and_memory_with_the_bytes_that_a_request_moves() -> None:
    steady, wide = costs_of(measured(20, 30, cov=0.0)), costs_of(measured(20, 30, cov=0.5, moved=2**20))
    assert steady.tail == 1
    draws = np.random.default_rng(0).lognormal(0, np.sqrt(np.log(1.25)), 1_000_000)
    assert wide.tail == pytest.approx(np.quantile(draws, 0.99) / np.quantile(draws, 0.5), rel=0.01)
    assert wide.memory_request_mib == pytest.approx(steady.memory_request_mib + 2)
    assert wide.memory_base_mib == 40


def test_the_error_of_the_fit_is_that_of_its_run_times() -> None:
    frame = measured(20, 30)
    table = MeasurementTable.from_frame(frame)
    off = ApplicationCosts("a", 0.02, 0.06, 1.2, 40.0, 1.0)
    expected = 30 / frame["runtime_ms"].to_numpy()
    assert fit_error(table, [off])["median"].to_numpy() == pytest.approx(expected)
    assert fit_error(table, from_measurements(table))["p90"].max() < 1e-3


def test_tables_without_what_is_needed_are_refused() -> None:
    frame = measured(20, 30)
    with pytest.raises(DataFormatError, match="no column 'rss_mb_mean'"):
        costs_of(frame.drop(columns="rss_mb_mean"))
    with pytest.raises(DataFormatError, match="no row of platform 'lambda'"):
        costs_of(frame.assign(platform="openwhisk-1"))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_costs_that_make_no_sense_are_refused(value: Any) -> None:
    with pytest.raises(ModelError, match="cpu_s is"):
        ApplicationCosts("a", value, 0.0, 1.0, 10.0, 0.0)


@pytest.fixture(scope="module")
def known() -> tuple[list[Any], list[ApplicationCosts]]:
    """Sixty applications whose CPU time is 1 ms a segment, and 0.2 us for every floating-point operation."""
    specs = generate_many(1, 60)

    def cpu_s(spec: Any) -> float:
        return sum(1e-3 + 2e-7 * int(p.params.get("operations", 0)) for p in spec.segments)

    return specs, [ApplicationCosts(spec.name, cpu_s(spec), 0.01, 1.5, 40.0, 1.0) for spec in specs]


@pytest.fixture(scope="module")
def model(known: tuple[list[Any], list[ApplicationCosts]]) -> CostModel:
    return CostModel.fit(*known, folds=2)


def test_a_cost_model_adds_up_what_segments_cost(model: CostModel) -> None:
    spec = named(
        [SegmentSpec("floating-point", {"operations": 100_000}), SegmentSpec("floating-point", {"operations": 1})]
    )
    found = model.predict(spec)
    assert found.cpu_s == pytest.approx(2e-3 + 2e-7 * 100_001, rel=0.05)
    assert found.wait_s == pytest.approx(0.01, rel=0.05)
    assert (found.name, found.tail, found.measured) == (spec.name, 1.5, False)


def test_a_cost_model_is_the_same_after_json(model: CostModel) -> None:
    again = CostModel.from_dict(json.loads(json.dumps(model.to_dict())))
    for spec in generate_many(1, 60):
        assert again.predict(spec).cpu_s == pytest.approx(model.predict(spec).cpu_s, rel=1e-5)
    assert again.error == model.error


def test_a_cost_model_needs_costs_for_each_application_and_enough_of_them(
    known: tuple[list[Any], list[ApplicationCosts]],
) -> None:
    with pytest.raises(ModelError, match="60 applications, 59 costs"):
        CostModel.fit(known[0], known[1][1:])
    with pytest.raises(ModelError, match="3 costs and 5 folds"):
        CostModel.fit(known[0][:3], known[1][:3])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("tail"), "expected an object"),
        (lambda d: d["parts"].pop("cpu_s"), "parts: expected cpu_s"),
        (lambda d: d.update(tail="1"), "tail: expected a finite number, got '1'"),
        (lambda d: d["error"].update(cpu_s=None), "cpu_s: expected a finite number, got None"),
    ],
)
def test_damaged_models_are_refused(model: CostModel, change: Callable[[dict[str, Any]], object], says: str) -> None:
    data = json.loads(json.dumps(model.to_dict()))
    change(data)
    with pytest.raises(ModelError, match=says):
        CostModel.from_dict(data)


def test_the_shipped_costs_are_those_of_the_measured_data_set_and_of_the_generator() -> None:
    shipped = load_costs()
    assert [one.name for one in shipped.costs] == [spec.name for spec in generate_many(0, 1000)]
    measured = {one.name: one for one in from_measurements(load_measured())}
    assert sum(one.measured for one in shipped.costs) == 400
    for one in shipped.costs[:400]:
        for name in QUANTITIES:
            assert getattr(one, name) == pytest.approx(getattr(measured[one.name], name), rel=1e-3), one.name


def test_the_shipped_model_foretells_applications_that_it_has_not_seen() -> None:
    shipped = load_costs()
    assert set(shipped.model.error) == set(FLOORS)
    assert shipped.model.error["cpu_s"] < 0.08
    assert shipped.model.error["memory_base_mib"] < 0.05
    assert max(row["median"] for row in shipped.fit_error.values()) < 0.1


def test_updates_of_applications_cost_more() -> None:
    shipped = load_costs()
    small = SegmentSpec("image-resize", {"side": 40, "images": 10})
    large = SegmentSpec("image-resize", {"side": 160, "images": 10})
    assert shipped.model.predict(named([large])).cpu_s > 5 * shipped.model.predict(named([small])).cpu_s


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(format=2), "of format 1"),
        (lambda d: d.pop("model"), "expected applications, columns"),
        (lambda d: d.update(columns=["name"]), "expected applications with name, cpu_s"),
        (lambda d: d["applications"].append(["x", 1]), "application 1000: expected 7 values"),
        (lambda d: d["applications"][0].__setitem__(1, -1.0), "cpu_s is -1.0"),
    ],
)
def test_damaged_files_are_refused(change: Callable[[dict[str, Any]], object], says: str) -> None:
    data = json.loads(load_costs().to_json())
    change(data)
    with pytest.raises(ModelError, match=says):
        ShippedCosts.from_json(json.dumps(data), "costs.json")
    with pytest.raises(ModelError, match="no JSON"):
        ShippedCosts.from_json("{", "costs.json")
