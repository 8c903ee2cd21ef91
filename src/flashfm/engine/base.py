"""What an engine is: something that works on independent items, in this process, in others, or on other machines.

Enters: a function of a module, and items by name. Leaves: what the function made of each item, as soon as it is made,
or in the order of the items.
What an item yields depends on the item alone: an engine adds no randomness, and every engine yields the same. Forbidden
here: to know what is worked on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar, runtime_checkable

from flashfm.errors import EngineError

T = TypeVar("T")
R = TypeVar("R")

Told = Callable[[int, int], object]
"""Told of the steps of an item that are done, and of all of them."""
OnTold = Callable[[str, int, int], object]
"""Told of the name of an item, its steps that are done, and all of them."""
TRIES = 3
"""How often an item is worked on whose worker is killed, or whose machine is lost."""
AHEAD = 2
"""Where results come in the order of the items: items in hand, for each that can be worked on at a time."""


@runtime_checkable
class Engine(Protocol):
    """Where items are worked on."""

    @property
    def workers(self) -> int:
        """How many items are worked on at a time, at least 1."""

    def run(
        self,
        work: Callable[[T, Told], R],
        items: Mapping[str, T] | Iterable[tuple[str, T]],
        on_told: OnTold = lambda *_: None,
        *,
        ordered: bool = False,
    ) -> Iterator[tuple[str, R]]:
        """Work on each item, and yield it when it is done.

        Args:
            work: a function of a module, or a `functools.partial` of one. It gets an item and whom to tell of its
                progress, and leaves the item as it is. What it is bound to is sent to each worker once, so that is
                where large data belongs that items share.
            items: name -> item, or any number of pairs of them with different names, each of which is drawn when it can
                start. Work starts in this order. Items and what is made of them can be pickled.
            on_told: told of progress within items, where an engine hears of it.
            ordered: yield in the order of the items. What waits for one that takes long is bounded: no item is drawn
                while `AHEAD` times as many as can be worked on at a time are at work or wait to be yielded.

        Yields:
            The name of an item and what was made of it, each once, in the order in which they are done unless
            `ordered`.

        Raises:
            EngineError: an item ends its worker again and again, or what works is gone.
            Exception: what `work` raised, of the same class and with the same words. Items that were done are yielded
                before, where `ordered` up to the first that was not; the rest are given up. Or what drawing an item
                raised, when all before it are yielded.
        """


def named(items: Mapping[str, T] | Iterable[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    """Items with their names, one after the other."""
    return iter(items.items() if isinstance(items, Mapping) else items)


def not_fewer_than_one(workers: int) -> int:
    """The number of workers.

    Raises:
        EngineError: there are none.
    """
    if workers < 1:
        raise EngineError(f"--workers {workers}: expected at least 1")
    return workers
