"""The engine that is there by default: this very process, one item after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import TracebackType

from flashfm.engine.base import OnTold, R, T, Told, named
from flashfm.engine.threads import one_thread


class Inline:
    """Works here, on one thread as workers do; nothing is sent anywhere."""

    workers = 1
    """Items that are worked on at a time."""

    def __enter__(self) -> Inline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left to end."""

    def run(
        self,
        work: Callable[[T, Told], R],
        items: Mapping[str, T] | Iterable[tuple[str, T]],
        on_told: OnTold = lambda *_: None,
        *,
        ordered: bool = False,  # noqa: ARG002  here they always are
    ) -> Iterator[tuple[str, R]]:
        """Work on one item after the other, in their order; see `Engine.run`."""
        for name, item in named(items):
            try:
                with one_thread():
                    made = work(item, partial(on_told, name))
            except Exception as error:
                error.add_note(f"item {name!r}")
                raise
            yield name, made


INLINE = Inline()
"""The default of functions that take an engine."""
