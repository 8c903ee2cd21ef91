"""A replica: the application server as a process in a group of its own, limited as soon as it answers.

What is asked of it comes from `open_load`, again a process apart. Everything is registered with the watchdog of
`measurements.limits`, so that neither processes nor groups outlive the experiment.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp
from typing import IO

from flashfm.applications.spec import ApplicationSpec
from flashfm.errors import MeasureError
from flashfm.experiments.open_load import Heard, Load
from flashfm.measurements.limits import HIGHEST_SHARES, Backend, Group, Limits, Watchdog
from flashfm.measurements.sandbox import SINGLE_THREAD

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
_SERVER = """
import ctypes, signal
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
from flashfm.cli import main
main()
"""
"""Is the command line, but ends when the experiment does."""


@dataclass(frozen=True)
class Replica:
    """A server that answers."""

    port: int
    pid: int


class Bench:
    """Where replicas are served: groups that outweigh the rest of the machine, on a core that the client leaves alone.

    Args:
        root: the outermost group.
        work: folder of the servers' files, deleted by whoever made it.
    """

    def __init__(self, root: Group, work: Path) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self._root, self._work, self._served = root, work, 0
        self._replica_cpus, self._client_cpus = {cores[-1]}, set(cores[:-1]) or set(cores)
        self._client = root.child("client")
        self._client.apply(Limits(cpu_shares=HIGHEST_SHARES))

    @contextmanager
    def replica(self, spec: ApplicationSpec, limits: Limits, *, concurrency: int) -> Iterator[Replica]:
        """Serve an application for the length of a block.

        Args:
            spec: the application; one that calls no services.
            limits: set when the server answers; it starts and prepares its instances without any.
            concurrency: its instances.

        Raises:
            MeasureError: the server did not start.
            LimitsError: the limits could not be set.
        """
        self._served += 1
        group = self._root.child(f"replica-{self._served}")
        try:
            with TemporaryFile() as errors:
                file = self._work / f"spec-{self._served}.json"
                file.write_text(json.dumps(spec.to_dict()))
                process = self._start(group, file, concurrency, errors)
                try:
                    os.sched_setaffinity(process.pid, self._replica_cpus)
                    replica = Replica(_port(process, spec, errors), process.pid)
                    group.apply(limits)
                    yield replica
                finally:
                    group.apply(Limits())
                    _stop(process)
        finally:
            group.remove()

    def send(self, load: Load) -> Heard:
        """Send a load from a process of its own.

        Raises:
            MeasureError: that process failed.
        """
        command = [*self._client.launcher, sys.executable, "-P", "-m", "flashfm.experiments.open_load"]
        client = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            os.sched_setaffinity(client.pid, self._client_cpus)
            out, error = client.communicate(json.dumps(asdict(load)))
        finally:
            client.kill()
            client.wait()
        if client.returncode != 0:
            last = (error.strip().splitlines() or ["no message"])[-1]
            raise MeasureError(f"sending {load.rate_per_s:.3g} requests/s failed: {last}; is the server still there?")
        return Heard(**json.loads(out))

    def _start(self, group: Group, file: Path, concurrency: int, errors: IO[bytes]) -> subprocess.Popen[bytes]:
        words: Sequence[object] = (
            "apps",
            "serve",
            file,
            "--port",
            0,
            "--concurrency",
            concurrency,
            "--drain-s",
            1,
            "--json",
        )
        return subprocess.Popen(
            [*group.launcher, sys.executable, "-P", "-c", _SERVER, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **SINGLE_THREAD, "TMPDIR": str(self._work)},
            start_new_session=True,
        )


@contextmanager
def bench(backend: Backend) -> Iterator[Bench]:
    """A bench for the length of a block.

    Args:
        backend: how limits are set.

    Raises:
        LimitsError: groups cannot be made.
    """
    dog = Watchdog()
    with ExitStack() as stack:
        stack.callback(dog.close)
        root = backend.root(dog)
        stack.callback(root.remove)
        work = Path(mkdtemp(prefix="flashfm-"))
        dog.register("tree", str(work))
        yield Bench(root, work)


def _port(process: subprocess.Popen[bytes], spec: ApplicationSpec, errors: IO[bytes]) -> int:
    """Wait for the line with which the server says that it answers."""
    assert process.stdout is not None
    deadline, line = time.monotonic() + START_TIMEOUT_S, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise MeasureError(f"application {spec.name}: no answer within {START_TIMEOUT_S:g} s; try again")
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                errors.seek(0)
                last = (errors.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
                raise MeasureError(f"application {spec.name}: the server ended before it answered: {last}")
            line += piece
    return int(json.loads(line)["url"].rpartition(":")[2])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to stop, and end it where it does not."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
