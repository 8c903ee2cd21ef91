"""The dynamics held against real processes: latency, throughput, CPU and memory of applications served over HTTP.

Each application is first measured as those of the data set are, by itself and in a closed loop, which gives its costs
on this machine now. Then one process serves it under a CPU quota and a memory limit, with Poisson loads at some shares
of what `tasks.autoscaling.serving` says that it can serve. Beside what was observed stands what `serve` predicts from
the costs (`reality_page`). What HTTP adds is measured once, on an application that does nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from flashfm.applications.generator import generate_many
from flashfm.applications.runtime import Application
from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.datasets.files import write_whole
from flashfm.datasets.table import MeasurementTable
from flashfm.errors import DataError
from flashfm.experiments.open_load import Heard, Load
from flashfm.experiments.served import Bench, bench
from flashfm.measurements.campaign import Campaign, Runner
from flashfm.measurements.campaign import run as run_campaign
from flashfm.measurements.journal import Journal
from flashfm.measurements.limits import Backend, Limits, detect
from flashfm.measurements.platforms import Lambda
from flashfm.measurements.sandbox import InvokePlan
from flashfm.tasks.autoscaling.calibration import ApplicationCosts, ShippedCosts, from_measurements, load_costs
from flashfm.tasks.autoscaling.parameters import Params
from flashfm.tasks.autoscaling.serving import replica_capacity_per_s

SEED = 0
CPU_MS = (4.0, 30.0)
"""CPU time of the applications, as in the data set: shorter ones are mostly HTTP, longer ones give too few requests."""
NOTHING = ApplicationSpec("nothing", (SegmentSpec("sleep", {"sleep_ms": 1}),))
"""Served to learn what HTTP costs."""
NOTHING_RATE = 50.0
SIZES = (512, 1024, 2048)
"""Memory sizes of platform `lambda` at which the costs are measured: 0.29 and 0.58 of a core, and a whole one."""
CALLS = InvokePlan(count=6, least_ms=500.0)
PASSES = 2


@dataclass(frozen=True)
class RealityConfig:
    """What is served and for how long."""

    applications: int = 16
    """From wait-bound to CPU-bound."""
    cores: tuple[float, ...] = (0.5, 1.0)
    """CPU quotas, in turn over the applications."""
    loads: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Shares of the capacity."""
    requests: int = 400
    """A load lasts until so many have come, in the mean, within the bounds of `window_s`."""
    window_s: tuple[float, float] = (20.0, 30.0)
    warm_s: float = 3.0
    """Load before what is recorded."""
    concurrency: int = 4
    """Requests that a replica works on at a time, as `flashfm apps serve` has it."""
    memory_mib: int = 1024
    """Limit of a replica; ample."""
    period_us: int = 100_000
    """Period of the quota: Kubernetes' default."""

    @classmethod
    def of(cls, *, quick: bool) -> RealityConfig:
        """The configuration, or one of a minute."""
        if not quick:
            return cls()
        return cls(applications=2, loads=(0.25, 0.75), requests=100, window_s=(4.0, 6.0), warm_s=1.0)


@dataclass(frozen=True)
class Overhead:
    """What serving over HTTP adds to an application."""

    cpu_s: float
    """CPU time of a request."""
    wait_s: float
    """Latency of a request beside that."""
    memory_mib: float
    """What the server's process holds."""


def run(
    folder: Path,
    results_folder: Path,
    config: RealityConfig | None = None,
    *,
    quick: bool = False,
    on_step: Callable[[int, int], object] = lambda *_: None,
    only_assemble: bool = False,
) -> Path:
    """Serve and load what is missing below `folder`, then write `reality.json`, its tables and its picture.

    Args:
        folder: a file for each application and load.
        results_folder: where results go.
        config: what is served; absent, the configuration that goes with `quick`.
        quick: a minute instead of half an hour.
        on_step: told of the loads that are done and of all of them.
        only_assemble: measure nothing.

    Returns:
        Path of `reality.json`.

    Raises:
        DataError: a file there is damaged, a result cannot be written, or with `only_assemble` a load is missing.
        LimitsError: this machine cannot set limits.
        MeasureError: a server did not start or a load could not be sent.
    """
    from flashfm.experiments.reality_page import write

    config = config or RealityConfig.of(quick=quick)
    runs = Runs(folder, config)
    if runs.missing and only_assemble:
        raise DataError(f"{folder}: {len(runs.missing)} loads are missing, such as {runs.missing[0]}; run without it")
    on_step(len(runs.wanted) - len(runs.missing), len(runs.wanted))
    if runs.missing:
        backend = detect()
        with bench(backend) as place:
            _measure(place, backend, runs, on_step)
    return write(results_folder, runs)


def chosen(config: RealityConfig, shipped: ShippedCosts) -> list[tuple[ApplicationSpec, float]]:
    """Applications that need no services, evenly over the CPU-bound share of the data set, and the cores of each."""
    specs = generate_many(SEED, len(shipped.costs))
    known = [
        (cpu_share(one), spec)
        for spec, one in zip(specs, shipped.costs, strict=True)
        if one.measured and not Application.services(spec) and CPU_MS[0] <= 1e3 * one.cpu_s <= CPU_MS[1]
    ]
    known.sort(key=lambda pair: (pair[0], pair[1].name))
    places = np.linspace(0, len(known) - 1, config.applications).round().astype(int)
    return [(known[place][1], config.cores[i % len(config.cores)]) for i, place in enumerate(places)]


