"""How errors are spread: the share of predictions below each error, one curve a method.

Enters: absolute percentage errors. Leaves: a PNG or SVG file. Source: the form of FLASH's Fig. 5.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from flashfm.errors import DataError
from flashfm.reporting.style import (
    PALETTE,
    SIZE_PX,
    decade_ticks,
    footnote,
    grid,
    headline,
    new_figure,
    save,
    short,
    styled,
)

LOWEST_PERCENT = 0.01
"""Errors below are drawn here."""
_LINES = ("-", "--", "-.", ":", (0, (1, 1)), (0, (5, 1)))


@styled()
def error_cdf(
    errors: Mapping[str, Float[np.ndarray, " prediction"]],
    path: str | os.PathLike[str],
    *,
    title: str = "How far predictions are off",
    xlabel: str = "absolute percentage error",
    note: str = "",
    size_px: tuple[int, int] = SIZE_PX,
) -> Path:
    """Draw the cumulative distribution of each set of errors, over a logarithmic axis in percent.

    Args:
        errors: label -> errors as shares, 0.05 for 5 %, at least 0; at most six.
        path: `.png` or `.svg`.
        title: the headline.
        xlabel: what the errors are.
        note: small print.
        size_px: width and height.

    Returns:
        `path`.

    Raises:
        DataError: no, too many or empty sets, an error that is negative or no number, another suffix, or the file
            cannot be written.
    """
    if not 1 <= len(errors) <= len(PALETTE):
        raise DataError(f"{len(errors)} error curves to draw, expected 1 to {len(PALETTE)}")
    percents = {}
    for name, values in errors.items():
        if not values.size or not (np.isfinite(values) & (values >= 0)).all():
            raise DataError(f"errors of {name!r}: expected at least one, none negative, as shares such as 0.05")
        percents[name] = np.maximum(np.sort(values) * 100, LOWEST_PERCENT)
    figure, panels = new_figure(size_px)
    axes = panels[0, 0]
    low = min(float(np.quantile(values, 0.02)) for values in percents.values())
    high = max(float(np.quantile(values, 0.99)) for values in percents.values())
    axes.set(xscale="log", xlim=(low / 1.2, max(high, 2 * low) * 1.2), ylim=(0, 1.02))
    axes.set(xlabel=xlabel, ylabel="share of predictions")
    ranked = sorted(percents, key=lambda name: float(np.median(percents[name])))
    heights = 0.08 + 0.84 * (np.arange(len(ranked)) + 0.5) / len(ranked)
    for i, name in enumerate(percents):
        values, color = percents[name], PALETTE[i]
        share = np.arange(1, values.size + 1) / values.size
        axes.step(values, share, where="post", color=color, linewidth=2.6, linestyle=_LINES[i], zorder=3)
        height = float(heights[ranked.index(name)])
        at = float(values[min(int(np.ceil(height * values.size)), values.size) - 1])
        axes.plot([at, axes.get_xlim()[1]], [height, height], color=color, linewidth=0.9, linestyle=":", zorder=2)
        axes.plot([at], [height], marker="o", color=color, markersize=8, zorder=4)
        words = f"{short(name, 30)}\nmedian {np.median(values):.3g} %, mean {values.mean():.3g} %"
        axes.annotate(
            words,
            (1.01, height),
            xycoords=("axes fraction", "data"),
            va="center",
            color=color,
            fontsize=13,
            annotation_clip=False,
        )
    decade_ticks(axes, "x", lambda tick: f"{tick:g} %", most=10)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    grid(axes)
    headline(axes, title)
    footnote(figure, note)
    return save(figure, path)
