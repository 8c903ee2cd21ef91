"""What `frontier` judged, compared: figures at equal core-hours and at equal violations, tables and picture.

Enters: arms, each judged on the same pairs. Leaves: `frontier.json`, its table and its picture.

An arm is taken along its frontier: the settings that no other of its own beats on training pairs in both figures, less
those that one beats on the unseen pairs too, joined by straight lines in core-hours and violations (what an operator
gets who runs some of the applications in the one setting and the rest in the next). Beyond its largest core-hours it
need not spend more; what it reaches in no setting is infinite. What is left out on the unseen pairs flatters an arm
of many settings a little: the controllers, where the agent is held against them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from flashfm.experiments import results
from flashfm.experiments.results import Row
from flashfm.experiments.scaling import EPISODES
from flashfm.reporting.frontier import violations_against_core_hours
from flashfm.tasks.autoscaling.parameters import LONGEST_START
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS

BEFORE, AFTER = "FLASH, no warm-up", "FLASH, 1 warm-up"
ALIKE = "static, alike"
"""The same limits and replicas for every application; `static` sizes them by the first step."""
CONTROLLERS = ("HPA + VPA", "HPA", "static", ALIKE, "planner")
FIGURES = ("late_violations", "core_hours", "gib_hours", "violations", "killed")
"""Of `scaling.Judged`; the frontier is that of the first two."""
ALL_STEPS = FIGURES.index("violations")


@dataclass(frozen=True, eq=False)
class Arm:
    """An autoscaler in all settings that were tried; trade-offs are the agent's settings."""

    settings: list[dict[str, Any]]
    training: Float[np.ndarray, "setting figure"]
    """Means over training pairs of `FIGURES`."""
    chosen: Int[np.ndarray, " point"]
    """Settings that the unseen pairs saw: those of the frontier by rising core-hours, of the agent all."""
    tested: Float[np.ndarray, "point figure pair"]
    """Of unseen pairs."""

    @property
    def frontier(self) -> Int[np.ndarray, " kept"]:
        """Points that no other one beats on training pairs, by rising core-hours there."""
        return undominated(self.training[self.chosen, 1], self.training[self.chosen, 0])

    def within(self, core_hours: float) -> int:
        """The point with fewest violations among those that take no more core-hours, both on training pairs.

        Where all take more, the one that takes the fewest.
        """
        frontier = self.frontier
        cheap = int((self.training[self.chosen[frontier], 1] <= core_hours).sum())
        return int(frontier[max(cheap - 1, 0)])


def undominated(
    core_hours: Float[np.ndarray, " point"], violations: Float[np.ndarray, " point"]
) -> Int[np.ndarray, " kept"]:
    """Points that no other one beats in one figure without being worse in the other, by rising core-hours.

    Of points that are equal the first is kept, so violations fall strictly.
    """
    order = np.lexsort((violations, core_hours))
    least = np.minimum.accumulate(violations[order])
    kept: Int[np.ndarray, " kept"] = order[np.concatenate([[True], least[1:] < least[:-1]])]
    return kept


def ratios(
    points: Float[np.ndarray, "point figure pair"],
    along: Float[np.ndarray, "kept figure pair"],
    draws: int,
    violations: int = 0,
) -> Float[np.ndarray, "two draw point"]:
    """Violations of points over those of an arm at equal core-hours; core-hours over those at equal violations.

    Args:
        points: figures on each pair.
        along: those of the arm's frontier, on the same pairs.
        draws: of the bootstrap; the same pairs are drawn for both. Row 0 of the result has every pair once.
        violations: place in `FIGURES` of those that are meant.

    Returns:
        Both ratios; 0 where the arm reaches it in no setting.
    """
    pairs = points.shape[-1]
    drawn = np.random.default_rng(0).multinomial(pairs, np.full(pairs, 1 / pairs), size=draws)
    weights = np.concatenate([np.ones((1, pairs)), drawn]) / pairs
    ours, theirs = (np.einsum("dp,sfp->fds", weights, of[:, [violations, 1]]) for of in (points, along))
    found = np.empty((2, *ours.shape[1:]))
    for i in range(len(weights)):
        kept = undominated(theirs[1, i], theirs[0, i])
        broken, core_hours = theirs[0, i, kept], theirs[1, i, kept]
        found[0, i] = _over(ours[0, i], np.interp(ours[1, i], core_hours, broken, left=np.inf))
        found[1, i] = ours[1, i] / np.interp(ours[0, i], broken[::-1], core_hours[::-1], left=np.inf)
    return found


