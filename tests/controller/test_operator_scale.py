"""The benchmark of how many targets one operator holds: at a small scale, and what is left of it when it is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "operator_scale.py"
TARGETS = 20
pytestmark = pytest.mark.slow


def begin(folder: Path, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(BENCHMARK), "--targets", str(TARGETS), *args]
    environment = {**os.environ, "TMPDIR": str(folder)}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def doubles(folder: Path) -> list[str]:
    """Processes that were told of a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder) in process.read_text():
                found.append(process.parent.name)
        except OSError:  # it has just ended
            continue
    return found


def test_both_modes_are_measured_and_nothing_is_left(tmp_path: Path) -> None:
    out, error = begin(tmp_path, "--periods", "2", "--period", "1.5", "--json").communicate(timeout=120)
    told = json.loads(out)
    assert error == ""
    for mode in ("Act", "Shadow"):
        arm, figures = told[mode], told["figures"][mode]
        assert sum(arm["phases"].values()) == TARGETS
        assert (arm["not_observed"], arm["failed"]) == (0, 0)
        assert arm["scrape_bytes"] > 1000
        assert 0 < figures["share of the core"]["median"] <= 1.05
        assert figures["a step without the network, median, ms"]["low"] > 0
        assert figures["CPU of the double in a period, s"]["low"] > 0
    assert told["Act"]["phases"]["serving"] >= TARGETS / 10
    assert told["Act"]["first_periods"][0]["changed"] > 0
    assert told["Act"]["pods"] > 2 * TARGETS
    assert told["Shadow"]["phases"] == {"shadow": TARGETS}
    assert told["Shadow"]["pods"] == 2 * TARGETS
    assert {name.split()[0] for name in told["Shadow"]["requests_in_a_period"]} <= {"patch", "watch", "list"}
    assert list(tmp_path.iterdir()) == []
    assert doubles(tmp_path) == []


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_nothing_is_left_of_one_that_is_ended(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    process, end_s = begin(tmp_path), time.monotonic() + 60.0
    while not list(tmp_path.glob("*/state.db")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end_s, "not begun in time"
        time.sleep(0.05)
    time.sleep(3.0)  # amid preparing or controlling
    assert doubles(tmp_path) != []
    process.send_signal(sent)
    process.communicate(timeout=30)
    assert process.returncode == status
    end_s = time.monotonic() + 20.0
    while doubles(tmp_path) or list(tmp_path.iterdir()):
        assert time.monotonic() < end_s, "something is left"
        time.sleep(0.05)


def test_sizes_that_cannot_be_run_are_refused(tmp_path: Path) -> None:
    process = begin(tmp_path, "--period", "0.1")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "expected at least 2 targets, 1 period, and 1 to 3600 seconds" in error
