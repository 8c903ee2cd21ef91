"""The page of `reproduce fig4` and its picture, both made from the result file alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from flashfm.experiments.fig4_figures import OTHER, SHARES
from flashfm.reporting.adaptation import SPREAD, drops_and_curves

OWN = "FIRM of this very pair"
PAPERS_OWN, PAPERS_OTHER = f"{OWN}, as in the paper", f"{OTHER}, as in the paper"
SHARED, FLASH = "shared policy", "FLASH, 1 warm-up"
FIXED = ("static", "HPA + VPA")
TRANSFER, ADAPTED, TUNING = "transfer learning", "FLASH", "FLASH, fine-tuned behind a gate"
COLUMNS = {
    "reward": "reward",
    "violations": "violations",
    "cpu_use": "CPU use",
    "memory_use": "memory use",
    "core_hours": "core-hours",
    "gib_hours": "GiB-hours",
}
"""Metrics of a table of arms, and what it calls them."""
PRINTED_DROP = {OTHER: 0.37, PAPERS_OTHER: 0.37, FLASH: 0.105}
"""What the paper prints in section 3: the mean drop of the reward without adaptation."""
PRINTED_FASTER, PRINTED_LESS, PRINTED_DEFICIT = 5.5, 0.671, 4.6
"""The same, of FLASH against transfer learning: how many times faster it adapts, by which share it breaks SLOs less
meanwhile, and how many times smaller its deficit of CPU utilisation is."""


def page(path: Path) -> str:
    """The tables of a result file."""
    content = json.loads(path.read_text())
    parts = {
        "**Reward drop without adaptation**: (converged - reward) / converged": _drops(content),
        "**All arms without adaptation**, and the converged agents": _arms(content),
        "**Converged agents**: mean reward on their own pairs while they were trained": _converged(content),
        "**Adaptation**: episodes of the environment, warm-up included": _adaptation(content),
        "**Meanwhile**: sums over the steps of a pair, means over pairs": _costs(content),
        "**Fine-tuning behind a gate**, beside HPA and VPA alone in the same episodes": _guard(content),
        "**Settings of transfer learning**, on training pairs": _tried(content),
    }
    return "\n".join(line for title, lines in parts.items() for line in (title, "", *lines, ""))


def picture(path: Path) -> Path:
    """Draw drops and curves from a result file, beside it."""
    content = json.loads(path.read_text())
    left = [{"arm": one["method"], **dict(zip(SPREAD, one["quantiles"], strict=True))} for one in content["drops"]]
    right = [
        {"arm": arm, "episode": episode, "reward": reward}
        for arm, rewards in content["curves"].items()
        for episode, reward in enumerate(rewards)
    ]
    return drops_and_curves(
        pd.DataFrame(left),
        pd.DataFrame(right),
        path.with_suffix(".png"),
        levels=content["levels"],
        ours=(FLASH, ADAPTED, TUNING),
        title="Applications that an agent has not met: at once, and while it adapts",
        note="dot: median; thick: middle half; thin: 5 to 95 % of pairs. Right: mean over pairs, judged without noise",
    )


def _drops(content: dict[str, Any]) -> list[str]:
    lines = _table("arm", "mean", "95 % interval", "median", "mean in the paper's tests", "printed in the paper")
    for one in content["drops"]:
        printed = PRINTED_DROP.get(one["method"])
        interval = f"{_percent(one['low'])} to {_percent(one['high'])}"
        middle = _percent(one["quantiles"][2])
        lines.append(
            _row(one["method"], _percent(one["mean"]), interval, middle, _percent(one["tests"]), _percent(printed))
        )
    first = [rewards[1] for rewards in content["draws"]]
    spread = f"their mean rewards are {min(first):.4f} to {max(first):.4f}"
    return [*lines, "", f"{FLASH} is the mean over {len(first)} draws of the warm-up; {spread}."]


def _arms(content: dict[str, Any]) -> list[str]:
    lines = _table("arm", *COLUMNS.values(), "pairs")
    of: dict[str, dict[str, float]] = {}
    for row in content["rows"]:
        of.setdefault(row["method"], {"pairs": row["n_pairs"]})[row["metric"]] = row["mean"]
    for arm, values in of.items():
        cells = [f"{values[metric]:.{2 if metric.endswith('hours') else 3}f}" for metric in COLUMNS]
        lines.append(_row(arm, *cells, f"{values['pairs']:.0f}"))
    return lines


def _converged(content: dict[str, Any]) -> list[str]:
    of = content["converged"]
    lines = _table("seed", *(f"after {episodes} episodes" for episodes in of["episodes"]))
    lines += [_row(str(seed), *(f"{reward:.4f}" for reward in rewards)) for seed, rewards in of["curves"].items()]
    if of["spread"] is not None:
        lines += ["", f"Two seeds differ by {_percent(of['spread'])} of the reward of a pair, on average over pairs."]
    return lines


def _adaptation(content: dict[str, Any]) -> list[str]:
    head = [
        "share of the converged reward",
        "arm",
        "there at once",
        "median",
        "mean, at most the horizon",
        "never there",
    ]
    lines = _table(*head, f"{TRANSFER} takes, times", "printed in the paper")
    for one in content["adaptation"]:
        times = _times(one.get("times", {}).get("episodes"))
        printed = f"{PRINTED_FASTER}" if one["method"] == ADAPTED and one["share"] == SHARES[0] else "–"
        cells = [_percent(one["at once"], 0), f"{one['median']:g}", f"{one['mean']:.1f}", _percent(one["never"], 0)]
        lines.append(_row(_percent(one["share"], 0), one["method"], *cells, times, printed))
    return lines


def _costs(content: dict[str, Any]) -> list[str]:
    arms = [one for one in content["adaptation"] if one["costs"]]
    head = ["until this share", "arm", "steps that break the SLO", "of them beyond the converged agent's"]
    lines = _table(*head, "CPU utilisation below the converged agent's, steps")
    for one in arms:
        cells = [f"{one['costs'][cost]:.1f}" for cost in ("violations", "beyond", "deficit")]
        lines.append(_row(_percent(one["share"], 0), one["method"], *cells))
        if "times" in one:
            times = [_times(one["times"][cost]) for cost in ("violations", "beyond", "deficit")]
            lines.append(_row(_percent(one["share"], 0), f"{TRANSFER} over {one['method']}, times", *times))
    printed = f"{1 / (1 - PRINTED_LESS):.1f} ({_percent(PRINTED_LESS)} less)"
    lines.append(_row("printed in the paper", f"{TRANSFER} over {ADAPTED}, times", printed, "–", str(PRINTED_DEFICIT)))
    return lines


def _guard(content: dict[str, Any]) -> list[str]:
    of = content["guard"]
    served = ", ".join(f"{name} {_percent(share, 0)}" for name, share in of["served"].items())
    return [
        *_table("", f"{of['episodes']} episodes"),
        _row("reward above HPA and VPA alone, over all episodes", _percent(of["gain"])),
        _row("the same in the last quarter of the episodes", _percent(of["gain_last"])),
        _row("pairs that are behind HPA and VPA alone at the end", _percent(of["behind"], 0)),
        _row("largest part of the cumulated reward that was missing in any pair at any time", _percent(of["most"])),
        _row("the same, in episodes of reward 1", f"{of['most_reward']:.3f}"),
        _row(
            f"pairs that at some time missed more than the {_percent(of['allowance'], 0)} allowed",
            _percent(of["beyond"], 0),
        ),
        _row("served by, in the last quarter, beside HPA and VPA", served),
        _row("judged reward before the first episode", f"{of['judged']['first']:.4f}"),
        _row("judged reward of the fine-tuned policies after the last", f"{of['judged']['last']:.4f}"),
    ]


def _tried(content: dict[str, Any]) -> list[str]:
    settings = content["transfer_tried"]
    lines = _table(*settings[0])
    return lines + [
        _row(*(f"{value:.4f}" if name == "reward" else str(value) for name, value in one.items())) for one in settings
    ]


def _times(of: dict[str, float | None] | None) -> str:
    if of is None:
        return "–"
    mean, low, high = ("∞" if of[name] is None else f"{of[name]:.1f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _table(*names: str) -> list[str]:
    return [_row(*names), "|" + "---|" * len(names)]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
