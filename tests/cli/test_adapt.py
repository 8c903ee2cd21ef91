"""`flashfm adapt`, and what all commands that take shots refuse."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.cli import adapted


def test_the_result_answers_as_the_shots_do(flashfm, model: Path, shots: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapted"
    code, said, err = flashfm("adapt", shots, "--model", model, "--out", out)
    assert (code, err) == (0, "")
    for part in ("shots", "novelty", "most alike", "measure next", str(out)):
        assert part in said
    assert [path.name for path in out.iterdir()] == ["adapted.json"]
    later, now = (json.loads(flashfm("predict", *words, "--json")[1]) for words in ((out,), (shots, "--model", model)))
    assert later["predictions"] == now["predictions"]
    assert (later["shots"], later["fine_tuned"]) == (2, False)


def test_gradient_steps_are_kept_with_their_model(flashfm, pretrained, shots: Path, tmp_path: Path) -> None:
    out, moved = tmp_path / "tuned", tmp_path / "model"
    trusted = replace(pretrained.calibration, mix=np.ones_like(pretrained.calibration.mix))
    FlashRegressor(replace(pretrained, calibration=trusted)).save_pretrained(moved)
    code, said, _ = flashfm("adapt", shots, "--model", moved, "--fine-tune", "--out", out, "--json")
    assert code == 0
    assert json.loads(said)["fine_tuned"] is True
    frame = pd.read_csv(shots)
    expected = FlashRegressor.from_pretrained(moved).adapt(frame, fine_tune=True).predict()
    shutil.rmtree(moved)
    found = json.loads(flashfm("predict", out, "--json")[1])
    assert found["fine_tuned"] is True
    assert [row["runtime_ms"] for row in found["predictions"]] == pytest.approx(list(expected["runtime_ms"]), rel=1e-5)


def test_an_earlier_result_is_replaced_and_nothing_else(flashfm, model: Path, shots: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapted"
    words = ("adapt", shots, "--model", model, "--out", out)
    assert flashfm(*words, "--fine-tune")[0] == 0
    assert flashfm(*words, "--no-fine-tune")[0] == 0
    assert [path.name for path in out.iterdir()] == ["adapted.json"]
    (out / "mine.txt").touch()
    code, _, err = flashfm(*words)
    assert code == 8
    assert "mine.txt" in err
    code, _, err = flashfm(*words[:-1], model)
    assert code == 8
    assert "holds a model" in err
    assert FlashRegressor.from_pretrained(model).pairs


def test_one_pair_is_chosen_from_a_table(flashfm, model: Path, synthetic, tmp_path: Path) -> None:
    synthetic(2, platforms=("fast", "slow")).to_parquet(tmp_path / "table.parquet")
    words = ("adapt", tmp_path / "table.parquet", "--model", model, "--out", tmp_path / "adapted", "--json")
    code, _, err = flashfm(*words)
    assert code == 7
    assert "got 2 ('app-0-000', 'app-0-001'); choose one with --app" in err
    code, _, err = flashfm(*words, "--app", "app-0-001")
    assert code == 7
    assert "choose one with --platform" in err
    code, said, _ = flashfm(*words, "--app", "app-0-001", "--platform", "slow")
    assert code == 0
    found = json.loads(said)
    assert (found["app"], found["platform"], found["shots"]) == ("app-0-001", "slow", 6)
    assert found["next_measurement"] is None
    code, _, err = flashfm(*words, "--app", "other")
    assert code == 7
    assert "no row of application 'other'" in err


def test_columns_under_names_of_ones_own(flashfm, model: Path, csv, tmp_path: Path) -> None:
    path = csv(function=["f", "g"], memory_mb=[512, 512], took_ms=[80.0, 90.0])
    words = (path, "--model", model, "--target", "took_ms", "--pair-column", "function", "--app", "g")
    code, said, _ = flashfm("adapt", *words, "--out", tmp_path / "a", "--json")
    assert code == 0
    found = json.loads(said)
    assert (found["app"], found["shots"]) == ("g", 1)
    assert json.loads((tmp_path / "a" / "adapted.json").read_text())["shots"][0]["runtime_ms"] == 90.0


@pytest.mark.parametrize(
    ("columns", "code", "part"),
    [
        (
            {"memory_mb": [512], "runtime_ms": [-3.0]},
            3,
            "row 1 (line 2), column 'runtime_ms': expected a number above 0",
        ),
        ({"memory_mb": [512], "runtime_ms": [0.08]}, 7, "looks like seconds, not milliseconds"),
        ({"memory_mb": [4096], "runtime_ms": [80.0]}, 7, "expected a number from 128 to 3008, got 4096"),
        ({"memory_mb": [512], "runtime_s": [0.08]}, 3, "multiply by 1000"),
        ({"disk": [512], "runtime_ms": [80.0]}, 7, "none of the model's configuration columns (memory_mb)"),
        ({"memory_mb": [512, 128], "runtime_ms": [80.0, None]}, 3, "row 2"),
        ({"memory_mb": [], "runtime_ms": []}, 7, "configuration columns"),
    ],
    ids=["negative", "seconds", "unknown value", "seconds by name", "no configuration", "empty cell", "no rows"],
)
def test_bad_shots_are_refused_in_one_line(flashfm, model: Path, csv, tmp_path: Path, columns, code, part) -> None:
    path = csv(**columns)
    for words in (("adapt", path, "--out", tmp_path / "a"), ("predict", path), ("recommend", path)):
        found, said, err = flashfm(*words, "--model", model)
        assert (found, said) == (code, "")
        assert part in err
        assert err.count("\n") == 1
    assert not (tmp_path / "a").exists()


def test_a_doubt_about_the_unit_can_be_overruled(flashfm, model: Path, csv, tmp_path: Path) -> None:
    path = csv(memory_mb=[512], runtime_ms=[0.08])
    words = ("adapt", path, "--model", model, "--no-check-units", "--no-fine-tune", "--out", tmp_path / "a")
    assert flashfm(*words)[0] == 0
    assert flashfm("predict", tmp_path / "a")[0] == 0


def test_no_model_of_that_name(flashfm, shots: Path, tmp_path: Path) -> None:
    code, _, err = flashfm("adapt", shots, "--model", "serverless-memry", "--out", tmp_path / "a")
    assert code == 8
    assert "no model 'serverless-memry'" in err


def test_a_folder_is_no_file_of_shots(flashfm, model: Path, tmp_path: Path) -> None:
    code, _, err = flashfm("adapt", model, "--out", tmp_path / "a")
    assert code == 7
    assert "is a folder" in err


# -- a folder that is wrong ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(flashfm, model: Path, shots: Path, tmp_path: Path) -> Path:
    """What `flashfm adapt` wrote."""
    out = tmp_path / "adapted"
    assert flashfm("adapt", shots, "--model", model, "--no-fine-tune", "--out", out)[0] == 0
    return out


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"format": "other"}, "expected format 'flashfm-adapted'"),
        ({"format_version": 99}, "format version 99, known 1; upgrade"),
        ({"more": 1}, "field 'more' is unknown"),
        ({"model": None}, "field 'model': expected str, got NoneType"),
        ({"shots": [["a"]]}, "field 'shots': expected rows"),
        ({"config_sha256": "0" * 64}, "was replaced since"),
        ({"model": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"fine_tuned": True}, "config.json"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_folder_that_was_changed_is_refused(flashfm, folder: Path, change: dict[str, object], part: str) -> None:
    path = folder / adapted.FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    code, said, err = flashfm("predict", folder)
    assert (code, said) == (8, "")
    assert part in err
    assert err.count("\n") == 1


def test_a_folder_that_was_damaged_is_refused(flashfm, folder: Path, model: Path) -> None:
    text = (folder / adapted.FILE).read_text()
    (folder / adapted.FILE).write_text(text[: len(text) // 2])
    code, _, err = flashfm("recommend", folder)
    assert code == 8
    assert "not JSON, damaged or cut short" in err
    (folder / adapted.FILE).unlink()
    assert "no such file" in flashfm("recommend", folder)[2]
    assert "a model's own folder is given by --model" in flashfm("predict", model)[2]


def test_an_adapted_folder_is_not_adapted_to_another_model(flashfm, folder: Path, model: Path) -> None:
    code, _, err = flashfm("predict", folder, "--model", model)
    assert code == 7
    assert "is adapted already" in err
