"""The process that is Ray's driver: the only module that imports Ray.

The first command has the address, the workers, and whether an item has a whole node. Then tuples of a word and what
belongs to it come and go; runs are numbers, so that several may go on at a time:

===============================  =================================================================
``("work", run, bytes)``         the function of the items of a run
``("item", run, name, bytes)``   ``("done", run, name, bytes)``, or ``("lost", run, name, how)``
``("forget", run)``              its items are given up
===============================  =================================================================

Unasked come ``("places", n)``, cores or nodes, first when the cluster is there, and ``("broken", why)``, the last word.

Ray is told not to try again by itself (`max_retries=0`): an item that loses its worker is reported and handed in again,
so that it is counted and logged as by every other engine.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import flashfm
from flashfm.engine.node import on_node, tidy
from flashfm.engine.task import perform
from flashfm.errors import EngineError

LOOK_EVERY_S = 5.0
REST_S = 20.0
"""How long a node that lost its item gets no other: it may be gone, which Ray takes some time to find."""
WAIT_S = 0.1
Run = int
LOST = {
    "WorkerCrashedError": "its process ended unexpectedly",
    "OutOfMemoryError": "its process was killed because the node ran out of memory",
    "NodeDiedError": "its node is gone",
    "TaskUnschedulableError": "its node is gone",
    "ObjectLostError": "what it made is gone with a node",
}
"""What Ray's errors say of an item."""
NOT_LET_IN = (
    "it asks for another token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to what it has"
)


def serve(pipe: Connection[Any, Any]) -> None:
    """Start or join a cluster, and hand items to it until the end of input."""
    address, workers, whole_nodes = pipe.recv()
    ray = _ray()
    of_ray = (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError)
    try:
        _join(address, workers)
    except of_ray as error:
        why = NOT_LET_IN if "AuthenticationError" in _line(error) else _line(error)
        pipe.send(("broken", f"cannot be {'started' if address is None else 'joined'}: {why}"))
        return
    try:
        _Driver(pipe, _Nodes() if whole_nodes else _Cores()).serve()
    except EOFError:
        pass
    except EngineError as error:
        pipe.send(("broken", str(error)))
    except of_ray as error:
        pipe.send(("broken", f"is gone: {_line(error)}"))
    ray.shutdown()


def _ray() -> Any:
    import ray

    return ray


def _join(address: str | None, workers: int | None) -> None:
    quiet = {"logging_level": "ERROR", "log_to_driver": False, "namespace": "flashfm"}
    if address is None:
        _ray().init("local", num_cpus=workers, include_dashboard=False, **quiet)
    else:
        _ray().init(address, **quiet)


@dataclass(frozen=True)
class _Place:
    """Where a task runs."""

    options: dict[str, Any]
    """Of the task."""
    node: str = ""
    """Its number with Ray; empty where Ray chooses one."""
    name: str = ""
    """What the node is called."""


class _Cores:
    """Places of one core, anywhere: Ray says where, and when."""

    def count(self) -> int:
        """How many there are now."""
        return int(_ray().cluster_resources().get("CPU", 0))

    def take(self) -> _Place | None:
        """A place for a task."""
        return _Place({"num_cpus": 1})

    def give_back(self, place: _Place, *, lost: bool) -> None:
        """The task is gone from there."""


class _Nodes:
    """Places that are all cores of a node, so that a task of ours has nothing of Ray beside it."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._busy: set[str] = set()
        self._rests: dict[str, float] = {}

    def count(self) -> int:
        """How many nodes there are now; a node without cores, as a head may be, is for no task."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        self._places = {}
        for node in _ray().nodes():
            number, cores = node["NodeID"], node["Resources"].get("CPU", 0)
            if node["Alive"] and cores >= 1:
                named = node["NodeName"] != node["NodeManagerAddress"]  # which is what Ray calls it by itself
                name = node["NodeName" if named else "NodeManagerHostname"]
                options = {"num_cpus": cores, "scheduling_strategy": On(number, soft=False)}
                self._places[number] = _Place(options, number, tidy(name))
        return len(self._places)

    def take(self) -> _Place | None:
        """A node that has no task and has not just lost one."""
        now = time.monotonic()
        for number, place in self._places.items():
            if number not in self._busy and self._rests.get(number, now) <= now:
                self._busy.add(number)
                return place
        return None

    def give_back(self, place: _Place, *, lost: bool) -> None:
        """The task is gone from there."""
        self._busy.discard(place.node)
        if lost:
            self._rests[place.node] = time.monotonic() + REST_S


