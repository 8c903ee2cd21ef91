"""`flashfm recommend --data`: a plan for many applications, what is said of it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    rows = {
        "app": ["a", "a", "b", "c"],
        "memory_mb": [1024, 512, 2048, 1024],
        "runtime_ms": [100.0, 190.0, 60.0, -1.0],
        "today_memory_mb": [3008, 3008, 2048, 1024],
    }
    path = tmp_path / "fleet.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_every_application_has_a_row_and_the_sums_are_told(flashfm, model: Path, fleet: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "plan.parquet"
    words = ("recommend", "--data", fleet, "--out", out, "--model", model, "--no-fine-tune")
    code, said, err = flashfm(*words)
    assert (code, err) == (0, "")
    plan = pd.read_parquet(out)
    assert plan["app"].tolist() == ["a", "b", "c"]
    assert plan["status"].tolist()[2] == "bad"
    assert "runtime_ms" in plan["reason"][2]
    assert "of 3" in said
    assert str(out) in said
    code, again, _ = flashfm(*words, "--json")
    told = json.loads(again)
    assert code == 0
    assert told["pairs"] == 3
    assert told["bad"] == 1
    assert told["plan"] == str(out)
    assert told["recommended"] + told["stay"] + told["declined"] == 2


def test_a_worker_makes_the_same_plan(flashfm, model: Path, fleet: Path, tmp_path: Path) -> None:
    plans = [tmp_path / f"{name}.parquet" for name in ("here", "there")]
    for plan, more in zip(plans, ((), ("--engine", "local", "--workers", "2")), strict=True):
        code, said, err = flashfm("recommend", "--data", fleet, "--out", plan, "--model", model, *more)
        assert (code, err) == (0, "")
        assert "of 3" in said
    assert plans[0].read_bytes() == plans[1].read_bytes()


def test_patches_and_a_page_are_made_of_the_plan(flashfm, model: Path, fleet: Path, tmp_path: Path) -> None:
    to = tmp_path / "apply"
    patches = ("--patch", f"sam:{to}/sizes.yaml", "--patch", f"csv:{to}/plan.csv", "--patch", f"kustomize:{to}/k8s")
    words = ("recommend", "--data", fleet, "--out", to / "plan.parquet", "--model", model, *patches)
    code, said, err = flashfm(*words, "--page", to / "plan.html")
    assert (code, err) == (0, "")
    assert "MemorySize:" in (to / "sizes.yaml").read_text()
    assert (to / "plan.csv").read_text(encoding="utf-8-sig").count("\n") == 4
    assert (to / "k8s" / "kustomization.yaml").exists()
    assert "<html" in (to / "plan.html").read_text()
    for part in ("sam: 2 applications", "csv: 3 applications", "kustomize: 2 applications", "page:"):
        assert part in said
    names = tmp_path / "names.csv"
    names.write_text("app,resource\na,FunctionA\n")
    named = ("--patch", f"sam:{to}/named.yaml", "--names", names, "--json")
    code, said, _ = flashfm(*words[:7], *named)
    assert code == 0
    assert json.loads(said)["patches"][0]["written"] == 1
    assert "FunctionA:" in (to / "named.yaml").read_text()


def test_one_alone_is_answered_as_in_the_fleet(flashfm, model: Path, fleet: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.parquet"
    assert flashfm("recommend", "--data", fleet, "--out", out, "--model", model)[0] == 0
    row = pd.read_parquet(out).iloc[0]
    one = tmp_path / "one.csv"
    pd.read_csv(fleet).query("app == 'a'").drop(columns="today_memory_mb").to_csv(one, index=False)
    _, said, _ = flashfm("recommend", one, "--model", model, "--today", "memory_mb=3008", "--json")
    alone = json.loads(said)
    assert alone["config"]["memory_mb"] == row["memory_mb"]
    assert alone["runtime_ms"]["expected"] == pytest.approx(row["runtime_ms"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give the measured rows of one application as SHOTS; or --data FILE for many"),
        (("--out", "plan.parquet"), "or --data FILE for many, which takes --out"),
        (("SHOTS", "--data", "FLEET"), "is of one application, --data of many"),
        (("--data", "FLEET", "--today", "memory_mb=1024"), "--today memory_mb=1024: is of one application"),
        (("--data", "FLEET", "--out", "plan.csv"), "--out plan.csv: expected a file ending in .parquet"),
        (("--data", "none.csv"), "none.csv: no such file"),
        (("--data", "FLEET", "--patch", "helm:x"), "--patch helm:x: expected KIND:PATH, where KIND is one of"),
        (("--data", "FLEET", "--patch", "sam"), "--patch sam: expected KIND:PATH"),
        (("--data", "FLEET", "--names", "n.csv"), "--names n.csv: is for --patch sam:FILE"),
        (("--data", "FLEET", "--page", "plan.pdf"), "--page plan.pdf: expected a file ending in .html"),
        (("SHOTS", "--page", "plan.html"), "or --data FILE for many, which takes --out"),
        (("--data", "FLEET", "--pair-column", "name"), "no column 'name'"),
        (("--engine", "ray"), "or --data FILE for many, which takes --out"),
        (("SHOTS", "--workers", "2"), "or --data FILE for many, which takes --out"),
        (("--data", "FLEET", "--workers", "0"), "--workers 0: expected at least 1"),
        (("--data", "FLEET", "--device", "gpu"), "--device gpu: expected one of cpu, cuda, auto"),
        (("--data", "FLEET", "--device", "cuda", "--workers", "2"), "--device cuda with 2 workers"),
        (("SHOTS", "--device", "cuda"), "or --data FILE for many, which takes --out"),
        (("--data", "FLEET", "--engine", "spark"), "--engine spark: expected one of local, ray"),
        (("--data", "FLEET", "--address", "10.0.0.1:6379"), "only --engine ray takes one"),
    ],
)
def test_what_is_refused_is_one_line(
    flashfm, model: Path, fleet: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(fleet.parent)
    given = [{"FLEET": str(fleet), "SHOTS": "shots.csv"}.get(word, word) for word in words]
    code, out, err = flashfm("recommend", *given, "--model", model)
    assert code not in (0, 1)
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
