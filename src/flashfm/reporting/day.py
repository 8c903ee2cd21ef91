"""One day of an application under several autoscalers: load, replicas, what is reserved, latency against the SLO.

Enters: values of each step. Leaves: a PNG or SVG file.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from flashfm.errors import DataError
from flashfm.reporting.style import GREY, INK, PALETTE, decade_ticks, footnote, grid, save, styled

Steps = Float[np.ndarray, " step"]
PANELS = {"replicas": "replicas", "cores": "cores reserved", "memory_gib": "GiB reserved", "p99_s": "p99 in s"}

NOTE_WIDTH = 150
"""Characters of a line of small print."""
SHORT_S = 7200.0
"""Length up to which time is in minutes."""
MARGIN = 1.5
"""Of the axis of latency around the objective."""


@styled()
def day_panels(
    rate_per_s: Steps,
    arms: Mapping[str, Mapping[str, Steps]],
    slo_s: float,
    path: str | os.PathLike[str],
    *,
    title: str,
    step_s: float,
    known_from: int | None = None,
    note: str = "",
) -> Path:
    """Draw the load, and below it what each arm did, in panels above each other.

    Args:
        rate_per_s: of each step, the same for all arms.
        arms: arm -> `PANELS` -> its values; the first is drawn on top.
        slo_s: objective for the p99.
        path: `.png` or `.svg`.
        title: of the picture.
        step_s: seconds of a step.
        known_from: step from which on the first arm knows the application, which is marked; None where it never does.
        note: small print.

    Returns:
        `path`.

    Raises:
        DataError: no arms or more than there are colours, another suffix, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    if not 1 <= len(arms) <= len(PALETTE):
        raise DataError(f"picture of a day: {len(arms)} arms, expected 1 to {len(PALETTE)}")
    unit, unit_s = ("hours", 3600.0) if len(rate_per_s) * step_s > SHORT_S else ("minutes", 60.0)
    times = (np.arange(len(rate_per_s)) + 1) * step_s / unit_s
    figure = Figure(figsize=(14, 12), dpi=100, layout="constrained")
    panels = figure.subplots(1 + len(PANELS), 1, sharex=True)
    panels[0].plot(times, rate_per_s, color=INK, linewidth=1)
    panels[0].set_ylabel("requests/s")
    panels[0].set_ylim(bottom=0)
    for axes, (column, words) in zip(panels[1:], PANELS.items(), strict=True):
        for i, (name, values) in reversed(list(enumerate(arms.items()))):
            axes.plot(times, values[column], color=PALETTE[i], linewidth=1.2, label=name)
        axes.set_ylabel(words)
        if column == "p99_s":
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            axes.set_ylim(min(low, slo_s / MARGIN), max(high, slo_s * MARGIN))
            decade_ticks(axes, "y", lambda value: f"{value:g}")
            axes.axhline(slo_s, color=GREY, linestyle="--", linewidth=1.5)
            axes.annotate("SLO", (1, slo_s), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points")
        else:
            axes.set_ylim(bottom=0)
    for axes in panels:
        if known_from:
            axes.axvline(known_from * step_s / unit_s, color=GREY, linestyle=":", linewidth=1.5)
        grid(axes)
        axes.set_xlim(0, times[-1])
    if known_from:
        words = f"from here on {next(iter(arms))} knows the application"
        place = (known_from * step_s / unit_s, 1.02)
        panels[0].annotate(words, place, xycoords=("data", "axes fraction"), color=GREY, fontsize=12)
    panels[-1].set_xlabel(unit)
    lines, names = panels[1].get_legend_handles_labels()
    figure.legend(lines[::-1], names[::-1], loc="outside upper right", ncols=len(arms))
    figure.suptitle(title, x=0.01, ha="left", size=18)
    if note:
        footnote(figure, "\n".join(textwrap.fill(line, NOTE_WIDTH) for line in note.splitlines()))
    return save(figure, path)
