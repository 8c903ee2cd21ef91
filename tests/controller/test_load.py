"""The load generator against small servers: what is counted, when, and over how many connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from services import backend_or_skip

from flashfm.controller.load import Client, Heard, Load, send
from flashfm.errors import MeasureError
from flashfm.measurements.limits import Group
from flashfm.measurements.replica import place

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd\n"
RATES = (80.0, 0.0, 160.0)
STEP_S = 0.3


def heard(answer: Answer, *, timeout_s: float = 2.0) -> tuple[list[Heard], int]:
    """What came of a load on a server that answers so, and how many connections it took."""
    serving = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def both() -> list[Heard]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        found = await send(Load(port, RATES, STEP_S, seed=0, timeout_s=timeout_s))
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)
        return found

    return asyncio.run(both()), len(serving)


def after(seconds: float, answer: bytes = GOOD) -> Answer:
    async def write(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        writer.write(answer)

    return write


def test_requests_follow_the_rates_with_a_connection_each_and_wait_for_none() -> None:
    found, connections = heard(after(0.2))
    sent = [step.sent for step in found]
    assert sent[1] == 0
    assert 8 <= sent[0] < sent[2] <= 90
    assert connections == sum(sent)
    assert all(step.failed == 0 and len(step.latency_s) == step.sent for step in found)
    assert all(0.2 <= latency < 1.0 for latency in found[2].latency_s)
    assert found[1].p99_s is None
    assert found[2].p99_s == pytest.approx(np.quantile(found[2].latency_s, 0.99))


def test_bad_answers_and_silence_are_failures_and_have_no_latency() -> None:
    bad, _ = heard(after(0.0, b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"))
    silent, _ = heard(after(3.0), timeout_s=0.1)
    for found in (bad, silent):
        assert all(step.failed == step.sent and step.latency_s == [] for step in found)
        assert found[0].sent > 0


def test_nobody_there_is_a_failure_too() -> None:
    found = asyncio.run(send(Load(1, (20.0,), 0.5, seed=1)))
    assert found[0].failed == found[0].sent > 0


@given(st.lists(st.floats(0.0, 50.0), min_size=1, max_size=6), st.floats(0.1, 10.0), st.integers(0, 2**32))
def test_times_lie_in_their_steps_and_the_seed_decides(rates: list[float], step_s: float, seed: int) -> None:
    load = Load(1, tuple(rates), step_s, seed=seed)
    times = load.times(np.random.default_rng(seed))
    assert len(times) == len(rates)
    for i, (rate, of) in enumerate(zip(rates, times, strict=True)):
        assert ((i * step_s <= of) & (of <= (i + 1) * step_s)).all()
        assert (np.diff(of) >= 0).all()
        assert rate > 0 or not of.size
    for one, other in zip(times, load.times(np.random.default_rng(seed)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("rates", "step_s", "said"),
    [
        ((), 1.0, "expected a finite rate of at least 0 for each of some steps"),
        ((1.0, -1.0), 1.0, "expected a finite rate"),
        ((float("nan"),), 1.0, "expected a finite rate"),
        ((1.0,), 0.0, "expected both above 0"),
        ((1e9,), 60.0, "6e+10 requests; expected at most"),
    ],
)
def test_loads_that_make_no_sense_are_one_line(rates: tuple[float, ...], step_s: float, said: str) -> None:
    with pytest.raises(MeasureError) as caught:
        Load(1, rates, step_s, seed=0)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def group() -> Iterator[Group]:
    with place(backend_or_skip()) as where:
        yield where.root.child("client")


@pytest.mark.limits
def test_the_process_waits_for_its_word_and_does_not_block(group: Group) -> None:
    with Client(Load(1, (20.0, 20.0), 0.3, seed=0), group) as client:
        begun_s = time.monotonic()
        client.go()
        assert time.monotonic() - begun_s < 0.2
        found = client.heard()
    assert [step.sent > 0 for step in found] == [True, True]
    assert all(step.failed == step.sent for step in found)
    with Client(Load(1, (20.0,), 60.0, seed=0), group) as client:
        client.go()
        client._process.kill()
        with pytest.raises(MeasureError, match="sending 1 steps of requests failed"):
            client.heard()
