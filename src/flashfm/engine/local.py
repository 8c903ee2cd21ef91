"""The engine of one machine: a number of processes, each with one item at a time.

Who works on what is known at every moment, so when a process is killed it is clear which item it had, and the others go
on. (The pool of `concurrent.futures` ends as a whole with any of its processes, and does not say which item it was.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing.connection import wait
from types import TracebackType

from flashfm.engine import schedule
from flashfm.engine.base import AHEAD, TRIES, OnTold, R, T, Told, not_fewer_than_one
from flashfm.engine.child import Child, end
from flashfm.engine.schedule import Event, Lost, Outcome, Progress
from flashfm.engine.task import pack
from flashfm.engine.threads import SINGLE_THREAD

LOOK_S = 1.0
"""Between looks at whether a process is gone whose pipe another still holds open."""


class Local:
    """A number of processes on this machine, each on one thread. They start with the first run and end with the block.

    Args:
        workers: processes, at least 1.
        tries: how often an item is worked on whose worker is killed, at least 1.

    Raises:
        EngineError: there are no workers.
    """

    def __init__(self, workers: int, *, tries: int = TRIES) -> None:
        self._workers, self._tries = not_fewer_than_one(workers), tries
        self._idle: deque[_Worker] = deque()
        self._all: set[_Worker] = set()

    @property
    def workers(self) -> int:
        """Items that are worked on at a time."""
        return self._workers

    def __enter__(self) -> Local:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes."""
        self._idle.clear()
        self.end(*self._all)

    def run(
        self,
        work: Callable[[T, Told], R],
        items: Mapping[str, T] | Iterable[tuple[str, T]],
        on_told: OnTold = lambda *_: None,
        *,
        ordered: bool = False,
    ) -> Iterator[tuple[str, R]]:
        """Work on the items in so many processes; see `Engine.run`."""
        places = _Run(self, pack(work, "the work"))
        most = (lambda: AHEAD * self.workers) if ordered else None
        yield from schedule.run(places, items, on_told, self._tries, most)

    def take(self) -> _Worker:
        """A process that waits for work."""
        while self._idle:
            worker = self._idle.popleft()
            if not worker.ended:
                return worker
            self.end(worker)
        worker = _Worker("flashfm.engine.worker", SINGLE_THREAD)
        self._all.add(worker)
        return worker

    def put(self, worker: _Worker) -> None:
        """Leave a process to the next who needs one."""
        self._idle.append(worker)

    def end(self, *workers: _Worker) -> list[str]:
        """End processes, and say how each went."""
        words = end(workers)
        self._all.difference_update(workers)
        return words


class _Worker(Child):
    """A process of `flashfm.engine.worker`."""

    ready = False
    """Whether it has said that it works."""
    work = b""
    """What it knows."""

    def start(self, work: bytes, item: bytes) -> None:
        """Give it an item; OSError where it is gone."""
        if self.work is not work:
            self.pipe.send(("work", work))
            self.work = work
        self.pipe.send(("item", item))


class _Run:
    """The places of one run: processes of the engine, those that have an item and those that wait for one."""

    def __init__(self, engine: Local, work: bytes) -> None:
        self._engine, self._work = engine, work
        self._busy: dict[_Worker, str] = {}

    def free(self) -> bool:
        return len(self._busy) < self._engine.workers

    def start(self, name: str, item: bytes) -> None:
        worker = self._engine.take()
        self._busy[worker] = name
        try:
            worker.start(self._work, item)
        except OSError:  # it is gone, which `wait` finds in a moment
            return

    def wait(self) -> list[Event]:
        ready = set(wait([worker.pipe for worker in self._busy], LOOK_S))
        return [
            event
            for worker, name in list(self._busy.items())
            if worker.pipe in ready or worker.ended
            for event in self._hear(worker, name)
        ]

    def close(self) -> None:
        self._engine.end(*self._busy)
        self._busy.clear()

    def _hear(self, worker: _Worker, name: str) -> Iterator[Event]:
        """What a worker has to say, or that it is gone."""
        ended = worker.ended  # before we listen: what it said before it went is heard
        try:
            while worker.pipe.poll():
                word, *what = worker.pipe.recv()
                if word == "ready":
                    worker.ready = True
                elif word == "told":
                    yield Progress(name, *what)
                else:
                    del self._busy[worker]
                    self._engine.put(worker)
                    yield Outcome(name, *what)
                    return
        except (EOFError, OSError):
            ended = True
        if ended:
            del self._busy[worker]
            how = self._engine.end(worker)[0]
            yield Lost(name, how if worker.ready else f"{how} before it could start")
