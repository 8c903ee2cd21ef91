"""Measures many applications in many configurations: what runs beside what, in which order, and going on after a stop.

Several applications are measured at once as long as what their limits let them use adds up to less than the machine
has (`pack`), each with its own embedded services. The configurations of an application are visited in random order,
`passes` times over, so that a slow spell of the machine does not fall on one configuration alone.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flashfm.applications.runtime import Application
from flashfm.applications.services import EmbeddedAws
from flashfm.applications.spec import ApplicationSpec
from flashfm.errors import FlashError, MeasureError
from flashfm.measurements.arrivals import check_load, exponential
from flashfm.measurements.harness import Sample, aggregate, closed_loop, open_loop
from flashfm.measurements.journal import Samples
from flashfm.measurements.limits import HIGHEST_SHARES, Backend, Group, Limits, Watchdog
from flashfm.measurements.platforms import Platform, neighbours
from flashfm.measurements.sandbox import InvokePlan, Sandbox
from flashfm.records import Measurement, Outcome, ResourceConfig


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """Requests at random times, whatever the answers take."""

    rate_per_s: float = 30.0
    """Mean requests a second (Sizeless and FLASH: 30)."""
    duration_s: float = 600.0
    """Length in seconds (Sizeless and FLASH: ten minutes)."""
    max_instances: int = 16
    """Most instances at once."""

    def __post_init__(self) -> None:
        check_load(self.rate_per_s, self.duration_s)


@dataclass(frozen=True)
class Campaign:
    """What to measure and how."""

    apps: tuple[ApplicationSpec, ...]
    """The applications; names are unique."""
    platform: Platform
    """Where they run."""
    configs: tuple[ResourceConfig, ...]
    """What they are given."""
    plan: InvokePlan = field(default_factory=lambda: InvokePlan(count=6, least_ms=750.0))
    """Closed loop: how many calls in one pass; see `load`."""
    load: OpenLoad | None = None
    """Open loop instead of the closed one; then one pass is `load.duration_s` long."""
    passes: int = 2
    """Visits to each configuration, apart in time."""
    seed: int = 0
    """Order of visits and times of requests."""
    timeout_s: float = 60.0
    """An invocation that takes longer is an outcome `timeout`."""

    def settings(self) -> dict[str, Any]:
        """What all samples of one journal must share; JSON-able. More applications may join later."""
        return {
            "platform": self.platform.name,
            "configs": [asdict(c) for c in self.configs],
            "plan": asdict(self.plan),
            "load": None if self.load is None else asdict(self.load),
            "passes": self.passes,
            "seed": self.seed,
            "timeout_s": self.timeout_s,
        }

    @property
    def visits(self) -> int:
        """Passes over a configuration, of all applications together."""
        return len(self.apps) * len(self.configs) * self.passes

    def order(self, app: ApplicationSpec) -> list[tuple[int, ResourceConfig]]:
        """Visits to an application's configurations: shuffled within each pass."""
        rng = random.Random(f"{self.seed}/{app.name}")
        visits: list[tuple[int, ResourceConfig]] = []
        for number in range(self.passes):
            one = list(self.configs)
            rng.shuffle(one)
            visits += [(number, config) for config in one]
        return visits


class Capacity:
    """Cores to give out, first come first served."""

    def __init__(self, cores: float) -> None:
        self._free = self._total = cores
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def take(self, cores: float) -> AsyncIterator[None]:
        """Hold `cores`, or all there are where that is less, for as long as the context lasts."""
        cores = min(cores, self._total)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((cores, turn))
        self._serve()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._free += cores
            self._waiting = deque((c, t) for c, t in self._waiting if t is not turn)
            self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free + 1e-9:
            cores, turn = self._waiting.popleft()
            if turn.cancelled():
                continue
            self._free -= cores
            turn.set_result(None)


