"""The process of a local worker: one item at a time, until the pipe is closed.

Commands come in, tuples of a word and what belongs to it; replies go out:

==========================  ==================================================================
``("work", bytes)``         the function of the items that follow
``("item", bytes)``         ``("told", done, total)`` now and then, ``("done", bytes)`` at last
==========================  ==================================================================

The first reply is ``("ready",)``.
"""

from __future__ import annotations

import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from flashfm.engine.task import perform

TOLD_EVERY_S = 0.1


def serve(pipe: Connection[Any, Any]) -> None:
    """Work on items until the end of input."""
    pipe.send(("ready",))
    work = b""
    while True:
        try:
            word, what = pipe.recv()
        except EOFError:
            return
        if word == "work":
            work = what
            continue
        before = signal.signal(signal.SIGTERM, _interrupt)
        made = perform(work, what, _Told(pipe))
        signal.signal(signal.SIGTERM, before)
        pipe.send(("done", made))


def _interrupt(*_: object) -> None:
    """End the item that is worked on so that what it has begun is cleaned up; between items the process just ends."""
    sys.exit(128 + signal.SIGTERM)


class _Told:
    """Passes progress on, though not more often than anybody can see."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self._pipe, self._next = pipe, 0.0

    def __call__(self, done: int, total: int) -> None:
        if (now := time.monotonic()) >= self._next:
            self._next = now + TOLD_EVERY_S
            self._pipe.send(("told", done, total))
