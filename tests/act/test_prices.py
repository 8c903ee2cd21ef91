"""Prices: what a run costs, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashfm.act import LambdaPrice, Price, PriceTable, ResourcePrice, load_prices
from flashfm.act.prices import configuration_keys
from flashfm.errors import DataError, DataFormatError, ModelError


def frame(**columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_lambda_charges_memory_time_and_requests() -> None:
    cost = LambdaPrice().per_run(frame(memory_mb=[1024, 512]), np.array([100.0, 100.0]))
    assert cost == pytest.approx([0.1 * 0.0000166667 + 2e-7, 0.05 * 0.0000166667 + 2e-7], rel=1e-12)
    arm = LambdaPrice.arm().per_run(frame(memory_mb=[1024]), np.array([1000.0]))
    assert arm == pytest.approx([0.0000133334 + 2e-7], rel=1e-12)


def test_lambda_bills_whole_milliseconds_and_memory_alone() -> None:
    rows = frame(memory_mb=[1024.0] * 4, cpu_shares=[128, 256, 512, None])
    cost = LambdaPrice(usd_per_request=0.0).per_run(rows, np.array([0.3, 1.0, 1.0000000001, 1.2]))
    assert cost / 0.0000166667 == pytest.approx([0.001, 0.001, 0.001, 0.002], rel=1e-12)


@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_a_longer_run_never_costs_less(a: float, b: float) -> None:
    rows = frame(memory_mb=[512, 512], vcpus=[1, 1])
    for price in (LambdaPrice(), ResourcePrice(1e-5, 0.04), PriceTable.from_frame({"vcpus": [1], "usd_per_hour": [2]})):
        low, high = price.per_run(rows, np.array([min(a, b), max(a, b)]))
        assert 0 < low <= high


def test_resources_by_the_second() -> None:
    price = ResourcePrice(
        usd_per_gb_second=2.0, usd_per_vcpu_hour=3600.0, vcpu_column="cpu_shares", units_per_vcpu=1024.0
    )
    cost = price.per_run(frame(memory_mb=[512], cpu_shares=[256]), np.array([1000.0]))
    assert cost == pytest.approx([2.0 * 0.5 + 0.25])
    only_cpu = ResourcePrice(usd_per_vcpu_hour=3600.0)
    assert only_cpu.per_run(frame(vcpus=[2]), np.array([500.0])) == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("column", "given_usd", "expected"),
    [("usd_per_hour", 36.0, 0.01), ("usd_per_second", 0.01, 0.01), ("usd_per_gb_second", 0.01, 0.005)],
)
def test_a_table_in_each_unit(column: str, given_usd: float, expected: float) -> None:
    price = PriceTable.from_frame({"memory_mb": [512, 1024], column: [given_usd, 2 * given_usd]})
    assert price.per_run(frame(memory_mb=[512.0]), np.array([1000.0])) == pytest.approx([expected])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_from_a_file(tmp_path: Path, suffix: str) -> None:
    table = frame(kind=["big", "small"], nodes=[2, 4], cores=[8, None], usd_per_hour=[3.6, 7.2])
    path = tmp_path / f"prices{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    price = load_prices(str(path))
    assert price.name == path.name
    assert isinstance(price, Price)
    asked = frame(nodes=[4.0, 2.0], kind=["small", "big"], cores=[np.nan, 8.0], further=["x", "y"])
    assert price.per_run(asked, np.array([1000.0, 2000.0])) == pytest.approx([0.002, 0.002])


def test_prices_by_name() -> None:
    assert load_prices("aws-lambda") == LambdaPrice()
    assert load_prices("aws-lambda-arm") == LambdaPrice.arm()


def test_resources_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps({"usd_per_vcpu_hour": 4, "vcpu_column": "cpu_shares", "units_per_vcpu": 1024}))
    assert load_prices(str(path)) == ResourcePrice(
        usd_per_vcpu_hour=4.0, vcpu_column="cpu_shares", units_per_vcpu=1024.0, name="cluster.json"
    )
    for content, said in [
        ("{", "not JSON"),
        ("[1]", "expected an object"),
        ('{"usd": 1}', "'usd'"),
        ('{"usd_per_vcpu_hour": "4"}', "usd_per_vcpu_hour: expected a number, got '4'"),
        ('{"usd_per_vcpu_hour": NaN}', "expected a number"),
        ('{"usd_per_vcpu_hour": 1e999}', "expected a number"),
        (f'{{"usd_per_vcpu_hour": 1{"0" * 400}}}', "expected a number"),
        ('{"usd_per_vcpu_hour": true}', "expected a number"),
        ('{"usd_per_vcpu_hour": 1, "name": 2}', "expected a text"),
        ("{}", "only zeros"),
        ('{"usd_per_vcpu_hour": -1}', "0 or more"),
        ('{"usd_per_vcpu_hour": 1, "units_per_vcpu": 0}', "units_per_vcpu"),
    ]:
        path.write_text(content)
        with pytest.raises(DataFormatError, match=said):
            load_prices(str(path))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"memory_mb": [1], "price": [1]}, "exactly one price column of usd_per_second.*got memory_mb, price"),
        ({"memory_mb": [1], "usd_per_hour": [1], "usd_per_second": [1]}, "got usd_per_hour, usd_per_second"),
        ({"usd_per_hour": [1]}, "configuration column once, such as memory_mb"),
        ({"memory_mb": [], "usd_per_hour": []}, "no data rows"),
        ({"memory_mb": [1, 2], "usd_per_hour": [1]}, "equal length"),
        ({"memory_mb": [1, 2], "usd_per_hour": [1, -1]}, "row 2, column 'usd_per_hour': expected .* got -1"),
        ({"memory_mb": [1, 2], "usd_per_hour": [None, 1]}, "row 1, column 'usd_per_hour': .* got an empty cell"),
        ({"memory_mb": [1, 2], "usd_per_hour": [float("inf"), 1]}, "row 1.*got inf"),
        ({"memory_mb": [1, 2], "usd_per_hour": ["1 USD", 1]}, "row 1.*got '1 USD'"),
        ({"memory_mb": [1, 1.0], "usd_per_hour": [1, 2]}, "row 2, column 'memory_mb'.*memory_mb=1 again"),
        ({"memory_mb": [1, 2], "usd_per_hour": [0, 0]}, "only zeros"),
    ],
)
def test_tables_that_are_refused(table: dict[str, list[object]], said: str) -> None:
    with pytest.raises(DataFormatError, match=said):
        PriceTable.from_frame(table)


def test_a_configuration_without_a_price_is_refused() -> None:
    table = PriceTable.from_frame({"memory_mb": [128, 256], "usd_per_hour": [1, 2]})
    with pytest.raises(ModelError, match=r"no price for memory_mb=512; .* such as memory_mb=128; memory_mb=256"):
        table.per_run(frame(memory_mb=[128, 512]), np.ones(2))
    with pytest.raises(ModelError, match="'memory_mb' is no configuration column, got nodes"):
        table.per_run(frame(nodes=[1]), np.ones(1))
    with pytest.raises(ModelError, match="need the configuration column 'memory_mb', got nodes"):
        LambdaPrice().per_run(frame(nodes=[1]), np.ones(1))
    with pytest.raises(ModelError, match="row 2, column 'memory_mb': expected a number above 0, got an empty cell"):
        LambdaPrice().per_run(frame(memory_mb=[128, None]), np.ones(2))


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_rates_that_are_none(rate: float) -> None:
    with pytest.raises(DataFormatError, match="usd_per_gb_second: expected USD, 0 or more"):
        LambdaPrice(usd_per_gb_second=rate)
    with pytest.raises(DataFormatError, match="only zeros"):
        ResourcePrice()


def test_prices_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'gcp': expected aws-lambda, aws-lambda-arm, or the path"):
        load_prices("gcp")
    for name in ("a.csv", "a.json", "a.parquet"):
        with pytest.raises(DataError, match=r"no such file|No such file"):
            load_prices(str(tmp_path / name))


def test_cells_are_read_once_for_each_different_value() -> None:
    frame = pd.DataFrame({"memory_mb": [512, "512", 1024.0, None, 512]}, dtype=object)
    keys = configuration_keys(frame)
    assert keys == [(512.0,), (512.0,), (1024.0,), (None,), (512.0,)]
    runtime = np.full(4, 100.0)
    one = LambdaPrice().per_run(pd.DataFrame({"memory_mb": [512, 1024, 512, 128]}), runtime)
    assert one[0] == one[2] != one[1]
    with pytest.raises(ModelError, match=r"row 4, column 'memory_mb'.*an empty cell"):
        LambdaPrice().per_run(frame, np.full(5, 1.0))