class Recorded:
    """A campaign, and what there is of it.

    Args:
        campaign: what to measure.
        journal: where samples go, and where those of an earlier run are found.

    Attributes:
        on_visit: called after each pass over a configuration, with the application's name and the sample.
    """

    def __init__(self, campaign: Campaign, journal: Samples) -> None:
        self._campaign, self._journal = campaign, journal
        self.on_visit: Callable[[str, Sample], None] = lambda *_: None

    @property
    def left(self) -> int:
        """Visits that the journal does not hold yet."""
        return sum(len(self._missing(app)) for app in self._campaign.apps)

    def measurements(self) -> list[Measurement]:
        """What is complete: every pass over a configuration is in the journal.

        The platform of an application that has a node in the journal is `PLATFORM@NODE`.
        """
        c = self._campaign
        found = []
        for app in c.apps:
            node = self._journal.nodes.get(app.name)
            platform = c.platform.name if node is None else f"{c.platform.name}@{node}"
            for config in c.configs:
                samples = [self._journal.samples.get((app.name, config, n)) for n in range(c.passes)]
                whole = [s for s in samples if s is not None]
                if len(whole) == c.passes:
                    found.append(aggregate(app.name, platform, whole))
        return found

    def _missing(self, app: ApplicationSpec) -> list[tuple[int, ResourceConfig]]:
        return [v for v in self._campaign.order(app) if (app.name, v[1], v[0]) not in self._journal.samples]


