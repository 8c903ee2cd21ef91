"""Requests that follow a series of rates, sent from a process of its own whatever the answers take.

Runs as `python -m flashfm.controller.load`: a `Load` as JSON on a line of standard input, "ready" on standard output,
then "go" on standard input, and in the end what came of each step (`Heard`) as JSON. Times are those of a Poisson
process in each step. Every request has a connection of its own, so that the kernel spreads them over the processes
that share the port.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

import numpy as np
from jaxtyping import Float

from flashfm.errors import MeasureError
from flashfm.measurements.arrivals import MAX_REQUESTS, exponential
from flashfm.measurements.connection import Connection
from flashfm.measurements.limits import Group

REQUEST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
MOST_AT_ONCE = 4096
"""Requests under way; more are not sent and have failed. A server that is so far behind answers none in time."""
LEAD_S = 0.05


@dataclass(frozen=True)
class Load:
    """What to send where.

    Raises:
        MeasureError: a rate that is negative or not finite, no step, a step or a time-out that is not above 0, or more
            than `MAX_REQUESTS` requests.
    """

    port: int
    """On the loopback device."""
    rate_per_s: tuple[float, ...]
    """Mean of each step, at least 0."""
    step_s: float
    """Length of a step."""
    seed: int
    """Of the times of requests."""
    timeout_s: float = 10.0
    """Longest wait for an answer."""

    def __post_init__(self) -> None:
        rates = np.array(self.rate_per_s, np.float64)
        if not (rates.size and np.isfinite(rates).all() and (rates >= 0).all()):
            raise MeasureError("load: expected a finite rate of at least 0 for each of some steps")
        if not (self.step_s > 0 and self.timeout_s > 0):
            raise MeasureError(
                f"load: steps of {self.step_s:g} s, time-out {self.timeout_s:g} s; expected both above 0"
            )
        if (total := float(rates.sum() * self.step_s)) > MAX_REQUESTS:
            raise MeasureError(f"load: {total:.3g} requests; expected at most {MAX_REQUESTS}; lower the rate")

    def times(self, rng: np.random.Generator) -> list[Float[np.ndarray, " request"]]:
        """When requests are due, by step, in seconds from the start."""
        return [
            i * self.step_s + exponential(rate, self.step_s, rng) if rate > 0 else np.zeros(0)
            for i, rate in enumerate(self.rate_per_s)
        ]


@dataclass
class Heard:
    """What came of the requests that were due in one step."""

    sent: int = 0
    failed: int = 0
    """Bad answers, refused connections, and no answers in time."""
    latency_s: list[float] = field(default_factory=list)
    """From connecting to the whole answer, of good answers."""
    late_s: float = 0.0
    """Longest that a request left after its time: what the client itself cost."""

    @property
    def p99_s(self) -> float | None:
        """99th percentile of latency, or None where nothing was answered."""
        return float(np.quantile(self.latency_s, 0.99)) if self.latency_s else None


async def send(load: Load) -> list[Heard]:
    """Send a load; ends when the last answer is there or too late."""
    loop = asyncio.get_running_loop()
    heard = [Heard() for _ in load.rate_per_s]
    under_way = 0
    begun = time.perf_counter() + LEAD_S

    async def request(step: Heard, due: float) -> None:
        nonlocal under_way
        sent, good, connection = time.perf_counter(), False, None
        step.sent += 1
        step.late_s = max(step.late_s, sent - due)
        if under_way < MOST_AT_ONCE:
            under_way += 1
            try:
                async with asyncio.timeout(load.timeout_s):
                    _, connection = await loop.create_connection(Connection, "127.0.0.1", load.port)
                    good = await connection.ask(REQUEST)
            except (OSError, TimeoutError):
                good = False
            finally:
                under_way -= 1
                if connection is not None:
                    connection.close()
        if good:
            step.latency_s.append(time.perf_counter() - sent)
        else:
            step.failed += 1

    async with asyncio.TaskGroup() as tasks:
        for step, times in zip(heard, load.times(np.random.default_rng(load.seed)), strict=True):
            for at in times.tolist():
                due = begun + at
                if (wait := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                tasks.create_task(request(step, due))
    return heard


class Client:
    """The process that sends a load; made when it is ready to. Use it as a context manager, whose end kills it.

    Args:
        load: what to send.
        group: that it runs in.
        cpus: cores that it may use; None for all.

    Raises:
        MeasureError: it ended before it was ready.
    """

    def __init__(self, load: Load, group: Group, cpus: frozenset[int] | None = None) -> None:
        self._load = load
        command = [*group.launcher, sys.executable, "-P", "-m", "flashfm.controller.load"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            if cpus is not None:
                os.sched_setaffinity(self._process.pid, cpus)
            self._process.stdin.write(json.dumps(asdict(load)) + "\n")
            self._process.stdin.flush()
            if self._process.stdout.readline() != "ready\n":
                raise self._failed(self._process.communicate()[1])
        except OSError:
            error = self._failed(self._process.communicate()[1])
            self._close()
            raise error from None
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def go(self) -> None:
        """Begin to send.

        Raises:
            MeasureError: the process is gone.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failed(self._process.communicate()[1]) from None

    def heard(self) -> list[Heard]:
        """What came of each step, once the last answer is there or too late.

        Raises:
            MeasureError: the process failed.
        """
        out, error = self._process.communicate()
        if self._process.returncode != 0:
            raise self._failed(error)
        return [Heard(**step) for step in json.loads(out)]

    def _close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _failed(self, error: str) -> MeasureError:
        last = (error.strip().splitlines() or ["no message"])[-1]
        return MeasureError(f"sending {len(self._load.rate_per_s)} steps of requests failed: {last}")


def _rounded(heard: Sequence[Heard]) -> list[dict[str, object]]:
    return [{**vars(step), "latency_s": [round(x, 5) for x in step.latency_s]} for step in heard]


def main() -> None:
    """Read a load, wait for the word, send it, and print what came of it."""
    read = json.loads(sys.stdin.readline())
    load = Load(**{**read, "rate_per_s": tuple(read["rate_per_s"])})
    print("ready", flush=True)
    if sys.stdin.readline() == "go\n":
        print(json.dumps(_rounded(asyncio.run(send(load)))), flush=True)


if __name__ == "__main__":
    main()
