"""The commands of `flashfm reproduce`: what they print and write, and what they say of wrong calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flashfm.errors import DataMissingError
from flashfm.experiments import evaluation, results
from flashfm.experiments.results import Row

Call = Callable[..., tuple[object, str, str]]
COMMANDS = (
    "measured",
    "table1",
    "search",
    "fig5",
    "overhead-sl",
    "ablation-sl",
    "environment",
    "serverless-memory",
    "loads",
    "reality",
    "live",
    "ablation-rl",
    "fig4",
    "fig6",
    "frontier",
    "overhead-rl",
    "autoscaling",
)


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """What a sweep of two methods left of `lambda`."""
    rng = np.random.default_rng(0)
    pair = np.repeat(np.arange(5), 8)
    for method, size in (("flashfm", 0.1), ("LightGBM", 0.2)):
        folder = tmp_path / "table1" / "lambda" / method
        folder.mkdir(parents=True)
        for split in range(2):
            ape = size * rng.uniform(0.5, 1.5, pair.size)
            part = {"test_pair": pair, "test_config": np.tile(np.arange(8), 5), "test_ape": ape}
            np.savez(folder / f"{split:02d}-k1.npz", seconds=np.array(1.0), **part)
    return tmp_path / "table1"


def test_every_command_says_what_it_does_with_an_example(flashfm: Call) -> None:
    code, out, _ = flashfm("reproduce", "--help")
    assert code == 0
    for name in COMMANDS:
        assert name in out
        code, line, _ = flashfm("reproduce", name, "--help")
        assert code == 0
        assert f"Example: flashfm reproduce {name}" in line
        assert "--quick" in line
        assert "--json" in line


def test_a_table_is_assembled_without_training(flashfm: Call, scores: Path, tmp_path: Path) -> None:
    words = ("reproduce", "table1", "--only-assemble", "--out", scores, "--results", tmp_path / "results")
    code, out, _ = flashfm(*words)
    assert code == 0
    assert "Sizeless (measured lambda)" in out
    assert "**0.1" in out.split("| flashfm |")[1]
    code, out, err = flashfm(*words, "--json")
    assert code == 0
    assert err == ""
    assert json.loads(out) == {"results": str(tmp_path / "results" / "table1.json"), "rows": 2, "left_out": {}}
    written = json.loads((tmp_path / "results" / "table1.json").read_text())
    (difference,) = written["ours_minus_rival"]
    assert difference["high"] < 0
    assert difference["splits"] == 2
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"table1.json", "table1.md", "table1.png"}


def test_data_sets_that_are_absent_are_left_out_with_a_line(
    flashfm: Call, scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> None:
        raise DataMissingError(f"data set {name!r} is not on this machine")

    monkeypatch.setattr(evaluation, "load", load)
    words = ("--out", scores, "--results", tmp_path / "results", "--models", tmp_path / "models")
    code, _, err = flashfm("reproduce", "table1", "--datasets", "lambda,cloudbandit", *words)
    assert code == 0
    assert "cloudbandit is left out: data set 'cloudbandit' is not on this machine" in err
    code, _, err = flashfm("reproduce", "search", "--out", tmp_path, "--results", tmp_path / "results")
    assert code == 3
    assert "data set 'cloudbandit' is not on this machine" in err


def test_wrong_calls_get_one_line(flashfm: Call, tmp_path: Path) -> None:
    code, _, err = flashfm("reproduce", "table1", "--datasets", "azure", "--out", tmp_path)
    assert code == 3
    assert "azure" in err
    assert "cloudbandit" in err
    assert err.count("\n") == 1
    code, _, err = flashfm("reproduce", "table1", "--only-assemble", "--out", tmp_path, "--results", tmp_path)
    assert code == 3
    assert "run without --only-assemble" in err
    (tmp_path / "file").write_text("x")
    for command in ("table1", "search", "fig5"):
        code, _, err = flashfm("reproduce", command, "--out", tmp_path / "file" / "below")
        assert code == 3
        assert "expected a folder, but" in err
    code, _, _ = flashfm("reproduce", "table1", "--splits", "21")
    assert code == 2


@pytest.mark.parametrize("name", ["fig5", "overhead-sl", "ablation-sl", "environment", "serverless-memory"])
def test_other_experiments_are_called_by_name(
    name: str, flashfm: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[Path, bool]] = []

    def run(folder: Path, where: Path, *, quick: bool, on_step: Callable[[int, int], object]) -> Path:
        called.append((folder, quick))
        on_step(1, 1)
        path = where / f"{name}.json"
        row = Row("lambda", "flashfm", "APE", 0.1, 0.1, 0.0, 1, 1)
        results.write(path, command="c", protocol="p", seeds=[0], rows=[row], more={})
        return path

    monkeypatch.setattr(f"flashfm.experiments.{name.replace('-', '_')}.run", run)
    words = ("reproduce", name, "--quick", "--out", tmp_path / "out", "--results", tmp_path / "results")
    code, out, _ = flashfm(*words)
    assert code == 0
    assert "| lambda | flashfm | APE |" in out
    code, out, _ = flashfm(*words[:2], *words[3:], "--json")
    assert json.loads(out)["rows"] == 1
    assert called == [(tmp_path / "out" / "quick", True), (tmp_path / "out", False)]


def test_an_interrupted_run_keeps_what_was_done_and_says_so(
    flashfm: Call, scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flashfm.experiments.table1.run", stopped)
    before = {path: path.read_bytes() for path in scores.rglob("*.npz")}
    code, out, err = flashfm("reproduce", "table1", "--out", scores, "--results", tmp_path / "results")
    assert code == 130
    assert out == ""
    assert err == f"flashfm: stopped; what was done is kept in {scores}, and the same command goes on\n"
    assert {path: path.read_bytes() for path in scores.rglob("*.npz")} == before