def _over(ours: Float[np.ndarray, " point"], theirs: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    """Ratios; where there are no violations on either side, the two are level."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((ours == 0) & (theirs == 0), 1.0, ours / theirs)


@dataclass(frozen=True)
class Interval:
    """A ratio, with its 95 % interval; None is infinite."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, drawn: Float[np.ndarray, " draw"]) -> Interval:
        """Of row 0 and of the draws after it."""
        found = (drawn[0], *np.quantile(drawn[1:], (0.025, 0.975), method="nearest"))
        return cls(*(float(one) if math.isfinite(one) else None for one in found))


def compared(arms: Mapping[str, Arm], alphas: Sequence[float], draws: int) -> list[dict[str, Any]]:
    """The agent at each trade-off against each controller, before and after its warm-up."""
    found = []
    for agent in (BEFORE, AFTER):
        for name in CONTROLLERS:
            along = arms[name].tested[arms[name].frontier]
            both = ratios(arms[agent].tested, along, draws)
            every = ratios(arms[agent].tested, along, draws, ALL_STEPS)
            found += [
                {
                    "arm": agent,
                    "alpha": alpha,
                    "against": name,
                    "violations_at_equal_core_hours": vars(Interval.of(both[0, :, i])),
                    "core_hours_at_equal_violations": vars(Interval.of(both[1, :, i])),
                    "of_all_steps": vars(Interval.of(every[0, :, i])),
                }
                for i, alpha in enumerate(alphas)
            ]
    return found


def against_best(arms: Mapping[str, Arm], draws: int) -> list[dict[str, Any]]:
    """The agent's frontier after its warm-up against each controller where it has the fewest violations in training."""
    ours, found = arms[AFTER], []
    for name in CONTROLLERS:
        at = int(arms[name].frontier[-1])
        with np.errstate(divide="ignore"):
            point, along = arms[name].tested[at : at + 1], ours.tested[ours.frontier]
            both = 1 / ratios(point, along, draws)[..., 0]
            every = 1 / ratios(point, along, draws, ALL_STEPS)[..., 0]
        found.append(
            {
                "against": name,
                "setting": arms[name].settings[arms[name].chosen[at]],
                **_means(arms[name], at),
                "violations_at_equal_core_hours": vars(Interval.of(both[0])),
                "core_hours_at_equal_violations": vars(Interval.of(both[1])),
                "of_all_steps": vars(Interval.of(every[0])),
            }
        )
    return found


def write(
    folder: Path, arms: Mapping[str, Arm], alphas: Sequence[float], *, training: int, draws: int, quick: bool
) -> Path:
    """Write `frontier.json`, its table and its picture.

    Args:
        folder: where they go.
        arms: all of them.
        alphas: trade-offs of the agent.
        training: pairs that settings were chosen on.
        draws: of the bootstrap over unseen pairs.
        quick: noted in the command.

    Returns:
        The result file.

    Raises:
        DataError: a file cannot be written.
    """
    rows, used, tested = [], [], arms[AFTER].tested.shape[2]
    for i, alpha in enumerate(alphas):
        at = {BEFORE: i, AFTER: i}
        budget = float(arms[AFTER].training[i, 1])
        at |= {name: arms[name].within(budget) for name in CONTROLLERS}
        for name, point in at.items():
            rows += _rows(f"alpha {alpha}", name, arms[name].tested[point])
        used.append({"alpha": alpha, "core_hours_in_training": budget, "settings": _settings(arms, at)})
    path = folder / "frontier.json"
    results.write(
        path,
        command="flashfm reproduce frontier" + (" --quick" if quick else ""),
        protocol=(
            f"{tested} unseen applications, {EPISODES} episodes each, the same loads and chance for all arms;"
            f" violations of steps after the first {LONGEST_START}, before which no order need have taken hold;"
            f" settings of controllers chosen on {training} training pairs, one episode each: on the frontier, and in"
            " the rows the setting with fewest violations among those that take no more core-hours there than FLASH"
            f" after its warm-up does; HPA + VPA too has lived through an earlier episode of each pair; ratios along"
            f" frontiers joined by straight lines, 95 % intervals: paired bootstrap over pairs, {draws} draws"
        ),
        seeds=[0],
        rows=rows,
        more={
            "settings_tried": {name: len(arm.settings) for name, arm in arms.items()},
            "used": used,
            "compared": compared(arms, alphas, draws),
            "against_best": against_best(arms, draws),
            "points": {name: _points(arm) for name, arm in arms.items()},
        },
        markdown_of=_page,
    )
    _draw(path.with_suffix(".png"), arms, alphas)
    return path


def _means(arm: Arm, point: int) -> dict[str, float]:
    return dict(zip(FIGURES, arm.tested[point].mean(axis=1).tolist(), strict=True))


def _settings(arms: Mapping[str, Arm], at: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    return {name: arms[name].settings[arms[name].chosen[at[name]]] for name in CONTROLLERS}


def _rows(dataset: str, name: str, tested: Float[np.ndarray, "figure pair"]) -> list[Row]:
    n = tested.shape[1]
    return [
        Row(dataset, name, metric, float(of.mean()), float(np.median(of)), float(of.std()), n, n * EPISODES)
        for metric, of in zip(FIGURES, tested, strict=True)
    ]


def _points(arm: Arm) -> list[dict[str, Any]]:
    """Every setting that the unseen pairs saw."""
    kept = set(arm.frontier.tolist())
    return [
        {
            "setting": arm.settings[chosen],
            "on_frontier": i in kept,
            "training": dict(zip(FIGURES, arm.training[chosen].tolist(), strict=True)),
            "tested": _means(arm, i),
        }
        for i, chosen in enumerate(arm.chosen)
    ]


def _draw(path: Path, arms: Mapping[str, Arm], alphas: Sequence[float]) -> None:
    frames, least = [], 1 / (arms[AFTER].tested.shape[2] * EPISODES * EPISODE_STEPS)
    for name in (AFTER, BEFORE, *CONTROLLERS):
        arm = arms[name]
        means = arm.tested.mean(axis=2)
        broken = means[:, 0].clip(min=least)  # the scale is logarithmic
        shown = np.arange(len(means)) if name in (BEFORE, AFTER) else arm.frontier
        label = [f"α {alpha:g}" * (alpha in (min(alphas), max(alphas))) for alpha in alphas] if name == AFTER else ""
        frames.append(
            pd.DataFrame({"arm": name, "core_hours": means[shown, 1], "violations": broken[shown], "label": label})
        )
    violations_against_core_hours(
        pd.concat(frames),
        path,
        title=f"SLO violations after the first {LONGEST_START} steps against core-hours, unseen applications",
        xlabel="core-hours an episode of 50 minutes",
        note="a point: a trade-off of FLASH, or a setting that no other of its controller beats on training pairs",
    )


def _page(path: Path) -> str:
    content = json.loads(path.read_text())
    arms = (BEFORE, AFTER, *CONTROLLERS)
    cell: dict[tuple[str, str], dict[str, float]] = {}
    for row in content["rows"]:
        cell.setdefault((row["dataset"], row["method"]), {})[row["metric"]] = row["mean"]
    lines = [
        "Violations / core-hours / GiB-hours, an episode of 50 minutes:",
        "",
        _line("", *arms),
        "|---|" + "---|" * len(arms),
    ]
    for dataset in dict.fromkeys(of for of, _ in cell):
        found = (cell[dataset, name] for name in arms)
        told = (f"{v['late_violations']:.3f} / {v['core_hours']:.1f} / {v['gib_hours']:.1f}" for v in found)
        lines.append(_line(dataset, *told))
    said = {
        "violations_at_equal_core_hours": "Violations of FLASH over those of a controller at equal core-hours",
        "core_hours_at_equal_violations": "Core-hours of FLASH over those of a controller at equal violations",
        "of_all_steps": "The first, with the violations of all steps",
    }
    for figure, words in said.items():
        lines += ["", f"{words} (95 % interval):", "", _line("", "warm-ups", *CONTROLLERS), _rule(1 + len(CONTROLLERS))]
        of = {(one["alpha"], one["arm"], one["against"]): one[figure] for one in content["compared"]}
        for alpha, arm in dict.fromkeys((one["alpha"], one["arm"]) for one in content["compared"]):
            cells = (_ratio(of[alpha, arm, name]) for name in CONTROLLERS)
            lines.append(_line(f"alpha {alpha}", str(int(arm == AFTER)), *cells))
    lines += ["", "0: the controller gets there in none of its settings."]
    lines += [
        "",
        "FLASH after 1 warm-up, along its trade-offs, over each controller in its setting of fewest violations:",
    ]
    heads = ("violations", "core-hours", "violations at its core-hours", "core-hours at its violations", "of all steps")
    lines += ["", _line("", *heads), _rule(len(heads))]
    for one in content["against_best"]:
        figures = (f"{one['late_violations']:.3f}", f"{one['core_hours']:.1f}")
        lines.append(_line(one["against"], *figures, *(_ratio(one[figure]) for figure in said)))
    lines += ["", "∞: FLASH gets there in none of its trade-offs."]
    return "\n".join(lines) + "\n"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(columns: int) -> str:
    return "|---|" + "---|" * columns


def _ratio(of: Mapping[str, float | None]) -> str:
    say = ["∞" if of[name] is None else f"{of[name]:.2f}" if of[name] else "0" for name in ("value", "low", "high")]
    return f"{say[0]} ({say[1]} to {say[2]})"
