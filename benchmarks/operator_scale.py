"""How many `FlashAutoscaler` targets one operator holds on one core, against the double of the Kubernetes API.

The whole operator runs here, on one core: watches, decisions, SQLite, requests, statuses, events, logs and pages. The
cluster is a process on another core: N Deployments of two pods, N objects, all in mode Act or all in mode Shadow, and a
scrape of `/metrics` in each period. What monitoring would say is recorded from simulated pairs, half of which the agent
has served before and half of which it gets to know; each target plays the samples of a pair a little differently. The
operator takes all of them over from a store as after a restart, which takes longer than a period: the first periods are
told apart, and figures are of those after them.

    python benchmarks/operator_scale.py [--targets N] [--periods K] [--period SECONDS] [--json] [--write]

`--write` keeps the figures in results/operator-scale.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _double import PODS, Double, pin
from _recorded import FIRST, IMAGE, Recorded, Scale, prepare

from flashfm.adapt.agent import FlashAgent
from flashfm.controller.keeper import Target
from flashfm.controller.kept import DONE, FAILED
from flashfm.controller.kube.api import Api
from flashfm.controller.logs import Form, logged
from flashfm.controller.loop import Stepped
from flashfm.controller.operator import Operator, OperatorConfig
from flashfm.controller.store import Store
from flashfm.experiments.results import Row, write

MODES = ("Act", "Shadow")


@dataclass
class Period:
    """What one period took."""

    begun_s: float
    cpu_s: float
    loop_s: float
    work_s: float = 0.0
    steps_ms: list[float] = field(default_factory=list)
    """Of each target, with the API."""
    decide_ms: list[float] = field(default_factory=list)
    """Of each target, without the network."""
    said: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    counted: dict[str, Any] = field(default_factory=dict)


class Timed(Operator):
    """The operator, which is told to stop after some periods, and what each of them took."""

    def __init__(self, double: Double, source: Recorded, periods: int, *rest: Any) -> None:
        super().__init__(*rest, sources=lambda _: source)
        self.periods: list[Period] = []
        self.stop = threading.Event()
        self._double, self._source, self._most, self._last_s = double, source, periods, 0.0

    def targets(self) -> list[Target]:
        if self.periods:
            last = self.periods[-1]
            last.cpu_s, last.loop_s = time.process_time() - last.cpu_s, time.thread_time() - last.loop_s
        counted = self._double.ask("counted")
        if self.periods:
            self.periods[-1].counted = counted
        if len(self.periods) == self._most:
            self.stop.set()
            return []
        self._source.at += 1
        self._last_s = time.perf_counter()
        self.periods.append(Period(self._last_s, time.process_time(), time.thread_time()))
        found = super().targets()
        self._last_s = time.perf_counter()
        return found

    def on_step(self, stepped: Stepped) -> None:
        super().on_step(stepped)
        at, now_s = self.periods[-1], time.perf_counter()
        at.steps_ms.append(1e3 * (now_s - self._last_s))
        at.decide_ms.append(1e3 * stepped.seconds)
        at.said.update({stepped.status: 1, stepped.decision.by: 1})
        at.phases[stepped.decision.phase.value] += 1
        self._last_s, at.work_s = now_s, now_s - at.begun_s


def run(mode: str, agent: FlashAgent, scale: Scale, cpu: int) -> list[Period]:
    """All periods of one arm, of which nothing is left."""
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory(prefix="operator-scale-", ignore_cleanup_errors=True)))
        enter(contextlib.redirect_stderr(enter((folder / "log").open("w"))))
        enter(logged(Form.JSON))
        stack.callback(await_watches)
        double, store = enter(Double(folder, IMAGE, cpu)), enter(contextlib.closing(Store(folder / "state.db")))
        there = prepare(agent, store, scale)
        double.ask("deploy", targets=[one.asked(mode) for one in there])
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        double.ask("scrape", url=f"http://127.0.0.1:{port}/metrics", period_s=scale.period_s)
        api = enter(contextlib.closing(Api.connect(folder / "kubeconfig")))
        config = OperatorConfig(state=store.path, period_s=scale.period_s, port=port)
        operator = Timed(double, Recorded(there), FIRST + scale.periods, api, agent, store, config)
        operator.run(operator.stop)
    return operator.periods


def await_watches() -> None:
    """Wait for watches, which end with the double: another arm must not pay for them."""
    for thread in threading.enumerate():
        if thread.name.startswith("watch-"):
            thread.join(5)


def figures(periods: Sequence[Period], period_s: float) -> dict[str, list[float]]:
    """One figure for each period that counts."""
    found: dict[str, list[float]] = defaultdict(list)
    for before, at in pairwise(periods[FIRST - 1 :]):
        for name, value in {
            "share of the core": at.cpu_s / period_s,
            "CPU in a period, s": at.cpu_s,
            "of it watches and pages, s": at.cpu_s - at.loop_s,
            "until the last target has had its step, s": at.work_s,
            "a step without the network, median, ms": statistics.median(at.decide_ms),
            "a step without the network, p99, ms": float(np.quantile(at.decide_ms, 0.99)),
            "a step with the API, median, ms": statistics.median(at.steps_ms),
            "a step with the API, p99, ms": float(np.quantile(at.steps_ms, 0.99)),
            "requests in a period": float(sum(at.counted["requests"].values())),
            "targets changed in a period": float(at.said[DONE]),
            "CPU of the double in a period, s": at.counted["cpu_s"] - before.counted["cpu_s"],
        }.items():
            found[name].append(value)
        found["a scrape of the metrics, s"] += [seconds for seconds, _ in at.counted["scrapes"]]
    return {name: of for name, of in found.items() if of}


def told(periods: Sequence[Period], scale: Scale) -> dict[str, Any]:
    """What else there is to know of an arm."""
    counted, last = periods[FIRST:], periods[-1]
    requests = sum((Counter(at.counted["requests"]) for at in counted), Counter[str]())
    refused = sum((Counter(at.counted["refused"]) for at in periods), Counter[str]())
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "phases": dict(last.phases),
        "pods": last.counted["pods"],
        "late_periods": sum(at.work_s > scale.period_s for at in counted),
        "failed": sum(at.said[FAILED] for at in periods),
        "not_observed": sum(at.said["nobody"] for at in periods),
        "requests_in_a_period": {name: round(n / len(counted), 1) for name, n in requests.most_common()},
        "refused": dict(refused),
        "scrape_bytes": max((length for at in counted for _, length in at.counted["scrapes"]), default=0),
        "resident_mib": round(resident / 2**20),
        "first_periods": [
            {"work_s": round(at.work_s, 2), "cpu_s": round(at.cpu_s, 2), "changed": at.said[DONE]}
            for at in periods[:FIRST]
        ],
    }


def keep(scale: Scale, found: dict[str, dict[str, list[float]]], more: dict[str, Any]) -> None:
    rows = [
        Row(
            "none",
            f"operator, mode {mode}",
            name,
            statistics.fmean(of),
            statistics.median(of),
            statistics.stdev(of) if len(of) > 1 else 0.0,
            scale.targets,
            len(of),
        )
        for mode, named in found.items()
        for name, of in named.items()
    ]
    sizes = f"--targets {scale.targets} --periods {scale.periods} --period {scale.period_s:g}"
    write(
        Path(__file__).parents[1] / "results" / "operator-scale.json",
        command=f"python benchmarks/operator_scale.py {sizes} --write",
        protocol=(
            f"{scale.targets} Deployments of {PODS} pods on the double, recorded samples of {scale.pairs} pairs,"
            f" SQLite; the operator on one core, the double on another; {FIRST} periods of {scale.period_s:g} s, then"
            f" {scale.periods} that count"
        ),
        seeds=[0],
        rows=rows,
        more=more,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="How many targets one operator holds on one core.")
    parser.add_argument("--targets", type=int, default=1_000, help="at least 2")
    parser.add_argument("--periods", type=int, default=8, help="that count; at least 1")
    parser.add_argument("--period", type=float, default=15.0, help="length in seconds; 1 to 3600")
    parser.add_argument("--json", action="store_true", help="print all as JSON")
    parser.add_argument("--write", action="store_true", help="keep the figures in results/operator-scale.json")
    args = parser.parse_args()
    scale = Scale(args.targets, args.periods, args.period)
    if scale.targets < 2 or scale.periods < 1 or not 1 <= scale.period_s <= 3600:
        parser.error(f"{scale}; expected at least 2 targets, 1 period, and 1 to 3600 seconds")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    cpus = sorted(os.sched_getaffinity(0))
    torch.set_num_threads(1)
    pin(cpus[0])
    agent = FlashAgent.from_pretrained("autoscaling")
    found: dict[str, dict[str, list[float]]] = {}
    more: dict[str, Any] = {"target_ms": 20.0, "targets": scale.targets, "period_s": scale.period_s}
    more["double_on_a_core_of_its_own"] = len(cpus) > 1
    for mode in MODES:
        periods = run(mode, agent, scale, cpus[-1])
        found[mode], more[mode] = figures(periods, scale.period_s), told(periods, scale)
    if args.write:
        os.sched_setaffinity(0, cpus)  # the machine is described by what this process may use
        keep(scale, found, more)
    shown = {
        mode: {name: {"median": statistics.median(of), "low": min(of), "high": max(of)} for name, of in named.items()}
        for mode, named in found.items()
    }
    if args.json:
        print(json.dumps({"figures": shown, **more}))
        return
    for mode, named in shown.items():
        print(f"mode {mode}, {scale.targets} targets, a period of {scale.period_s:g} s:")
        for name, of in named.items():
            print(f"  {name}: {of['median']:.3g} ({of['low']:.3g} to {of['high']:.3g})")
        for name, value in more[mode].items():
            print(f"  {name.replace('_', ' ')}: {value}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
