"""What agents lose at once, and how they get it back: spreads of drops on the left, reward over episodes on the right.

Enters: quantiles of the drop of each arm, rewards of each arm after so many episodes, and levels to compare with.
Leaves: a PNG or SVG file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flashfm.errors import DataError
from flashfm.reporting.scaling_bars import SPREAD
from flashfm.reporting.style import (
    GREY,
    MARKERS,
    PALETTE,
    end_labels,
    footnote,
    grid,
    need,
    new_figure,
    save,
    short,
    styled,
)

__all__ = ["SPREAD", "drops_and_curves"]
MAX_ARMS = 8
TICKS = (0, 1, 2, 3, 5, 10, 20, 40, 60, 100, 200, 500, 1000)
"""Episodes that are named."""


@styled()
def drops_and_curves(
    drops: pd.DataFrame,
    curves: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    levels: Mapping[str, float],
    ours: Sequence[str] = (),
    title: str = "",
    note: str = "",
    size_px: tuple[int, int] = (1600, 700),
) -> Path:
    """Draw the spread of each arm's drop, and the reward of each arm over episodes.

    Args:
        drops: one row for each `arm`, with the quantiles `SPREAD` as shares.
        curves: one row for each `arm` and `episode`, from 0 on, with its `reward`.
        path: `.png` or `.svg`.
        levels: rewards that are drawn as level lines, by name.
        ours: arms whose drops have the first colour; the others have the second.
        title: the headline.
        note: small print.
        size_px: width and height.

    Returns:
        `path`.

    Raises:
        DataError: a column is missing, no or too many arms, a value that is not finite, quantiles out of order, an
            episode below 0, another suffix, or the file cannot be written.
    """
    need(drops, ("arm", *SPREAD), "drops need")
    need(curves, ("arm", "episode", "reward"), "curves need")
    arms = list(dict.fromkeys(curves["arm"]))
    if not 1 <= len(drops) <= MAX_ARMS or not 1 <= len(arms) + len(levels) <= len(PALETTE):
        raise DataError(
            f"drops of {len(drops)} arms, and {len(arms)} arms with {len(levels)} levels to draw; expected 1 to"
            f" {MAX_ARMS}, and 1 to {len(PALETTE)} together"
        )
    _check(drops, curves, levels)
    figure, panels = new_figure(size_px, 1, 2, width_ratios=(4, 5))
    _drops(panels[0, 0], drops, ours)
    _curves(panels[0, 1], curves, arms, levels)
    if title:
        figure.suptitle(short(title, 90), x=0.01, ha="left", fontsize=18)
    footnote(figure, note)
    return save(figure, path)


def _check(drops: pd.DataFrame, curves: pd.DataFrame, levels: Mapping[str, float]) -> None:
    spread = drops[list(SPREAD)].to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~(np.isfinite(spread).all(axis=1) & (np.diff(spread) >= 0).all(axis=1)))
    if wrong.size:
        got = ", ".join(f"{value:g}" for value in spread[wrong[0]])
        raise DataError(f"drop of {drops['arm'].iloc[wrong[0]]!r}: expected finite ascending quantiles, got {got}")
    points = curves[["episode", "reward"]].to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~(np.isfinite(points).all(axis=1) & (points[:, 0] >= 0)))
    if wrong.size:
        episode, reward = points[wrong[0]]
        arm = curves["arm"].iloc[wrong[0]]
        raise DataError(
            f"curve of {arm!r}: expected a finite reward after 0 or more episodes, got {reward:g} at {episode:g}"
        )
    odd = next((name for name, reward in levels.items() if not np.isfinite(reward)), None)
    if odd is not None:
        raise DataError(f"level {odd!r}: expected a finite reward, got {levels[odd]:g}")


def _drops(axes: Any, drops: pd.DataFrame, ours: Sequence[str]) -> None:
    for y, row in enumerate(drops.to_dict("records")):
        color = PALETTE[0] if row["arm"] in ours else PALETTE[1]
        low, lower, middle, upper, high = (100 * row[name] for name in SPREAD)
        axes.plot([low, high], [y, y], color=color, linewidth=1.6, zorder=3)
        axes.plot([lower, upper], [y, y], color=color, linewidth=8, alpha=0.5, solid_capstyle="butt", zorder=3)
        axes.plot([middle], [y], marker="o", markersize=9, color=color, zorder=4)
    axes.set_yticks(range(len(drops)), [short(arm, 44) for arm in drops["arm"]], fontsize=12)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(drops) - 0.4, -0.6)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_xlabel("reward drop against the converged agent, %")
    grid(axes, "x")


def _curves(axes: Any, curves: pd.DataFrame, arms: Sequence[str], levels: Mapping[str, float]) -> None:
    last = max(1.0, float(curves["episode"].max()))
    names, heights, colors = [], [], []
    for i, arm in enumerate(arms):
        rows = curves[curves["arm"] == arm].sort_values("episode")
        few = len(rows) <= 25
        axes.plot(
            rows["episode"],
            rows["reward"],
            color=PALETTE[i],
            linewidth=2.2,
            marker=MARKERS[i] if few else None,
            markersize=6,
            zorder=len(PALETTE) - i + 2,
        )
        names.append(short(arm, 32))
        heights.append(float(rows["reward"].iloc[-1]))
        colors.append(PALETTE[i])
    for name, reward in levels.items():
        axes.axhline(reward, color=GREY, linewidth=1.4, linestyle=(0, (5, 4)))
        names.append(short(name, 32))
        heights.append(reward)
        colors.append(GREY)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, last)
    ticks = [tick for tick in TICKS if tick <= last]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="episodes of the environment", ylabel="reward")
    low, high = axes.get_ylim()
    end_labels(axes, names, (np.array(heights) - low) / (high - low), colors)
    grid(axes)
