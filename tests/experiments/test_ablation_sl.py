"""The ablation: what each variant changes, and that a run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from flashfm.experiments import ablation_sl, evaluation
from flashfm.experiments.ablation_sl import DEFAULT, variants
from flashfm.experiments.ours import Ours
from flashfm.pretraining.supervised import PretrainConfig
from flashfm.tasks.config_search import Observations


def test_each_variant_changes_one_thing(tmp_path: Path) -> None:
    config = PretrainConfig()
    found = {method.name: method for method in variants(tmp_path, config, metrics=True)}

    def settings(name: str) -> PretrainConfig:
        ours = found[name].method  # type: ignore[attr-defined]
        assert isinstance(ours, Ours)
        return ours.config

    assert next(iter(found)) == DEFAULT
    assert settings(DEFAULT) == config
    assert config.network.meta.kind == "gru"
    for name, kind in (("LSTM", "lstm"), ("transformer", "transformer"), ("set encoder", "set")):
        assert settings(name).network.meta.kind == kind
    assert not settings("no embedding").network.use_embedding
    assert settings("no metrics") == settings("no network") == config
    assert found["no network"].method.name == "flashfm without network"  # type: ignore[attr-defined]
    stores = [m.method.store for m in found.values() if m.name not in ("no network", "one member")]  # type: ignore[attr-defined]
    assert len(set(stores)) == len(stores), "models of two variants are never mixed up"
    assert "no metrics" not in {method.name for method in variants(tmp_path, config, metrics=False)}


def test_a_run_goes_on_and_compares_with_the_default(
    synthetic: Callable[..., pd.DataFrame],
    observe: Callable[..., Observations],
    small: PretrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = {"lambda": observe(synthetic(15)), "cloudbandit": observe(synthetic(15, metrics=False))}
    monkeypatch.setattr(evaluation, "load", data.__getitem__)
    monkeypatch.setattr(evaluation, "QUICK_SETS", 4)
    monkeypatch.setattr(ablation_sl, "TUNED_PAIRS", 2)
    monkeypatch.setattr(ablation_sl, "TUNED_SETS", 1)
    monkeypatch.setattr(ablation_sl, "QUICK", replace(small, least_steps=20, most_steps=20, likeness_steps=2, sets=2))
    monkeypatch.setattr(ablation_sl, "KINDS", {"set encoder": "set"})
    seen: list[tuple[int, int]] = []
    path = ablation_sl.run(tmp_path / "out", tmp_path / "results", quick=True, on_step=lambda *s: seen.append(s))
    total = (6 + 5) * 3 + 2 * 3
    assert seen == [(i + 1, total) for i in range(total)]
    content = json.loads(path.read_text())
    rows = {(r["dataset"], r["method"], r["metric"], r["shots"]): r for r in content["rows"]}
    for difference in content["differences"]:
        assert difference["low"] <= difference["difference"] <= difference["high"]
        if difference["against"] == DEFAULT:
            key = (difference["dataset"], difference["method"], "APE", difference["shots"])
            default = rows[difference["dataset"], DEFAULT, "APE", difference["shots"]]
            assert difference["difference"] == pytest.approx(rows[key]["mean"] - default["mean"], abs=1e-12)
    for mixed in content["mix"]:
        for k in ablation_sl.SHOTS:
            rival = rows[mixed["dataset"], "no network", "APE", k]["mean"]
            same = rows[mixed["dataset"], DEFAULT, "APE", k]["mean"] == pytest.approx(rival, abs=1e-12)
            assert same == (mixed["mix"][str(k)] == 0), "the network makes a difference where it has a weight"
    assert {d["shots"] for d in content["differences"] if d["method"] == "fine-tuned"} == {2, 3, 5}
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*") if file.is_file()}
    ablation_sl.run(tmp_path / "out", tmp_path / "results", quick=True)
    assert kept == {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert (tmp_path / "results" / "ablation-sl.png").exists()
    assert "95 % interval" in (tmp_path / "results" / "ablation-sl.md").read_text()
