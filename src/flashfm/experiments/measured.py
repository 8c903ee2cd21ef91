"""The measured data set: its campaigns, its table and card, and how far its figures can be trusted.

`collect` runs the campaigns (about an hour and a half on two cores; it goes on where it was stopped), `combine` makes
of their tables the one that ships with the package, and `assess` computes the repeat noise, the effect of measuring
side by side, and the slow-down of CPU-bound applications.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flashfm.applications.catalogue import real_application
from flashfm.applications.generator import generate_many
from flashfm.applications.segments import REAL, segment_class
from flashfm.applications.spec import ApplicationSpec
from flashfm.datasets.table import MeasurementTable
from flashfm.experiments.results import Row, commit
from flashfm.measurements.campaign import Campaign, Runner, run
from flashfm.measurements.journal import Journal
from flashfm.measurements.limits import detect
from flashfm.measurements.machine import describe
from flashfm.measurements.platforms import MB_PER_VCPU, Lambda, OpenWhisk, Platform
from flashfm.measurements.sandbox import InvokePlan

SEED = 0
"""Seed of the generated applications and of the order of visits."""
LEAST_CPU_MS = 10.0
"""CPU time of a call from which a slow-down is judged; shorter calls can be throttled between two of them, unseen."""
SHAPE = "APE of the curve's shape"
"""As the APE, after the factor that all sizes of an application share is taken out, as the machine's speed is."""
LIMITS = (
    "One virtual machine on a shared host, whose speed wavers and drifts; `noise` says how much that comes to.",
    "An instance runs one thread, so sizes above 1,769 MB differ from it in memory only.",
    "S3 and DynamoDB are moto on loopback: latencies are those of its CPU time, not of a network.",
    "Whole-table scans of DynamoDB are answered by a fast path of our own server, not by moto's slow one.",
    "Files lie on a virtual disk; reads bypass the page cache, but not the host's.",
    "Cold starts are not measured: an instance is called once before it is measured.",
    "Memory is charged from the first byte of the process, interpreter included, so small sizes may be out of memory.",
)


@dataclass(frozen=True)
class Part:
    """One campaign of the data set."""

    name: str
    campaign: Campaign
    pack: float | None
    """Cores that runs side by side may fill; 0 is one at a time."""
    shipped: bool
    """Whether its rows are in the data set, or serve only to assess it."""


def parts(*, generated: int = 400, shared: int = 150, repeated: int = 20, pack: float = 1.5) -> list[Part]:
    """The campaigns, in the order in which they are run.

    Args:
        generated: generated applications on platform `lambda`.
        shared: how many of them also on `openwhisk`, with one and with three neighbours.
        repeated: how many of them are measured again: straight after the first time, after all the rest, and then once
            more, one at a time.
        pack: cores that runs on `lambda` may fill side by side.
    """
    apps = generate_many(SEED, generated)
    real = [real_application(name) for name in REAL]
    once = InvokePlan(count=10)
    twice = InvokePlan(count=6, least_ms=500.0)

    def part(name: str, chosen: list[ApplicationSpec], where: Platform, cores: float | None, shipped: bool) -> Part:
        plan, passes = (twice, 2) if isinstance(where, Lambda) else (once, 1)
        configs = tuple(where.configs(None, None))
        return Part(name, Campaign(tuple(chosen), where, configs, plan, passes=passes, seed=SEED), cores, shipped)

    again = apps[:repeated]
    found = [part("lambda", apps, Lambda(), pack, True), part("repeat-soon", again, Lambda(), pack, False)]
    for neighbours in (1, 3):
        found.append(part(f"openwhisk-{neighbours}", apps[:shared], OpenWhisk(neighbours), None, True))
    found.append(part("real", real, Lambda(), pack, True))
    for neighbours in (1, 3):
        found.append(part(f"real-openwhisk-{neighbours}", real, OpenWhisk(neighbours), None, True))
    found.append(part("repeat-late", again, Lambda(), pack, False))
    found.append(part("alone", again, Lambda(), 0.0, False))
    return found


