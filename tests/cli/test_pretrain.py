"""`flashfm pretrain config-search`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.cli import pretrain
from flashfm.pretraining.supervised import PretrainConfig


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch, small: PretrainConfig) -> None:
    """The command takes seconds."""
    few = replace(small, cross_folds=2, inner_folds=2, least_steps=20, most_steps=20)
    monkeypatch.setattr(pretrain, "_settings", lambda encoder, quick: few)


@pytest.fixture
def data(tmp_path: Path, synthetic: Callable[..., pd.DataFrame]) -> Path:
    """Thirteen applications under column names of their own."""
    frame = synthetic(13).rename(columns={"app": "function", "runtime_ms": "took_ms"}).assign(cloud="here")
    frame.to_csv(tmp_path / "mine.csv", index=False)
    return tmp_path / "mine.csv"


NAMES = ("--config-columns", "memory_mb", "--target", "took_ms", "--pair-column", "function")


def test_a_table_becomes_a_folder(flashfm, fast, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    words = ("--data", data, *NAMES, "--platform-column", "cloud", "--seed", "7", "--out", out)
    code, said, err = flashfm("pretrain", "config-search", *words)
    assert (code, err) == (0, "")
    for part in ("13: 13 applications on here", "6, by memory_mb", "90 % intervals cover", "K=1", f"{out}/README.md"):
        assert part in said
    model = FlashRegressor.from_pretrained(out)
    assert len(model.pairs) == 13
    typed = f"--data {data} --config-columns memory_mb --target took_ms --pair-column function --platform-column cloud"
    assert f"flashfm pretrain config-search {typed} --seed 7 --out model" in model.card


def test_for_machines_and_with_few_applications(flashfm, fast, tmp_path: Path, synthetic) -> None:
    synthetic(4, metrics=False).to_parquet(tmp_path / "few.parquet")
    code, said, _ = flashfm(
        "pretrain", "config-search", "--data", tmp_path / "few.parquet", "--out", tmp_path / "m", "--json"
    )
    assert code == 0
    found = json.loads(said)
    assert (found["applications"], found["network"], found["metrics"]) == (4, False, [])
    assert 0 <= found["coverage"]["1"] <= 1
    assert found["bytes"] > 1000


def test_applications_can_be_left_out(flashfm, fast, tmp_path: Path, synthetic) -> None:
    synthetic(6).to_csv(tmp_path / "six.csv", index=False)
    words = ("--data", tmp_path / "six.csv", "--out", tmp_path / "m")
    code, said, _ = flashfm("pretrain", "config-search", *words, "--leave-out", "app-0-001, app-0-002", "--json")
    assert (code, json.loads(said)["applications"]) == (0, 4)
    code, _, err = flashfm("pretrain", "config-search", *words, "--leave-out", "app-0-9")
    assert code == 3
    assert "no application 'app-0-9'" in err


@pytest.mark.parametrize("encoder", list(pretrain.Encoder))
def test_settings(encoder: pretrain.Encoder) -> None:
    assert pretrain._settings(encoder, False).network.meta.kind == encoder.value
    assert pretrain._settings(encoder, True).steps(1000) == pretrain.QUICK_STEPS


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("--data", "no-such.csv"), 3, "no-such.csv: no such file"),
        (("--data", "nothing"), 3, "neither a file nor a table"),
        (("--data", "measured", "--target", "took_ms"), 3, "has columns of its own"),
        (("--data", "MINE", "--target", "seconds"), 3, "no column 'seconds'"),
        (("--data", "MINE", *NAMES[:2], "--target", "took_ms"), 3, "app"),
        (("--data", "MINE", *NAMES, "--platform-column", "cluster"), 3, "no column 'cluster'"),
        (("--data", "MINE", *NAMES, "--encoder", "rnn"), 2, "rnn"),
        ((), 2, "--out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_it_refuses(flashfm, data: Path, tmp_path: Path, words, code: int, part: str) -> None:
    out = ("--out", tmp_path / "model") if words else ()
    found, said, err = flashfm("pretrain", "config-search", *(data if w == "MINE" else w for w in words), *out)
    assert (found, said) == (code, "")
    assert part in err
    assert not (tmp_path / "model").exists()


def test_a_place_that_is_taken_is_told_before_pretraining(flashfm, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").touch()
    for name in ("file", "folder"):
        code, _, err = flashfm("pretrain", "config-search", "--out", tmp_path / name)
        assert code == 8
        assert err.count("\n") == 1
        assert name in err
