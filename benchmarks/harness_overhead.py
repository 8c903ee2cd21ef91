"""What the harness adds to an invocation, beside a bare timing loop in the same process.

Prints, for an application that does nothing, the wall time of one measured invocation less that of a plain call between
two clock readings, five times over, as the median and range of the medians. Nothing limits the process.

    python benchmarks/harness_overhead.py [--json] [--write]

`--write` keeps the figures in results/harness-overhead.json.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flashfm.experiments.results import Row, write
from flashfm.measurements.probe import Probe
from flashfm.measurements.worker import Channel

CALLS = 2000
ROUNDS = 5


def per_call_us(call: Callable[[], object]) -> float:
    times = []
    for _ in range(CALLS):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e3)
    return statistics.median(times)


def keep(added_us: list[float]) -> None:
    row = Row(
        dataset="none",
        method="probe and reply, less a bare timing loop",
        metric="added wall time of an invocation, us",
        mean=statistics.mean(added_us),
        median=statistics.median(added_us),
        sd=statistics.stdev(added_us),
        n_pairs=1,
        n_queries=ROUNDS * CALLS,
    )
    write(
        Path(__file__).parents[1] / "results" / "harness-overhead.json",
        command="python benchmarks/harness_overhead.py --write",
        protocol=f"{ROUNDS} rounds of {CALLS} calls each way, back to back; median of a round; spread over rounds",
        seeds=[],
        rows=[row],
        more={"limit_us": 2000},
    )


def main() -> None:
    probe = Probe()
    channel = Channel(os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_WRONLY))

    def work() -> None:
        return None

    def bare() -> None:
        start = time.perf_counter_ns()
        work()
        channel.reply(i=[(time.perf_counter_ns() - start) / 1e6])

    def measured() -> None:
        done = probe.measure(work)
        channel.reply(i=[round(done.runtime_ms, 4), *(round(v, 4) for v in done.metrics.values())])

    rounds = [(per_call_us(measured), per_call_us(bare)) for _ in range(ROUNDS)]
    added = [m - b for m, b in rounds]
    ratios = [m / b for m, b in rounds]
    result = {
        "added_us": {"median": statistics.median(added), "low": min(added), "high": max(added)},
        "ratio_to_bare_timing": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
        "limit_us": 2000,
    }
    if "--write" in sys.argv:
        keep(added)
    if "--json" in sys.argv:
        print(json.dumps(result))
        return
    for name in ("added_us", "ratio_to_bare_timing"):
        print(f"{name}: {result[name]['median']:.1f} ({result[name]['low']:.1f} to {result[name]['high']:.1f})")


if __name__ == "__main__":
    main()
