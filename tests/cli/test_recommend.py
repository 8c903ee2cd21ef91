"""`flashfm recommend`: what it says, by which limits and prices, and the exit code of a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flashfm.cli.recommend import DECLINED
from flashfm.errors import FlashError


@pytest.fixture
def advise(flashfm, model: Path, shots: Path) -> Callable[..., dict[str, object]]:
    """The recommendation as JSON."""

    def call(*words: str | Path) -> dict[str, object]:
        code, said, _ = flashfm("recommend", shots, "--model", model, "--json", *words)
        found: dict[str, object] = json.loads(said)
        assert code == (DECLINED if found["decision"] == "declined" else 0)
        return found

    return call


def test_the_exit_code_of_a_refusal_is_no_error_s() -> None:
    def codes(kind: type[FlashError]) -> set[int]:
        return {kind.exit_code}.union(*map(codes, kind.__subclasses__()))

    assert DECLINED not in codes(FlashError) | {0, 2, 130}


def test_it_says_what_and_why(flashfm, model: Path, shots: Path) -> None:
    code, said, err = flashfm("recommend", shots, "--model", model, "--today", "memory_mb=2048")
    assert (code, err) == (0, "")
    for part in ("since", "AWS Lambda (x86, us-east-1)", "recommended", "alternative", "Measure next:"):
        assert part in said
    assert "2048 MB" in said


def test_objectives_and_limits(advise) -> None:
    cheap = advise()
    fast = advise("--objective", "runtime")
    limited = advise("--max-slowdown", "1.2")
    assert cheap["config"]["memory_mb"] < fast["config"]["memory_mb"]  # type: ignore[index]
    assert limited["slowdown"] <= 1.2 < cheap["slowdown"]  # type: ignore[operator]
    assert advise("--max-runtime-ms", "100000", "--sure")["config"] == cheap["config"]


def test_today_is_the_first_row_of_the_file(flashfm, model: Path, csv, advise) -> None:
    path = csv(memory_mb=[2048, 512], runtime_ms=[60.0, 140.0])
    code, said, _ = flashfm("recommend", path, "--model", model, "--json")
    assert code == 0
    assert json.loads(said)["today"]["config"] == {"memory_mb": 2048}
    assert advise("--today", "memory_mb=3008")["today"]["config"] == {"memory_mb": 3008}  # type: ignore[index]


def test_prices_by_name_and_from_files(advise, csv, tmp_path: Path) -> None:
    usual, arm = advise(), advise("--prices", "aws-lambda-arm")
    assert arm["usd_per_million"]["expected"] < usual["usd_per_million"]["expected"]  # type: ignore[index]
    sizes = [128, 256, 512, 1024, 2048, 3008]
    dear = csv("prices.csv", memory_mb=sizes, usd_per_second=[1, 1, 1, 1, 1, 1e-6])
    assert advise("--prices", dear)["config"] == {"memory_mb": 3008}
    (tmp_path / "p.json").write_text('{"usd_per_gb_second": 0.00001}')
    assert "p.json" in " ".join(advise("--prices", tmp_path / "p.json")["why"])  # type: ignore[arg-type]


def test_out_of_reach_is_declined_with_a_way_out(flashfm, model: Path, shots: Path, advise) -> None:
    found = advise("--max-runtime-ms", "0.5")
    assert found["decision"] == "declined"
    code, said, err = flashfm("recommend", shots, "--model", model, "--max-runtime-ms", "0.5")
    assert (code, err) == (DECLINED, "")
    assert said.startswith("No recommendation: no configuration runs within 0.5 ms")
    assert "What would help: allow" in said


def test_failed_measurements_are_kept_out(flashfm, model: Path, csv) -> None:
    path = csv(memory_mb=[128, 512], runtime_ms=[None, 140.0], outcome=["out_of_memory", "ok"])
    code, said, _ = flashfm("recommend", path, "--model", model, "--json")
    assert code == 0
    found = json.loads(said)
    assert found["config"]["memory_mb"] > 128
    assert found["today"]["config"] == {"memory_mb": 512}


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("--objective", "speed"), 2, "speed"),
        (("--max-slowdown", "0.5"), 7, "expected a number of at least 1"),
        (("--max-slowdown", "2", "--max-runtime-ms", "10"), 7, "give one"),
        (("--max-runtime-ms", "-1"), 7, "expected milliseconds above 0"),
        (("--prices", "azure"), 3, "expected aws-lambda, aws-lambda-arm"),
        (("--prices", "none.csv"), 3, "none.csv"),
        (("--today", "memory_mb=700"), 7, "expected one of the 6 configurations"),
        (("--today", "memory_mb=64"), 7, "expected a number from 128 to 3008"),
        (("--today", "512"), 7, "expected COLUMN=VALUE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_it_refuses(flashfm, model: Path, shots: Path, words, code: int, part: str) -> None:
    found, said, err = flashfm("recommend", shots, "--model", model, *words)
    assert (found, said) == (code, "")
    assert part in err


def test_what_the_readme_measures_gets_a_recommendation(flashfm, tmp_path: Path) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    (tmp_path / "shots.csv").write_text(readme.partition("```text\n")[2].partition("```")[0])
    code, said, err = flashfm("recommend", tmp_path / "shots.csv", "--max-slowdown", "1.2")
    assert (code, err) == (0, "")
    assert "saves" in said
