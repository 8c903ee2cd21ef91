"""An open load against small servers: what is counted, and that no request waits for another's answer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from flashfm.experiments.open_load import Heard, Load, cpu_seconds, resident_mib, send

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd\n"


def heard(answer: Answer, *, rate: float = 60.0, timeout_s: float = 5.0) -> tuple[Heard, int]:
    """What came of a load on a server that answers so, and how many connections it took."""
    serving = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def both() -> Heard:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        found = await send(Load(port, os.getpid(), rate, 0.2, 1.0, seed=0, timeout_s=timeout_s))
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)
        await asyncio.sleep(0.05)
        return found

    return asyncio.run(both()), len(serving)


def after(seconds: float, answer: bytes = GOOD) -> Answer:
    async def write(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        writer.write(answer[:30])
        await asyncio.sleep(0)
        writer.write(answer[30:])

    return write


def test_latency_is_that_of_the_server_however_many_requests_are_under_way() -> None:
    found, connections = heard(after(0.2))
    assert found.failed == 0
    assert 30 <= found.sent <= 100
    assert len(found.latency_s) == found.sent
    assert 0.2 <= np.median(found.latency_s) < 0.26
    assert connections > 5


def test_idle_connections_are_used_again() -> None:
    found, connections = heard(after(0.0), rate=30.0)
    assert found.sent > 15
    assert connections < found.sent / 3


def test_bad_answers_and_silence_are_failures_and_have_no_latency() -> None:
    bad, _ = heard(after(0.0, b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"))
    assert bad.failed == bad.sent > 0
    assert bad.latency_s == []
    assert bad.ended == 0
    silent, _ = heard(after(3.0), rate=20.0, timeout_s=0.1)
    assert silent.failed == silent.sent > 0


def test_what_the_process_used_is_read_over_the_window() -> None:
    found, _ = heard(after(0.0))
    assert found.wall_s == pytest.approx(1.0, abs=0.3)
    assert 0 <= found.cpu_s <= 2 * found.wall_s
    assert found.rss_mib > 10
    before, start = cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() - start < 0.1:
        pass
    assert 0.05 < cpu_seconds(os.getpid()) - before < 1
    assert resident_mib(os.getpid()) > 10
