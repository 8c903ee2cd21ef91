"""How many times as fast each benchmark is as its rival: a dot and its range each, on one logarithmic axis.

Enters: one row for each comparison. Leaves: a PNG or SVG file, as tall as there are rows.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flashfm.errors import DataError
from flashfm.reporting.style import (
    GREY,
    INK,
    PALETTE,
    decade_ticks,
    footnote,
    grid,
    need,
    need_positive,
    new_figure,
    save,
    short,
    styled,
)

MAX_ROWS = 80
"""Comparisons and the names of their groups together."""
WIDTH_PX, ROW_PX, AROUND_PX = 1200, 24, 150
LONGEST = 76
"""Characters of what is compared."""


@styled()
def ratio_ranges(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    title: str = "",
    xlabel: str = "times as fast as the rival",
    note: str = "",
) -> Path:
    """Draw the ratios of a benchmark below its name; right of the line at 1 ours is faster.

    Args:
        frame: one row for each `group` and `what`: `ratio`, `low` and `high`; and perhaps `target`, empty where there
            is none.
        path: `.png` or `.svg`.
        title: the headline.
        xlabel: what the ratio is.
        note: small print.

    Returns:
        `path`.

    Raises:
        DataError: a column is missing, a value is not above 0, no or too many rows, another suffix, or the file cannot
            be written.
    """
    need(frame, ("group", "what", "ratio", "low", "high"), "the picture needs")
    need_positive(frame, ("ratio", "low", "high"))
    targets = frame.get("target", pd.Series(np.nan, frame.index)).astype(float)
    if targets.notna().any():
        need_positive(targets.dropna().to_frame("target"), ("target",))
    groups = list(dict.fromkeys(frame["group"]))
    rows = len(frame) + len(groups)
    if not len(frame) or rows > MAX_ROWS:
        got = f"{len(frame)} comparisons in {len(groups)} groups"
        raise DataError(f"{got} to draw, expected at least 1, and at most {MAX_ROWS} lines")
    figure, panels = new_figure((WIDTH_PX, AROUND_PX + ROW_PX * rows))
    axes = panels[0, 0]
    labels: list[str] = []
    headings: set[int] = set()
    for group in groups:
        headings.add(len(labels))
        labels.append(short(group, LONGEST))
        for index, row in frame[frame["group"] == group].iterrows():
            _dot(axes, row, float(targets[index]), len(labels))
            labels.append(short(row["what"], LONGEST))
    _rows(axes, labels, headings)
    seen = np.concatenate([frame[["ratio", "low", "high"]].to_numpy(np.float64).ravel(), targets.dropna(), [1.0]])
    axes.set(xscale="log", xlabel=xlabel)
    axes.set_xlim(seen.min() / 1.5, seen.max() * (seen.max() / seen.min()) ** 0.12 * 1.5)
    decade_ticks(axes, "x", lambda value: f"{value:g}")
    axes.axvline(1, color=INK, linewidth=1.2, zorder=2)
    grid(axes, "x")
    if title:
        figure.suptitle(short(title, 90), x=0.01, ha="left", fontsize=18)
    footnote(figure, note + ("; diamond: target" if targets.notna().any() else ""))
    return save(figure, path)


def _dot(axes: Any, row: pd.Series[Any], target: float, y: int) -> None:
    """One comparison: its range, its median with the figure, and its target."""
    color = PALETTE[1] if row["ratio"] >= 1 else PALETTE[0]
    axes.plot([row["low"], row["high"]], [y, y], color=color, linewidth=3, alpha=0.55, solid_capstyle="butt", zorder=3)
    axes.plot([row["ratio"]], [y], marker="o", markersize=7, color=color, zorder=4)
    words = f"{row['ratio']:,.0f}" if row["ratio"] >= 100 else f"{row['ratio']:.2g}"
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    look = {"ha": "left", "va": "center", "color": color, "fontsize": 11, "zorder": 2.5, "bbox": paper}
    axes.annotate(words, (row["high"], y), (7, 0), textcoords="offset points", **look)
    if not np.isnan(target):
        hollow = {"markerfacecolor": "white", "markeredgecolor": INK, "markeredgewidth": 1.4}
        axes.plot([target], [y], marker="D", markersize=6, zorder=3.5, **hollow)


def _rows(axes: Any, labels: list[str], headings: set[int]) -> None:
    """The names at the left, those of groups in grey on lines of their own."""
    axes.set_yticks(range(len(labels)), labels, fontsize=11)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    for i, label in enumerate(axes.get_yticklabels()):
        if i in headings:
            label.set(color=GREY, fontweight="bold")
