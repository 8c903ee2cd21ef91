"""What `live` measured beside what the simulator said: ratios of both arms, tables and picture.

Enters: records as `live.record` makes them, one for each application and repeat. Leaves: `live.json`, its tables and
its picture.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flashfm.baselines.scaling import HpaVpaConfig
from flashfm.controller.arms import FLASH, HPA
from flashfm.experiments import results
from flashfm.experiments.live_tuning import AgentSetting, level, of_chosen
from flashfm.experiments.results import Row
from flashfm.reporting.live import simulated_beside_live

if TYPE_CHECKING:
    from flashfm.experiments.live import SideBySideConfig

ARMS, SOURCES = (FLASH, HPA), ("live", "simulated")
METRICS = {
    "violated_s": "SLO-violating seconds",
    "core_s": "core-seconds",
    "gib_s": "GiB-seconds",
    "p99_over_slo": "p99 over objective",
    "kills": "kills",
}
"""What is compared, and what it is; the p99 is that of the median step."""
DIGITS = {"violated_s": 0, "core_s": 0, "gib_s": 1, "p99_over_slo": 2, "kills": 1}
HALF, THREE_QUARTERS = 0.5, 0.75
"""At most that share of the violations at no more core-seconds, or of the core-seconds at no more violations."""


def figures(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row for each application, repeat, source and arm, with the columns of `METRICS`.

    Args:
        records: as of `live.record`.
    """
    rows = []
    for one in records:
        for source in SOURCES:
            for arm in ARMS:
                of = one[source][arm]
                p99_s = math.nan if of["median_p99_s"] is None else of["median_p99_s"]
                found = {"p99_over_slo": p99_s / one["slo_s"], **{m: float(of[m]) for m in METRICS if m in of}}
                where = {"app": one["app"], "kind": one["kind"], "repeat": one["repeat"]}
                rows.append(
                    {**where, "source": source, "arm": arm, **found, "failed": of["failed"] / max(of["sent"], 1)}
                )
    return pd.DataFrame(rows)


def ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """FLASH over the rules, one row for each source and application, from means over repeats.

    Columns: `violations` and `cores`, plain ratios; `violations_at_no_more_cores` and `cores_at_no_more_violations`,
    which are infinite where the other figure is larger than that of the rules; `kept`, whether one of them is as small
    as was aimed at.

    Args:
        frame: as of `figures`.
    """
    means = frame.groupby(["source", "app", "arm"], sort=False)[["violated_s", "core_s"]].mean()
    ours, theirs = (means.xs(arm, level="arm") for arm in ARMS)
    theirs = theirs.loc[ours.index]
    found = pd.DataFrame(
        {
            "violations": _over(ours["violated_s"], theirs["violated_s"]),
            "cores": _over(ours["core_s"], theirs["core_s"]),
        },
        index=ours.index,
    )
    found["violations_at_no_more_cores"] = found["violations"].where(found["cores"] <= 1, np.inf)
    found["cores_at_no_more_violations"] = found["cores"].where(found["violations"] <= 1, np.inf)
    found["kept"] = (found["violations_at_no_more_cores"] <= HALF) | (
        found["cores_at_no_more_violations"] <= THREE_QUARTERS
    )
    return found.reset_index()


