"""Fig. 5: three situations, their factors, and the example."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.datasets.table import MeasurementTable
from flashfm.experiments import evaluation, fig5
from flashfm.pretraining.paper import PaperConfig
from flashfm.pretraining.supervised import PretrainConfig
from flashfm.tasks.config_search import Observations


def contended(frame: pd.DataFrame) -> pd.DataFrame:
    """The two synthetic platforms under the names of the levels of contention."""
    return frame.assign(platform=frame["platform"].map({"fast": "openwhisk-1", "slow": "openwhisk-3"}))


def test_a_factor_is_the_ratio_of_medians_within_its_interval() -> None:
    rng = np.random.default_rng(0)
    pair = np.repeat(np.arange(20), 30)
    base = 0.05 * np.exp(rng.normal(size=pair.size))
    ratio, low, high = fig5.factor((pair, 3 * base), (pair, base))
    assert ratio == pytest.approx(3)
    assert low < 3 < high
    assert high - low < 3


def test_the_three_situations_share_no_query(
    synthetic: Callable[..., pd.DataFrame], observe: Callable[..., Observations]
) -> None:
    data = observe(contended(synthetic(10, platforms=("fast", "slow"))))
    split = evaluation.splits(data, 1)[0]
    base, new = (set(fig5.pairs_of(data, apps, "openwhisk-1").tolist()) for apps in (split.train, split.test))
    moved = set(fig5.pairs_of(data, split.train, "openwhisk-3").tolist())
    assert len(base) == len(moved) == 8
    assert len(new) == 2
    assert not base & new
    assert not moved & (base | new)
    assert {data.pairs[i][0] for i in base} == {data.pairs[i][0] for i in moved} == set(split.train)


@pytest.fixture
def world(
    monkeypatch: pytest.MonkeyPatch, synthetic: Callable[..., pd.DataFrame], small: PretrainConfig
) -> dict[str, pd.DataFrame]:
    """Stands in for the measured data set, and the settings of seconds."""
    example = synthetic(1, seed=9, platforms=("fast",)).assign(app=fig5.EXAMPLE, platform="lambda")
    frames = {
        "openwhisk": contended(synthetic(15, platforms=("fast", "slow"))),
        "lambda": synthetic(15, platforms=("fast",)).assign(platform="lambda"),
    }

    def table(name: str, *, real: bool) -> MeasurementTable:
        return MeasurementTable.from_frame(example if real else frames[name])

    monkeypatch.setattr(evaluation, "table", table)
    monkeypatch.setattr(fig5, "QUICK_PAPER", PaperConfig(epochs=1, sets_per_epoch=32))
    monkeypatch.setattr(fig5, "QUICK_OURS", replace(small, least_steps=20, most_steps=20, likeness_steps=2, sets=2))
    monkeypatch.setattr(fig5, "DRAWS", 50)
    monkeypatch.setattr(evaluation, "QUICK_SETS", 4)
    return frames


def test_a_stopped_run_goes_on_and_every_situation_has_its_row(world: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = fig5.run(tmp_path / "out", tmp_path / "results", quick=True, on_step=lambda *step: seen.append(step))
    assert seen == [(i, 6) for i in range(1, 7)]
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*") if file.is_file()}
    first = json.loads(path.read_text())
    fig5.run(tmp_path / "out", tmp_path / "results", quick=True)
    assert kept == {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert json.loads(path.read_text())["rows"][0] == first["rows"][0]
    for method in ("Sizeless", "FLASH-Sizeless", "flashfm"):
        rows = [r for r in first["rows"] if r["method"] == method and r["dataset"] == "openwhisk"]
        means = {(r["metric"], r["split"]): r["median"] for r in rows}
        errors = {split: means["APE", split] for split in fig5.SITUATIONS}
        assert means["factor on the base's median APE", fig5.NEW_ENV] == pytest.approx(
            errors[fig5.NEW_ENV] / errors[fig5.BASE]
        )
    assert {r["mean"] for r in first["rows"] if r["method"] == "Sizeless, as printed"} == {0.04, 9.9, 16.0}
    curves = pd.DataFrame(first["example"])
    assert len(curves) == 3 * 3 * 6
    assert set(curves["from_mb"]) == set(fig5.FROM_MB)
    assert curves.groupby("memory_mb")["measured_ms"].nunique().eq(1).all(), "one measured curve beside all"
    assert (curves["runtime_ms"] > 0).all()
    assert {name.name for name in (tmp_path / "results").iterdir()} == {
        "fig5.json",
        "fig5.md",
        "fig5.png",
        "fig5-flash.png",
        "fig5-example.png",
    }
