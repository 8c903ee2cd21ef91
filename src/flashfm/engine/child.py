"""A process of our own, and the pipe to it: it never outlives us, even after `kill -9`, and Ctrl-C does not reach it.

Enters: a module of this package with a function `serve`. Leaves: a process that runs it, and a connection.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from typing import IO, Any

from flashfm.errors import EngineError

STOP_S = 2.0
"""How long processes that are ended may take to clean up."""
_START = """
import ctypes, importlib, json, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
module, pipe, parent, path = sys.argv[1:]
if os.getppid() != int(parent):
    os._exit(1)
os.set_inheritable(int(pipe), False)
sys.path[:] = json.loads(path)
from multiprocessing.connection import Connection
importlib.import_module(module).serve(Connection(int(pipe)))
"""
"""Ends when the thread that started it does; imports what we can import."""


class Child:
    """A process that talks with this one. It is started by the constructor.

    What it prints goes to standard error, so that standard output holds what a command prints and no more.

    Args:
        module: whose function `serve` it calls with its end of the pipe.
        environment: variables beside those of this process.
        errors: where its output goes; None for this process's standard error.

    Raises:
        EngineError: the system refuses another process.
    """

    def __init__(self, module: str, environment: Mapping[str, str], errors: IO[bytes] | None = None) -> None:
        self.pipe, theirs = Pipe()
        """Ours of the two ends."""
        to: Any = 2 if errors is None else errors
        words = (module, str(theirs.fileno()), str(os.getpid()), json.dumps([str(entry) for entry in sys.path]))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, *words],
                stdin=subprocess.DEVNULL,
                stdout=to,
                stderr=to,
                env={**os.environ, **environment},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            self.pipe.close()
            raise EngineError(f"a process cannot be started: {error.strerror}; run fewer (--workers)") from None
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def leave(self) -> None:
        """Ask it to end: its input ends, and what it is at is interrupted."""
        with suppress(OSError):
            self.pipe.close()
        self._process.terminate()

    def gone(self, within_s: float) -> str:
        """Wait for it to end, kill it where it does not, and say how it went."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(within_s)
        if self._process.poll() is None:
            self._process.kill()
        code = self._process.wait()
        named = {by.value: by.name for by in signal.Signals}
        return f"killed by {named.get(-code, f'signal {-code}')}" if code < 0 else f"ended with exit status {code}"


def end(children: Iterable[Child], within_s: float = STOP_S) -> list[str]:
    """End processes, all at a time: ask first, and kill those that are there after `within_s`; say how each went."""
    asked = list(children)
    for child in asked:
        child.leave()
    until = time.monotonic() + within_s
    return [child.gone(max(0.0, until - time.monotonic())) for child in asked]