def _over(ours: pd.Series, theirs: pd.Series) -> np.ndarray:
    """Ratios; where both are 0, the two are level."""
    a, b = ours.to_numpy(dtype=np.float64), theirs.to_numpy(dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((a == 0) & (b == 0), 1.0, a / b)


def medians(ratio: pd.DataFrame) -> dict[str, dict[str, float | int | None]]:
    """Medians over applications, by source; None is infinite, and `kept` counts applications."""
    found: dict[str, dict[str, float | int | None]] = {}
    for source in SOURCES:
        of = ratio[ratio["source"] == source]
        names = ("violations", "cores", "violations_at_no_more_cores", "cores_at_no_more_violations")
        # with an even number of applications the worse of the two in the middle counts, since infinity has no mean
        worse = {name: float(np.quantile(of[name], 0.5, method="higher")) for name in names}
        found[source] = {
            **{name: value if math.isfinite(value) else None for name, value in worse.items()},
            "kept": int(of["kept"].sum()),
            "applications": len(of),
        }
    return found


def means(frame: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Violating seconds and core-seconds of an arm in the mean over applications and loads, by source and arm."""
    of = {
        (source, arm): frame[(frame["source"] == source) & (frame["arm"] == arm)] for source in SOURCES for arm in ARMS
    }
    return {
        source: {arm: {name: float(of[source, arm][name].mean()) for name in ("violated_s", "core_s")} for arm in ARMS}
        for source in SOURCES
    }


def agreement(frame: pd.DataFrame, arm_s: float) -> dict[str, float]:
    """How far the simulator is off, over all applications, repeats and arms.

    Args:
        frame: as of `figures`.
        arm_s: length of an arm.

    Returns:
        Median absolute relative errors of core-seconds, GiB-seconds and p99; mean absolute error of the share of time
        in violation; share of applications and repeats in which the simulator says rightly which arm takes fewer
        core-seconds.
    """
    keys = ["app", "repeat", "arm"]
    live, simulated = (frame[frame["source"] == source].set_index(keys) for source in SOURCES)
    simulated = simulated.loc[live.index]
    off = {
        name: float(np.nanmedian(np.abs(simulated[name] / live[name] - 1)))
        for name in ("core_s", "gib_s", "p99_over_slo")
    }
    off["violated_share"] = float((simulated["violated_s"] - live["violated_s"]).abs().mean() / arm_s)
    fewer = [of["core_s"].unstack("arm").pipe(lambda t: np.sign(t[FLASH] - t[HPA])) for of in (live, simulated)]
    off["cheaper_arm_right"] = float((fewer[0] == fewer[1]).mean())
    return off


def write(
    results_folder: Path,
    records: Sequence[Mapping[str, Any]],
    rules: HpaVpaConfig,
    of_agent: AgentSetting,
    tuned: Mapping[str, Any],
    config: SideBySideConfig,
) -> Path:
    """Write `live.json`, its tables and its picture.

    Args:
        results_folder: where they go.
        records: as of `live.record`.
        rules: of the second arm.
        of_agent: of the first.
        tuned: what they were chosen from, as of `live_tuning.tune`.
        config: what was served.

    Returns:
        Path of `live.json`.

    Raises:
        DataError: a file cannot be written.
    """
    frame = figures(records)
    ratio, path = ratios(frame), results_folder / "live.json"
    full = config == type(config)()
    results.write(
        path,
        command="flashfm reproduce live" + ("" if full else " --quick"),
        protocol=(
            f"{len(frame['app'].unique())} applications that pretraining did not see, {config.repeats} loads each, arms"
            f" of {config.steps} steps of {config.period_s:g} s one after the other under the same requests; a core is"
            f" 1/{1 / config.core:g} of one of this machine; the load asks for at most {config.mean_share:g} of what"
            " can be served within the objective, which is drawn for each application as pretraining's are, over its"
            " latency alone; applications are chosen by costs, of each kind those that have most of what makes it; the"
            f" rules have the setting of fewest violations on {tuned['applications']} other applications in twins of"
            " this machine, the agent that of fewest violations at no more core-seconds; p99 of the median step;"
            " simulated: the same controllers and rates, with costs from a few requests measured before"
        ),
        seeds=list(range(config.repeats)),
        rows=_rows(frame),
        more={
            "arm_s": config.arm_s,
            "rules": asdict(rules),
            **of_agent._asdict(),
            "tuning": {
                **{name: tuned[name] for name in ("applications", "agent", "tried")},
                "chosen": of_chosen(tuned),
                "level": level(tuned),
            },
            "medians": medians(ratio),
            "ratios": [
                {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
                for row in ratio.to_dict("records")
            ],
            "means": means(frame),
            "agreement": agreement(frame, config.arm_s),
            "served": [{k: v for k, v in one.items() if k != "steps"} for one in records],
        },
        markdown_of=markdown,
    )
    apps, repeats = frame["app"].nunique(), config.repeats
    over = f"mean and range over {repeats} loads" if repeats > 1 else "one load"
    simulated_beside_live(
        frame,
        path.with_suffix(".png"),
        ours=FLASH,
        title=f"{apps} application{'s' * (apps != 1)} on this machine: simulated against live",
        note=f"a point: an application in the hands of one of both, {over}",
    )
    return path


def _rows(frame: pd.DataFrame) -> list[Row]:
    rows = []
    for (app, source, arm), of in frame.groupby(["app", "source", "arm"], sort=False):
        for metric in METRICS:
            values = of[metric].to_numpy(dtype=np.float64)
            sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
            mean, median = float(values.mean()), float(np.median(values))
            rows.append(Row(str(app), f"{arm}, {source}", metric, mean, median, sd, 1, len(values)))
    return rows


def markdown(path: Path) -> str:
    """Tables of a result file: the medians, each application, and how far the simulator is off."""
    data = json.loads(path.read_text())
    cell = {(row["dataset"], row["method"], row["metric"]): row for row in data["rows"]}
    served = {one["app"]: one for one in data["served"]}
    lines = ["FLASH over HPA + VPA, median over applications (the worse of the two in the middle):", ""]
    lines += [_line("", "live", "simulated"), "|---|---|---|"]
    for name, words in (
        ("violations_at_no_more_cores", "violations, at no more core-seconds"),
        ("cores_at_no_more_violations", "core-seconds, at no more violations"),
        ("violations", "violations, whatever the core-seconds"),
        ("cores", "core-seconds, whatever the violations"),
    ):
        lines.append(_line(words, *(_ratio(data["medians"][source][name]) for source in SOURCES)))
    goal = f"applications with at most {HALF:g} of the violations, or {THREE_QUARTERS:g} of the core-seconds"
    kept = (f"{of['kept']} of {of['applications']}" for of in (data["medians"][source] for source in SOURCES))
    lines.append(_line(goal, *kept))
    for arm in ARMS:
        of = (data["means"][source][arm] for source in SOURCES)
        told = (f"{one['violated_s']:.1f} s and {one['core_s']:.0f}" for one in of)
        lines.append(_line(f"{arm}, mean: SLO-violating seconds and core-seconds", *told))
    lines += ["", f"Arms of {data['arm_s']:g} s; mean ± standard deviation over loads:", ""]
    lines += [_line("application", "kind", "arm", "", *METRICS.values()), "|---|---|---|---|" + "---|" * len(METRICS)]
    for app, one in served.items():
        for arm in ARMS:
            for source in SOURCES:
                cells = (_spread(cell[app, f"{arm}, {source}", metric], DIGITS[metric]) for metric in METRICS)
                lines.append(_line(app, one["kind"], arm, source, *cells))
    off = data["agreement"]
    lines += [
        "",
        f"The simulator is off by {off['core_s']:.0%} in core-seconds, {off['gib_s']:.0%} in GiB-seconds and"
        f" {off['p99_over_slo']:.0%} in the p99 (medians), and by {off['violated_share']:.0%} of the time in violations"
        f" (mean). Which arm takes fewer core-seconds it says rightly in {off['cheaper_arm_right']:.0%} of the runs.",
        "",
        _tuning(data),
        "",
        f"Machine: {next(iter(served.values()))['room']}. HPA + VPA: "
        + ", ".join(f"{name} {data['rules'][name]}" for name in ("target", "vertical", "least_cpu_cores"))
        + f". FLASH: alpha {data['alpha']:g}, least_cores {data['least_cores']:g}. The client sent a request"
        f" {1e3 * _latest(data['served']):.0f} ms late at most.",
    ]
    return "\n".join(lines) + "\n"


def _tuning(data: Mapping[str, Any]) -> str:
    """What both arms came to on the applications that they were tuned on."""
    of, rules = data["tuning"], data["rules"]
    ours = {name: rules[name] for name in ("target", "vertical", "least_cpu_cores")}
    (chosen,) = (one for one in of["tried"] if {name: one[name] for name in ours} == ours)
    told = [("FLASH", of["chosen"]), ("HPA + VPA", chosen)]
    if of["level"] is not None:
        told.append(("the best of its settings that takes no more core-seconds than FLASH", of["level"]))
    words = "; ".join(f"{name} {one['violated_s']:.1f} s and {one['core_s']:.0f}" for name, one in told)
    return (
        f"On the {of['applications']} applications that both were tuned on, in the simulator, in SLO-violating seconds"
        f" and core-seconds: {words}."
    )


def _latest(served: Sequence[Mapping[str, Any]]) -> float:
    return max(float(one["live"][arm]["late_s"]) for one in served for arm in ARMS)


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _ratio(value: float | None) -> str:
    return "∞" if value is None else f"{value:.2f}"


def _spread(row: Mapping[str, Any], digits: int) -> str:
    if math.isnan(row["mean"]):
        return "–"
    mean = f"{row['mean']:.{digits}f}"
    return mean if row["n_queries"] < 2 else f"{mean} ± {row['sd']:.{digits}f}"