@dataclass(frozen=True)
class _Item:
    """One that was handed in."""

    run: Run
    name: str
    item: bytes = field(repr=False)


class _Driver:
    """What is with Ray, and what waits for a place."""

    def __init__(self, pipe: Connection[Any, Any], places: _Cores | _Nodes) -> None:
        self._ray, self._pipe, self._places = _ray(), pipe, places
        self._commands: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._task = self._ray.remote(max_retries=0)(_perform)
        self._work: dict[Run, Any] = {}
        self._waiting: deque[_Item] = deque()
        self._tasks: dict[Any, tuple[_Item, _Place]] = {}
        self._count, self._look = -1, 0.0

    def serve(self) -> None:
        """Pass on what comes from both sides; EOFError at the end of input."""
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            self._look_around()
            self._obey()
            self._start()
            if self._tasks:
                done, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=WAIT_S)
                for task in done:
                    self._report(task)

    def _read(self) -> None:
        """Take commands in at all times: if both sides only wrote, both would wait."""
        try:
            while True:
                self._commands.put(self._pipe.recv())
        except (EOFError, OSError):
            self._commands.put(None)

    def _look_around(self) -> None:
        """Tell how many places there are, where that is another number than before."""
        if (now := time.monotonic()) < self._look:
            return
        self._look = now + LOOK_EVERY_S
        if (count := self._places.count()) != self._count:
            self._count = count
            self._pipe.send(("places", count))

    def _obey(self) -> None:
        """Do what was asked for; wait for a moment where nothing is with Ray."""
        while True:
            try:
                command = self._commands.get(timeout=0.0 if self._tasks else WAIT_S)
            except queue.Empty:
                return
            match command:
                case None:
                    raise EOFError
                case ("work", run, work):
                    self._work[run] = self._ray.put(work)
                case ("item", run, name, item):
                    self._waiting.append(_Item(run, name, item))
                    self._start()
                case ("forget", run):
                    self._waiting = deque(item for item in self._waiting if item.run != run)
                    for task in [task for task, (item, _) in self._tasks.items() if item.run == run]:
                        self._places.give_back(self._tasks.pop(task)[1], lost=False)
                        self._ray.cancel(task, force=True)
                    self._work.pop(run, None)

    def _start(self) -> None:
        """Hand in what waits, as far as there are places."""
        while self._waiting and (place := self._places.take()) is not None:
            item = self._waiting.popleft()
            task = self._task.options(name=item.name, **place.options)
            self._tasks[task.remote(flashfm.__version__, self._work[item.run], item.item, place.name)] = item, place

    def _report(self, task: Any) -> None:
        """Tell what became of a task."""
        item, place = self._tasks.pop(task)
        how = ""
        try:
            made = self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, self._ray.exceptions.RayError):
                raise EngineError(
                    f"has a node that cannot work for flashfm {flashfm.__version__} ({_line(error.cause)}); install the"
                    " same packages on all nodes"
                ) from None
            how = _line(error.cause)  # its result found no room, for example
        except self._ray.exceptions.RayError as error:
            how = LOST.get(type(error).__name__) or _line(error)
        self._places.give_back(place, lost=bool(how))
        if how:
            self._look = 0.0
            where = f"; its node: {place.name}" if place.name else ""
            self._pipe.send(("lost", item.run, item.name, how + where))
        else:
            self._pipe.send(("done", item.run, item.name, made))


def _perform(version: str, work: bytes, item: bytes, node: str = "") -> bytes:
    """The task: what `flashfm.engine.task.perform` makes of an item, on the node of that name."""
    if version != flashfm.__version__:
        raise EngineError(f"it has flashfm {flashfm.__version__}")
    with on_node(node):
        return perform(work, item, lambda *_: None)


def _line(error: BaseException) -> str:
    """An error, and what it comes from, on one line; of a traceback the last line, which says what it was."""
    said: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        lines = str(cause).strip().splitlines()
        words = " ".join(lines[-1:] if "Traceback" in str(cause) else lines)
        said.append(f"{type(cause).__name__}: {words[:200]}")
        cause = cause.__cause__
    return " ".join(", since ".join(said).split())
