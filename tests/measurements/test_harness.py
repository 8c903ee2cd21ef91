"""Real instances under real limits: what the loops record, and how instances may end."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from flashfm.applications.function import function_spec
from flashfm.errors import MeasureError
from flashfm.measurements.harness import Sample, aggregate, closed_loop, open_loop
from flashfm.measurements.limits import Backend, Group, Limits, Watchdog
from flashfm.measurements.sandbox import InvokePlan, Sandbox
from flashfm.records import METRICS, Invocation, Outcome, ResourceConfig

FEW = InvokePlan(count=3)
CONFIG = ResourceConfig(128)


@pytest.fixture
def measure(backend: Backend, dog: Watchdog, tmp_path: Path) -> Callable[..., list[Sample]]:
    """Run a closed loop over a handler's source, once for each of the limits, with one prepared worker."""
    root: Group = backend.root(dog)

    def run(source: str, *limits: Limits, plan: InvokePlan = FEW, timeout_s: float = 20.0) -> list[Sample]:
        path = tmp_path / "handler.py"
        path.write_text(textwrap.dedent(source))

        async def all_of_them() -> list[Sample]:
            async with Sandbox(
                root.child("x"), function_spec(str(path)), tmp_path / "w", endpoint_url=None, deployment="0"
            ) as sandbox:
                await sandbox.call("prepare")
                return [await closed_loop(sandbox, CONFIG, lim, plan, timeout_s=timeout_s) for lim in limits]

        return asyncio.run(all_of_them())

    return run


@pytest.mark.limits
def test_cpu_bound_slows_by_the_quota_and_sleep_does_not(measure: Callable[..., list[Sample]]) -> None:
    spin = """
    import time
    def handler(event):
        start = time.process_time()
        while time.process_time() - start < 0.03: pass
    """
    (tight,) = measure(spin, Limits(cpu_quota=0.2), plan=InvokePlan(count=8))
    seen = aggregate("a", "p", [tight])
    assert seen.runtime_ms is not None
    assert seen.runtime_ms / (seen.mean["user_cpu_ms"] + seen.mean["system_cpu_ms"]) == pytest.approx(5, rel=0.15)
    (asleep,) = measure("import time\ndef handler(event): time.sleep(0.05)", Limits(cpu_quota=0.2))
    assert aggregate("a", "p", [asleep]).runtime_ms == pytest.approx(50, rel=0.15)


@pytest.mark.limits
def test_a_leak_is_out_of_memory_and_the_next_configuration_goes_on(measure: Callable[..., list[Sample]]) -> None:
    leak = """
    kept = []
    def handler(event):
        kept.append(bytearray(b"x") * (8 << 20))
        return len(kept)
    """
    plan = InvokePlan(count=12)
    small, large = measure(leak, Limits(memory_mb=64), Limits(memory_mb=512), plan=plan)
    assert small.outcome is Outcome.OUT_OF_MEMORY
    assert "memory limit" in small.detail
    assert 1 <= len(small.invocations) < 12
    assert large.outcome is Outcome.OK
    assert len(large.invocations) == 12


@pytest.mark.limits
def test_every_configuration_starts_fresh(measure: Callable[..., list[Sample]]) -> None:
    counting = """
    n = 0
    def handler(event):
        global n
        n += 1
        assert n <= 4, "state of another configuration"
    """
    assert [s.outcome for s in measure(counting, Limits(), Limits(), Limits())] == [Outcome.OK] * 3


@pytest.mark.limits
@pytest.mark.parametrize(
    ("source", "outcome", "detail"),
    [
        ("def handler(event): raise ValueError('bad\\ninput')", Outcome.ERROR, "ValueError: bad input"),
        ("def handler(event): raise MemoryError()", Outcome.OUT_OF_MEMORY, "MemoryError"),
        ("import os\ndef handler(event): os.abort()", Outcome.ERROR, "exit status -6"),
        ("import os\ndef handler(event): os._exit(3)", Outcome.ERROR, "exit status 3"),
        ("import time\ndef handler(event): time.sleep(60)", Outcome.TIMEOUT, "no answer within 1 s"),
        ("def handler(event): print('noise'); import os; os.write(1, b'noise')", Outcome.OK, ""),
    ],
)
def test_bad_ends_are_outcomes(
    measure: Callable[..., list[Sample]], source: str, outcome: Outcome, detail: str
) -> None:
    first, second = measure(source, Limits(), Limits(), timeout_s=1.0)
    assert first.outcome is outcome
    assert first.detail.startswith(detail)
    assert second.outcome is outcome, "the worker must go on after a bad end"


