"""`flashfm demo`: predictions beside measurements, honestly counted, as a table, JSON and one page."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from flashfm.applications.segments import REAL
from flashfm.datasets import load_measured


@pytest.fixture
def run(flashfm, model: Path, tmp_path: Path):
    """Runs the demo on a small model."""

    def call(*words: str | Path) -> tuple[object, str, str]:
        given = () if "--out" in words else ("--out", tmp_path / "page" / "demo.html")
        return flashfm("demo", "--model", model, *given, *words)

    return call


def test_tables_and_verdict(run, tmp_path: Path) -> None:
    code, said, err = run()
    assert (code, err) == (0, "")
    assert all(app in said for app in REAL)
    assert said.count("given to it") == len(REAL)
    assert re.search(r"Mean error over the 20 sizes that the model was not given: \d+\.\d %; \d+ of 20 \(\d+ %\)", said)
    assert str(tmp_path / "page" / "demo.html") in said


def test_the_page_holds_its_pictures(run, tmp_path: Path) -> None:
    run()
    page = (tmp_path / "page" / "demo.html").read_text()
    assert page.count('<img src="data:image/png;base64,') == 2
    assert "://" not in re.sub(r"data:image[^\"]+", "", page)
    assert all(app in page for app in REAL)
    assert page.count("given to it") == len(REAL)


def test_figures_are_those_of_the_data_set(run) -> None:
    found = json.loads(run("--json", "--memory", "1024")[1])
    frame = load_measured().frame
    frame = frame[frame["platform"] == "lambda"].set_index(["app", "memory_mb"])["runtime_ms"]
    rows = [(one["app"], row) for one in found["applications"] for row in one["sizes"]]
    assert len(rows) == 24
    for app, row in rows:
        assert row["measured_ms"] == pytest.approx(frame[app, row["memory_mb"]])
        assert row["shot"] == (row["memory_mb"] == 1024)
    asked = [row for _, row in rows if not row["shot"]]
    errors = [abs(row["runtime_ms"] / row["measured_ms"] - 1) for row in asked]
    assert found["mean_ape"] == pytest.approx(sum(errors) / 20)
    assert found["inside"] == sum(row["lower_ms"] <= row["measured_ms"] <= row["upper_ms"] for row in asked)
    for one in found["applications"]:
        if one["decision"]["decision"] == "recommended":
            use = one["decision"]["config"]["memory_mb"]
            cost = {m: math.ceil(frame[one["app"], m]) * m / 1024 * 16.6667e-9 + 0.2e-6 for m in (use, 1024)}
            assert one["measured_saving"] == pytest.approx(1 - cost[use] / cost[1024])


def test_it_says_when_the_model_knows_the_applications(flashfm, small, tmp_path: Path) -> None:
    import flashfm as package

    frame = load_measured().frame
    frame = frame[(frame["platform"] == "lambda") & frame["app"].isin(REAL)].drop(columns="cpu_shares")
    package.pretrain(frame, config=small).save_pretrained(tmp_path / "m")
    words = ("--model", tmp_path / "m", "--out", tmp_path / "demo.html")
    code, said, _ = flashfm("demo", *words)
    assert code == 0
    assert "so this is no test of it" in said
    assert "so this is no test of it" in (tmp_path / "demo.html").read_text()


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("--memory", "700"), 7, "expected a measured size, 128, 256, 512, 1024, 2048, 3008 MB"),
        (("--out", "demo.pdf"), 3, "expected a name that ends in .html"),
        (("--max-slowdown", "0.1"), 7, "at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_it_refuses(run, words, code: int, part: str) -> None:
    found, said, err = run(*words)
    assert (found, said) == (code, "")
    assert part in err


def test_a_model_without_memory_sizes(flashfm, synthetic, small, tmp_path: Path) -> None:
    import flashfm as package

    frame = synthetic(3).rename(columns={"memory_mb": "size"})
    package.pretrain(frame, config_columns=["size"], config=small).save_pretrained(tmp_path / "m")
    code, _, err = flashfm("demo", "--model", tmp_path / "m", "--out", tmp_path / "demo.html")
    assert code == 7
    assert "expected the configuration column memory_mb, got size" in err
