"""Fleets of synthetic functions, and what one pair alone is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flashfm.act import Declined, Recommendation
from flashfm.adapt.fewshot import FlashRegressor
from flashfm.errors import FlashError
from flashfm.fleet import FleetSettings
from flashfm.fleet.parts import KEY
from flashfm.fleet.plan import PLACE, schema
from flashfm.tasks.space import ConfigSpace

if TYPE_CHECKING:
    from flashfm.models.flash import FlashModel

Rows = pd.DataFrame
Made = Callable[..., pd.DataFrame]
Checked = Callable[..., None]


@pytest.fixture(scope="session")
def regressor(pretrained: FlashModel) -> FlashRegressor:
    return FlashRegressor(pretrained)


@pytest.fixture(scope="session")
def many(synthetic: Callable[..., pd.DataFrame]) -> Made:
    """Makes rows of pairs with 1 to 6 shots: some twice, some between the sizes of the grid, some that failed."""
    every = synthetic(60, seed=11)
    apps = [rows.reset_index(drop=True) for _, rows in every.groupby("app")]

    def make(pairs: int, seed: int = 0, *, odd: bool = True) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        found = []
        for i in range(pairs):
            rows = apps[rng.integers(len(apps))].sample(int(rng.integers(1, 7)), random_state=int(rng.integers(1e6)))
            rows = rows.assign(app=f"app-{i:04d}", platform=str(rng.choice(["east", "west"])), outcome="ok")
            if odd and rng.random() < 0.3:
                rows = pd.concat([rows, rows.head(1).assign(runtime_ms=lambda frame: frame["runtime_ms"] * 1.1)])
            if odd and rng.random() < 0.3:
                rows.iloc[0, rows.columns.get_loc("memory_mb")] = rng.choice([300.0, 900.0, 1500.5])
            if odd and rng.random() < 0.3:
                ended = rows.iloc[-1:].assign(
                    outcome=rng.choice(["timeout", "out_of_memory", "error"]),
                    memory_mb=rng.choice([128.0, 400.0, 1024.0]),
                    runtime_ms=np.nan,
                )
                rows = pd.concat([rows, ended])
            if odd and rng.random() < 0.2:
                rows = rows.assign(user_cpu_ms_mean=np.nan, net_in_bytes_mean=np.nan)
            found.append(rows)
        return pd.concat(found, ignore_index=True)

    return make


def alone(model: FlashRegressor, rows: pd.DataFrame, settings: FleetSettings, today: dict[str, Any] | None) -> Any:
    """What one pair is told by itself: a decision, or the words of an error."""
    try:
        adapted = model.adapt(rows, fine_tune=settings.fine_tune, check_units=settings.check_units)
        return adapted.recommend(
            settings.objective,
            price=settings.price,
            max_slowdown=settings.max_slowdown,
            max_runtime_ms=settings.max_runtime_ms,
            strict=settings.strict,
            today=today,
        ), adapted
    except FlashError as error:
        return str(error), None


def check_row(row: Any, expected: Any, adapted: Any) -> None:
    """Hold a row of a plan against what the pair is told alone."""
    close = {"rel": 1e-5, "nan_ok": True}
    if isinstance(expected, str):
        assert (row["status"], row["reason"]) == ("bad", expected)
        return
    assert row["shots"] == len(adapted.shots)
    assert bool(row["fine_tuned"]) == adapted.fine_tuned
    assert row["p_value"] == pytest.approx(np.nan if adapted.novelty is None else adapted.novelty.p_value, **close)
    if isinstance(expected, Declined):
        assert (row["status"], row["reason"], row["mend"]) == ("declined", expected.reason, expected.mend)
        return
    assert isinstance(expected, Recommendation)
    assert row["status"] == ("stay" if expected.stay else "recommended")
    assert row["confidence"] == expected.confidence
    names = adapted.model.space.names
    for prefix, choice in (("", expected.choice), ("today_", expected.today)):
        if choice is None:
            assert np.isnan(row["today_runtime_ms"])
            continue
        assert {name: row[prefix + name] for name in names if pd.notna(row[prefix + name])} == choice.config
        assert row[f"{prefix}runtime_ms"] == pytest.approx(choice.runtime_ms.expected, **close)
        cost = np.nan if choice.usd_per_million is None else choice.usd_per_million.expected
        assert row[f"{prefix}usd_per_million"] == pytest.approx(cost, **close)
    assert row["measured"] == expected.choice.measured
    runtime, cost, saving = expected.choice.runtime_ms, expected.choice.usd_per_million, expected.saving
    for column, estimate in (("runtime_ms", runtime), ("usd_per_million", cost), ("saving", saving)):
        ends = ("lower_ms", "upper_ms") if column == "runtime_ms" else (f"{column}_lower", f"{column}_upper")
        told = (np.nan,) * 3 if estimate is None else (estimate.expected, estimate.lower, estimate.upper)
        found = [row[name] for name in (column, *ends)]
        assert found == pytest.approx(list(told), rel=1e-5, abs=1e-6, nan_ok=True)


@pytest.fixture(scope="session")
def as_alone() -> Checked:
    """Holds every row of a plan against what its pair is told alone."""

    def check(
        model: FlashRegressor,
        rows: pd.DataFrame,
        settings: FleetSettings,
        plan: pd.DataFrame,
        today: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        groups = dict(list(rows.groupby(["app", "platform"], sort=False)))
        assert [tuple(pair) for pair in plan[["app", "platform"]].to_numpy()] == list(groups)
        for own, row in zip(groups.values(), plan.to_dict("records"), strict=True):
            said = (today or {}).get(row["app"])
            check_row(row, *alone(model, own.reset_index(drop=True), settings, said))

    return check


@pytest.fixture(scope="session")
def same_plan() -> Callable[[pd.DataFrame, pd.DataFrame], None]:
    """Holds plans of the same pairs, worked out in other batches, against each other."""

    def check(one: pd.DataFrame, other: pd.DataFrame) -> None:
        decided = [frame.drop(columns=list(PLACE)) for frame in (one, other)]
        pd.testing.assert_frame_equal(*decided, rtol=1e-6, check_dtype=False)
        np.testing.assert_allclose(*(frame[list(PLACE)].to_numpy() for frame in (one, other)), rtol=1e-4, atol=1e-5)

    return check


# plans on disk

SPACE = ConfigSpace.fit(pd.DataFrame({"memory_mb": [128.0, 10_240.0, 512.0], "cpu_shares": [128.0, 1024.0, np.nan]}))


@pytest.fixture(scope="session")
def plan_of() -> Callable[..., Path]:
    """Writes a plan of given rows, in which what is not given is that of a recommended pair."""
    usual = {
        "platform": "lambda",
        "shots": 1,
        "status": "recommended",
        "memory_mb": 512.0,
        "runtime_ms": 110.0,
        "lower_ms": 100.0,
        "upper_ms": 140.0,
        "usd_per_million": 1.0,
        "usd_per_million_lower": 0.9,
        "usd_per_million_upper": 1.2,
        "measured": False,
        "today_memory_mb": 1024.0,
        "today_runtime_ms": 100.0,
        "today_usd_per_million": 2.0,
        "saving": 0.5,
        "saving_lower": 0.4,
        "saving_upper": 0.55,
        "confidence": "likely",
        "p_value": 0.5,
        "fine_tuned": False,
    }
    refused = {"platform": "lambda", "shots": 0}

    def write(path: Path, rows: Sequence[dict[str, Any]], space: ConfigSpace = SPACE, **told: Any) -> Path:
        known = set(schema(space).names)
        base = {name: value for name, value in usual.items() if name in known}
        full = [(refused if row.get("status") in ("declined", "bad") else base) | row for row in rows]
        metadata = {KEY: json.dumps({"version": 1, "run": {}, "summary": {}, **told}).encode()}
        table = pa.Table.from_pylist(full, schema=schema(space))
        pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=7)
        return path

    return write
