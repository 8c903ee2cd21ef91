"""(instance, configuration, load) -> Sample; samples -> Measurement. Bad ends are outcomes, not exceptions."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from flashfm.measurements.limits import Limits
from flashfm.measurements.sandbox import InstanceEnded, InvokePlan, Sandbox
from flashfm.records import METRICS, Invocation, Measurement, Outcome, ResourceConfig

LATE_S = 0.010
"""A request of an open loop that waited longer for an instance is counted as late."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One pass of an application over one configuration."""

    config: ResourceConfig
    outcome: Outcome
    invocations: list[Invocation] = field(default_factory=list)
    detail: str = ""
    late: int = 0
    """Requests of an open loop that had to wait for an instance."""


async def closed_loop(
    sandbox: Sandbox,
    config: ResourceConfig,
    limits: Limits,
    plan: InvokePlan,
    *,
    timeout_s: float = 60.0,
    cpus: frozenset[int] | None = None,
) -> Sample:
    """Call a fresh instance again and again: each request follows the answer to the one before.

    Args:
        sandbox: where the application is prepared.
        config: names the result.
        limits: what `config` means on the platform.
        plan: how many calls.
        timeout_s: an invocation that takes longer ends the pass with outcome `timeout`.
        cpus: cores that the instance may use; None for all.
    """
    done: list[Invocation] = []
    try:
        await sandbox.begin(limits, cpus)
        async for invocation in sandbox.invoke(plan, timeout_s):
            done.append(invocation)
    except InstanceEnded as ended:
        return Sample(config, ended.outcome, done, ended.detail)
    finally:
        if sandbox.alive:
            await sandbox.end()
    return Sample(config, Outcome.OK, done)


async def open_loop(
    start: Callable[[], Sandbox],
    config: ResourceConfig,
    limits: Limits,
    arrivals_s: Float[np.ndarray, " request"],
    *,
    timeout_s: float = 60.0,
    max_instances: int = 16,
    cpus: frozenset[int] | None = None,
) -> Sample:
    """Send requests at given times whatever the answers take, each to an idle instance, as a serverless platform does.

    An instance serves one request at a time. Where none is idle another is started, warmed up with one call, and
    kept; at
    `max_instances` requests wait. The run time of a request is that of its invocation, without the wait.

    Args:
        start: makes a sandbox, not yet entered, in a group of its own.
        config: names the result.
        limits: what `config` means on the platform, for each instance.
        arrivals_s: when requests arrive, ascending.
        timeout_s: an invocation that takes longer ends the load with outcome `timeout`.
        max_instances: most instances at once.
        cpus: cores that the instances may use; None for all.
    """
    done: list[Invocation] = []
    late = 0
    one = InvokePlan(warmup=0, count=1, at_least=1, at_most=1)
    slots = asyncio.Semaphore(max_instances)
    idle: list[Sandbox] = []
    clock = asyncio.get_running_loop().time

    async with AsyncExitStack() as instances:

        @asynccontextmanager
        async def instance() -> AsyncIterator[Sandbox]:
            async with slots:
                sandbox = idle.pop() if idle else await begin()
                yield sandbox
                idle.append(sandbox)

        async def begin() -> Sandbox:
            sandbox = await instances.enter_async_context(start())
            await sandbox.call("prepare")
            await sandbox.begin(limits, cpus)
            async for _ in sandbox.invoke(one, timeout_s):
                pass
            return sandbox

        async def request(due: float) -> None:
            nonlocal late
            async with instance() as sandbox:
                late += clock() - due > LATE_S
                async for invocation in sandbox.invoke(one, timeout_s):
                    done.append(invocation)

        try:
            async with instance():
                pass
            async with asyncio.TaskGroup() as requests:
                begun = clock()
                for arrival in arrivals_s:
                    await asyncio.sleep(max(0.0, begun + arrival - clock()))
                    requests.create_task(request(begun + float(arrival)))
        except InstanceEnded as ended:
            return Sample(config, ended.outcome, done, ended.detail, late)
        except ExceptionGroup as group:
            found = _first_ended(group)
            if found is None:
                raise
            return Sample(config, found.outcome, done, found.detail, late)
    return Sample(config, Outcome.OK, done, late=late)


def aggregate(app: str, platform: str, samples: Sequence[Sample]) -> Measurement:
    """Mean and coefficient of variation over the invocations of all passes of one configuration.

    The outcome is the worst of the passes'; invocations that ended before a bad end are still counted.

    Args:
        app: name of the application.
        platform: name of the platform.
        samples: passes over one configuration; at least one.
    """
    assert samples
    assert len({s.config for s in samples}) == 1
    bad = next((s for s in samples if s.outcome is not Outcome.OK), None)
    done = [i for s in samples for i in s.invocations]
    mean, cov = {}, {}
    for name in METRICS if done else ():
        mean[name], spread = _moments([i.metrics[name] for i in done])
        if spread is not None:
            cov[name] = spread
    runtime = _moments([i.runtime_ms for i in done]) if done else (None, None)
    return Measurement(
        app=app,
        platform=platform,
        config=samples[0].config,
        outcome=bad.outcome if bad else Outcome.OK,
        n_invocations=len(done),
        runtime_ms=runtime[0],
        runtime_cov=runtime[1],
        mean=mean,
        cov=cov,
        detail=bad.detail if bad else "",
    )


def _moments(values: list[float]) -> tuple[float, float | None]:
    mean = math.fsum(values) / len(values)
    return mean, statistics.stdev(values) / mean if len(values) > 1 and mean > 0 else None


def _first_ended(group: ExceptionGroup[Exception]) -> InstanceEnded | None:
    for error in group.exceptions:
        found = _first_ended(error) if isinstance(error, ExceptionGroup) else error
        if isinstance(found, InstanceEnded):
            return found
    return None
