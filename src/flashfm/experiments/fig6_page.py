"""The figures of `reproduce fig6`: means and spread of every arm, differences, losses, the page and the picture.

Enters: what each arm did in each pair of each case, as arrays [draw, pair]. Leaves: rows and tables as plain numbers,
then Markdown and a picture, both made from the result file alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from flashfm.experiments.results import Row
from flashfm.experiments.scaling import EPISODES
from flashfm.reporting.scaling_bars import spread_bars

FIXED = ("static", "HPA + VPA", "planner")
"""Arms that are not learned; the planner is told the parameters of the pairs as they are."""
OTHER, OWN, OLD = "FIRM of another application", "FIRM of this very pair", "FIRM of before the update"
SHARED, FLASH, OLD_FLASH = "shared policy", "FLASH, 1 warm-up", "FLASH, warm-up of before the update"
ARMS = (*FIXED, OTHER, OLD, SHARED, OLD_FLASH, FLASH, OWN)
"""All arms, in the order of the tables."""
NEW, KNOWN, UPDATES = "unseen applications", "unseen applications with an agent of their own", "all updates"
"""Cases beside the single updates."""
COLUMNS = {
    "reward": "reward",
    "violations": "violations",
    "cpu_use": "CPU use",
    "memory_use": "memory use",
    "p99": "p99 / SLO, median step",
    "p99_slow": "p99 / SLO, slow step",
    "core_hours": "core-hours",
    "gib_hours": "GiB-hours",
    "killed": "killed",
}
"""Metrics and what tables call them."""
COMPARED = ("reward", "violations", "cpu_use", "memory_use", "core_hours")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
PANELS = {"reward": "reward", "cpu_use": "CPU utilisation", "p99_slow": "p99 over the objective, slow step"}
"""What is drawn."""
PAPER = {
    NEW: {"reward_lower": 0.368, "cpu_use": 0.39, "cpu_use_own": 0.64, "p99_times": 5.8},
    UPDATES: {"reward_lower": 0.158},
}
"""What the paper prints of FIRM's agents (appendix A.2): how much lower the median reward is, median CPU use beside
that of agents at home, and by how much at least p99 is larger in the upper quarter."""

Values = dict[str, Float[np.ndarray, "draw pair"]]
"""Metric -> what came of it; a draw is an agent, where several served each pair."""
Arms = dict[str, dict[str, Values]]
"""Arm -> case -> what it did."""
Places = Mapping[str, Int[np.ndarray, " pair"]]
"""Case -> which tested pair each of its pairs is, or was before an update."""


def by_update(arms: Arms, tested: Places, update: Sequence[str]) -> tuple[Arms, dict[str, Int[np.ndarray, " pair"]]]:
    """With each update as one more case.

    Args:
        arms: of the case `UPDATES`, pairs of all updates.
        tested: of the same cases.
        update: of each pair of `UPDATES`.
    """
    found, places, names = {arm: dict(of) for arm, of in arms.items()}, dict(tested), np.array(update)
    for kind in dict.fromkeys(update):
        places[kind] = tested[UPDATES][names == kind]
        for of in found.values():
            if UPDATES in of:
                of[kind] = {metric: values[:, names == kind] for metric, values in of[UPDATES].items()}
    return found, places


def rows_of(arms: Arms) -> list[Row]:
    """Means and spread over pairs and draws."""
    found = []
    for arm in (name for name in ARMS if name in arms):
        for case, values in arms[arm].items():
            for metric in COLUMNS:
                of = values[metric]
                spread = (float(of.mean()), float(np.median(of)), float(of.std()))
                found.append(Row(case, arm, metric, *spread, of.shape[1], of.size * EPISODES))
    return found


def spread_of(arms: Arms) -> list[dict[str, Any]]:
    """`QUANTILES` over pairs and draws of what is drawn: cases with agents of their own, and updates."""
    found = []
    for arm in (name for name in ARMS if name in arms):
        for case in (case for case in (KNOWN, UPDATES) if case in arms[arm]):
            for metric in PANELS:
                quantiles = np.quantile(arms[arm][case][metric], QUANTILES).tolist()
                found.append({"case": case, "method": arm, "metric": metric, "quantiles": quantiles})
    return found


def differences(arms: Arms, tested: Places) -> list[dict[str, Any]]:
    """FLASH minus each other arm, pair by pair, with 95 % intervals; single updates have too few pairs."""
    found = []
    for case in (case for case in (NEW, KNOWN, UPDATES) if case in arms[FLASH]):
        ours = arms[FLASH][case]
        for arm in (name for name in ARMS if name != FLASH and case in arms.get(name, {})):
            for metric in COMPARED:
                by_pair = (ours[metric] - arms[arm][case][metric]).mean(axis=0)
                found.append({"case": case, "against": arm, "metric": metric, **interval(by_pair, tested[case])})
    return found


def losses(arms: Arms, tested: Places) -> list[dict[str, Any]]:
    """(own - arm) / own of the reward, pair by pair, where own is the agent that was trained on the very pair."""
    found = []
    for case, own in arms[OWN].items():
        for arm in (name for name in ARMS if name != OWN and case in arms.get(name, {})):
            lost = (1 - arms[arm][case]["reward"] / own["reward"]).mean(axis=0)
            found.append(
                {"case": case, "method": arm, "median": float(np.median(lost)), **interval(lost, tested[case])}
            )
    return found


def as_in_paper(arms: Arms, tested: Places) -> list[dict[str, Any]]:
    """Medians beside those of FIRM's agents on the pairs they were trained on, before any update.

    `p99_times`: by how much p99 over the objective, in a slow step, is larger than at home; upper quartile over pairs.
    """
    home = arms[OWN][KNOWN]
    at = {int(pair): i for i, pair in enumerate(tested[KNOWN])}
    found = []
    for case in (KNOWN, UPDATES):
        for arm in (name for name in ARMS if case in arms.get(name, {})):
            values = arms[arm][case]
            own = home["p99_slow"][:, [at[int(pair)] for pair in tested[case]]]
            entry = {
                "case": case,
                "method": arm,
                "reward_lower": float(1 - np.median(values["reward"]) / np.median(home["reward"])),
                "cpu_use": float(np.median(values["cpu_use"])),
                "p99_times": float(np.quantile(values["p99_slow"] / own, 0.75)),
            }
            found.append(entry)
    return found


def interval(values: Float[np.ndarray, " pair"], pair: Int[np.ndarray, " pair"], draws: int = 2000) -> dict[str, float]:
    """Mean with a bootstrap interval over pairs, 95 %; entries of one pair, under several updates, go together.

    Args:
        values: to average.
        pair: which pair each is of.
        draws: of the bootstrap.
    """
    _, of = np.unique(pair, return_inverse=True)
    sums, counts = np.bincount(of, values), np.bincount(of)
    drawn = np.random.default_rng(0).integers(len(sums), size=(draws, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def page(path: Path) -> str:
    """The tables of a result file."""
    content = json.loads(path.read_text())
    rows = content["rows"]
    counts = {row["dataset"]: row["n_pairs"] for row in rows}
    lines = []
    for case in (NEW, KNOWN, UPDATES):
        if case in counts:
            lines += [f"**{case[0].upper()}{case[1:]}** ({_count(counts[case])})", "", *_arms(rows, case), ""]
    lines += ["**FLASH after one warm-up minus each other arm**, 95 % interval", "", *_differences(content), ""]
    lines += ["**Reward that is lost against FIRM's agent of the very pair**, as a share", "", *_losses(content), ""]
    lines += ["**As the paper counts it**: medians beside those of FIRM's agents at home", "", *_paper(content), ""]
    lines += ["**Each update**: what it changed (medians), and the reward lost as above", "", *_changes(content), ""]
    for case in content["updates"]:
        lines += [f"**Update: {case}** ({_count(counts[case])})", "", *_arms(rows, case), ""]
    lines.append(
        "Figures are means over pairs, but medians for p99 / SLO, whose means a few pairs make. The planner is told the"
        " parameters of each pair as they are, after an update too."
    )
    return "\n".join(lines) + "\n"


def picture(path: Path) -> Path:
    """Draw the spread of every arm from a result file, beside it."""
    content = json.loads(path.read_text())
    names = {KNOWN: "unseen applications", UPDATES: "updates"}
    frame = pd.DataFrame(
        {"section": names[one["case"]], "arm": one["method"], "panel": PANELS[one["metric"]]}
        | dict(zip(("low", "lower", "middle", "upper", "high"), one["quantiles"], strict=True))
        for one in content["spread"]
        if one["case"] in names
    )
    return spread_bars(
        frame,
        path.with_suffix(".png"),
        ours=(FLASH,),
        log=(PANELS["p99_slow"],),
        title="Autoscalers on unseen applications and on updates",
        note="dot: median; thick: middle half of the pairs; thin: 5 to 95 %",
    )


def _arms(rows: list[dict[str, Any]], case: str) -> list[str]:
    lines = ["| arm | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---|" * len(COLUMNS)]
    of: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["dataset"] == case:
            middle = "median" if row["metric"].startswith("p99") else "mean"
            of.setdefault(row["method"], {})[row["metric"]] = row[middle]
    for arm, values in of.items():
        cells = [f"{values[m]:.{2 if m.endswith('hours') or m.startswith('p99') else 3}f}" for m in COLUMNS]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return lines


def _differences(content: dict[str, Any]) -> list[str]:
    lines = ["| pairs | against | " + " | ".join(COLUMNS[m] for m in COMPARED) + " |", "|---|---|" + "---|" * 5]
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for one in content["differences"]:
        words = f"{one['mean']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"
        cells.setdefault((one["case"], one["against"]), {})[one["metric"]] = words
    for (case, arm), of in cells.items():
        lines.append(f"| {case} | {arm} | " + " | ".join(of[m] for m in COMPARED) + " |")
    return lines


def _losses(content: dict[str, Any]) -> list[str]:
    lines = ["| pairs | arm | mean | 95 % interval | median |", "|---|---|---|---|---|"]
    for one in (one for one in content["losses"] if one["case"] in (KNOWN, UPDATES)):
        figures = f"{one['mean']:.3f} | {one['low']:.3f} to {one['high']:.3f} | {one['median']:.3f}"
        lines.append(f"| {one['case']} | {one['method']} | {figures} |")
    return lines


def _paper(content: dict[str, Any]) -> list[str]:
    head = ["pairs", "arm", "median reward lower by", "median CPU use", "p99 / SLO of the upper quarter, times that"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|---|---|---|"]
    for one in content["as_in_paper"]:
        figures = f"{100 * one['reward_lower']:.1f} % | {100 * one['cpu_use']:.0f} % | {one['p99_times']:.2f}"
        lines.append(f"| {one['case']} | {one['method']} | {figures} |")
    new, updates = content["paper"][NEW], content["paper"][UPDATES]
    printed = f"{100 * new['reward_lower']:.1f} % | {100 * new['cpu_use']:.0f} % | {new['p99_times']:.1f}"
    lines.append(f"| printed in the paper, new applications | FIRM | {printed} |")
    lines.append(f"| printed in the paper, updates | FIRM | {100 * updates['reward_lower']:.1f} % | – | – |")
    lines.append(f"| printed in the paper, at home | FIRM | 0 % | {100 * new['cpu_use_own']:.0f} % | 1 |")
    return lines


def _changes(content: dict[str, Any]) -> list[str]:
    arms = (OLD, SHARED, OLD_FLASH, FLASH)
    head = ["update", "tested pairs it changes", "CPU time, times", "mean cores asked for, times"]
    lines = ["| " + " | ".join([*head, "load lowered to what can be served", *arms]) + " |", "|---|" + "---|" * 8]
    lost = {(one["case"], one["method"]): one for one in content["losses"]}
    for case, change in content["updates"].items():
        cells = [f"{change['suits']:.0f}", f"{change['cpu']:.2f}", f"{change['demand']:.2f}"]
        cells.append(f"{100 * change['lowered']:.0f} %")
        cells += [f"{one['mean']:.3f} ({one['low']:.3f} to {one['high']:.3f})" for one in (lost[case, a] for a in arms)]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return lines


def _count(pairs: int) -> str:
    return f"{pairs} pair" + "s" * (pairs != 1)
