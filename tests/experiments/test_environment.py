"""The environment: hidden, given and wrong, on the same queries."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.applications.generator import generate_many
from flashfm.datasets.table import MeasurementTable
from flashfm.experiments import environment, evaluation, neighbours, novelty
from flashfm.experiments.environment import GIVEN, HIDDEN, WRONG, Swapped, given, mapped, swapped_places
from flashfm.pretraining.supervised import PretrainConfig
from flashfm.tasks.config_search import Observations, Shots


@pytest.fixture
def measured(synthetic: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Fifteen applications on `lambda`, and at two levels of contention with sizes as CPU shares."""
    frame = synthetic(15, platforms=("fast", "slow"))
    names = dict(zip(frame["app"].unique(), (app.name for app in generate_many(0, 15)), strict=True))
    frame = frame.assign(app=frame["app"].map(names))
    one = frame[frame["platform"] == "fast"].assign(platform="lambda", cpu_shares=np.nan)
    shared = frame[frame["memory_mb"] <= 1024].assign(cpu_shares=frame["memory_mb"])
    shared = shared.assign(platform=shared["platform"].map({"fast": "openwhisk-1", "slow": "openwhisk-3"}))
    return pd.concat([one, *(shared.assign(memory_mb=mb) for mb in (128.0, 512.0))], ignore_index=True)


def table(frame: pd.DataFrame, name: str = "measured") -> MeasurementTable:
    """As `evaluation.table`."""
    if name == "measured":
        return MeasurementTable.from_frame(frame, config_columns=["memory_mb", "cpu_shares"])
    rows = frame[frame["platform"].str.startswith(name)]
    if name == "lambda":
        return MeasurementTable.from_frame(rows.drop(columns="cpu_shares"), config_columns=["memory_mb"])
    return MeasurementTable.from_frame(rows, config_columns=["memory_mb", "cpu_shares"])


class Places:
    """Answers with the place of each configuration, and remembers what it was asked."""

    name = "places"
    per_shots = False
    asked: Shots

    def __init__(self, configs: int) -> None:
        self.configs = configs

    def fit(self, train: Observations, *, shots: int, seed: int) -> Places:
        return self

    def predict(self, shots: Shots) -> np.ndarray:
        self.asked = shots
        return np.tile(np.arange(1.0, self.configs + 1), (len(shots), 1))


def test_what_is_given_is_wrong_at_the_other_level_alone(measured: pd.DataFrame) -> None:
    told = given(table(measured))
    swap = swapped_places(told)
    assert np.array_equal(swap[swap], np.arange(len(told.grid))), "twice is back"
    before, after = told.grid, told.grid.iloc[swap].reset_index(drop=True)
    assert before["memory_mb"].equals(after["memory_mb"])
    assert before["cpu_shares"].equals(after["cpu_shares"])
    turned = dict(zip(before["environment"], after["environment"], strict=True))
    assert turned == {"lambda": "lambda", "openwhisk-1": "openwhisk-3", "openwhisk-3": "openwhisk-1"}
    places = Places(len(told.grid))
    pair = np.flatnonzero([platform == "openwhisk-1" for _, platform in told.pairs])[:1]
    shots = told.shots(pair, told.observed[pair[0]][None, :1])
    answer = Swapped("wrong", places, swap).fit(told, shots=1, seed=0).predict(shots)
    assert told.grid["environment"][places.asked.config[0, 0]] == "openwhisk-3"
    assert np.array_equal(answer[0], swap + 1.0), "each configuration is answered by what it is taken for"
    assert np.array_equal(places.asked.log_runtime, shots.log_runtime)


def test_queries_of_both_views_are_the_same(measured: pd.DataFrame) -> None:
    base, told = Observations.from_table(table(measured)), given(table(measured))
    assert len(base.grid) == 6 + 8
    assert len(told.grid) == 6 + 8 + 8
    found = []
    for data in (base, told):
        fitted = Places(len(data.grid)).fit(data, shots=2, seed=0)
        pair, config, ape = evaluation.score(fitted, data, range(len(data)), 2, sets=3)
        found.append(mapped(evaluation.Scores(pair, config, ape, 0.0), data, base))
    assert np.array_equal(found[0].pair, found[1].pair)
    assert np.array_equal(found[0].config, found[1].config)


def test_a_run_goes_on_and_says_all_there_is(
    measured: pd.DataFrame, small: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lightgbm")
    monkeypatch.setattr(evaluation, "table", lambda name, *, real: table(measured, name))
    monkeypatch.setattr(evaluation, "QUICK_SETS", 3)
    monkeypatch.setattr(neighbours, "DRAWS", 50)
    tiny = replace(small, members=1, least_steps=20, most_steps=20, likeness_steps=2, sets=2)
    monkeypatch.setattr(environment, "QUICK", tiny)
    seen: list[tuple[int, int]] = []
    path = environment.run(tmp_path / "out", tmp_path / "results", quick=True, on_step=lambda *s: seen.append(s))
    total = 12 * 3 + 3 + 1
    assert seen == [(i + 1, total) for i in range(total)]
    content = json.loads(path.read_text())
    rows = {(r["dataset"], r["method"], r["metric"], r["shots"]): r for r in content["rows"]}
    for k in environment.SHOTS:
        for platform in environment.PLATFORMS:
            for suffix in ("", ", no embedding", ", no metrics"):
                assert all((platform, f"{arm}{suffix}", "APE", k) in rows for arm in (HIDDEN, GIVEN, WRONG))
            assert (platform, "one model a platform", "APE", k) in rows
        right, wrong = (rows["lambda", arm, "APE", k]["mean"] for arm in (GIVEN, WRONG))
        assert right == wrong, "there is no other lambda to be taken for"
        right, wrong = (rows["openwhisk-3", f"{arm}, no metrics", "APE", k]["mean"] for arm in (GIVEN, WRONG))
        assert right < wrong
    for difference in content["differences"]:
        key = (difference["dataset"], difference["method"], "APE", difference["shots"])
        hidden = rows[difference["dataset"], HIDDEN, "APE", difference["shots"]]
        assert difference["difference"] == pytest.approx(rows[key]["mean"] - hidden["mean"], abs=1e-12)
    assert ("openwhisk-3", "model of openwhisk-1", novelty.METRIC, 1) in rows
    together = [
        r
        for r in content["rows"]
        if r["dataset"] == environment.EVERY
        and r["shots"] == 2
        and r["metric"] == novelty.METRIC
        and r["split"] == f"1, {novelty.KNOWN}"
    ]
    assert len(together) == 1
    assert together[0]["mean"] == pytest.approx(
        np.mean(
            [
                r["mean"]
                for r in content["rows"]
                if r["method"] == "model of lambda"
                and r["shots"] == 2
                and r["metric"] == novelty.METRIC
                and " shares" in r["dataset"]
                and r["dataset"] != environment.EVERY
                and r["split"] == f"1, {novelty.KNOWN}"
            ]
        )
    )
    assert set(content["neighbours"]) == {
        "nearest application is alike, dominant segment",
        "nearest application is alike, what it waits for",
    }
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*") if file.is_file()}
    environment.run(tmp_path / "out", tmp_path / "results", quick=True)
    assert kept == {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert (tmp_path / "results" / "environment.png").exists()
