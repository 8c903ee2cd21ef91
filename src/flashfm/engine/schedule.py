"""Which item is worked on when, and what happens when its worker is gone: the same for all engines with workers.

Enters: items, and places where they can be worked on. Leaves: what was made of each, once. No process is known here.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from flashfm.engine.base import TRIES, OnTold
from flashfm.engine.task import pack, result_of
from flashfm.errors import EngineError

log = logging.getLogger("flashfm.engine")


@dataclass(frozen=True, slots=True)
class Progress:
    """An item is so far."""

    name: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """An item was worked on; what `flashfm.engine.task.perform` made of it."""

    name: str
    made: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker of an item is gone, and how it went, in words such as "killed by SIGKILL"."""

    name: str
    how: str


@dataclass(frozen=True, slots=True)
class Broken:
    """Nothing can be worked on any more."""

    why: EngineError


Event = Progress | Outcome | Lost | Broken


@runtime_checkable
class Places(Protocol):
    """Where the items of one run are worked on."""

    def free(self) -> bool:
        """Whether another item may start."""

    def start(self, name: str, item: bytes) -> None:
        """Start an item, where one is free. That it could not be started is an event."""

    def wait(self) -> list[Event]:
        """What happened since the last call; waits for a moment where nothing did."""

    def close(self) -> None:
        """Give up what is not done."""


def run(places: Places, items: Mapping[str, Any], on_told: OnTold, tries: int = TRIES) -> Iterator[tuple[str, Any]]:
    """Work on all items, each until it is done or has lost its worker `tries` times.

    An item that lost its worker goes to the end, so that another that used up the memory beside it may be done by then.

    Args:
        places: where; they are closed at the end, however it comes.
        items: by name.
        on_told: told of progress within items.
        tries: at least 1.

    Yields:
        Name and result, in the order in which items are done.

    Raises:
        EngineError: an item lost its worker too often, or what works is gone.
        Exception: what an item raised; what others were done by then is yielded before.
    """
    waiting, lost = deque(items), Counter[str]()
    started: set[str] = set()
    try:
        while waiting or started:
            while waiting and places.free():
                name = waiting.popleft()
                places.start(name, pack(items[name], f"item {name!r}"))
                started.add(name)
            failed: Exception | None = None
            for event in places.wait():
                if isinstance(event, Progress):
                    on_told(event.name, event.done, event.total)
                    continue
                try:
                    if isinstance(event, Broken):
                        raise event.why
                    started.remove(event.name)
                    if isinstance(event, Lost):
                        lost[event.name] += 1
                        _again(event, lost[event.name], tries)
                        waiting.append(event.name)
                        continue
                    made = result_of(event.name, event.made)
                except Exception as error:  # noqa: BLE001  raised below, when what else is done has been handed out
                    failed = failed or error
                    continue
                yield event.name, made
            if failed is not None:
                raise failed
    finally:
        places.close()


def _again(event: Lost, times: int, tries: int) -> None:
    """Say that an item is worked on again; EngineError where that was tried often enough."""
    if times >= tries:
        raise EngineError(
            f"item {event.name!r}: its worker was lost {times} times, the last time {event.how}; give it more memory,"
            " run fewer items at a time (--workers), or look at what it does"
        )
    log.warning(
        "item %r: its worker was lost, %s; trying again, %d of %d times", event.name, event.how, times + 1, tries
    )