@pytest.mark.limits
def test_a_function_that_cannot_be_prepared(measure: Callable[..., list[Sample]]) -> None:
    with pytest.raises(MeasureError, match="prepare failed: ModuleNotFoundError"):
        measure("import no_such_module", Limits())
    with pytest.raises(MeasureError, match="has no function 'handler'"):
        measure("x = 1", Limits())


@pytest.mark.limits
def test_short_calls_are_repeated_and_long_ones_cut(measure: Callable[..., list[Sample]]) -> None:
    sleep = "import time\ndef handler(event): time.sleep(0.02)"
    (long,) = measure(sleep, Limits(), plan=InvokePlan(count=3, least_ms=400.0))
    assert 15 <= len(long.invocations) <= 20
    (cut,) = measure(sleep, Limits(), plan=InvokePlan(count=100, at_least=2, budget_ms=100.0))
    assert 2 <= len(cut.invocations) <= 6


@pytest.mark.limits
def test_open_loop_starts_instances_as_requests_overlap(backend: Backend, dog: Watchdog, tmp_path: Path) -> None:
    path = tmp_path / "handler.py"
    path.write_text("import time\ndef handler(event): time.sleep(0.1)")
    root = backend.root(dog)
    made: list[Sandbox] = []

    def start() -> Sandbox:
        made.append(
            Sandbox(
                root.child(f"i{len(made)}"),
                function_spec(str(path)),
                tmp_path / "w",
                endpoint_url=None,
                deployment="0",
            )
        )
        return made[-1]

    def load(arrivals: list[float], most: int) -> Sample:
        made.clear()
        call: Awaitable[Sample] = open_loop(start, CONFIG, Limits(), np.array(arrivals), max_instances=most)
        return asyncio.run(call)  # type: ignore[arg-type]

    apart = load([0.0, 0.3, 0.6], 4)
    assert (len(apart.invocations), len(made), apart.late) == (3, 1, 0)
    queued = load([0.0, 0.0, 0.0], 1)
    assert (len(queued.invocations), len(made)) == (3, 1)
    assert queued.late == 2
    assert max(i.runtime_ms for i in queued.invocations) < 150, "the wait is no part of the run time"
    overlapping = load([0.0, 0.0, 0.0], 4)
    assert (len(overlapping.invocations), len(made)) == (3, 3)


def test_aggregate_is_the_mean_and_the_sample_deviation() -> None:
    def one(runtime: float, switches: float) -> Invocation:
        return Invocation(runtime, {**dict.fromkeys(METRICS, 0.0), "voluntary_switches": switches})

    m = aggregate(
        "a",
        "p",
        [Sample(CONFIG, Outcome.OK, [one(10.0, 1.0), one(20.0, 3.0)]), Sample(CONFIG, Outcome.OK, [one(30.0, 5.0)])],
    )
    assert (m.n_invocations, m.runtime_ms, m.runtime_cov) == (3, 20.0, 0.5)
    assert m.mean["voluntary_switches"] == 3.0
    assert m.cov["voluntary_switches"] == pytest.approx(2 / 3)
    assert "net_rx_bytes" not in m.cov, "no spread of a metric that is always 0"


def test_aggregate_takes_the_bad_outcome_and_may_have_no_runtime() -> None:
    bad = Sample(CONFIG, Outcome.OUT_OF_MEMORY, [], "killed")
    m = aggregate("a", "p", [bad])
    assert (m.outcome, m.runtime_ms, m.n_invocations, m.detail) == (Outcome.OUT_OF_MEMORY, None, 0, "killed")
