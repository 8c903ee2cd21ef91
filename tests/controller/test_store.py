"""The store: what is kept and given back, and files that are damaged, of later versions or cannot be written."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rig import Rig

from flashfm.controller.store import DONE, KEPT_STEPS, NOTHING, VERSION, Store
from flashfm.errors import ControlError

Make = Callable[[int], Rig]


def test_steps_are_given_back_as_they_were(rig: Make) -> None:
    one = rig(3)
    done = one.steps(12)
    kept = one.store.steps(one.target.name, 5)
    assert [step.n for step in kept] == [7, 8, 9, 10, 11]
    assert [step.decision["why"] for step in kept] == [stepped.decision.why for stepped in done[-5:]]
    assert {step.status for step in kept} <= {DONE, NOTHING}
    (latest,) = one.store.latest()
    assert latest == kept[-1]
    assert one.store.life(one.target.name) == one.loop.keeper(one.target).life
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
