"""What `reality` observed beside what the dynamics predict: errors, tables and picture, from the files of its loads."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from flashfm.errors import DataError
from flashfm.experiments import results
from flashfm.experiments.open_load import Heard, Load
from flashfm.experiments.reality import SEED, Overhead, RealityConfig, Runs, cpu_share, parameters, run_name
from flashfm.experiments.results import Row
from flashfm.reporting.reality import predicted_against_measured
from flashfm.tasks.autoscaling.calibration import load_costs
from flashfm.tasks.autoscaling.serving import serve

QUANTITIES = {
    "p50": "median latency",
    "p99": "99th percentile of latency",
    "utilisation": "CPU time over quota",
    "throughput": "requests answered",
    "memory": "resident memory",
}
"""What is compared, and what it is."""


def compared(runs: Runs) -> pd.DataFrame:
    """One row for each application and load: what was observed, and what the dynamics predict.

    Raises:
        DataError: a load or its costs are missing or damaged.
    """
    config, rows, costs = runs.config, [], []
    for spec, cores in runs.served:
        one = runs.costs(spec)
        for share in config.loads:
            heard, load = runs.read(run_name(spec, cores, share))
            costs.append(one)
            rows.append({"app": spec.name, "cores": cores, "load": share, **_observed(heard, load, cores)})
    frame = pd.DataFrame(rows)
    params = parameters(costs, runs.overhead(), config)
    cores_of, rate = frame["cores"].to_numpy(dtype=np.float64), frame["rate_per_s"].to_numpy(dtype=np.float64)
    ones = np.ones(len(frame))
    found = serve(
        params,
        cores_of,
        ones * config.memory_mib,
        ones,
        rate,
        0 * ones,
        speed=params.node_speed,
        memory_noise=params.memory_noise,
    )
    return frame.assign(
        share=[cpu_share(one) for one in costs],
        p50_predicted=found.p50_s,
        p99_predicted=found.p99_s,
        utilisation_predicted=found.cpu_cores / cores_of,
        throughput_predicted=found.served_per_s,
        memory_predicted=found.memory_mib,
    )


def errors(frame: pd.DataFrame) -> pd.DataFrame:
    """Absolute relative errors of the predictions, a column for each quantity."""
    return pd.DataFrame({name: (frame[f"{name}_predicted"] / frame[name] - 1).abs() for name in QUANTITIES})


def _observed(heard: Heard, load: Load, cores: float) -> dict[str, float]:
    latency = np.array(heard.latency_s)
    if not len(latency):
        raise DataError(f"a load of {load.rate_per_s:.3g} requests/s had no answer; delete its file and run again")
    halves = [float(np.quantile(latency[i::2], 0.99)) for i in range(2)] if len(latency) > 1 else [1.0, 1.0]
    return {
        # What arrived, not what was meant to: chance is not the model's to know.
        "rate_per_s": heard.sent / load.duration_s,
        "requests": float(heard.sent),
        "failed": float(heard.failed),
        "p50": float(np.median(latency)),
        "p99": float(np.quantile(latency, 0.99)),
        "p99_halves": abs(halves[0] / halves[1] - 1),
        "utilisation": heard.cpu_s / heard.wall_s / cores,
        "throughput": heard.ended / heard.wall_s,
        "memory": heard.rss_mib,
        "late_s": heard.late_s,
    }


def write(results_folder: Path, runs: Runs) -> Path:
    """Write `reality.json`, its tables and its picture; gives the path of the first.

    Raises:
        DataError: a load is damaged, or a file cannot be written.
    """
    config, frame = runs.config, compared(runs)
    off = errors(frame)
    rows = []
    for name in QUANTITIES:
        for share in (None, *config.loads):
            kept = off[name] if share is None else off.loc[frame["load"] == share, name]
            label = "all loads" if share is None else f"{100 * share:g} % of capacity"
            sd = float(kept.std()) if len(kept) > 1 else 0.0
            apps = frame.loc[kept.index, "app"].nunique()
            rows.append(Row("served", label, name, float(kept.mean()), float(kept.median()), sd, apps, len(kept)))
    known = {one.name: one.cpu_s for one in load_costs().costs}
    drift = [runs.costs(spec).cpu_s / known[spec.name] for spec, _ in runs.served]
    path = results_folder / "reality.json"
    results.write(
        path,
        command="flashfm reproduce reality" + ("" if config == RealityConfig() else " --quick"),
        protocol=(
            "absolute relative error of what the dynamics predict, for replicas of one process served over HTTP under "
            "CPU quotas; Poisson loads at shares of the predicted capacity"
        ),
        seeds=[SEED],
        rows=rows,
        more={
            "overhead": asdict(runs.overhead()),
            "cpu_time_now_over_data_set": [round(float(q), 4) for q in np.quantile(drift, [0.1, 0.5, 0.9])],
            "p99_of_one_half_against_the_other": round(float(frame["p99_halves"].median()), 4),
            "config": asdict(config),
            "served": [
                {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}
                for row in frame.to_dict("records")
            ],
        },
        markdown_of=markdown,
    )
    predicted_against_measured(
        frame,
        path.with_suffix(".png"),
        title=f"{frame['app'].nunique()} applications served over HTTP: predicted against measured",
    )
    return path


def markdown(path: Path) -> str:
    """Tables of a result file: errors, then each application and load."""
    data = json.loads(path.read_text())
    errors_of = pd.DataFrame(data["rows"])
    loads = list(dict.fromkeys(errors_of["method"]))
    lines = ["| median error | " + " | ".join(loads) + " |", "|---|" + "---|" * len(loads)]
    for name, words in QUANTITIES.items():
        cells = [
            f"{100 * errors_of[(errors_of.method == load) & (errors_of.metric == name)]['median'].item():.0f} %"
            for load in loads
        ]
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    halves, here = data["p99_of_one_half_against_the_other"], Overhead(**data["overhead"])
    drift = data["cpu_time_now_over_data_set"][1]
    lines += [
        "",
        f"The p99 of one half of the requests is off that of the other half by {100 * halves:.0f} % in the median. "
        f"HTTP took {1e3 * here.cpu_s:.2f} ms of CPU and {1e3 * here.wait_s:.2f} ms beside it for a request, and "
        f"{here.memory_mib:.0f} MiB. In the median, applications took {drift:.2f} times the CPU time that they took in "
        "the data set.",
        "",
        "| application | CPU-bound | cores | requests/s | p50 ms | p99 ms | utilisation | answered/s | MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in data["served"]:
        cells = [row["app"], f"{100 * row['share']:.0f} %", f"{row['cores']:g}", f"{row['rate_per_s']:.1f}"]
        for name, scale, digits in (("p50", 1e3, 1), ("p99", 1e3, 0), ("utilisation", 1, 2), ("throughput", 1, 1)):
            cells.append(f"{scale * row[name]:.{digits}f} ({scale * row[f'{name}_predicted']:.{digits}f})")
        cells.append(f"{row['memory']:.0f} ({row['memory_predicted']:.0f})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\nIn brackets what the dynamics predict.\n"
