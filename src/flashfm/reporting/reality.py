"""What the dynamics predict against what real processes did: one panel a quantity, log axes, the diagonal is agreement.

Enters: one row for each application and load. Leaves: a PNG or SVG file.
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
    MARKERS,
    PALETTE,
    decade_ticks,
    footnote,
    grid,
    key,
    need,
    need_positive,
    new_figure,
    save,
    short,
    styled,
    time_words,
)

PANELS = {"p50": "p50 latency", "p99": "p99 latency", "utilisation": "CPU utilisation", "throughput": "throughput"}
"""Column of what was measured -> its heading; what was predicted is in the column `NAME_predicted`."""
BANDS = {"p50": 0.15, "p99": 0.3, "utilisation": 0.15, "throughput": 0.15}
"""Relative error within which a point lies in the grey band."""
MAX_LOADS = len(MARKERS)


@styled()
def predicted_against_measured(
    frame: pd.DataFrame, path: str | os.PathLike[str], *, title: str = "", size_px: tuple[int, int] = (1200, 1150)
) -> Path:
    """Draw four panels: p50, p99, utilisation and throughput.

    Args:
        frame: one row for each application and `load` (a share of the capacity), with the columns of `PANELS` and those
            of what was predicted: latencies in seconds, utilisation as a share, throughput in requests a second.
        path: `.png` or `.svg`.
        title: the headline.
        size_px: width and height.

    Returns:
        `path`.

    Raises:
        DataError: a column is missing, a value is not above 0, no or too many loads, another suffix, or the file cannot
            be written.
    """
    columns = [name + end for name in PANELS for end in ("", "_predicted")]
    need(frame, ("load", *columns), "predictions against measurements need")
    need_positive(frame, columns)
    loads = sorted(set(frame["load"]))
    if not 1 <= len(loads) <= MAX_LOADS:
        raise DataError(f"{len(loads)} loads to draw, expected 1 to {MAX_LOADS}")
    figure, panels = new_figure(size_px, 2, 2)
    if title:
        figure.suptitle(short(title, 90), x=0.01, ha="left", fontsize=18)
    for (name, heading), axes in zip(PANELS.items(), panels.ravel(), strict=True):
        _panel(axes, frame, name, loads)
        error = (frame[f"{name}_predicted"] / frame[name] - 1).abs().median()
        axes.set_title(f"{heading}: median error {100 * error:.0f} %", loc="left", fontsize=15)
    _key(figure, loads)
    footnote(figure, "Grey: within 15 %, of p99 within 30 %.")
    return save(figure, path)


def _panel(axes: Any, frame: pd.DataFrame, name: str, loads: list[float]) -> None:
    measured = frame[name].to_numpy(dtype=np.float64)
    predicted = frame[f"{name}_predicted"].to_numpy(dtype=np.float64)
    ends = np.array([min(measured.min(), predicted.min()) / 1.3, max(measured.max(), predicted.max()) * 1.3])
    axes.fill_between(ends, ends * (1 - BANDS[name]), ends * (1 + BANDS[name]), color=GREY, alpha=0.15, linewidth=0)
    axes.plot(ends, ends, color=GREY, linewidth=1)
    for i, load in enumerate(loads):
        at = frame["load"].to_numpy(dtype=np.float64) == load
        axes.plot(measured[at], predicted[at], linestyle="", color=PALETTE[i], **_mark(i))
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="measured", ylabel="predicted", aspect="equal")
    say = {"utilisation": _percent, "throughput": _rate}.get(name, _seconds)
    for side in ("x", "y"):
        decade_ticks(axes, side, say, most=4)
    grid(axes)


def _mark(i: int) -> dict[str, Any]:
    return {"marker": MARKERS[i], "markersize": 8, "alpha": 0.8, "markeredgecolor": "white", "markeredgewidth": 0.6}


def _key(figure: Any, loads: list[float]) -> None:
    from matplotlib.lines import Line2D

    marks: list[Any] = [
        Line2D([], [], linestyle="", color=PALETTE[i], label=f"at {100 * load:.0f} % of capacity", **_mark(i))
        for i, load in enumerate(loads)
    ]
    key(figure, marks, spacing=1.6)


def _seconds(value: float) -> str:
    return time_words(1e3 * value)


def _percent(value: float) -> str:
    return f"{100 * value:g} %"


def _rate(value: float) -> str:
    return f"{value:g}/s"
