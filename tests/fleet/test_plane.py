"""Places on the map: fixed by the model alone, whoever else is in a batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.fleet import FleetSettings, recommend, recommend_many
from flashfm.fleet.plane import plane_of
from flashfm.models.flash import FlashModel
from flashfm.tasks.config_search import Shots

PLAIN = FleetSettings(fine_tune=False, part_pairs=9)


def test_a_pair_lies_where_its_embedding_does(
    pretrained: FlashModel, regressor: FlashRegressor, many: Callable[..., pd.DataFrame]
) -> None:
    plane = plane_of(pretrained)
    assert plane is not None
    rows = many(8, 31, odd=False).groupby("app", sort=False).head(2)
    plan = recommend_many(regressor, rows, PLAIN).to_pandas()
    names = [f"{name}_mean" for name in pretrained.metric_names]
    for app, own in rows.groupby("app"):
        config = pretrained.space.locate(pretrained.space.check(own), pretrained.places)
        log = np.log(own["runtime_ms"].to_numpy())
        shots = Shots(config[None], log[None], own[names].to_numpy()[None])
        (expected,) = plane.project(pretrained.embed(shots))
        found = plan.loc[plan["app"] == app, ["map_x", "map_y"]].to_numpy()[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_neither_others_nor_sizes_off_the_grid_move_a_pair(
    regressor: FlashRegressor, many: Callable[..., pd.DataFrame]
) -> None:
    rows = many(20, 32)
    whole = recommend_many(regressor, rows, PLAIN).to_pandas()
    for app, own in rows.groupby("app"):
        alone = recommend_many(regressor, own, PLAIN).to_pandas()[["map_x", "map_y"]].to_numpy()
        expected = whole.loc[whole["app"] == app, ["map_x", "map_y"]].to_numpy()
        np.testing.assert_allclose(alone, expected, rtol=1e-4, atol=1e-5)
    without = rows.drop(columns=["user_cpu_ms_mean", "net_in_bytes_mean"])
    assert recommend_many(regressor, without, PLAIN).to_pandas()[["map_x", "map_y"]].notna().to_numpy().all()


def test_pairs_without_an_embedding_have_no_place(regressor: FlashRegressor, mixed: FlashModel) -> None:
    plan = recommend_many(regressor, pd.DataFrame({"app": ["idle"], "memory_mb": [None], "runtime_ms": [None]}), PLAIN)
    assert plan.to_pandas()[["map_x", "map_y"]].isna().to_numpy().all()
    assert plane_of(mixed) is None
    rows = pd.DataFrame({"app": ["a"], "memory_mb": [1024.0], "family": ["big"], "runtime_ms": [90.0]})
    found = recommend_many(FlashRegressor(mixed), rows, PLAIN).to_pandas()
    assert found[["map_x", "map_y"]].isna().to_numpy().all()


def test_the_plan_says_where_pretraining_lies(
    regressor: FlashRegressor, pretrained: FlashModel, many: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    many(12, 33).to_parquet(tmp_path / "rows.parquet")
    recommend(tmp_path / "rows.parquet", tmp_path / "plan.parquet", regressor, PLAIN)
    told = json.loads(pq.read_schema(tmp_path / "plan.parquet").metadata[b"flashfm"])["map"]
    points = np.array(told["points"])
    assert len(points) == len(pretrained.known) * (1 + (pretrained.bare is not None))
    assert 0 < told["explained"] <= 1
    plane = plane_of(pretrained)
    assert plane is not None
    assert pretrained.novelty is not None
    assert plane.explained == pytest.approx(told["explained"], abs=1e-4)
    np.testing.assert_allclose(plane.axes.T @ plane.axes, np.eye(2), atol=1e-9)
    turned = replace(
        pretrained, novelty=replace(pretrained.novelty, reference=-pretrained.novelty.reference), bare=None
    )
    other = plane_of(turned)
    same = plane_of(replace(pretrained, bare=None))
    assert other is not None
    assert same is not None
    np.testing.assert_allclose(other.axes, same.axes, atol=1e-6)
