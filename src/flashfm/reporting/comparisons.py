"""Comparisons: curves of several predictions beside what was measured, and times of several arms with their range.

Enters: rows with their labels. Leaves: a PNG or SVG file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flashfm.errors import DataError
from flashfm.reporting.curves import AXES
from flashfm.reporting.style import (
    INK,
    MARKERS,
    PALETTE,
    SIZE_PX,
    decade_ticks,
    footnote,
    grid,
    key,
    need,
    need_positive,
    new_figure,
    save,
    short,
    size_ticks,
    styled,
    time_words,
)

MAX_PANELS, MAX_LINES = 4, len(PALETTE)
MAX_ARMS = 14


@styled()
def predicted_lines(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    axis: str = "memory_mb",
    title: str = "",
    note: str = "",
    size_px: tuple[int, int] = SIZE_PX,
) -> Path:
    """Draw, in a panel for each method, one predicted curve for each line, and what was measured, on log-log axes.

    Args:
        frame: one row for each `panel`, `line` and size: the size, `runtime_ms` and `measured_ms`.
        path: `.png` or `.svg`.
        axis: column of the size, numbers above 0.
        title: the headline.
        note: small print.
        size_px: width and height.

    Returns:
        `path`.

    Raises:
        DataError: a column is missing, a value is not above 0, no or too many panels or lines, another suffix, or the
            file cannot be written.
    """
    need(frame, ("panel", "line", axis, "runtime_ms", "measured_ms"), "the picture needs")
    need_positive(frame, (axis, "runtime_ms", "measured_ms"))
    panels, lines = list(dict.fromkeys(frame["panel"])), list(dict.fromkeys(frame["line"]))
    if not 1 <= len(panels) <= MAX_PANELS or len(lines) > MAX_LINES:
        got = f"{len(panels)} panels of {len(lines)} lines"
        raise DataError(f"{got} to draw, expected 1 to {MAX_PANELS} of at most {MAX_LINES}")
    figure, grid_of_axes = new_figure(size_px, 1, len(panels), sharey=True)
    if title:
        figure.suptitle(short(title, 90), x=0.01, ha="left", fontsize=18)
    for axes, panel in zip(grid_of_axes[0], panels, strict=True):
        rows = frame[frame["panel"] == panel]
        for i, line in enumerate(lines):
            of_line = rows[rows["line"] == line].sort_values(axis)
            look = {"color": PALETTE[i], "marker": MARKERS[i], "markersize": 7, "linewidth": 2.2}
            axes.plot(of_line[axis], of_line["runtime_ms"], **look, label=short(line), zorder=3)
        measured = rows.drop_duplicates(axis).sort_values(axis)
        look = {"color": INK, "marker": "o", "markerfacecolor": "white", "markersize": 9, "linestyle": (0, (4, 3))}
        axes.plot(measured[axis], measured["measured_ms"], **look, label="measured", zorder=2)
        axes.set(xscale="log", yscale="log", xlabel=AXES.get(axis, short(axis)))
        axes.set_title(short(panel, 30), loc="left", fontsize=15)
        size_ticks(axes, np.unique(measured[axis].to_numpy(dtype=np.float64)), most=6)
        grid(axes)
    first = grid_of_axes[0, 0]
    first.set_ylabel("run time")
    decade_ticks(first, "y", time_words, most=8)
    key(figure, first.get_legend_handles_labels()[0])
    footnote(figure, note)
    return save(figure, path)


@styled()
def time_ranges(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    title: str = "",
    note: str = "",
    size_px: tuple[int, int] = SIZE_PX,
) -> Path:
    """Draw the time of each arm as a dot with its range, on a logarithmic axis, in a panel for each group.

    Args:
        frame: one row for each `group` and `arm`: `ms`, `low` and `high`; and perhaps `words`, said beside the dot
            instead of the time.
        path: `.png` or `.svg`.
        title: the headline.
        note: small print.
        size_px: width and height.

    Returns:
        `path`.

    Raises:
        DataError: a column is missing, a value is not above 0, no or too many groups or arms, another suffix, or the
            file cannot be written.
    """
    need(frame, ("group", "arm", "ms", "low", "high"), "the picture needs")
    need_positive(frame, ("ms", "low", "high"))
    groups, arms = list(dict.fromkeys(frame["group"])), list(dict.fromkeys(frame["arm"]))
    if not 1 <= len(groups) <= MAX_PANELS or len(arms) > MAX_ARMS:
        got = f"{len(groups)} groups of {len(arms)} arms"
        raise DataError(f"{got} to draw, expected 1 to {MAX_PANELS} of at most {MAX_ARMS}")
    figure, panels = new_figure(size_px, 1, len(groups), sharex=True, sharey=True)
    if title:
        figure.suptitle(short(title, 90), x=0.01, ha="left", fontsize=18)
    for axes, group in zip(panels[0], groups, strict=True):
        for row in frame[frame["group"] == group].to_dict("records"):
            _dot(axes, row, arms.index(row["arm"]))
        axes.set_title(short(group, 36), loc="left", fontsize=14)
        axes.set(xscale="log", xlabel="time")
        grid(axes)
    first = panels[0, 0]
    first.set_yticks(range(len(arms)), [short(arm, 34) for arm in arms], fontsize=13)
    first.set_ylim(len(arms) - 0.4, -0.8)
    low, high = float(frame["low"].min()), float(frame["high"].max())
    first.set_xlim(low / 2.5, high * 4.5)
    for axes in panels[0]:
        decade_ticks(axes, "x", time_words, most=max(4, 10 // len(groups)))
    footnote(figure, note)
    return save(figure, path)


def _dot(axes: Any, row: dict[Any, Any], y: int) -> None:
    axes.plot([row["low"], row["high"]], [y, y], color=PALETTE[1], linewidth=3, alpha=0.55, zorder=3)
    axes.plot([row["ms"]], [y], marker="o", markersize=9, color=PALETTE[1], zorder=4)
    words = row.get("words") or time_words(float(f"{row['ms']:.2g}"))
    look = {"ha": "center", "va": "bottom", "color": INK, "fontsize": 12}
    axes.annotate(words, (row["ms"], y), (0, 7), textcoords="offset points", **look)
