"""A process that outlives ours, and ends what a process of ours may leave behind: its session, and a folder.

Ray's own end ties its processes to the one that started them, but not those that these have started in turn.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_GUARD = """
import os, shutil, signal, sys, time
session, folder = sys.argv[1:]

def left():
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                state, _, _, of, *_ = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if of == session and state != "Z":
            yield int(pid)

sys.stdin.read()
while found := list(left()):
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    time.sleep(0.05)
shutil.rmtree(folder, ignore_errors=True)
"""
"""Waits for the end of its input, which comes when we close it or are gone."""
STOP_S = 30.0


class Guard:
    """Watches over a session from its start.

    Args:
        session: number of the session, which is that of the process that leads it.
        folder: what is deleted after the last process of the session is gone.
    """

    def __init__(self, session: int, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _GUARD, str(session), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """End all processes of the session, and delete the folder."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:  # a process that even SIGKILL does not reach holds it up
            self._process.kill()
            self._process.wait()
