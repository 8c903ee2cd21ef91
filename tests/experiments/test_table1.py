"""Table 1 from end to end on a small synthetic world, and what its figures mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.errors import DataError, DataMissingError
from flashfm.experiments import evaluation
from flashfm.experiments.evaluation import Scores
from flashfm.experiments.printed import FLASH, PRINTED, SIZELESS, TEST, TITLES, TRAIN
from flashfm.experiments.table1 import METHODS, Table1Config, assemble, common, reduction, run, stored
from flashfm.pretraining.paper import PaperConfig
from flashfm.pretraining.supervised import PretrainConfig
from flashfm.tasks.config_search import Observations


@pytest.fixture
def world(
    monkeypatch: pytest.MonkeyPatch, observe: Callable[..., Observations], synthetic: Callable[..., pd.DataFrame]
) -> Observations:
    """Sixteen synthetic applications in place of `lambda`; no other data set is on the machine."""
    data = observe(synthetic(16))

    def load(name: str) -> Observations:
        if name != "lambda":
            raise DataMissingError(f"data set {name!r} is not on this machine")
        return data

    monkeypatch.setattr(evaluation, "load", load)
    return data


@pytest.fixture
def tiny(small: PretrainConfig) -> Table1Config:
    """A run of seconds."""
    quick = Table1Config.of(quick=True, datasets=["lambda", "cloudbandit"])
    return replace(quick, sets=3, paper=PaperConfig(epochs=1, sets_per_epoch=32), pretrain=replace(small, members=1))


def scores(ape: list[float], pair: list[int]) -> Scores:
    """Scores of one split, each pair asked for configurations 0, 1, …"""
    return Scores(np.array(pair), np.arange(len(pair)), np.array(ape), 0.0)


def test_a_run_fills_the_table_and_goes_on_where_it_was_stopped(
    world: Observations, tiny: Table1Config, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    folder, results = tmp_path / "scores", tmp_path / "results"
    path = run(folder, results, tiny, models=tmp_path / "models", on_step=lambda *step: told.append(step))
    assert told[-1][0] == told[-1][1]
    assert sorted(told) == told
    content = json.loads(path.read_text())
    assert {"name", "commit", "command", "machine", "protocol", "seeds", "rows"} <= set(content)
    assert content["command"].endswith("--quick")
    assert content["protocol"].startswith("quick")
    assert list(content["left_out"]) == ["cloudbandit"]
    found = {(row["method"], row["metric"], row["shots"]) for row in content["rows"]}
    for method in METHODS:
        assert {(method, metric, k) for metric in (TEST, TRAIN) for k in (1, 2, 3)} <= found
        assert ((method, TEST, 5) in found) == (method not in (SIZELESS, FLASH))
    page = path.with_suffix(".md").read_text()
    assert TITLES["lambda"] in page
    assert "0.360/0.400/0.336" in page
    assert "repeat noise, measured again straight after" in page
    assert "Left out: cloudbandit" in page
    assert path.with_suffix(".png").stat().st_size > 10_000

    kept = {file: file.stat().st_mtime_ns for file in folder.rglob("*.npz")}
    (folder / "lambda" / "LightGBM" / "00-k2.npz").unlink()
    again = run(folder, results, tiny, models=tmp_path / "models")
    after = {file: file.stat().st_mtime_ns for file in folder.rglob("*.npz")}
    assert set(after) == set(kept)
    assert sum(after[file] != kept[file] for file in kept) == 1
    assert json.loads(again.read_text())["rows"][0]["mean"] == content["rows"][0]["mean"]


def test_assembling_trains_nothing(world: Observations, tiny: Table1Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no scores of lambda, cloudbandit there"):
        run(tmp_path, tmp_path / "results", tiny, models=tmp_path / "models", only_assemble=True)
    assert not list(tmp_path.rglob("*.npz"))


def test_our_errors_are_those_of_the_protocol(world: Observations, tiny: Table1Config, tmp_path: Path) -> None:
    """What lies on disk is what `evaluation.score` finds of the same method and split."""
    method = tiny.methods(tmp_path)[3]
    assert method.name == METHODS[3]
    (split,) = evaluation.splits(world, 1)
    evaluation.run(method, world, [split], tmp_path / "lambda" / method.name, shots=[2], sets=3)
    fitted = method.fit(world.of_apps(split.train), shots=2, seed=0)
    test = [i for i, (app, _) in enumerate(world.pairs) if app in split.test]
    pair, _, ape = evaluation.score(fitted, world, test, 2, sets=3)
    rows, _ = assemble(tmp_path, ["lambda"])
    assert len(rows) == 1
    assert rows[0].mean == pytest.approx(np.mean([ape[pair == i].mean() for i in test]))
    assert (rows[0].n_pairs, rows[0].n_queries, rows[0].split) == (len(test), ape.size, "1 by application")


def test_methods_are_compared_on_the_splits_that_both_have() -> None:
    a, b = scores([0.1], [0]), scores([0.2], [0])
    tested = {"x": {0: a, 1: a, 3: a}, "y": {1: b, 3: b, 4: b}}
    assert [len(of) for of in common(tested, "x", "y")] == [2, 2]
    assert common(tested, "x", "z") == []
    assert common({"x": {0: a}, "y": {1: b}}, "x", "y") == []


def test_half_the_error_is_fifty_percent_less_whatever_the_pairs() -> None:
    rng = np.random.default_rng(0)
    of = [scores(rng.uniform(0.1, 1, 12).tolist(), np.repeat(np.arange(4), 3).tolist()) for _ in range(3)]
    half = [replace(s, ape=s.ape / 2) for s in of]
    found = reduction(half, of, apps=None)
    assert found["percent_less"] == pytest.approx(50)
    assert (found["low"], found["high"]) == (pytest.approx(50), pytest.approx(50))
    assert found["per_split"] == [50.0] * 3
    assert found["sd"] == pytest.approx(0)


def test_each_pair_weighs_the_same_in_a_reduction() -> None:
    """Pair 0 has three queries and no gain, pair 1 one query and is halved."""
    rival = [scores([0.2, 0.2, 0.2, 0.2], [0, 0, 0, 1])]
    ours = [scores([0.2, 0.2, 0.2, 0.1], [0, 0, 0, 1])]
    found = reduction(ours, rival, apps=None)
    assert found["percent_less"] == pytest.approx(25)
    assert found["low"] == pytest.approx(0)
    assert found["high"] == pytest.approx(50)


def test_a_reduction_draws_applications() -> None:
    """Pairs 0 and 1 are of one application, so no draw has one without the other."""
    rival = [scores([0.2, 0.2, 0.2], [0, 1, 2])]
    ours = [scores([0.2, 0.1, 0.1], [0, 1, 2])]
    apart = reduction(ours, rival, apps=["a", "b", "c"])
    together = reduction(ours, rival, apps=["a", "a", "c"])
    assert apart["percent_less"] == together["percent_less"] == pytest.approx(100 / 3)
    assert apart["low"] == pytest.approx(0)
    assert together["low"] == pytest.approx(25)
    assert apart["high"] == together["high"] == pytest.approx(50)


def test_the_printed_values_give_the_improvement_that_the_paper_prints() -> None:
    improved = {
        "lambda": (87.22, 90.50, 89.88),
        "openwhisk": (56.62, 52.36, 49.07),
        "cloudbandit": (34.11, 52.31, 37.72),
    }
    for name, expected in improved.items():
        printed = PRINTED[name]
        less = [100 * (1 - f / s) for f, s in zip(printed[FLASH][TEST], printed[SIZELESS][TEST], strict=True)]
        assert less == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", b"not a zip"])
def test_a_damaged_file_is_named(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "00-k1.npz").write_bytes(damage)
    with pytest.raises(DataError, match=r"00-k1\.npz: not what this experiment writes"):
        stored(tmp_path, 1)


def test_unknown_data_sets_and_splits_are_refused() -> None:
    with pytest.raises(DataError, match="no data set of this table is called 'sizeless'"):
        Table1Config.of(quick=False, datasets=["lambda", "sizeless"])
    with pytest.raises(DataError, match="21 splits"):
        Table1Config.of(quick=True, splits=21)


@pytest.mark.data
def test_a_quick_table_of_published_measurements(small: PretrainConfig, tmp_path: Path) -> None:
    try:
        evaluation.load("sizeless-selfhosted")
    except DataMissingError as error:
        pytest.skip(str(error))
    config = Table1Config.of(quick=True, datasets=["sizeless-selfhosted"])
    config = replace(config, sets=2, paper=PaperConfig(epochs=1, sets_per_epoch=32), pretrain=small)
    path = run(tmp_path / "scores", tmp_path, config, models=tmp_path / "models")
    rows = {(r["method"], r["metric"], r["shots"]): r for r in json.loads(path.read_text())["rows"]}
    assert {method for method, *_ in rows} == set(METHODS)
    assert rows["nearest applications", TEST, 1]["mean"] < 0.2
    assert rows["nearest applications", TEST, 1]["n_pairs"] == 6
