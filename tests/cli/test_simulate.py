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


def test_json_holds_the_same(flashfm: Flashfm, tmp_path: Path) -> None:
    code, out, _ = flashfm("simulate", "--hours", 0.5, "--json", "--out", tmp_path / "day.svg")
    told = json.loads(out)
    assert code == 0
    assert set(told["arms"]) == {"FLASH", "HPA + VPA"}
    assert all(0 < arm["reward"] < 1 and arm["core_hours"] > 0 for arm in told["arms"].values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--alpha", "2"), "alpha is 2"),
        (("--hours", "0"), "0 hours"),
        (("--app", "nothing"), "no unseen application 'nothing'"),
        (("--model", "serverless-memory"), "holds a model of kind 'config-search', expected 'autoscaling'"),
        (("--out", "day.gif"), "expected a file ending in .png or .svg"),
        (("--out", "{file}/day.png"), "its folder cannot be made"),
    ],
)
def test_wrong_calls_get_one_line(flashfm: Flashfm, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "file").touch()
    code, _, err = flashfm("simulate", *(word.format(file=tmp_path / "file") for word in words))
    assert code not in (0, 1)
    assert said in err
    assert err.count("\n") == 1
