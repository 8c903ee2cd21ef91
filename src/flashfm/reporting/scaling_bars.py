"""How figures of autoscalers are spread over pairs: a dot, a thick and a thin line for each arm.

Enters: quantiles of each arm, by section and panel. Leaves: a PNG or SVG file, a row for each section.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flashfm.errors import DataError
from flashfm.reporting.style import PALETTE, decade_ticks, footnote, grid, need, new_figure, save, short, styled

SPREAD = ("low", "lower", "middle", "upper", "high")
"""Columns of quantiles, ascending."""
MAX_ARMS, MAX_PANELS, MAX_SECTIONS = 12, 4, 3


@styled()
def spread_bars(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    ours: Sequence[str] = (),
    log: Sequence[str] = (),
    title: str = "",
    note: str = "",
    size_px: tuple[int, int] = (1500, 900),
) -> Path:
    """Draw the spread of each arm: a column for each panel, a row for each section.

    Args:
        frame: one row for each `section`, `panel` and `arm`, with the quantiles `SPREAD`.
        path: `.png` or `.svg`.
        ours: arms in the first colour; the others are drawn in the second.
        log: panels with a logarithmic axis.
        title: the headline.
        note: small print.
        size_px: width and height.

    Returns:
        `path`.

    Raises:
        DataError: a column is missing, no or too many arms, panels or sections, a quantile that is not finite or not in
            order, or not above 0 in a logarithmic panel, another suffix, or the file cannot be written.
    """
    need(frame, ("section", "panel", "arm", *SPREAD), "the spread of arms needs")
    sections, names = list(dict.fromkeys(frame["section"])), list(dict.fromkeys(frame["panel"]))
    arms = {section: list(dict.fromkeys(frame.loc[frame["section"] == section, "arm"])) for section in sections}
    most = max(map(len, arms.values()), default=0)
    if not 1 <= len(sections) <= MAX_SECTIONS or len(names) > MAX_PANELS or most > MAX_ARMS:
        raise DataError(
            f"{len(sections)} sections of {most} arms in {len(names)} panels to draw, expected 1 to {MAX_SECTIONS} of"
            f" at most {MAX_ARMS} in at most {MAX_PANELS}"
        )
    _check(frame, set(log))
    heights = [len(arms[section]) + 1 for section in sections]
    figure, panels = new_figure(size_px, len(sections), len(names), sharex="col", height_ratios=heights)
    for (i, j), axes in np.ndenumerate(panels):
        section, panel = sections[i], names[j]
        here = frame[(frame["section"] == section) & (frame["panel"] == panel)]
        for row in here.to_dict("records"):
            _bar(axes, row, arms[section].index(row["arm"]), PALETTE[0] if row["arm"] in ours else PALETTE[1])
        labels = [short(arm, 36) for arm in arms[section]] if j == 0 else [""] * len(arms[section])
        axes.set_yticks(range(len(labels)), labels, fontsize=12)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        if j == 0:
            axes.set_title(short(section), loc="left", fontsize=15)
        if i == len(sections) - 1:
            axes.set_xlabel(short(panel))
        grid(axes, "x")
    for j, panel in enumerate(names):
        if panel in log:
            for axes in panels[:, j]:
                axes.set_xscale("log")
            for axes in panels[:, j]:
                decade_ticks(axes, "x", lambda value: f"{value:g}", most=6)
    if title:
        figure.suptitle(short(title, 90), x=0.01, ha="left", fontsize=18)
    footnote(figure, note)
    return save(figure, path)


def _check(frame: pd.DataFrame, log: set[str]) -> None:
    values = frame[list(SPREAD)].to_numpy(dtype=np.float64, na_value=np.nan)
    positive = (values > 0).all(axis=1) | ~frame["panel"].isin(log).to_numpy(dtype=bool)
    wrong = np.flatnonzero(~(np.isfinite(values).all(axis=1) & (np.diff(values) >= 0).all(axis=1) & positive))
    if wrong.size:
        row = int(wrong[0])
        got = ", ".join(f"{value:g}" for value in values[row])
        raise DataError(
            f"spread of {frame['arm'].iloc[row]!r}, panel {frame['panel'].iloc[row]!r}: expected finite ascending"
            f" quantiles, above 0 on a logarithmic axis, got {got}"
        )


def _bar(axes: Any, row: dict[Any, Any], y: int, color: str) -> None:
    axes.plot([row["low"], row["high"]], [y, y], color=color, linewidth=1.6, zorder=3)
    ends = [row["lower"], row["upper"]]
    axes.plot(ends, [y, y], color=color, linewidth=7, alpha=0.5, solid_capstyle="butt", zorder=3)
    axes.plot([row["middle"]], [y], marker="o", markersize=8, color=color, zorder=4)
