"""Scores of methods side by side: a dot and its spread for each, the printed ones hollow, the noise floor a line.

Enters: one row for each method, number of shots and data set. Leaves: a PNG or SVG file, a panel for each number of
shots (and data set), all on one scale.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd

from flashfm.errors import DataError
from flashfm.reporting.style import (
    GREY,
    INK,
    PALETTE,
    SIZE_PX,
    decade_ticks,
    grid,
    key,
    need,
    new_figure,
    save,
    short,
    styled,
)

LOG_FROM = 6.0
"""Scores whose largest is this many times the smallest are drawn on a logarithmic axis."""
MAX_METHODS, MAX_PANELS = 16, 16
_HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": INK, "markeredgewidth": 1.6}


@styled()
def score_dots(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    ours: Sequence[str] = (),
    title: str = "",
    xlabel: str = "mean absolute percentage error on unseen applications",
    note: str = "",
    size_px: tuple[int, int] = SIZE_PX,
) -> Path:
    """Draw the score of each method.

    Args:
        frame: one row for each `method` and `shots`, and `dataset` where there are several: `mean` as a share; and
            perhaps `sd` (of split means), `printed` (what the paper prints) and `floor` (the repeat noise), empty where
            there is none. A row may have a printed value alone.
        path: `.png` or `.svg`.
        ours: methods in the first colour; the others are drawn in the second.
        title: the headline.
        xlabel: what the score is.
        note: small print.
        size_px: width and height.

    Returns:
        `path`.

    Raises:
        DataError: a column is missing, no or too many methods or panels, a score that is not above 0, another suffix,
            or the file cannot be written.
    """
    need(frame, ("method", "shots", "mean"), "scores need")
    rows = frame.assign(**{name: np.nan for name in ("sd", "printed", "floor") if name not in frame})
    rows = rows.assign(dataset=rows.get("dataset", ""))
    methods, shots = list(dict.fromkeys(rows["method"])), sorted(set(rows["shots"]))
    datasets = list(dict.fromkeys(rows["dataset"]))
    if not 1 <= len(methods) <= MAX_METHODS or len(shots) * len(datasets) > MAX_PANELS:
        got = f"{len(methods)} methods in {len(shots) * len(datasets)} panels"
        raise DataError(f"{got} to draw, expected 1 to {MAX_METHODS} in at most {MAX_PANELS}")
    values = rows[["mean", "printed", "floor"]].to_numpy(dtype=np.float64, na_value=np.nan)
    seen = values[~np.isnan(values)]
    if not seen.size or not (np.isfinite(seen) & (seen > 0)).all():
        raise DataError("scores to draw: expected numbers above 0, as shares such as 0.05")
    log = bool(seen.max() / seen.min() >= LOG_FROM)
    figure, panels = new_figure(size_px, len(datasets), len(shots), sharex=True, sharey=True)
    for (i, j), axes in np.ndenumerate(panels):
        here = rows[(rows["dataset"] == datasets[i]) & (rows["shots"] == shots[j])]
        _draw(axes, here, methods, set(ours), small=len(datasets) > 1)
        words = f"{shots[j]} shot" + "s" * (shots[j] != 1) if i == 0 else ""
        axes.set_title(words, loc="left", fontsize=15, pad=20 if here["floor"].notna().any() else 6)
        if j == len(shots) - 1 and datasets[i] != "":
            axes.annotate(
                short(datasets[i], 24),
                (1.02, 0.5),
                xycoords="axes fraction",
                rotation=270,
                va="center",
                fontsize=14,
                color=INK,
                annotation_clip=False,
            )
    names = [short(method, 44) for method in methods]
    size = min(14, max(8, 420 // (len(methods) * len(datasets))))
    for axes in panels[:, 1:].ravel():
        axes.tick_params(axis="y", length=0)
    for axes in panels[:, 0]:
        axes.set_yticks(range(len(methods)), names, fontsize=size)
    axes.set_ylim(len(methods) - 0.4, -0.8)
    _scale(axes, seen, rows, log, len(shots))
    if title:
        figure.suptitle(short(title, 90), x=0.01, ha="left", fontsize=18)
    panels[-1, len(shots) // 2].set_xlabel(fill(short(xlabel, 100), 110 // len(shots)))
    _key(figure, rows, note)
    return save(figure, path)


def _draw(axes: Any, rows: pd.DataFrame, methods: list[str], ours: set[str], small: bool) -> None:
    """One panel: a line of each method, its dot with the spread, the printed value, the floor."""
    for y, method in enumerate(methods):
        color = PALETTE[0] if method in ours else PALETTE[1]
        for mean, sd, printed in rows.loc[rows["method"] == method, ["mean", "sd", "printed"]].to_numpy(
            dtype=np.float64
        ):
            if not np.isnan(mean):
                spread = 0.0 if np.isnan(sd) else float(sd)
                ends = [max(mean - spread, mean / 50), mean + spread]
                axes.plot(ends, [y, y], color=color, linewidth=3, alpha=0.55, solid_capstyle="butt", zorder=3)
                axes.plot([mean], [y], marker="o", markersize=6 if small else 9, color=color, zorder=4)
                if not small:
                    words, look = _percent(float(mean)), {"ha": "center", "color": color, "fontsize": 12}
                    axes.annotate(words, (mean, y), (0, 7), textcoords="offset points", va="bottom", **look)
            if not np.isnan(printed):
                axes.plot([printed], [y], marker="D", markersize=5 if small else 8, zorder=5, **_HOLLOW)
    floors = rows["floor"].dropna().to_numpy(dtype=np.float64)
    if floors.size:
        axes.axvline(floors[0], color=GREY, linewidth=1.6, linestyle=(0, (4, 3)), zorder=2)
        axes.annotate(
            f"noise {_percent(float(floors[0]))}",
            (floors[0], 1),
            (0, 4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=11,
            color=GREY,
        )
    grid(axes)


def _scale(axes: Any, seen: np.ndarray, rows: pd.DataFrame, log: bool, columns: int) -> None:
    """One x axis for all panels, with room for the figures at the right."""
    most = float(max(seen.max(), (rows["mean"] + rows["sd"].fillna(0)).max()))
    if log:
        axes.set_xscale("log")
        axes.set_xlim(seen.min() / 1.4 ** (1 + columns / 4), most * (most / seen.min()) ** (0.03 * columns))
        decade_ticks(axes, "x", _percent, most=max(3, 10 // columns))
        return
    axes.set_xlim(0, most * (1 + 0.04 * columns))
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(max(3, 9 // columns)))
    axes.xaxis.set_major_formatter(lambda value, _: _percent(value))


def _key(figure: Any, rows: pd.DataFrame, note: str) -> None:
    from matplotlib.lines import Line2D

    spread = " ± standard deviation of splits" if rows["sd"].notna().any() else ""
    marks = [Line2D([], [], color=GREY, marker="o", markersize=9, linewidth=3, label=f"mean{spread}")]
    if rows["printed"].notna().any():
        marks.append(Line2D([], [], linestyle="", marker="D", markersize=8, label="printed in the paper", **_HOLLOW))
    if rows["floor"].notna().any():
        marks.append(Line2D([], [], color=GREY, linewidth=1.6, linestyle=(0, (4, 3)), label="repeat noise"))
    if note:
        marks.append(Line2D([], [], linestyle="", label=note))
    key(figure, marks, size=12)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share < 1 else f"{100 * share:.0f} %"
