"""`flashfm autoscale`: a short run of both arms on this machine, what is kept of it, and what wrong calls are told."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from traces_of import groups_of

from flashfm.controller import twin
from flashfm.errors import LimitsError
from flashfm.measurements import limits
from flashfm.measurements.limits import detect

Flashfm = Callable[..., tuple[int, str, str]]
APP = {
    "name": "busy",
    "segments": [
        {"kind": "floating-point", "params": {"operations": 12_000}},
        {"kind": "sleep", "params": {"sleep_ms": 2}},
    ],
}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "busy.json"
    path.write_text(json.dumps(APP))
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer calls and episodes by which the application is known; skips where limits cannot be set."""
    try:
        detect()
    except LimitsError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(twin, "CALLS", (5, 20))
    monkeypatch.setattr(twin, "EPISODES", 1)


@pytest.mark.limits
@pytest.mark.usefixtures("quick")
def test_both_arms_get_the_same_load_and_their_steps_are_kept(flashfm: Flashfm, tmp_path: Path, app: Path) -> None:
    trace = tmp_path / "mine.csv"
    trace.write_text("time_s,requests\n" + "".join(f"{30 * i},{300 + 60 * i}\n" for i in range(5)))
    words = ("--trace", trace, "--minutes", 0.05, "--period-s", 1, "--rate", 20, "--slo-ms", 500)
    kept = ("--state", tmp_path / "live.db", "--out", tmp_path / "new" / "live.png")
    code, out, err = flashfm("autoscale", "local", "--app", app, *words, *kept, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["app"], told["slo_s"], told["alpha"], told["warm_up"]) == ("busy", 0.5, 0.7, "simulated")
    assert told["load"].startswith("trace mine.csv from 0 h on, 30 times as fast, scaled to a mean of 20 requests/s")
    flash, hpa = told["arms"]["FLASH"], told["arms"]["HPA + VPA"]
    assert [[step["sent"] for step in arm["steps"]] for arm in (flash, hpa)] == [
        [step["sent"] for step in flash["steps"]]
    ] * 2, "the same requests"
    assert [step["rate_per_s"] for step in flash["steps"]] == pytest.approx([300 / 18, 20, 420 / 18])
    assert set(hpa["acted"]) == {"rules"}
    assert flash["acted"].get("agent", 0) >= 1, "the agent knows the application by its twin"
    assert 0 <= told["p_value"] <= 1
    for arm in (flash, hpa):
        assert len(arm["steps"]) == 3
        assert arm["sent"] == sum(step["sent"] for step in arm["steps"]) > 20
        assert arm["failed"] == 0
        assert arm["core_s"] > 0.5
        assert arm["gib_s"] > 0
        assert arm["violated_s"] == arm["violated_steps"] <= 3
    assert (tmp_path / "new" / "live.png").stat().st_size > 10_000
    assert not groups_of(os.getpid())

    code, out, _ = flashfm("autoscale", "status", "--state", tmp_path / "live.db")
    assert code == 0
    title, first, second = out.splitlines()
    assert title.split()[:3] == ["name", "phase", "acts"]
    assert first.startswith("busy/FLASH ")
    assert second.startswith("busy/HPA + VPA  bootstrap  rules  ")
    assert " s ago " in second
    code, out, _ = flashfm("autoscale", "status", "--state", tmp_path / "live.db", "--json")
    rows = json.loads(out)
    assert [(row["name"], row["steps"]) for row in rows] == [("busy/FLASH", 3), ("busy/HPA + VPA", 3)]
    assert rows[0]["setting"] == flash["steps"][-1]["decision"]["setting"]

    words = ("--minutes", 0.04, "--period-s", 1, "--against", "none", "--warm-up", "none", "--explain", 1)
    code, out, err = flashfm("autoscale", "local", "--app", app, *words, *kept)
    assert (code, err) == (0, "")
    assert "FLASH  " in out
    assert "HPA + VPA  " not in out
    assert "p99 objective " in out
    assert "FLASH: the agent acted in 0 of 2 steps, warm-up none" in out
    rows = json.loads(flashfm("autoscale", "status", "--state", tmp_path / "live.db", "--json")[1])
    assert [row["steps"] for row in rows] == [2, 3], "an arm begins anew"


