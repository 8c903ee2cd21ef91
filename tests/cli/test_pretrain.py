"""`flashfm pretrain`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.adapt.agent import FlashAgent
from flashfm.adapt.fewshot import FlashRegressor
from flashfm.cli import pretrain
from flashfm.experiments.autoscaling import ShippedConfig
from flashfm.models.ddpg import DdpgConfig
from flashfm.pretraining.autoscaling import AutoscalingConfig
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.pretraining.reinforcement import AgentConfig
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


def test_two_workers_pretrain_what_one_does(flashfm, fast, tmp_path: Path, synthetic) -> None:
    synthetic(4, metrics=False).to_csv(tmp_path / "few.csv", index=False)
    for name, more in (("one", ()), ("two", ("--workers", "2", "--device", "auto"))):
        words = ("--data", tmp_path / "few.csv", "--out", tmp_path / name, *more)
        assert flashfm("pretrain", "config-search", *words, "--json")[0] == 0
    one, two = (FlashRegressor.from_pretrained(tmp_path / name) for name in ("one", "two"))
    np.testing.assert_allclose(two.model.prior.gp.mean, one.model.prior.gp.mean)
    assert "--seed 0 --device auto --workers 2 --out two" in two.card


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
        (("--data", "MINE", *NAMES, "--device", "gpu"), 7, "--device gpu: expected one of cpu, cuda, auto"),
        (("--data", "MINE", *NAMES, "--device", "cuda", "--workers", "2"), 7, "--device cuda with 2 workers"),
        (("--engine", "dask"), 11, "--engine dask: expected one of local, ray"),
        (("--address", "head:6379"), 11, "only --engine ray takes one"),
        (("--data", "MINE", *NAMES, "--workers", "65"), 7, "65 workers: expected 1 to 64 (--workers)"),
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


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent takes seconds."""
    agent = AgentConfig(ddpg=DdpgConfig(hidden=(16, 16)), episodes=2, random_episodes=1, batch=16, updates=1)
    config = AutoscalingConfig(agent=agent, identification=IdentificationConfig(steps=5, tasks=4), episodes=2)
    monkeypatch.setattr(pretrain, "_agent_settings", lambda quick: ShippedConfig(12, 1, 8, config))


def test_an_agent_is_pretrained(flashfm, tiny, tmp_path: Path) -> None:
    out = tmp_path / "my-agent"
    code, said, err = flashfm("pretrain", "autoscaling", "--out", out, "--seed", "3")
    assert (code, err) == (0, "")
    for part in ("12 simulated applications", "targets", " s\n", "MiB", f"flashfm simulate --model {out}"):
        assert part in said
    agent = FlashAgent.from_pretrained(out)
    assert "flashfm pretrain autoscaling --seed 3 --out my-agent" in agent.card
    assert "Pretrained on 12 generated applications" in agent.card
    assert [path.name for path in tmp_path.iterdir()] == ["my-agent"]
    code, said, _ = flashfm("pretrain", "autoscaling", "--out", out, "--pairs", "5", "--json")
    found = json.loads(said)
    assert (code, found["pairs"], found["actions"]) == (0, 5, "targets")
    assert found["bytes"] == sum(path.stat().st_size for path in out.iterdir())
    assert found["seconds"] > 0


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("--out", "agent", "--pairs", "0"), 7, "--pairs 0: expected 2 to 800"),
        (("--out", "agent", "--pairs", "801"), 7, "--pairs 801: expected 2 to 800"),
        (("--out", "file"), 8, "--out file: is a file"),
        (("--out", "folder"), 8, "--out folder: is neither empty nor a flashfm model"),
        (("--out", "agent", "--checkpoints", "agent/kept"), 8, "--checkpoints agent/kept: lies in --out agent"),
        (("--out", "agent", "--checkpoints", "file"), 8, "file: is a file, expected a folder for checkpoints"),
        (("--out", "agent", "--checkpoints", "folder"), 8, "folder: holds 'mine.txt' and no checkpoints"),
        (("--out", "file/agent"), 8, "Not a directory"),
        (("--out", "agent", "--workers", "9", "--pairs", "3"), 7, "9 workers for 12 pairs: expected 1 to 6"),
        (("--out", "agent", "--workers", "2", "--device", "cuda"), 7, "--device cuda with 2 workers"),
        (("--out", "agent", "--device", "tpu"), 7, "--device tpu: expected one of cpu, cuda, auto"),
        (("--out", "agent", "--address", "10.0.0.5:6379"), 11, "--address 10.0.0.5:6379: only --engine ray"),
        (("--out", "agent", "--engine", "spark"), 11, "--engine spark: expected one of local, ray"),
    ],
)
def test_what_it_refuses_of_an_agent(
    flashfm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, part: str
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").touch()
    monkeypatch.chdir(tmp_path)
    found, said, err = flashfm("pretrain", "autoscaling", *words)
    assert (found, said, err.count("\n")) == (code, "", 1)
    assert part in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.slow
def test_two_workers_pretrain_an_agent(flashfm, tiny, tmp_path: Path) -> None:
    out = tmp_path / "my-agent"
    code, said, err = flashfm("pretrain", "autoscaling", "--out", out, "--workers", "2", "--device", "auto", "--json")
    assert (code, err) == (0, "")
    assert json.loads(said)["seconds"] > 0
    card = FlashAgent.from_pretrained(out).card
    assert "flashfm pretrain autoscaling --seed 0 --workers 2 --out my-agent" in card
    assert [path.name for path in tmp_path.iterdir()] == ["my-agent"]


@pytest.mark.slow
def test_an_interrupted_agent_says_what_is_kept(tmp_path: Path) -> None:
    words = ["pretrain", "autoscaling", "--quick", "--pairs", "4", "--out", str(tmp_path / "agent")]
    command = [sys.executable, "-c", "import sys; from flashfm.cli import main; main(sys.argv[1:])", *words]
    partial = tmp_path / "agent.partial"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(partial.glob("shared-episode-1.*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err == f"flashfm: stopped; what was done is kept in {partial}, and the same command goes on\n"
    assert list(partial.glob("shared-episode-1.*"))
