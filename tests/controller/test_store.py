"""The store: what is kept and given back, and files that are damaged, of later versions or cannot be written."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rig import Rig

from flashfm.adapt.agent import FlashAgent
from flashfm.cli import main
from flashfm.controller.kept import DONE, KEPT_STEPS, NOTHING, VERSION, Reader
from flashfm.controller.store import Store
from flashfm.errors import ControlError

Make = Callable[[int], Rig]


def test_steps_are_given_back_as_they_were(rig: Make, agent: FlashAgent) -> None:
    one = rig(3)
    done = one.steps(12)
    kept = one.store.steps(one.target.name, 5)
    assert [step.n for step in kept] == [7, 8, 9, 10, 11]
    assert [step.decision["why"] for step in kept] == [stepped.decision.why for stepped in done[-5:]]
    assert {step.status for step in kept} <= {DONE, NOTHING}
    (latest,) = one.store.latest()
    assert latest == kept[-1]
    assert one.store.life(one.target.name) == one.loop.keeper(one.target).life
    assert one.loop.keeper(one.target).life.agent == agent.digest
    assert one.store.life("another") is None
    one.store.forget(one.target.name)
    assert one.store.latest() == []


def test_old_steps_are_let_go(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashfm.controller.store.KEPT_STEPS", 10)
    one = rig(3)
    one.steps(25)
    assert [step.n for step in one.store.steps(one.target.name, KEPT_STEPS)] == list(range(15, 25))


def test_a_damaged_file_is_set_aside_and_another_begun(rig: Make) -> None:
    one = rig(3)
    one.steps(3)
    one.store.close()
    content = one.path.read_bytes()
    one.path.write_bytes(b"no database" + content[11:])
    one.begin()
    assert one.store.set_aside is not None
    assert one.store.set_aside.read_bytes().startswith(b"no database")
    assert one.store.latest() == []
    one.steps(3)


def test_a_deployment_whose_state_cannot_be_read_begins_anew(rig: Make) -> None:
    one = rig(3)
    one.steps(3)
    with sqlite3.connect(one.path) as db:
        db.execute('UPDATE targets SET life = \'{"phase": "flying"}\'')
    keeper, said = one.store.restored(one.target, one.agent, one.config)
    assert said is not None
    assert "cannot be read" in said
    assert "\n" not in said
    assert keeper.life.steps == 0
    assert one.store.latest() == []


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(ControlError, match=rf"version {VERSION + 1}, this flashfm reads up to {VERSION}; update"):
        Store(path)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ControlError, match=r"state.db: cannot be"):
        Store(tmp_path / "file" / "state.db")
    with pytest.raises(ControlError, match="cannot be opened"):
        Store(tmp_path)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from rig import Rig
from flashfm.adapt.agent import FlashAgent
from flashfm.tasks.autoscaling.scenario import default, split
rig = Rig(FlashAgent.from_pretrained("autoscaling"), split(default(0))[1], Path(sys.argv[1]), 3)
while True:
    rig.steps(1)
    print("step", flush=True)
"""


def test_kill_9_loses_at_most_the_step_in_hand(rig: Make, tmp_path: Path) -> None:
    path = tmp_path / "killed.db"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path), str(Path(__file__).parent)], stdout=subprocess.PIPE, env=env
    )
    assert process.stdout is not None
    for _ in range(40):
        assert process.stdout.readline() == b"step\n"
    time.sleep(0.013)
    process.kill()
    told = 40 + process.stdout.read().count(b"step")
    process.wait()
    process.stdout.close()
    one = rig(3)
    one.store.close()
    one.path = path
    one.begin()
    assert one.store.set_aside is None
    kept = one.store.steps(one.target.name, KEPT_STEPS)
    assert told <= len(kept) <= told + 1
    keeper = one.loop.keeper(one.target)
    assert keeper.place == len(kept) - 1, "the running episode goes on"


# -- reading only ----------------------------------------------------------------------------------------------------


def beside(path: Path) -> dict[str, tuple[int, int, bytes]]:
    """All files of a folder: size, time of the last change, content."""
    return {
        file.name: (file.stat().st_size, file.stat().st_mtime_ns, file.read_bytes()) for file in path.parent.iterdir()
    }


def seen(path: Path, target: str) -> tuple[list[int], object]:
    with contextlib.closing(Reader(path)) as reader:
        assert reader.latest() == reader.steps(target, 1)
        return [step.n for step in reader.steps(target, KEPT_STEPS)], reader.life(target)


