"""Requests over HTTP at random times, whatever the answers take, and what the serving process used meanwhile.

Runs as `python -m flashfm.experiments.open_load`, a process apart from server and experiment: a `Load` as JSON on
standard input, what came of it (`Heard`) as JSON on standard output. Connections are kept alive; a request goes out on
an idle one, and where none is idle another is opened, so that no request waits for the answer to another.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field

import numpy as np

from flashfm.measurements.arrivals import exponential
from flashfm.measurements.connection import Connection
from flashfm.measurements.replica import cpu_seconds, resident_mib

_SAMPLE_S = 0.25


@dataclass(frozen=True)
class Load:
    """What to send where."""

    port: int
    """On the loopback device."""
    pid: int
    """Of the serving process, whose CPU time and memory are read."""
    rate_per_s: float
    """Mean of the Poisson process; above 0."""
    warm_s: float
    """Load before the window that is recorded."""
    duration_s: float
    """Length of that window."""
    seed: int
    """Of the times of requests."""
    timeout_s: float = 20.0
    """Longest wait for an answer."""


@dataclass
class Heard:
    """What came of a load; everything is of requests and times in the window."""

    sent: int = 0
    """Requests that were due in it."""
    ended: int = 0
    """Good answers that came within it, to whichever requests."""
    failed: int = 0
    """Bad answers, refused connections, and no answers in time."""
    latency_s: list[float] = field(default_factory=list)
    """From sending to the whole answer, of good answers, in the order of sending."""
    late_s: float = 0.0
    """99th percentile of how long after its time a request left: what the client itself cost."""
    cpu_s: float = 0.0
    """CPU time that the serving process used in the window."""
    wall_s: float = 0.0
    """Length of the window as it was."""
    rss_mib: float = 0.0
    """Mean resident memory of the serving process."""


async def send(load: Load) -> Heard:
    """Send a load; ends when the last answer is there or too late."""
    loop = asyncio.get_running_loop()
    times = exponential(load.rate_per_s, load.warm_s + load.duration_s, np.random.default_rng(load.seed))
    heard, idle, late = Heard(), list[Connection](), list[float]()
    latency: dict[int, float] = {}
    begun = time.perf_counter() + 0.05
    window = (begun + load.warm_s, begun + load.warm_s + load.duration_s)

    async def request(number: int, due: float) -> None:
        connection = idle.pop() if idle else None
        inside = window[0] <= due < window[1]
        heard.sent += inside
        sent = time.perf_counter()
        if inside:
            late.append(sent - due)
        good = False
        try:
            if connection is None or not connection.open:
                _, connection = await loop.create_connection(Connection, "127.0.0.1", load.port)
            async with asyncio.timeout(load.timeout_s):
                good = await connection.ask()
        except (OSError, TimeoutError):
            if connection is not None:
                connection.close()
        ended = time.perf_counter()
        if connection is not None and connection.open:
            idle.append(connection)
        heard.ended += good and window[0] <= ended < window[1]
        if inside and good:
            latency[number] = ended - sent
        heard.failed += inside and not good

    async def watch() -> None:
        await asyncio.sleep(window[0] - time.perf_counter())
        start, used, memory = time.perf_counter(), cpu_seconds(load.pid), []
        while (left := window[1] - time.perf_counter()) > 0:
            memory.append(resident_mib(load.pid))
            await asyncio.sleep(min(left, _SAMPLE_S))
        heard.wall_s, heard.cpu_s = time.perf_counter() - start, cpu_seconds(load.pid) - used
        heard.rss_mib = float(np.mean(memory))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        for number, at in enumerate(times):
            due = begun + float(at)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(request(number, due))
    for connection in idle:
        connection.close()
    heard.latency_s = [round(latency[number], 6) for number in sorted(latency)]
    heard.late_s = float(np.quantile(late, 0.99)) if late else 0.0
    return heard


def main() -> None:
    """Read a load, send it, and print what came of it."""
    print(json.dumps(asdict(asyncio.run(send(Load(**json.load(sys.stdin)))))), flush=True)


if __name__ == "__main__":
    main()