def collect(chosen: list[Part], folder: Path, *, on_visit: Callable[[Part, int, int], None] = lambda *_: None) -> None:
    """Run the campaigns whose tables are not in `folder` yet, each with its journal beside its table.

    Args:
        chosen: what `parts` gives.
        folder: where tables go; created if absent.
        on_visit: called with the campaign, visits done and visits in all.

    Raises:
        FlashError: limits cannot be had, or a file cannot be written; the next call goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    backend = detect()
    for part in chosen:
        table = folder / f"{part.name}.parquet"
        if table.exists():
            continue
        with Journal(folder / f"{table.name}.journal", part.campaign.settings()) as journal:
            runner = Runner(part.campaign, journal, backend, pack=part.pack)

            done = itertools.count(part.campaign.visits - runner.left + 1)

            def visited(*_: object, part: Part = part, done: Iterator[int] = done) -> None:
                on_visit(part, next(done), part.campaign.visits)

            runner.on_visit = visited
            run(runner)
            MeasurementTable.from_measurements(runner.measurements()).write(table)
        journal.path.unlink()


def combine(chosen: list[Part], folder: Path, *, date: str, noise: dict[str, float]) -> MeasurementTable:
    """One table of all shipped campaigns, with its card.

    Args:
        chosen: what `parts` gives.
        folder: where `collect` put their tables.
        date: when they were measured, for the card.
        noise: how far a repeated measurement is off, for the card; see `noise_of`.
    """
    shipped = [part for part in chosen if part.shipped]
    frames = [_read(folder, part).assign(cpu_shares=lambda f: f.get("cpu_shares")) for part in shipped]
    frame = pd.concat([f.dropna(axis=1, how="all") for f in frames], ignore_index=True)
    order = [c for c in ("platform", "app", "memory_mb", "cpu_shares") if c in frame]
    frame = frame.sort_values(order, ignore_index=True)
    for column in frame.columns:
        if frame[column].dtype == "float64":
            frame[column] = frame[column].round(5)
    card: dict[str, Any] = {
        "title": "Generated and hand-written serverless applications under real CPU and memory limits",
        "date": date,
        "command": "flashfm reproduce measured",
        "commit": commit(),
        "seeds": [SEED],
        "machine": describe(),
        "platforms": {
            "lambda": f"CPU quota memory/{MB_PER_VCPU} vCPU over 20 ms; six sizes",
            "openwhisk-N": "memory and CPU shares on one core against N busy neighbours of 256 shares each",
        },
        "campaigns": {p.name: {**p.campaign.settings(), "apps": len(p.campaign.apps), "pack": p.pack} for p in chosen},
        "noise": noise,
        "limits": list(LIMITS),
        "licence": "Apache-2.0",
    }
    return MeasurementTable.from_frame(frame, card=card)


def assess(chosen: list[Part], folder: Path) -> tuple[list[Row], dict[str, Any]]:
    """Repeat noise, effect of packing, and slow-down of CPU-bound applications, as rows and what they rest on."""
    wanted = ("lambda", "repeat-soon", "repeat-late", "alone")
    tables = {part.name: _read(folder, part) for part in chosen if part.name in wanted}
    apps = {app.name: app for app in next(p for p in chosen if p.name == "lambda").campaign.apps}
    shared = {name for name, app in apps.items() if not {"disk", "network"}.isdisjoint(_bounds(app))}
    rows = _compared("lambda, again straight after", agreement(tables["lambda"], tables["repeat-soon"]))
    rows += _compared("lambda, again after all the rest", agreement(tables["lambda"], tables["repeat-late"]))
    packed = agreement(tables["repeat-late"], tables["alone"])
    rows += _compared("lambda, one at a time after side by side", packed)
    for where, kept in (("with disk or network", True), ("without", False)):
        some = packed[packed.app.isin(shared) == kept]
        if len(some):
            rows += _compared(f"lambda, one at a time after side by side, {where}", some)
    more: dict[str, Any] = {"packing_log_ratio_95": _interval(packed.groupby("app")["log"].mean())}
    slow = slowdowns(tables["lambda"], cpu_bound(apps.values()))
    rows.append(_summary("lambda, CPU-bound", "slow-down 1024 to 128 MB / 8", slow["ratio"] / 8, len(slow)))
    rows.append(_summary("lambda, CPU-bound", "the same at equal CPU time", slow["ratio_at_equal_cpu"] / 8, len(slow)))
    return rows, more


def noise_of(rows: list[Row]) -> dict[str, float]:
    """The floor under every model of these data: how far one measurement is from another; `rows` come from `assess`."""
    names = {"again straight after": "soon", "again after all the rest": "late"}
    return {
        f"repeat_{when}_{'shape_' if row.metric == SHAPE else ''}mape": round(row.mean, 4)
        for row in rows
        for method, when in names.items()
        if row.method.endswith(method) and row.metric in ("APE", SHAPE)
    }


def agreement(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Run times of pairs and sizes that both tables hold: absolute percentage error and log ratio of the second."""
    key = ["app", "memory_mb"]
    both = first[first.outcome == "ok"].merge(second[second.outcome == "ok"], on=key, suffixes=("", "_again"))
    ratio = both.runtime_ms_again / both.runtime_ms
    return both[key].assign(ape=(1 / ratio - 1).abs(), log=np.log(ratio))


