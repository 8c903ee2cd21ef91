"""The engine of one machine: workers that are killed, and that never outlive the command."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import engine_items
import pytest
from processes import command

from flashfm.engine.base import Engine
from flashfm.engine.local import Local
from flashfm.errors import EngineError, ShotsError


def test_so_many_processes_work_and_this_is_none_of_them(local: Engine) -> None:
    found = set(dict(local.run(engine_items.process, {str(i): i for i in range(30)})).values())
    assert 1 <= len(found) <= 2
    assert os.getpid() not in found


def test_processes_stay_for_the_next_run_and_end_with_the_block() -> None:
    with Local(2) as engine:
        first = set(dict(engine.run(engine_items.process, {"a": 0})).values())
        assert set(dict(engine.run(engine_items.process, {"a": 0})).values()) == first
    assert not any(Path(f"/proc/{pid}").exists() for pid in first)


def test_progress_within_items_is_told(local: Engine) -> None:
    told: list[tuple[str, int, int]] = []
    list(local.run(engine_items.steps, {"a": 5, "b": 7}, lambda *said: told.append(said)))
    assert {name for name, *_ in told} == {"a", "b"}
    assert all(0 < done <= total == {"a": 5, "b": 7}[name] for name, done, total in told)


def test_what_is_done_when_another_fails_is_handed_out(local: Engine, tmp_path: Path) -> None:
    with Local(3) as engine:
        items = {"fails": (tmp_path, True), "a": (tmp_path, False), "b": (tmp_path, False)}
        done: dict[str, str] = {}
        with pytest.raises(ShotsError) as caught:
            done.update(engine.run(engine_items.refuse_late, items))
    assert done == {"a": "done", "b": "done"}
    assert "item 'fails'" in caught.value.__notes__


def test_what_workers_print_is_not_among_what_the_command_prints(capfd: pytest.CaptureFixture[str]) -> None:
    with Local(2) as engine:
        list(engine.run(engine_items.prints, {"a": 0}))
    assert capfd.readouterr() == ("", "something that an application says\n")


# -- killed workers ----------------------------------------------------------------------------------------------------


def test_a_process_that_leaves_by_itself_is_as_good_as_killed() -> None:
    with Local(2, tries=1) as engine, pytest.raises(EngineError, match=r"lost 1 times, .* ended with exit status 3;"):
        list(engine.run(engine_items.leaves, {"a": 0}))


def test_a_worker_that_is_killed_while_it_waits_costs_no_try(caplog: pytest.LogCaptureFixture) -> None:
    with Local(2, tries=1) as engine:
        (pid,) = dict(engine.run(engine_items.process, {"a": 0})).values()
        os.kill(pid, signal.SIGKILL)
        engine_items.wait_until(lambda: "State:\tZ" in Path(f"/proc/{pid}/status").read_text())
        assert dict(engine.run(engine_items.square, {"a": 3})) == {"a": 9}
    assert caplog.records == []


@pytest.mark.parametrize("value", [lambda item, told: item, open(os.devnull)], ids=["lambda", "file"])  # noqa: SIM115, PTH123
def test_what_cannot_be_sent_is_one_line(local: Engine, value: object) -> None:
    with pytest.raises(EngineError, match="item 'a' cannot be sent to a worker"):
        list(local.run(engine_items.square, {"a": value}))


def test_a_result_that_cannot_be_sent_is_a_bug_of_the_work(local: Engine) -> None:
    with pytest.raises((AttributeError, TypeError), match="pickle") as caught:
        list(local.run(engine_items.secret, {"a": 0}))
    assert any("in a worker" in note for note in caught.value.__notes__)


def test_a_function_of_the_script_is_refused_in_one_line() -> None:
    import subprocess
    import sys

    script = (
        "from flashfm.engine.local import Local\n"
        "def work(item, told): return item\n"
        "with Local(2) as engine:\n"
        "    try: list(engine.run(work, {'a': 1}))\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == (
        "EngineError work is of the script that runs, which workers cannot import; move it to a module\n"
    )


# -- the end -----------------------------------------------------------------------------------------------------------


def test_ctrl_c_leaves_no_process_and_lets_items_clean_up(tmp_path: Path) -> None:
    with command("local", tmp_path) as running:
        assert running.end(signal.SIGINT) == 130
    started, cleaned = ({p.name.split("-")[1] for p in tmp_path.glob(f"{w}-*")} for w in ("started", "cleaned"))
    assert started == cleaned


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=lambda by: by.name)
def test_a_command_that_is_killed_leaves_no_process(tmp_path: Path, by: signal.Signals) -> None:
    with command("local", tmp_path) as running:
        assert running.end(by) == -by


def test_an_item_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    with Local(2) as engine, pytest.raises(ShotsError):
        list(engine.run(engine_items.refuse_beside_a_deaf_one, {name: (tmp_path, name) for name in ("deaf", "fails")}))
    pid = int((tmp_path / "deaf").read_text())
    assert not Path(f"/proc/{pid}").exists()