def test_what_is_being_written_is_read_and_not_changed(rig: Make) -> None:
    one = rig(3)
    for n in (1, 2, 30):
        one.steps(n)
        kept = [step.n for step in one.store.steps(one.target.name, KEPT_STEPS)]
        before = beside(one.path)
        assert seen(one.path, one.target.name) == (kept, one.loop.keeper(one.target).life)
        assert beside(one.path) == before
    with contextlib.closing(Reader(one.path)) as reader:
        one.steps(3)
        assert reader.latest()[0].n == 32, "all answers are of one moment"
        assert reader.life("another") is None


def test_a_file_that_nobody_writes_is_read_and_nothing_put_beside_it(rig: Make, tmp_path: Path) -> None:
    one = rig(3)
    one.steps(4)
    one.store.close()
    before = beside(one.path)
    assert list(before) == [one.path.name]
    tmp_path.chmod(0o555)
    try:
        assert seen(one.path, one.target.name)[0] == [0, 1, 2, 3]
    finally:
        tmp_path.chmod(0o755)
    assert beside(one.path) == before


def test_another_process_that_writes_and_is_killed_is_looked_at_all_the_while(rig: Make, tmp_path: Path) -> None:
    path, name = tmp_path / "live" / "state.db", rig(3).target.name
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path), str(Path(__file__).parent)], stdout=subprocess.PIPE, env=env
    )
    assert process.stdout is not None
    last = -1
    for told in range(60):
        assert process.stdout.readline() == b"step\n"
        steps, _ = seen(path, name)
        assert steps == list(range(len(steps)))
        assert steps[-1] >= max(last, told)
        last = steps[-1]
    process.kill()
    process.wait()
    process.stdout.close()
    before = beside(path)
    assert {*before} == {"state.db", "state.db-wal", "state.db-shm"}
    assert seen(path, name)[0][-1] >= last
    assert beside(path) == before
    path.with_name("state.db-shm").unlink()
    with pytest.raises(ControlError, match=r"state\.db-shm is absent beside state\.db-wal; copy all three files"):
        Reader(path)
    assert {file.name for file in path.parent.iterdir()} == {"state.db", "state.db-wal"}


def test_what_is_no_store_is_refused_in_one_line_and_left_alone(rig: Make, tmp_path: Path) -> None:
    one = rig(3)
    one.steps(3)
    one.store.close()
    good = one.path.read_bytes()
    with sqlite3.connect(one.path) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute('UPDATE targets SET life = \'{"phase": "flying"}\'')
        db.execute("UPDATE steps SET decision = '{' WHERE n = 2")
    db.close()
    with contextlib.closing(Reader(one.path)) as reader:
        with pytest.raises(ControlError, match=r"state-0.db: cannot be read: the life of "):
            reader.life(one.target.name)
        with pytest.raises(ControlError, match=r"state-0.db: cannot be read: a step: "):
            reader.latest()
    later, damaged = tmp_path / "later.db", tmp_path / "damaged.db"
    later.write_bytes(good)
    with sqlite3.connect(later) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    damaged.write_bytes(good[:4096] + b"\xff" * (len(good) - 4096))
    before = beside(later)
    with pytest.raises(ControlError, match=f"version {VERSION + 1}, this flashfm reads up to {VERSION}; update"):
        Reader(later)
    with contextlib.closing(Reader(damaged)) as reader, pytest.raises(ControlError, match="cannot be read: ") as said:
        reader.latest()
    assert "\n" not in str(said.value)
    with pytest.raises(ControlError, match="no such file"):
        Reader(tmp_path / "none.db")
    assert beside(later) == before


def test_status_shows_what_is_being_controlled_also_where_nothing_could_be_read(
    rig: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    one = rig(3)
    one.observing = lambda sample: replace(sample, used_cores=None)
    one.steps(1)
    with pytest.raises(SystemExit, match="0"):
        main(["autoscale", "status", "--state", str(one.path)])
    _, line = capsys.readouterr().out.splitlines()
    name, phase, by, setting, *_ = line.split()
    assert (name, phase, by, setting) == (one.target.name, "shadow", "nobody", "-")
    assert line.rstrip().endswith("nothing is changed, missing: used_cores")
    one.observing = lambda sample: sample
    one.steps(3)
    one.store.close()
    before = beside(one.path)
    with pytest.raises(SystemExit, match="0"):
        main(["autoscale", "status", "--state", str(one.path), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["phase"], row["by"], row["steps"]) == ("bootstrap", "rules", 4)
    assert row["setting"].keys() == {"replicas", "cpu_cores", "memory_mib"}
    assert beside(one.path) == before
