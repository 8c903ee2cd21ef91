"""Run time as predicted from a few measurements: the curve, its interval, what was measured, and the size to use.

Enters: rows of predictions, one for each application and size. Leaves: a PNG or SVG file with one panel an
application, and below it, where there are costs, what a million runs cost.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd

from flashfm.act.words import usd
from flashfm.errors import DataError
from flashfm.reporting.curves import AXES
from flashfm.reporting.style import (
    GREY,
    INK,
    PALETTE,
    SIZE_PX,
    decade_ticks,
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

_LAYOUTS: tuple[dict[int, tuple[int, int]], ...] = (
    {1: (1, 1), 2: (1, 2), 3: (1, 3), 4: (2, 2), 5: (2, 3), 6: (2, 3)},
    {1: (1, 2), 2: (2, 2), 3: (2, 3), 4: (2, 4)},
)
"""Rows and columns of panels for so many applications, without and with costs."""
_NOTE_WIDTH = {1: 120, 2: 66, 3: 31, 4: 21}
"""Characters in a line of a note in so many columns."""
_UNIT = re.compile(r"(?<=\d) (?=\S)")
_LONGEST, _TICKS = {1: 64, 2: 40, 3: 26, 4: 22}, {1: 12, 2: 8, 3: 6, 4: 4}
"""Characters of a name, and ticks of a size axis, in so many columns."""
MAX_PANELS = tuple(max(layouts) for layouts in _LAYOUTS)
"""Applications of one picture, without and with costs."""
_BLUE, _ORANGE, _GREEN = PALETTE[1], PALETTE[0], PALETTE[2]
_FILLED: dict[str, Any] = {"color": _ORANGE, "marker": "o", "markersize": 11, "linestyle": ""}
_OPEN: dict[str, Any] = {**_FILLED, "color": INK, "markersize": 8, "markerfacecolor": "white", "markeredgewidth": 1.8}
_CHOSEN: dict[str, Any] = {"color": _GREEN, "linewidth": 2.2, "linestyle": (0, (4, 3)), "zorder": 2}
_RUNTIME, _COST = ("runtime_ms", "lower_ms", "upper_ms"), ("usd_per_million", "usd_lower", "usd_upper")


@styled()
def predicted_curves(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    recommended: Mapping[str, float | int] | None = None,
    axis: str = "memory_mb",
    title: str = "",
    notes: Mapping[str, str] | None = None,
    size_px: tuple[int, int] = SIZE_PX,
) -> Path:
    """Draw the predicted curve of each application on log-log axes.

    Args:
        frame: one row for each application and size: `app`, the size, `runtime_ms`, `lower_ms`, `upper_ms`; and perhaps
            `measured_ms` (empty where it was not measured), `shot` (True where the prediction rests on that
            measurement), and `usd_per_million` with `usd_lower` and `usd_upper`, which add a panel of costs.
        path: `.png` or `.svg`.
        recommended: application -> the size to use; those that are not there have none.
        axis: column of the size, numbers above 0.
        title: the headline.
        notes: application -> a few words under its name, as the saving.
        size_px: width and height.

    Returns:
        `path`.

    Raises:
        DataError: a column is missing, a value is not above 0, no or too many applications, another suffix, or the file
            cannot be written.
    """
    need(frame, ("app", axis, *_RUNTIME), "predicted curves need")
    costs = all(name in frame for name in _COST)
    apps = list(dict.fromkeys(frame["app"]))
    most = MAX_PANELS[costs]
    if not 1 <= len(apps) <= most:
        raise DataError(f"{len(apps)} applications to draw{' with costs' * costs}, expected 1 to {most}")
    need_positive(frame, [axis, *_RUNTIME, *(_COST if costs else ())])
    figure, panels = new_figure(size_px, *_LAYOUTS[costs][len(apps)])
    if title:
        figure.suptitle(short(title, 90), x=0.01, ha="left", fontsize=18)
    columns = panels.shape[1]
    width = _NOTE_WIDTH[columns]
    said = {
        app: wrap(_UNIT.sub("\u00a0", note), width, max_lines=2, placeholder=" …")
        for app, note in (notes or {}).items()
    }
    noted = max(map(len, said.values()), default=0)
    beside = 1 if len(apps) == 1 else columns
    for i, (app, axes) in enumerate(zip(apps, panels.ravel(), strict=False)):
        of_app = frame[frame["app"] == app].sort_values(axis)
        size = (recommended or {}).get(app)
        ylabels = ("run time", "USD per million runs") if i % columns == 0 else ("", "")
        _measured(axes, of_app, axis)
        _draw(axes, of_app, axis, _RUNTIME, time_words, ylabels[0], columns)
        if size is not None:
            _mark(axes, of_app, axis, _RUNTIME[0], size, columns)
        axes.set_title(
            short(app, _LONGEST[columns]), loc="left", fontsize=15 if columns < 4 else 13, pad=8 + 17 * noted
        )
        place = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
        axes.annotate("\n".join(said.get(app, [])), (0, 1), (0, 6), color=GREY, fontsize=12, **place)
        if costs:
            below = panels.ravel()[i + beside]
            _draw(below, of_app, axis, _COST, usd, ylabels[1], columns)
            if size is not None:
                below.axvline(size, **_CHOSEN)
    for axes in panels.ravel()[len(apps) * (1 + costs) :]:
        axes.set_visible(False)
    for axes in [*panels[-1], *(panels[0] if len(apps) % columns else ())]:
        axes.set_xlabel(AXES.get(axis, short(axis)))
    _key(figure, frame, bool(recommended))
    return save(figure, path)


def _draw(
    axes: Any,
    rows: pd.DataFrame,
    axis: str,
    names: tuple[str, str, str],
    say: Callable[[float], str],
    ylabel: str,
    columns: int,
) -> None:
    """One curve with its band."""
    x = rows[axis].to_numpy(dtype=np.float64)
    expected, lower, upper = (rows[name].to_numpy(dtype=np.float64) for name in names)
    axes.fill_between(x, lower, upper, color=_BLUE, alpha=0.18, linewidth=0, zorder=1)
    axes.plot(x, expected, color=_BLUE, linewidth=2.4, zorder=3)
    axes.set(xscale="log", yscale="log", ylabel=ylabel)
    least, greatest = axes.dataLim.intervaly
    low, high = least / 1.25, greatest * 1.25
    axes.set_ylim(low, high)
    size_ticks(axes, np.unique(x), most=_TICKS[columns])
    decade_ticks(axes, "y", say, most=6)
    grid(axes)


def _mark(axes: Any, rows: pd.DataFrame, axis: str, name: str, size: float | int, columns: int) -> None:
    """A line at the size to use, which is said where the curve is not."""
    x, y = (np.log(rows[column].to_numpy(dtype=np.float64)) for column in (axis, name))
    top = np.interp(np.log(size), x, y) < np.log(axes.get_ylim()).mean()
    right = np.log(size) < (x[0] + x[-1]) / 2
    axes.axvline(size, **_CHOSEN)
    words = "use " * (columns < 4) + f"{size:g}" + (" MB" if axis == "memory_mb" else "")
    axes.annotate(
        words,
        (size, 0.98 if top else 0.02),
        (6 if right else -6, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="left" if right else "right",
        va="top" if top else "bottom",
        color=_GREEN,
        fontsize=14,
        fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
        zorder=6,
    )


def _measured(axes: Any, rows: pd.DataFrame, axis: str) -> None:
    """Open circles at what was measured, filled where the prediction rests on it."""
    if "measured_ms" not in rows:
        return
    known = rows[rows["measured_ms"].notna()]
    shot = known["shot"].to_numpy(dtype=np.bool_) if "shot" in known else np.zeros(len(known), dtype=np.bool_)
    x, y = known[axis].to_numpy(dtype=np.float64), known["measured_ms"].to_numpy(dtype=np.float64)
    axes.plot(x[~shot], y[~shot], **_OPEN, zorder=4)
    axes.plot(x[shot], y[shot], **_FILLED, zorder=5)


def _key(figure: Any, frame: pd.DataFrame, recommended: bool) -> None:
    """What the marks mean, in one line below the panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks: list[Any] = [
        Line2D([], [], color=_BLUE, linewidth=2.4, label="predicted"),
        Patch(facecolor=_BLUE, alpha=0.18, label="90 % interval"),
    ]
    if "measured_ms" in frame and frame["measured_ms"].notna().any():
        if "shot" in frame and frame["shot"].any():
            marks.append(Line2D([], [], **_FILLED, label="measured, given to it"))
        marks.append(Line2D([], [], **_OPEN, label="measured, not given"))
    if recommended:
        marks.append(Line2D([], [], **_CHOSEN, label="recommended"))
    key(figure, marks, spacing=1.6)
