"""A replica: `flashfm apps serve` as a process in a control group, and a place on this machine for some of them.

Enters: an application, a group and how it is served. Leaves: a process that answers, and what it uses. Everything is
registered with the watchdog of `measurements.limits`, so that neither processes nor groups nor files outlive whoever
made them.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp
from typing import IO

from flashfm.applications.spec import ApplicationSpec
from flashfm.engine.threads import SINGLE_THREAD
from flashfm.errors import MeasureError
from flashfm.measurements.limits import Backend, Group, Watchdog

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20
_LAST_BYTES = 2000
_SERVER = """
import ctypes, signal
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
from flashfm.cli import main
main()
"""
"""Is the command line, but ends when the thread that started it does."""


@dataclass(frozen=True)
class Serving:
    """How a process serves an application; see `flashfm apps serve --help`."""

    concurrency: int = 4
    """Requests that it works on at a time."""
    drain_s: float = 1.0
    """Longest wait at the end for requests in flight."""
    port: int = 0
    """Of the loopback device; 0 takes a free one."""
    share_port: bool = False
    """Whether other processes may listen on the port."""
    metrics_port: int | None = None
    """A second port, for metrics of this process alone."""
    endpoint_url: str | None = None
    """Of S3 and DynamoDB, provisioned already; None where the application needs neither."""
    deployment: str | None = None
    """Whose buckets and tables are used there."""

    def words(self, file: Path) -> list[str]:
        """The command line that serves the application of a file so."""
        said: list[object] = ["apps", "serve", file, "--json", "--port", self.port, "--concurrency", self.concurrency]
        said += ["--drain-s", self.drain_s, *(["--share-port"] if self.share_port else [])]
        for option, value in (
            ("--metrics-port", self.metrics_port),
            ("--endpoint-url", self.endpoint_url),
            ("--deployment", self.deployment),
        ):
            said += [] if value is None else [option, value]
        return [str(word) for word in (*said, *([] if self.endpoint_url is None else ["--no-provision"]))]


class Process:
    """A serving process. It is started by the constructor, and killed when the thread that called that ends.

    Args:
        group: that it runs in.
        spec: the application.
        work: folder of its files, deleted by whoever made it.
        serving: how it serves.
        cpus: cores that it may use; None for all.
    """

    def __init__(
        self, group: Group, spec: ApplicationSpec, work: Path, serving: Serving, cpus: frozenset[int] | None = None
    ) -> None:
        self.group, self.spec = group, spec
        self.port: int | None = None
        """On which it answers; None before it does."""
        self._errors: IO[bytes] = TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._said = b""
        file = work / f"{spec.digest[:12]}.json"
        if not file.exists():
            file.write_text(json.dumps(spec.to_dict()))
        self._process = subprocess.Popen(
            [*group.launcher, sys.executable, "-P", "-c", _SERVER, *serving.words(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **SINGLE_THREAD, "TMPDIR": str(work)},
            start_new_session=True,
        )
        if cpus is not None:
            with suppress(ProcessLookupError):
                os.sched_setaffinity(self._process.pid, cpus)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def answers(self, within_s: float = 0.0) -> bool:
        """Whether it has said that it answers.

        Args:
            within_s: how long to wait for that.

        Raises:
            MeasureError: it ended before.
        """
        assert self._process.stdout is not None
        deadline = time.monotonic() + within_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while self.port is None:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return False
                piece = os.read(self._process.stdout.fileno(), 4096)
                if not piece:
                    self._process.wait()
                    raise MeasureError(
                        f"application {self.spec.name}: the server ended before it answered: {self.last_words()}"
                    )
                self._said += piece
                if self._said.endswith(b"\n"):
                    self.port = int(json.loads(self._said)["url"].rpartition(":")[2])
        return True

    def last_words(self) -> str:
        """The last line that it wrote to standard error, or how it ended."""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - _LAST_BYTES))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        if self._process.poll() is not None and self.group.oom_kills():
            return "killed by the kernel at its memory limit"
        return lines[-1][:300] if lines else "no message"

    def terminate(self) -> None:
        """Ask it to finish what is in flight and end."""
        self._process.terminate()

    def close(self, within_s: float = STOP_TIMEOUT_S) -> None:
        """Ask it to end, and kill it where it does not.

        Args:
            within_s: how long to wait for that; 0 kills at once.
        """
        if within_s > 0:
            self._process.terminate()
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS_PER_S


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_MIB


@dataclass(frozen=True)
class Place:
    """Where replicas are served on this machine."""

    root: Group
    """The outermost group, which outweighs the rest of the machine."""
    work: Path
    """Folder of files."""
    dog: Watchdog
    """Removes what is registered when this process is gone."""


@contextmanager
def place(backend: Backend) -> Iterator[Place]:
    """A place for the length of a block.

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
        yield Place(root, work, dog)
