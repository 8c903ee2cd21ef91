"""What the simulator said against what real processes did, in the hands of two autoscalers: one panel a figure.

Enters: one row for each application, repeat, source and arm. Leaves: a PNG or SVG file; the diagonal is agreement.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from flashfm.errors import DataError
from flashfm.reporting.style import (
    GREY,
    MARKERS,
    PALETTE,
    decade_ticks,
    footnote,
    grid,
    key,
    need,
    new_figure,
    save,
    short,
    styled,
)

PANELS = {"violated_s": "SLO-violating seconds", "core_s": "core-seconds", "p99_over_slo": "p99 over objective"}
"""Column -> its heading."""
LOG = "p99_over_slo"
"""The panel with logarithmic axes."""
MAX_ARMS = 4


@styled()
def simulated_beside_live(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    ours: str = "",
    title: str = "",
    note: str = "",
    size_px: tuple[int, int] = (1500, 640),
) -> Path:
    """Draw a panel for each of `PANELS`: what was measured to the right, what was simulated upwards.

    Args:
        frame: one row for each `app`, `repeat`, `source` (`live` or `simulated`) and `arm`, with the columns of
            `PANELS`; not a number where there is none.
        path: `.png` or `.svg`.
        ours: the arm in the first colour.
        title: the headline.
        note: small print.
        size_px: width and height.

    Returns:
        `path`.

    Raises:
        DataError: a column is missing, no or too many arms, a figure below 0, a p99 that is not above 0, another
            suffix, or the file cannot be written.
    """
    need(frame, ("app", "repeat", "source", "arm", *PANELS), "simulated and live figures need")
    arms = sorted(set(frame["arm"]), key=lambda arm: (arm != ours, arm))
    if not 1 <= len(arms) <= MAX_ARMS:
        raise DataError(f"{len(arms)} arms to draw, expected 1 to {MAX_ARMS}")
    values = frame[list(PANELS)].to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(values).any() or (values < 0).any() or (frame[LOG] == 0).any():
        raise DataError("simulated and live figures to draw: expected finite numbers of at least 0, p99 above 0")
    figure, panels = new_figure(size_px, 1, len(PANELS))
    for axes, (column, words) in zip(panels[0], PANELS.items(), strict=True):
        low, high = _ends(frame[column].to_numpy(dtype=np.float64), log=column == LOG)
        axes.plot([low, high], [low, high], color=GREY, linewidth=1.4, zorder=2)
        for i, arm in enumerate(arms):
            _points(axes, frame[frame["arm"] == arm], column, PALETTE[i], MARKERS[i])
        if column == LOG:
            axes.set_xscale("log")
            axes.set_yscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        axes.set_aspect("equal")
        if column == LOG:
            for axis in "xy":
                decade_ticks(axes, axis, lambda value: f"{value:g}", most=6)
        axes.set_title(words, loc="left", fontsize=15)
        axes.set_xlabel("live")
        grid(axes)
    panels[0, 0].set_ylabel("simulated")
    if title:
        figure.suptitle(short(title, 90), x=0.01, ha="left", fontsize=18)
    _key(figure, arms)
    footnote(figure, note)
    return save(figure, path)


def _ends(values: Float[np.ndarray, " row"], *, log: bool) -> tuple[float, float]:
    """Ends of both axes of a panel."""
    seen = values[~np.isnan(values)]
    if log:
        return (float(seen.min()) / 1.3, 1.3 * float(seen.max())) if seen.size else (0.1, 1.0)
    most = max(float(seen.max(initial=0.0)), 1e-3)
    return -0.03 * most, 1.08 * most


def _points(axes: Any, frame: pd.DataFrame, column: str, color: str, marker: str) -> None:
    """A point for each application, with the range over repeats both ways."""
    of_app = [
        frame[frame["source"] == source].groupby("app", sort=True)[column].agg(["mean", "min", "max"])
        for source in ("live", "simulated")
    ]
    x, y = (of.loc[of_app[0].index].to_numpy(dtype=np.float64) for of in of_app)
    for (at, left, right), (height, low, high) in zip(x, y, strict=True):
        axes.plot([left, right], [height, height], color=color, linewidth=1.8, alpha=0.6, zorder=3)
        axes.plot([at, at], [low, high], color=color, linewidth=1.8, alpha=0.6, zorder=3)
        axes.plot([at], [height], marker=marker, markersize=8, color=color, zorder=4)


def _key(figure: Any, arms: list[str]) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], linestyle="", marker=MARKERS[i], markersize=9, color=PALETTE[i], label=short(arm))
        for i, arm in enumerate(arms)
    ]
    key(figure, [*marks, Line2D([], [], color=GREY, linewidth=1.4, label="simulated as live")])