@pytest.mark.limits
@pytest.mark.usefixtures("quick")
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, app: Path) -> None:
    words = ["autoscale", "local", "--app", app, "--minutes", "5", "--period-s", "1", "--out", tmp_path / "live.png"]
    command = [sys.executable, "-m", "flashfm", *map(str, words)]
    running = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 60
    while not any("flash" in str(group) and "replica" in str(group) for group in inside(running.pid)):
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=30)[1] == "flashfm: stopped; replicas and their groups are removed\n"
    assert running.returncode == 130
    while groups_of(running.pid) or list(tmp_path.glob("flashfm-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def inside(pid: int) -> list[Path]:
    return [one for group in groups_of(pid) for one in group.glob("*/*")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--minutes", "0"), "--minutes is 0; expected"),
        (("--minutes", "0.5"), "1 steps; expected 2 to"),
        (("--minutes", "5000", "--period-s", "1"), "300000 steps; expected 2 to"),
        (("--period-s", "0.2"), "--period-s is 0.2; expected"),
        (("--core", "0.01"), "--core is 0.01; expected"),
        (("--alpha", "1.5"), "--alpha is 1.5; expected"),
        (("--slo-ms", "-1"), "--slo-ms is -1; expected"),
        (("--rate", "0"), "0.0 requests/s in the mean; expected more than 0"),
        (("--hpa-target", "1"), "--hpa-target is 1; expected"),
        (("--out", "live.gif"), "expected a file ending in .png or .svg"),
        (("--trace", "nothing"), "'nothing' is neither a file nor a trace"),
        (("--state", "{app}"), "cannot be read: file is not a database"),
        (("--app", "no-such-thing"), "application 'no-such-thing': no such file or name"),
        (("--model", "nothing"), "nothing"),
    ],
)
def test_wrong_calls_get_one_line(flashfm: Flashfm, app: Path, words: tuple[str, ...], said: str) -> None:
    before = app.read_bytes()
    code, _, err = flashfm("autoscale", "local", "--app", app, *(word.format(app=app) for word in words))
    assert code not in (0, 1)
    assert said in err
    assert err.count("\n") == 1
    assert app.read_bytes() == before


def test_where_limits_cannot_be_set_the_reasons_are_told(
    flashfm: Flashfm, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nowhere(limits.CgroupV2):
        def available(self) -> str:
            return "no cgroup v2 hierarchy is mounted"

    monkeypatch.setattr(limits, "backends", lambda: [Nowhere()])
    code, _, err = flashfm("autoscale", "local", "--app", app)
    assert code == LimitsError.exit_code
    assert "limits cannot be set here. cgroup-v2: no cgroup v2 hierarchy is mounted (run as root, or inside" in err
    assert err.count("\n") == 1


def test_status_of_what_is_no_state_is_refused_and_not_touched(flashfm: Flashfm, tmp_path: Path) -> None:
    foreign, text, empty = tmp_path / "foreign.db", tmp_path / "text.db", tmp_path / "empty.db"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE other (x)")
    db.close()
    text.write_text("not a database, but long enough to be taken for one" * 20)
    empty.touch()
    before = {path: path.read_bytes() for path in (foreign, text, empty)}
    for path, said in (
        (tmp_path / "none.db", "no such file"),
        (tmp_path, "no such file"),
        (text, "cannot be read: file is not a database"),
        (foreign, "holds no targets"),
        (empty, "holds no targets"),
    ):
        code, _, err = flashfm("autoscale", "status", "--state", path)
        assert code == 10
        assert said in err
        assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.db", "foreign.db", "text.db"]
