"""Loads beside each other: example windows, real over generated, and how their statistics are spread.

Enters: windows of mean 1 and statistics of many windows. Leaves: a PNG or SVG file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from flashfm.errors import DataError
from flashfm.reporting.style import GREY, INK, PALETTE, decade_ticks, footnote, grid, key, save, short, styled

MOST_TRACES = 8
LOWEST = 1e-3
"""Dispersions below are drawn here."""
HIGHEST = 6.0
"""Top of the example panels, in means; higher steps are cut off there."""
_COLORS = (*PALETTE, "#7F3C8D", "#8C6D31")

Window = Float[np.ndarray, " step"]
Statistics = Mapping[str, Float[np.ndarray, " window"]]


@styled()
def load_panels(
    real: Mapping[str, Window],
    generated: Sequence[Window],
    real_statistics: Mapping[str, Statistics],
    generated_statistics: Statistics,
    path: str | os.PathLike[str],
    *,
    step_s: float,
    note: str = "",
) -> Path:
    """Draw one window of each trace, as many generated ones below, and the distribution of each statistic.

    Args:
        real: trace -> a window of mean 1; 1 to `MOST_TRACES`.
        generated: as many windows of mean 1.
        real_statistics: trace -> statistic -> its values, none of them empty; traces as in `real`.
        generated_statistics: statistic -> its values.
        path: `.png` or `.svg`.
        step_s: seconds of a step.
        note: small print.

    Returns:
        `path`.

    Raises:
        DataError: no or too many traces, as many generated windows as traces are not there, another suffix, or the file
            cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    n, names = len(real), list(generated_statistics)
    if not 1 <= n <= MOST_TRACES or len(generated) != n:
        got = f"{n} real and {len(generated)} generated windows"
        raise DataError(f"{got}, expected as many of both, 1 to {MOST_TRACES}")
    across = (len(names) + 1) // 2
    figure = Figure(figsize=(16, 13), dpi=100, layout="constrained")
    examples, spreads = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 1.25])[:, 0]
    panels = examples.subplots(2, n, sharex=True, sharey=True, squeeze=False)
    colors = dict(zip(real, _COLORS, strict=False))
    for i, (name, window) in enumerate(real.items()):
        _window(panels[0, i], window, step_s, colors[name], short(name.removesuffix("-sample"), 22))
    for i, window in enumerate(generated):
        _window(panels[1, i], window, step_s, INK, f"generated {i + 1}")
        panels[1, i].set_xlabel("minutes")
    for row in panels:
        row[0].set_ylabel("load / its mean")
    panels[0, 0].set_ylim(0, HIGHEST)
    words = "Windows of load: the median one of each trace, and generated ones from calm to bursty"
    examples.suptitle(words, x=0.01, ha="left", size=18)
    axes = spreads.subplots(2, across, sharey=True, squeeze=False)
    for at, name in zip(axes.flat, names, strict=False):
        of_traces = {trace: of[name] for trace, of in real_statistics.items()}
        _spread(at, name, of_traces, generated_statistics[name], colors)
    for at in axes.flat[len(names) :]:
        at.set_visible(False)
    for row in axes:
        row[0].set_ylabel("share of windows")
    spreads.suptitle("How statistics of windows are spread", x=0.01, ha="left", size=18)
    marks: list[Any] = [Line2D([], [], color=INK, linewidth=3, label="generated")]
    marks += [Line2D([], [], color=INK, linewidth=1.8, linestyle="--", label="all traces")]
    marks += [
        Line2D([], [], color=color, linewidth=1.8, label=short(name.removesuffix("-sample"), 30))
        for name, color in colors.items()
    ]
    key(spreads, marks, size=12, spacing=1.2)
    footnote(figure, note)
    return save(figure, path)


def _window(axes: Any, window: Window, step_s: float, color: str, title: str) -> None:
    minutes = np.arange(window.size) * step_s / 60
    axes.plot(minutes, np.minimum(window, HIGHEST), color=color, linewidth=1.4)
    axes.axhline(1.0, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_title(title, fontsize=13, loc="left", color=color)
    peak = float(window.max())
    if peak > HIGHEST:
        axes.annotate(f"up to {peak:.3g}", (0.98, 0.93), xycoords="axes fraction", ha="right", fontsize=11, color=color)
    grid(axes)


def _spread(
    axes: Any,
    name: str,
    real: Statistics,
    generated: Float[np.ndarray, " window"],
    colors: Mapping[str, str],
) -> None:
    """Cumulative shares: each trace thin, all of them with equal weight dashed, the generator thick."""
    logarithmic = name.startswith("dispersion")
    if logarithmic:
        real = {trace: np.maximum(of, LOWEST) for trace, of in real.items()}
        generated = np.maximum(generated, LOWEST)
    values = np.concatenate(list(real.values()))
    weights = np.concatenate([np.full(of.size, 1 / of.size) for of in real.values()])
    for trace, of in real.items():
        axes.step(np.sort(of), np.arange(1, of.size + 1) / of.size, color=colors[trace], linewidth=1.4, where="post")
    order = np.argsort(values)
    shares = np.cumsum(weights[order]) / weights.sum()
    axes.step(values[order], shares, color=INK, linewidth=1.8, linestyle="--", where="post", zorder=4)
    shares = np.arange(1, generated.size + 1) / generated.size
    axes.step(np.sort(generated), shares, color=INK, linewidth=3, where="post", zorder=3)
    low, high = np.quantile(np.concatenate([values, generated]), [0.005, 0.995]).tolist()
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xlim(low, max(high, 1.01 * low, low + LOWEST))
    if logarithmic:
        decade_ticks(axes, "x", lambda tick: f"{tick:g}", most=6)
    axes.set_ylim(0, 1.02)
    axes.set_title(name, fontsize=13, loc="left")
    grid(axes)
