"""The process that is Ray's driver: the only module that imports Ray.

The first command is the pair of address and workers. Then tuples of a word and what belongs to it come and go; runs are
numbers, so that several may go on at a time:

===============================  =================================================================
``("work", run, bytes)``         the function of the items of a run
``("item", run, name, bytes)``   ``("done", run, name, bytes)``, or ``("lost", run, name, how)``
``("forget", run)``              its items are given up
===============================  =================================================================

Unasked come ``("cores", n)``, first when the cluster is there, and ``("broken", why)``, the last word.

Ray is told not to try again by itself (`max_retries=0`): an item that loses its worker is reported and handed in again,
so that it is counted and logged as by every other engine.
"""

from __future__ import annotations

import queue
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

import flashfm
from flashfm.engine.task import perform
from flashfm.errors import EngineError

CORES_EVERY_S = 5.0
WAIT_S = 0.1
Run = int
LOST = {
    "WorkerCrashedError": "its process ended unexpectedly",
    "OutOfMemoryError": "its process was killed because the node ran out of memory",
    "NodeDiedError": "its node is gone",
    "ObjectLostError": "what it made is gone with a node",
}
"""What Ray's errors say of an item."""
NOT_LET_IN = (
    "it asks for another token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to what it has"
)


def serve(pipe: Connection[Any, Any]) -> None:
    """Start or join a cluster, and hand items to it until the end of input."""
    address, workers = pipe.recv()
    ray = _ray()
    of_ray = (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError)
    try:
        _join(address, workers)
    except of_ray as error:
        why = NOT_LET_IN if "AuthenticationError" in _line(error) else _line(error)
        pipe.send(("broken", f"cannot be {'started' if address is None else 'joined'}: {why}"))
        return
    try:
        _Driver(pipe).serve()
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


class _Driver:
    """What is with Ray."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self._ray, self._pipe = _ray(), pipe
        self._commands: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._task = self._ray.remote(num_cpus=1, max_retries=0)(_perform)
        self._work: dict[Run, Any] = {}
        self._tasks: dict[Any, tuple[Run, str]] = {}
        self._cores, self._look = -1, 0.0

    def serve(self) -> None:
        """Pass on what comes from both sides; EOFError at the end of input."""
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            self._count()
            self._obey()
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

    def _count(self) -> None:
        if (now := time.monotonic()) < self._look:
            return
        self._look = now + CORES_EVERY_S
        cores = int(self._ray.cluster_resources().get("CPU", 0))
        if cores != self._cores:
            self._cores = cores
            self._pipe.send(("cores", cores))

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
                    task = self._task.options(name=name).remote(flashfm.__version__, self._work[run], item)
                    self._tasks[task] = (run, name)
                case ("forget", run):
                    for task in [task for task, (of, _) in self._tasks.items() if of == run]:
                        del self._tasks[task]
                        self._ray.cancel(task, force=True)
                    self._work.pop(run, None)

    def _report(self, task: Any) -> None:
        """Tell what became of a task."""
        run, name = self._tasks.pop(task)
        try:
            self._pipe.send(("done", run, name, self._ray.get(task)))
        except self._ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, self._ray.exceptions.RayError):
                raise EngineError(
                    f"has a node that cannot work for flashfm {flashfm.__version__} ({_line(error.cause)}); install the"
                    " same packages on all nodes"
                ) from None
            self._pipe.send(("lost", run, name, _line(error.cause)))  # its result found no room, for example
        except self._ray.exceptions.RayError as error:
            self._pipe.send(("lost", run, name, LOST.get(type(error).__name__) or _line(error)))


def _perform(version: str, work: bytes, item: bytes) -> bytes:
    """The task: what `flashfm.engine.task.perform` makes of an item."""
    if version != flashfm.__version__:
        raise EngineError(f"it has flashfm {flashfm.__version__}")
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