def cpu_bound(apps: Iterable[ApplicationSpec]) -> set[str]:
    """Names of applications that are made of CPU-bound segments alone."""
    return {app.name for app in apps if _bounds(app) == {"cpu"}}


def slowdowns(frame: pd.DataFrame, apps: set[str]) -> pd.DataFrame:
    """Run time at 128 MB over that at 1,024 MB, on platform `lambda`, where the quota falls to an eighth.

    `ratio_at_equal_cpu` divides each run time by its own CPU time first, which takes out how fast the machine was just
    then.

    Args:
        frame: rows of a `MeasurementTable`.
        apps: CPU-bound applications; those that take less than `LEAST_CPU_MS` at 3,008 MB are left out.
    """
    ok = frame[(frame.outcome == "ok") & (frame.platform == "lambda") & frame.app.isin(apps)]
    cpu = ok.user_cpu_ms_mean + ok.system_cpu_ms_mean
    wide = ok.assign(cpu=cpu, stretch=ok.runtime_ms / cpu).pivot(index="app", columns="memory_mb")
    wide = wide[wide["cpu"][3008] >= LEAST_CPU_MS].dropna(subset=[("runtime_ms", 128), ("runtime_ms", 1024)])
    return pd.DataFrame(
        {
            "ratio": wide["runtime_ms"][128] / wide["runtime_ms"][1024],
            "ratio_at_equal_cpu": wide["stretch"][128] / wide["stretch"][1024],
        }
    )


def _interval(of_apps: pd.Series) -> dict[str, float]:
    """Mean over applications with its 95 % interval, by bootstrap over applications."""
    rng = np.random.default_rng(0)
    values = of_apps.to_numpy()
    means = rng.choice(values, (10_000, values.size)).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": round(float(values.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def _compared(method: str, compared: pd.DataFrame) -> list[Row]:
    of_apps = compared.groupby("app")
    shape = pd.Series(np.abs(1 - np.exp(of_apps["log"].transform("mean") - compared["log"])), compared.index)
    return [
        _summary(method, "APE", of_apps["ape"].mean(), len(compared)),
        _summary(method, SHAPE, shape.groupby(compared["app"]).mean(), len(compared)),
        _summary(method, "log ratio", of_apps["log"].mean(), len(compared)),
    ]


def _bounds(app: ApplicationSpec) -> set[str]:
    return {segment_class(part.kind).bound for part in app.segments}


def _summary(method: str, metric: str, values: pd.Series, queries: int) -> Row:
    spread = float(values.std()) if len(values) > 1 else 0.0
    return Row("measured", method, metric, float(values.mean()), float(values.median()), spread, len(values), queries)


def _read(folder: Path, part: Part) -> pd.DataFrame:
    return MeasurementTable.read(folder / f"{part.name}.parquet").frame
