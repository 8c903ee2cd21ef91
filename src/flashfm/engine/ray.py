"""The engine of a cluster: items become tasks of Ray, on a cluster that is there or on one that ends with the block.

Ray's own end of it is a process apart, `flashfm.engine.ray_driver`. Ray ends the process that uses it when its head is
gone, and takes over signals, process group and environment of that process; a command that has results to keep must not
be that process. Ray is not imported here.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp
from types import TracebackType
from typing import IO, Any

from flashfm.engine import schedule
from flashfm.engine.base import AHEAD, TRIES, OnTold, R, T, Told, not_fewer_than_one
from flashfm.engine.child import Child, end
from flashfm.engine.guard import Guard
from flashfm.engine.schedule import Broken, Event, Lost, Outcome
from flashfm.engine.task import pack
from flashfm.errors import EngineError

START_S = 90.0
"""How long a cluster may take to start, or to let us in."""
REACH_S = 10.0
"""How long its head may take to take a connection."""
STOP_S = 20.0
"""How long a cluster of our own may take to end."""
WAIT_S = 1.0
QUEUE = 2
"""Tasks for each core that are with Ray at a time, so that none waits for us and results do not pile up."""
_LAST_BYTES = 4000
_STAMP = re.compile(r"^\[.*?\] (\w+\.\w+:\d+: )?")
_OWN_NAMES = ("127.0.0.1", "localhost", "::1", "[::1]")
OUTSIDE = "8.8.8.8"
"""An address towards which Ray finds that of a machine on its network; nothing is sent there."""


class Ray:
    """Tasks of Ray, of one core or of one node each. A cluster is started or joined on entering the block.

    Args:
        address: HOST:PORT of the head of a cluster that this machine is part of, joined with the token in
            `RAY_AUTH_TOKEN` or `RAY_AUTH_TOKEN_PATH` where `RAY_AUTH_MODE` is `token`. None starts a cluster of this
            machine alone, with a token of its own, which nothing but the loopback device reaches.
        workers: items that are worked on at a time, at least 1; None for as many as there are cores, or nodes, which is
            looked at again and again.
        whole_nodes: give an item all cores of a node, so that no other is worked on beside it; one that is lost with
            its node goes to another node. `flashfm.engine.node.node` names the node.
        tries: how often an item is worked on whose worker or node is lost, at least 1.

    Raises:
        EngineError: there are no workers, or the address is of another kind; on entering, Ray is not installed, or the
            cluster cannot be started or joined.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        *,
        whole_nodes: bool = False,
        tries: int = TRIES,
    ) -> None:
        host, _, port = (address or "").rpartition(":")
        if address is not None and ("://" in address or not host or not port.isdecimal()):
            raise EngineError(
                f"--address {address}: expected HOST:PORT, the head of a cluster that this machine is part of"
            )
        self._address, self._limit = address, None if workers is None else not_fewer_than_one(workers)
        self._whole_nodes, self._tries = whole_nodes, tries
        self._places: int | None = None
        self._runs = 0
        self._heard: dict[int, list[Event]] = {}
        self._broken: EngineError | None = None
        self._driver: Child | None = None
        self._guard: Guard | None = None
        self._errors: IO[bytes] | None = None

    @property
    def workers(self) -> int:
        """Items that are worked on at a time; what the cluster last had where no number is given."""
        return max(1, self._places or 0) if self._limit is None else self._limit

    @property
    def head(self) -> str | None:
        """Host of the cluster's head as a node reaches it; None for a cluster that is of this machine alone.

        Where the head is named by a loopback address, the address is any other: this machine is the head's, and Ray
        has the address of it on its network.
        """
        if self._address is None:
            return None
        host = self._address.rpartition(":")[0].strip("[]")
        return OUTSIDE if host in _OWN_NAMES else host

    @property
    def at_most(self) -> int:
        """Items that are with Ray at a time."""
        return self.workers if self._whole_nodes or self._limit is not None else QUEUE * self.workers

    def __enter__(self) -> Ray:
        if find_spec("ray") is None:
            raise EngineError("--engine ray needs Ray, which is not installed; run: pip install 'flashfm[ray]'")
        if self._address is not None:
            self._reach(self._address)
        self._errors = TemporaryFile()
        try:
            self._start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give up what runs, and leave the cluster; one of our own ends."""
        self._close()

    def run(
        self,
        work: Callable[[T, Told], R],
        items: Mapping[str, T] | Iterable[tuple[str, T]],
        on_told: OnTold = lambda *_: None,
        *,
        ordered: bool = False,
    ) -> Iterator[tuple[str, R]]:
        """Work on the items as tasks; see `Engine.run`. Progress within items is not heard of."""
        self._runs += 1
        places = _Run(self, self._runs)
        self._heard[self._runs] = []
        self.send("work", self._runs, pack(work, "the work"))
        most = (lambda: AHEAD * self.at_most) if ordered else None
        yield from schedule.run(places, items, on_told, self._tries, most)

    def send(self, *command: object) -> None:
        """Tell the driver something; that it is gone is found by `hear`."""
        with suppress(OSError):
            self._pipe.send(command)

    def hear(self, run: int) -> list[Event]:
        """What happened to the items of a run; waits for a moment where nothing did."""
        if not self._heard[run] and self._broken is None:
            self._listen(WAIT_S)
        events, self._heard[run] = self._heard[run], []
        return events if self._broken is None else [*events, Broken(self._broken)]

    def forget(self, run: int) -> None:
        """What a run has not done is given up."""
        del self._heard[run]
        if self._driver is not None:
            self.send("forget", run)

    @property
    def _pipe(self) -> Connection[Any, Any]:
        assert self._driver is not None, "used outside of its block"
        return self._driver.pipe

    def _listen(self, within_s: float) -> None:
        try:
            while self._pipe.poll(within_s):
                word, *what = self._pipe.recv()
                within_s = 0.0
                if word == "places":
                    (self._places,) = what
                    kind = "nodes" if self._whole_nodes else "cores"
                    schedule.log.info("%s: %s: %d", self._where, kind, self._places)
                elif word == "broken":
                    self._broken = EngineError(f"{self._where} {what[0]}")
                    return
                else:
                    run, name, said = what
                    event = Outcome(name, said) if word == "done" else Lost(name, said)
                    self._heard.get(run, []).append(event)
        except (EOFError, OSError):
            assert self._driver is not None
            how = self._driver.gone(WAIT_S)
            self._broken = EngineError(f"{self._where} is gone: its driver {how}{self._last_words()}")

    def _start(self) -> None:
        """Start the driver, and wait until it has a cluster."""
        if self._address is None:
            folder = Path(mkdtemp(prefix="flashfm-"))
            environment = {
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": secrets.token_hex(32),
                "RAY_TMPDIR": str(folder),
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # what keeps a cluster on the loopback device, on Linux too
            }
            self._driver = Child("flashfm.engine.ray_driver", environment, self._errors)
            self._guard = Guard(self._driver.pid, folder)
        else:
            self._driver = Child("flashfm.engine.ray_driver", {}, self._errors)
        self._pipe.send((self._address, self._limit, self._whole_nodes))
        until = time.monotonic() + START_S
        while self._places is None and self._broken is None:
            if time.monotonic() > until:
                raise EngineError(f"{self._where} gave no answer within {START_S:g} s{self._last_words()}")
            self._listen(WAIT_S)
        if self._broken is not None:
            raise self._broken

    def _reach(self, address: str) -> None:
        """Knock at the head; Ray itself does so for minutes. What Ray takes for another name of this machine passes."""
        host, _, port = address.rpartition(":")
        if host in _OWN_NAMES:
            return
        try:
            socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
        except (OSError, OverflowError) as error:
            raise EngineError(
                f"{self._where} cannot be joined: nothing answers there ({error}); is that its head, and does it run?"
            ) from None

    @property
    def _where(self) -> str:
        return "Ray on this machine" if self._address is None else f"the cluster of Ray at {self._address}"

    def _last_words(self) -> str:
        """What Ray said last, as the end of a message: the first sentence of its last line, without the stamp."""
        assert self._errors is not None
        file = self._errors.fileno()  # which the driver writes on, from where it is
        said = os.pread(file, _LAST_BYTES, max(0, os.fstat(file).st_size - _LAST_BYTES)).decode(errors="replace")
        lines = [line for line in said.splitlines() if line.strip()]
        return ": " + _STAMP.sub("", lines[-1]).partition(". ")[0].strip()[:300] if lines else ""

    def _close(self) -> None:
        if self._driver is not None:
            end([self._driver], STOP_S if self._places is not None else WAIT_S)
            self._driver = None
        if self._errors is not None:
            self._errors.close()
        if self._guard is not None:
            self._guard.close()
            self._guard = None


class _Run:
    """The places of one run: tasks that are with Ray."""

    def __init__(self, engine: Ray, number: int) -> None:
        self._engine, self._number = engine, number
        self._with_ray = 0

    def free(self) -> bool:
        return self._with_ray < self._engine.at_most

    def start(self, name: str, item: bytes) -> None:
        self._with_ray += 1
        self._engine.send("item", self._number, name, item)

    def wait(self) -> list[Event]:
        events = self._engine.hear(self._number)
        self._with_ray -= sum(isinstance(event, Outcome | Lost) for event in events)
        return events

    def close(self) -> None:
        self._engine.forget(self._number)
