"""Violations of the SLO against core-hours: a line an autoscaler, each point a setting; low and left is good.

Enters: one row for each autoscaler and setting. Leaves: a PNG or SVG file. Autoscalers that are named alike up to a
comma are a family, and have one colour.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from flashfm.errors import DataError
from flashfm.reporting.style import (
    MARKERS,
    PALETTE,
    SIZE_PX,
    decade_ticks,
    footnote,
    grid,
    headline,
    need,
    need_positive,
    new_figure,
    save,
    short,
    styled,
)

MAX_FAMILIES = len(PALETTE)
LINES = ("-", (0, (4, 2)), (0, (1, 1)))
"""Of the arms of a family."""


@styled()
def violations_against_core_hours(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    title: str = "",
    xlabel: str = "core-hours",
    note: str = "",
    size_px: tuple[int, int] = SIZE_PX,
) -> Path:
    """Draw each arm's share of violating steps over its core-hours, on logarithmic axes.

    Args:
        frame: one row for each `arm` and setting, in the order in which they are joined: `core_hours`, `violations` as
            a share, both above 0; and perhaps `label`, said beside a point, empty where there is none.
        path: `.png` or `.svg`.
        title: the headline.
        xlabel: what the core-hours are of.
        note: small print.
        size_px: width and height.

    Returns:
        `path`.

    Raises:
        DataError: a column is missing, a value is not above 0, no or too many families or arms of one, another suffix,
            or the file cannot be written.
    """
    need(frame, ("arm", "core_hours", "violations"), "violations against core-hours need")
    need_positive(frame, ("core_hours", "violations"))
    families: dict[str, list[str]] = {}
    for arm in dict.fromkeys(frame["arm"]):
        families.setdefault(arm.split(", ")[0], []).append(arm)
    most = max(map(len, families.values()), default=0)
    if not 1 <= len(families) <= MAX_FAMILIES or most > len(LINES):
        got = f"{len(families)} families of at most {most} arms"
        raise DataError(f"{got} to draw, expected 1 to {MAX_FAMILIES} of at most {len(LINES)}")
    figure, panels = new_figure(size_px)
    axes = panels[0, 0]
    axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel="steps that violate the SLO")
    for i, arms in enumerate(families.values()):
        for line, arm in zip(LINES, arms, strict=False):
            _line(axes, frame[frame["arm"] == arm], i, line)
    decade_ticks(axes, "x", lambda value: f"{value:g}")
    decade_ticks(axes, "y", lambda value: f"{100 * value:g} %")
    grid(axes)
    headline(axes, short(title, 90))
    axes.legend(loc="upper right", frameon=False, fontsize=13)
    footnote(figure, note)
    return save(figure, path)


def _line(axes: Any, rows: pd.DataFrame, i: int, line: Any) -> None:
    look = {"color": PALETTE[i], "marker": MARKERS[i], "markersize": 7, "linewidth": 2.2, "zorder": 9 - i}
    if line != LINES[0]:
        look |= {"linestyle": line, "markerfacecolor": "white"}
    axes.plot(rows["core_hours"], rows["violations"], **look, label=short(rows["arm"].iloc[0], 30))
    for row in rows.to_dict("records"):
        if row.get("label"):
            at, words = (row["core_hours"], row["violations"]), {"ha": "center", "color": PALETTE[i], "fontsize": 12}
            axes.annotate(row["label"], at, (0, -18), textcoords="offset points", **words)
