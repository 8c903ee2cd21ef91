"""`flashfm predict`: tables, JSON, pictures and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.cli.recommend import DECLINED


def test_all_configurations_with_what_was_measured(flashfm, model: Path, shots: Path) -> None:
    code, said, err = flashfm("predict", shots, "--model", model)
    assert (code, err) == (0, "")
    lines = said.splitlines()
    assert lines[0].split() == ["configuration", "run", "time", "90", "%", "interval", "measured"]
    assert [line.split()[0] for line in lines[1:7]] == ["128", "256", "512", "1024", "2048", "3008"]
    assert [len(line.split("ms")) for line in lines[1:7]] == [4, 4, 5, 4, 5, 4]
    assert "Measure next:" in said


def test_json_is_what_the_library_says(flashfm, model: Path, shots: Path) -> None:
    found = json.loads(flashfm("predict", shots, "--model", model, "--json")[1])
    frame = pd.read_csv(shots)
    expected = FlashRegressor.from_pretrained(model).adapt(frame).predict()
    for name in ("runtime_ms", "lower_ms", "upper_ms"):
        assert [row[name] for row in found["predictions"]] == pytest.approx(list(expected[name]))
    measured = {row["config"]["memory_mb"]: row["measured_ms"] for row in found["predictions"] if row["measured_ms"]}
    assert measured == pytest.approx(dict(zip(frame["memory_mb"], frame["runtime_ms"], strict=True)))
    assert found["novelty"]["novel"] is bool(found["novelty"]["p_value"] < 0.05)
    assert len(found["nearest"]) == 3


def test_nothing_measured_is_the_average(flashfm, model: Path) -> None:
    found = json.loads(flashfm("predict", "--model", model, "--json")[1])
    assert (found["shots"], found["novelty"], found["nearest"]) == (0, None, [])
    widths = [np.log(row["upper_ms"] / row["lower_ms"]) for row in found["predictions"]]
    assert min(widths) > 1


def test_one_asks_for_some_configurations(flashfm, model: Path, shots: Path, csv) -> None:
    words = ("predict", shots, "--model", model, "--json")
    found = json.loads(flashfm(*words, "--at", "memory_mb=1536", "--at", " memory_mb = 512 ")[1])["predictions"]
    assert [row["config"]["memory_mb"] for row in found] == [1536, 512]
    assert [row["measured_ms"] is None for row in found] == [True, False]
    same = json.loads(flashfm(*words, "--queries", csv(memory_mb=[1536, 512]))[1])["predictions"]
    assert same == found


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("--at", "1536"), 7, "expected COLUMN=VALUE, such as memory_mb=…, got '1536'"),
        (("--at", "disk=3"), 7, "expected columns memory_mb, got 'disk'"),
        (("--at", "memory_mb=1,memory_mb=2"), 7, "memory_mb twice"),
        (("--at", "memory_mb=many"), 7, "expected a number, got 'many'"),
        (("--at", "memory_mb=64"), 7, "expected a number from 128 to 3008, got 64"),
        (("--at", "memory_mb=512", "--queries", "q.csv"), 7, "give one of them"),
        (("--queries", "q.csv"), 3, "no such file"),
        (("--plot", "curve.gif"), 3, "expected a .png or .svg file"),
        (("--plot", "one.png", "--at", "memory_mb=512"), 3, "expected a configuration column of numbers"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_it_refuses(flashfm, model: Path, shots: Path, words, code: int, part: str) -> None:
    found, said, err = flashfm("predict", shots, "--model", model, *words)
    assert (found, said) == (code, "")
    assert part in err
    assert err.count("\n") == 1


def test_the_picture_of_one_curve(flashfm, model: Path, shots: Path, tmp_path: Path) -> None:
    code, said, _ = flashfm("predict", shots, "--model", model, "--plot", tmp_path / "curve.svg")
    assert code == 0
    assert f"Picture: {tmp_path / 'curve.svg'}" in said
    text = (tmp_path / "curve.svg").read_text()
    for part in ("predicted", "90 % interval", "measured, given to it", "memory size (MB)"):
        assert part in text


def test_the_picture_of_several_columns(flashfm, small, csv, tmp_path: Path) -> None:
    import flashfm as package

    rng = np.random.default_rng(0)
    rows = [
        {"app": f"a{a}", "kind": kind, "nodes": nodes, "runtime_ms": scale * base / nodes * np.exp(rng.normal(0, 0.02))}
        for a, base in enumerate((900, 500, 2000))
        for kind, scale in (("m5", 1.0), ("c5", 0.8))
        for nodes in (2, 4, 8)
    ]
    model = package.pretrain(pd.DataFrame(rows), config_columns=["kind", "nodes"], config=small)
    model.save_pretrained(tmp_path / "m")
    shots = csv(kind=["m5"], nodes=[4], runtime_ms=[300.0])
    code, said, _ = flashfm("predict", shots, "--model", tmp_path / "m", "--plot", tmp_path / "curves.svg")
    assert code == 0
    assert "kind=m5, nodes=4" in said
    text = (tmp_path / "curves.svg").read_text()
    assert ">m5<" in text
    assert ">c5<" in text
    code, _, err = flashfm("predict", shots, "--model", tmp_path / "m", "--at", "kind=r5,nodes=2")
    assert code == 7
    assert "expected one of c5, m5, got 'r5'" in err
    code, _, err = flashfm("recommend", shots, "--model", tmp_path / "m")
    assert code == 7
    assert "give --prices FILE" in err
    code, said, _ = flashfm("recommend", shots, "--model", tmp_path / "m", "--objective", "runtime")
    assert code == 0
    assert said.startswith("Use kind=c5, nodes=8")


def test_a_novel_application_is_named(flashfm, model: Path, csv) -> None:
    path = csv(memory_mb=[512], runtime_ms=[80.0], user_cpu_ms_mean=[4e3], net_in_bytes_mean=[1e9])
    code, said, _ = flashfm("predict", path, "--model", model)
    assert code == 0
    assert "Caution: this application is unlike all known ones (p = 0.0" in said
    code, said, _ = flashfm("recommend", path, "--model", model)
    assert code == DECLINED
    assert said.startswith("No recommendation: the application is unlike all")
