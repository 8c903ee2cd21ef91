"""A command in a process of its own, and whether anything that it started is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from engine_items import wait_until

RUNS = """
import sys
from pathlib import Path
from tempfile import mkdtemp
from engine_items import holds
from flashfm.engine.choose import engine_of

name, workers, folder, address = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] or None
try:
    with engine_of(name, workers, address) as engine:
        for _ in engine.run(holds, {str(i): folder for i in range(4)}):
            pass
except KeyboardInterrupt:
    sys.exit(130)
"""


class Command:
    """A run of items that never end, and all processes that come of it."""

    def __init__(self, engine: str, folder: Path, address: str = "", workers: int = 2) -> None:
        self._mark = uuid.uuid4().hex
        self._known: set[tuple[int, str]] = set()
        self.scratch = Path(mkdtemp(prefix="f"))
        here = str(Path(__file__).parent)
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUNS, engine, str(workers), str(folder), address],
            env={
                **os.environ,
                "FLASHFM_TEST_MARK": self._mark,
                "PYTHONPATH": here,
                "TMPDIR": str(self.scratch),
            },
        )
        wait_until(lambda: len(list(folder.glob("started-*"))) == workers, 120)

    def pids(self) -> set[int]:
        """Of the command, of all that came of it, and of all that they left behind and is there.

        What comes of it has a mark in its environment; processes of Ray write over theirs, but have parents.
        """
        parents: dict[int, int] = {}
        begun: dict[int, str] = {}
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # gone meanwhile, or another user's
                words = (folder / "stat").read_text().rpartition(")")[2].split()
                if words[0] != "Z":
                    pid = int(folder.name)
                    parents[pid], begun[pid] = int(words[1]), words[19]
                    if self._mark.encode() in (folder / "environ").read_bytes():
                        found.add(pid)
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        self._known |= {(pid, begun[pid]) for pid in found}  # numbers are given again, to others
        return {pid for pid, since in self._known if begun.get(pid) == since}

    def end(self, by: signal.Signals, within_s: float = 20.0) -> int:
        """Send a signal, and wait until the command and all that it started are gone; its exit status."""
        assert len(self.pids()) >= 2
        self.process.send_signal(by)
        status = self.process.wait(within_s)
        wait_until(lambda: self.pids() == set(), within_s)
        assert list(self.scratch.iterdir()) == []
        return status

    def kill_all(self) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.scratch)


@contextmanager
def command(engine: str, folder: Path, address: str = "") -> Iterator[Command]:
    running = Command(engine, folder, address)
    try:
        yield running
    finally:
        running.kill_all()
