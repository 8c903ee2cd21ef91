"""Which item is worked on when, and what happens when its worker is gone: the same for all engines with workers.

Enters: items, and places where they can be worked on. Leaves: what was made of each, once. No process is known here.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from flashfm.engine.base import TRIES, OnTold, named
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


class _InHand:
    """Items from when they are drawn to when what was made of them is handed out."""

    def __init__(self, items: Mapping[str, Any] | Iterable[tuple[str, Any]], most: Callable[[], int] | None) -> None:
        self._coming, self._most = named(items), most
        self._packed: dict[str, bytes] = {}
        """Of those that are not done, so that each can be worked on again."""
        self._again: deque[str] = deque()
        """Those that have lost their worker."""
        self.failed: Exception | None = None
        """What drawing an item raised; no more are drawn."""
        self._order: deque[str] = deque()
        """All in hand, as they were drawn, where they are handed out in that order."""
        self._made: dict[str, Any] = {}
        """Of those that wait for one before them."""

    def next(self) -> tuple[str, bytes] | None:
        """What is worked on next, where anything is: another while there may be more, then those that were lost."""
        if self.failed is None and (self._most is None or len(self._order) < self._most()):
            try:
                for name, item in self._coming:
                    self._packed[name] = pack(item, f"item {name!r}")
                    if self._most is not None:
                        self._order.append(name)
                    return name, self._packed[name]
            except Exception as error:  # noqa: BLE001  raised when those before it are done
                self.failed = error
        return (name := self._again.popleft(), self._packed[name]) if self._again else None

    @property
    def all_done(self) -> bool:
        """Whether none that was drawn is left to work on."""
        return not self._packed

    def lost(self, name: str) -> None:
        """One is to be worked on again."""
        self._again.append(name)

    def done(self, name: str, made: Any) -> Iterator[tuple[str, Any]]:
        """What is handed out now that one is done."""
        del self._packed[name]
        if self._most is None:
            yield name, made
            return
        self._made[name] = made
        while self._order and self._order[0] in self._made:
            first = self._order.popleft()
            yield first, self._made.pop(first)


def run(
    places: Places,
    items: Mapping[str, Any] | Iterable[tuple[str, Any]],
    on_told: OnTold,
    tries: int = TRIES,
    most: Callable[[], int] | None = None,
) -> Iterator[tuple[str, Any]]:
    """Work on all items, each until it is done or has lost its worker `tries` times.

    An item that lost its worker goes to the end, so that another that used up the memory beside it may be done by then;
    the end of those in hand, where there is a `most`.

    Args:
        places: where; they are closed at the end, however it comes.
        items: by name; each is drawn when it can start.
        on_told: told of progress within items.
        tries: at least 1.
        most: where results are wanted in the order of the items, how many items may be in hand: at work, or done and
            waiting for one before them. At least 1, and asked for whenever another is to be drawn.

    Yields:
        Name and result, in the order in which items are done, or in that of the items.

    Raises:
        EngineError: an item lost its worker too often, or what works is gone.
        Exception: what an item raised, when what others were done by then is yielded; or what drawing one raised, when
            all before it are.
    """
    in_hand, lost = _InHand(items, most), Counter[str]()
    try:
        while True:
            while places.free() and (following := in_hand.next()) is not None:
                places.start(*following)
            if in_hand.all_done:
                if in_hand.failed is not None:
                    raise in_hand.failed
                return
            failed: Exception | None = None
            for event in places.wait():
                if isinstance(event, Progress):
                    on_told(event.name, event.done, event.total)
                    continue
                try:
                    if isinstance(event, Broken):
                        raise event.why
                    if isinstance(event, Lost):
                        lost[event.name] += 1
                        _again(event, lost[event.name], tries)
                        in_hand.lost(event.name)
                        continue
                    made = result_of(event.name, event.made)
                except Exception as error:  # noqa: BLE001  raised below, when what else is done has been handed out
                    failed = failed or error
                    continue
                yield from in_hand.done(event.name, made)
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