class Runner(Recorded):
    """One campaign on this machine; see `Recorded` too.

    Args:
        campaign: what to measure.
        journal: where samples go, and where those of an earlier run are found.
        backend: how limits are set.
        pack: cores that measured applications may fill together; 0 measures one application at a time.
        core: the core of an exclusive platform's node.
        within_s: seconds after which no further application is begun; what was begun is measured to its end.

    Raises:
        MeasureError: this process may not use that core.
    """

    def __init__(
        self,
        campaign: Campaign,
        journal: Samples,
        backend: Backend,
        *,
        pack: float | None = None,
        core: int | None = None,
        within_s: float = math.inf,
    ) -> None:
        super().__init__(campaign, journal)
        cores = sorted(os.sched_getaffinity(0))
        self._backend, self._within_s = backend, within_s
        packed = 0.8 * len(cores) if pack is None else pack
        self._core = cores[-1] if core is None else core
        if self._core not in cores:
            raise MeasureError(f"core {self._core} is not one of this process's: {', '.join(map(str, cores))}")
        exclusive = campaign.platform.exclusive
        self._elsewhere = (frozenset(cores) - {self._core} or frozenset(cores)) if exclusive else None
        self._node_cpus = frozenset({self._core}) if exclusive else None
        self._capacity = Capacity(1.0 if exclusive or not packed else packed)
        self._at_once = 2 if exclusive else 1 if not packed else max(2, round(6 * packed))
        self._spare: list[EmbeddedAws] = []

    async def run(self) -> None:
        """Measure what the journal does not hold yet.

        Raises:
            FlashError: limits or services cannot be had, or the journal cannot be written.
        """
        todo = deque(app for app in self._campaign.apps if self._missing(app))
        dog = Watchdog()
        with ExitStack() as stack:
            stack.callback(dog.close)
            root = self._backend.root(dog)
            stack.callback(root.remove)
            work = Path(tempfile.mkdtemp(prefix="flashfm-"))
            dog.register("tree", str(work))
            self._services = root.child("services")
            self._services.apply(Limits(cpu_shares=HIGHEST_SHARES))
            stack.callback(self._close_services)
            node = root.child("node")
            node.apply(Limits(cpu_shares=HIGHEST_SHARES))
            stack.enter_context(neighbours(self._campaign.platform, node, self._core))

            until = time.monotonic() + self._within_s

            async def worker(number: int) -> None:
                while todo:
                    app = todo.popleft()
                    await self._measure(app, node, work / f"{number}-{app.name}", f"{number}")
                    if time.monotonic() >= until:
                        return

            try:
                async with asyncio.TaskGroup() as workers:
                    for number in range(min(self._at_once, len(todo))):
                        workers.create_task(worker(number))
            except* FlashError as errors:
                raise _first(errors) from None

    async def _measure(self, app: ApplicationSpec, node: Group, work: Path, deployment: str) -> None:
        endpoint, service = await self._service(app)
        names = (f"{deployment}-{i}" for i in range(1_000_000))

        def sandbox() -> Sandbox:
            group, cpus = node.child(next(names)), self._elsewhere
            return Sandbox(group, app, work, endpoint_url=endpoint, deployment=deployment, cpus=cpus)

        try:
            async with sandbox() as owner:
                try:
                    await owner.call("provision")
                except MeasureError as error:
                    for number, config in self._missing(app):
                        self._record(app, number, Sample(config, Outcome.ERROR, detail=str(error)))
                    return
                while self._missing(app):
                    await (self._closed if self._campaign.load is None else self._open)(app, sandbox)
                await owner.call("remove")
        finally:
            if service is not None:
                await asyncio.to_thread(service.reset)
                self._spare.append(service)

    async def _closed(self, app: ApplicationSpec, sandbox: Callable[[], Sandbox]) -> None:
        """Visit the missing configurations with one prepared worker, for as long as it lives."""
        c = self._campaign
        async with sandbox() as instance:
            await self._prepare(instance, app)
            for i, (number, config) in enumerate(self._missing(app)):
                if i and not instance.alive:  # the first visit says what became of a worker that died at once
                    return
                async with self._capacity.take(c.platform.cores(config)):
                    limits = c.platform.limits(config)
                    sample = await closed_loop(
                        instance, config, limits, c.plan, timeout_s=c.timeout_s, cpus=self._node_cpus
                    )
                self._record(app, number, sample)

    async def _open(self, app: ApplicationSpec, sandbox: Callable[[], Sandbox]) -> None:
        """One load on the first missing configuration."""
        c = self._campaign
        assert c.load is not None
        number, config = self._missing(app)[0]
        seed = random.Random(f"{c.seed}/{app.name}/{number}/{config}").getrandbits(63)
        arrivals = exponential(c.load.rate_per_s, c.load.duration_s, np.random.default_rng(seed))
        async with self._capacity.take(float("inf")):
            try:
                sample = await open_loop(
                    sandbox,
                    config,
                    c.platform.limits(config),
                    arrivals,
                    timeout_s=c.timeout_s,
                    max_instances=c.load.max_instances,
                    cpus=self._node_cpus,
                )
            except MeasureError as error:
                sample = Sample(config, Outcome.ERROR, detail=str(error))
        self._record(app, number, sample)

    async def _prepare(self, instance: Sandbox, app: ApplicationSpec) -> None:
        try:
            await instance.call("prepare")
        except MeasureError as error:
            for number, config in self._missing(app):
                self._record(app, number, Sample(config, Outcome.ERROR, detail=str(error)))

    async def _service(self, app: ApplicationSpec) -> tuple[str | None, EmbeddedAws | None]:
        if not Application.services(app):
            return None, None
        launcher = self._services.launcher
        service = self._spare.pop() if self._spare else await asyncio.to_thread(EmbeddedAws, launcher=launcher)
        return service.endpoint_url, service

    def _close_services(self) -> None:
        for service in self._spare:
            service.close()

    def _record(self, app: ApplicationSpec, number: int, sample: Sample) -> None:
        self._journal.add(app.name, number, sample)
        self.on_visit(app.name, sample)


def run(runner: Runner) -> None:
    """Run to the end; Ctrl-C stops it with nothing left behind and everything measured so far in the journal."""
    asyncio.run(runner.run())


def _first(group: BaseExceptionGroup[FlashError]) -> FlashError:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, FlashError)
    return found