class Runs:
    """Loads that were sent and costs that were measured, a file each.

    Args:
        folder: of the files; created if absent.
        config: what is served.
    """

    def __init__(self, folder: Path, config: RealityConfig) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.config = folder, config
        self.served = chosen(config, load_costs())
        loads = [run_name(spec, cores, share) for spec, cores in self.served for share in config.loads]
        self.wanted = [NOTHING.name, *loads]
        self._settings = json.loads(json.dumps(asdict(config)))

    @property
    def missing(self) -> list[str]:
        """Loads that were not sent yet."""
        return [name for name in self.wanted if not self._path(name).exists()]

    def read(self, name: str) -> tuple[Heard, Load]:
        """What came of a load.

        Raises:
            DataError: its file is damaged or of other settings.
        """
        path = self._path(name)
        try:
            data = json.loads(path.read_text())
            settings, heard, load = data["settings"], Heard(**data["heard"]), Load(**data["load"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: not what this experiment writes ({error}); delete it and run again") from None
        if settings != self._settings:
            raise DataError(f"{path}: of other settings; give another folder, or delete it and run again")
        return heard, load

    def write(self, name: str, heard: Heard, load: Load) -> None:
        """Keep what came of a load."""
        text = json.dumps({"settings": self._settings, "load": asdict(load), "heard": asdict(heard)}).encode()
        write_whole(self._path(name), lambda file: file.write(text))

    def costs(self, spec: ApplicationSpec, backend: Backend | None = None) -> ApplicationCosts:
        """Costs of an application on this machine, measured where they were not yet.

        Raises:
            DataError: a file is damaged, or there is none and no `backend`.
            FlashError: the application could not be measured.
        """
        path = self.folder / f"{spec.name}.parquet"
        if not path.exists():
            if backend is None:
                raise DataError(f"{path}: is missing; run without only assembling")
            configs = tuple(Lambda().configs(SIZES, None))
            campaign = Campaign((spec,), Lambda(), configs, CALLS, passes=PASSES, seed=SEED)
            with Journal(self.folder / f"{path.name}.journal", campaign.settings()) as journal:
                runner = Runner(campaign, journal, backend, pack=0.0)
                run_campaign(runner)
                MeasurementTable.from_measurements(runner.measurements()).write(path)
            journal.path.unlink()
        return from_measurements(MeasurementTable.read(path))[0]

    def overhead(self) -> Overhead:
        """What the application that does nothing says, served and by itself."""
        served, _ = self.read(NOTHING.name)
        alone = self.costs(NOTHING)
        cpu_s = served.cpu_s / max(served.ended, 1)
        return Overhead(
            cpu_s=max(cpu_s - alone.cpu_s, 0.0),
            wait_s=max(float(np.median(served.latency_s)) - cpu_s - alone.wait_s, 0.0),
            memory_mib=max(served.rss_mib - alone.memory_base_mib, 0.0),
        )

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def _measure(place: Bench, backend: Backend, runs: Runs, on_step: Callable[[int, int], object]) -> None:
    config = runs.config

    def send(spec: ApplicationSpec, cores: float, rates: Mapping[str, float]) -> None:
        """Serve an application and send it the loads that are missing."""
        todo = [name for name in rates if name in runs.missing]
        if not todo:
            return
        limits = Limits(cpu_quota=cores, memory_mb=config.memory_mib, period_us=config.period_us)
        with place.replica(spec, limits, concurrency=config.concurrency) as replica:
            for name in todo:
                seconds = min(max(config.requests / rates[name], config.window_s[0]), config.window_s[1])
                seed = runs.wanted.index(name)
                load = Load(replica.port, replica.pid, rates[name], config.warm_s, seconds, seed=seed)
                runs.write(name, place.send(load), load)
                on_step(len(runs.wanted) - len(runs.missing), len(runs.wanted))

    runs.costs(NOTHING, backend)
    send(NOTHING, 1.0, {NOTHING.name: NOTHING_RATE})
    for spec, cores in runs.served:
        params = parameters([runs.costs(spec, backend)], runs.overhead(), config)
        capacity = float(replica_capacity_per_s(params, np.array([cores]), params.node_speed)[0])
        send(spec, cores, {run_name(spec, cores, share): share * capacity for share in config.loads})


def parameters(costs: Sequence[ApplicationCosts], overhead: Overhead, config: RealityConfig) -> Params:
    """Parameters of the dynamics for replicas of one process each, on this machine."""

    def each(value: Callable[[ApplicationCosts], float]) -> Float[np.ndarray, " env"]:
        return np.array([value(one) for one in costs], dtype=np.float64)

    ones = np.ones(len(costs))
    return Params(
        cpu_s=each(lambda c: c.cpu_s + overhead.cpu_s),
        wait_s=each(lambda c: c.wait_s + overhead.wait_s),
        tail=each(lambda c: c.tail),
        workers=ones,
        concurrency=ones * config.concurrency,
        memory_base_mib=each(lambda c: c.memory_base_mib + overhead.memory_mib),
        memory_request_mib=each(lambda c: c.memory_request_mib),
        memory_noise=0 * ones,
        start_steps=ones,
        restarts=0 * ones,
        slo_s=ones,
        timeout_s=20 * ones,
        nodes=ones,
        node_cores=ones,
        node_memory_mib=ones * config.memory_mib,
        node_speed=ones,
        neighbours=0 * ones,
    )


def cpu_share(costs: ApplicationCosts) -> float:
    """Share of a request's time, alone and without a quota, that it computes."""
    return costs.cpu_s / (costs.cpu_s + costs.wait_s)


def run_name(spec: ApplicationSpec, cores: float, load: float) -> str:
    """Of one load on one application."""
    return f"{spec.name}-{cores:g}-{load:g}"
