"""`flashfm simulate`: the table, the picture, JSON, and what it says of wrong calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Flashfm = Callable[..., tuple[int, str, str]]


def test_a_table_and_a_picture_of_both_arms(flashfm: Flashfm, tmp_path: Path) -> None:
    code, out, _ = flashfm("simulate", "--hours", 0.5, "--out", tmp_path / "new" / "day.png")
    assert code == 0
    assert "FLASH " in out
    assert "HPA + VPA " in out
    assert (tmp_path / "new" / "day.png").stat().st_size > 10_000


def test_json_holds_the_same_and_the_decisions(flashfm: Flashfm, tmp_path: Path) -> None:
    code, out, _ = flashfm("simulate", "--hours", 0.9, "--json", "--explain", 2, "--out", tmp_path / "day.svg")
    told = json.loads(out)
    assert code == 0
    assert set(told["arms"]) == {"FLASH", "HPA + VPA"}
    assert all(0 < arm["reward"] < 1 and arm["core_hours"] > 0 for arm in told["arms"].values())
    assert told["load"] == "generated"
    agent = told["agent"]
    assert (agent["decisions"], agent["embedded"], agent["held"]) == (108, 1, 0)
    assert 2 <= agent["changes"] <= 108
    assert [set(one) for one in agent["explained"]] == [
        {"minute", "cpu_cores", "memory_mib", "replicas", "why", "held"}
    ] * 2
    assert "from here on FLASH knows the application" in (tmp_path / "day.svg").read_text()


def test_decisions_are_explained(flashfm: Flashfm, tmp_path: Path) -> None:
    code, out, _ = flashfm("simulate", "--hours", 0.1, "--slo-ms", 250, "--explain", 1, "--out", tmp_path / "day.png")
    assert code == 0
    assert "p99 objective 250 ms" in out
    explained = [line for line in out.splitlines() if " min: " in line]
    assert len(explained) == 1
    assert explained[0].startswith("0 min: ")
    assert "against an SLO of 250 ms" in explained[0]


def test_a_trace_of_ones_own_is_replayed(flashfm: Flashfm, tmp_path: Path, csv: Callable[..., Path]) -> None:
    times, rates = [60 * i for i in range(30)], [5 + i % 7 for i in range(30)]
    trace = csv("mine.csv", time_s=times, rate_per_s=rates)
    code, out, _ = flashfm("simulate", "--trace", trace, "--hours", 0.25, "--out", tmp_path / "day.png")
    assert code == 0
    assert "Load: trace mine.csv from 0 h on, its mean of " in out
    assert " requests/s scaled to " in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--alpha", "2"), "alpha: 2; expected the weight of the SLO in [0, 1]"),
        (("--alpha", "nan"), "alpha: nan"),
        (("--slo-ms", "0"), "SLO: 0 s; expected seconds above 0"),
        (("--slo-ms", "-5"), "SLO: -0.005 s"),
        (("--hours", "0"), "0 hours"),
        (("--app", "nothing"), "no unseen application 'nothing'"),
        (("--model", "serverless-memory"), "holds a model of kind 'config-search', expected 'autoscaling'"),
        (("--out", "day.gif"), "expected a file ending in .png or .svg"),
        (("--out", "{file}/day.png"), "its folder cannot be made"),
        (("--as", "nasa"), "--as says how a file is to be read; give one"),
        (("--trace", "nothing"), "'nothing' is neither a file nor a trace"),
        (("--trace", "{file}"), "expected a .parquet or .csv file"),
        (("--trace", "{mine}"), "lasts 0.05 hours; expected at least the 24 that are simulated"),
        (("--trace", "{mine}", "--as", "nasa"), "not a bzip2 file"),
    ],
)
def test_wrong_calls_get_one_line(flashfm: Flashfm, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "mine.csv").write_text("time_s,requests\n0,5\n60,5\n120,5\n")
    places = {"file": tmp_path / "file", "mine": tmp_path / "mine.csv"}
    code, _, err = flashfm("simulate", *(word.format(**places) for word in words))
    assert code not in (0, 1)
    assert said in err
    assert err.count("\n") == 1
