"""Every example runs as its docstring says and prints what it is there to show."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples"
SHOWS = {
    "01-generate-and-run.py": ["segments:", "call 3:", "checksums ["],
    "02-bring-your-own-data.py": ["5 rows, 2 pairs", "read back:", "refused: mine.csv: row 2 (line 3)"],
    "03-your-own-function.py": ["'distinct': 1000"],
    "04-predict-and-recommend.py": ["lower_ms", "3008", "use {'memory_mb':", "- saves", "measure next:"],
    "06-train-your-own-agent.py": ["static: reward", "DDPG before training", "DDPG after 7500 steps"],
    "05-pretrain-on-your-data.py": ["9 pairs", "xlarge", "fastest: {'provider': 'aws'", "measure next:"],
}


@cache
def run(name: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", f"examples/{name}"],
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_example_is_tested() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.py")) == sorted(SHOWS)


@pytest.mark.parametrize("name", SHOWS)
def test_an_example_shows_what_it_is_for(name: str) -> None:
    printed = run(name)
    assert [part for part in SHOWS[name] if part not in printed] == []
    assert f"python examples/{name}" in (FOLDER / name).read_text()


def test_each_call_of_the_first_example_does_the_same_work() -> None:
    checksums = re.findall(r"checksums (\[.*\])", run("01-generate-and-run.py"))
    assert len(checksums) == 3
    assert len(set(checksums)) == 1
