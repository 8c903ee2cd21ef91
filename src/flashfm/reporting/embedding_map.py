"""A map of applications: each where its embedding lies, coloured by what it does most, and the new ones named.

Enters: two coordinates for each application. Leaves: a PNG or SVG file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from flashfm.errors import DataError
from flashfm.reporting.style import GREY, INK, PALETTE, SIZE_PX, footnote, headline, new_figure, save, short, styled

COLORS = (*PALETTE, "#F0E442", "#000000")
"""Okabe and Ito's eight colours."""
MAX_GROUPS = len(COLORS)
"""Groups with a colour of their own, the largest first; the rest are grey."""
SHAPES = "osD^vP"
OTHER = "other"
_POINTS_PER_PX = 0.72


@styled()
def embedding_map(
    coordinates: Float[np.ndarray, "app 2"],
    groups: Sequence[str],
    path: str | os.PathLike[str],
    *,
    platforms: Sequence[str] | None = None,
    new: Sequence[str | None] | None = None,
    title: str = "Where applications lie",
    note: str = "",
    size_px: tuple[int, int] = SIZE_PX,
) -> Path:
    """Draw each application at its place.

    Args:
        coordinates: the embedding in two dimensions, of any unit.
        groups: the group of each, which gives the colour.
        path: `.png` or `.svg`.
        platforms: the platform of each, which gives the shape; at most six.
        new: the name of each new application, which is drawn large and named; None for a known one.
        title: the headline.
        note: small print.
        size_px: width and height.

    Returns:
        `path`.

    Raises:
        DataError: no application, lengths that differ, a coordinate that is no number, too many platforms, another
            suffix, or the file cannot be written.
    """
    n = len(coordinates)
    on = list(platforms) if platforms is not None else [""] * n
    named = list(new) if new is not None else [None] * n
    if not n or {len(groups), len(on), len(named)} != {n}:
        raise DataError(
            f"{n} places, {len(groups)} groups, {len(on)} platforms, {len(named)} names; expected as many each"
        )
    if not np.isfinite(coordinates).all():
        raise DataError(
            f"row {int(np.argwhere(~np.isfinite(coordinates))[0, 0]) + 1}: expected two numbers as its place"
        )
    kinds = sorted(set(on))
    if len(kinds) > len(SHAPES):
        raise DataError(f"{len(kinds)} platforms to draw, expected at most {len(SHAPES)}")
    counted = Counter(groups)
    ranked = sorted((group for group in counted if group != OTHER), key=lambda group: (-counted[group], group))
    colors = dict(zip(ranked, COLORS, strict=False))
    figure, panels = new_figure(size_px)
    axes = panels[0, 0]
    known = np.array([name is None for name in named])
    of_group, of_kind = np.array(groups, dtype=object), np.array(on, dtype=object)
    for group in [*reversed(ranked), *{OTHER} & set(groups)]:
        for kind, shape in zip(kinds, SHAPES, strict=False):
            here = (of_group == group) & (of_kind == kind)
            look: dict[str, Any] = {"marker": shape, "color": colors.get(group, "#bbbbbb")}
            x, y = coordinates[here & known].T
            axes.scatter(x, y, s=34, alpha=0.7, linewidths=0.4, edgecolors="white", **look)
            x, y = coordinates[here & ~known].T
            axes.scatter(x, y, s=230, edgecolors=INK, linewidths=2.2, zorder=5, **look)
    axes.set(xticks=[], yticks=[])
    axes.margins(0.08)
    axes.set_aspect("equal", adjustable="datalim")
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#cccccc")
    headline(axes, title)
    _key(axes, counted, colors, kinds, bool((~known).any()))
    footnote(figure, note)
    _names(figure, axes, coordinates[~known], [name for name in named if name is not None])
    return save(figure, path)


def _key(axes: Any, counted: Counter[str], colors: dict[str, str], kinds: list[str], new: bool) -> None:
    """Colours and shapes, right of the map."""
    from matplotlib.lines import Line2D

    def dot(marker: str, color: str, label: str, **look: Any) -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, markersize=9, color=color, label=label, **look)

    marks = [dot("o", color, f"{short(group, 24)} ({counted[group]})") for group, color in colors.items()]
    rest = sum(counted.values()) - sum(counted[group] for group in colors)
    marks += [dot("o", "#bbbbbb", f"{OTHER} ({rest})")] * bool(rest)
    if len(kinds) > 1:
        marks.append(dot("", "white", ""))
        marks += [dot(shape, GREY, short(kind, 24)) for kind, shape in zip(kinds, SHAPES, strict=False)]
    if new:
        marks.append(dot("", "white", ""))
        marks.append(dot("o", "white", "new", markeredgecolor=INK, markeredgewidth=2))
    axes.legend(
        handles=marks, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=13, handletextpad=0.3
    )


def _names(figure: Any, axes: Any, places: Float[np.ndarray, "new 2"], names: list[str]) -> None:
    """Names beside new applications, left or right of them, moved up or down where two would touch."""
    if not names:
        return
    figure.canvas.draw()
    frame = axes.get_window_extent()
    at = axes.transData.transform(places)
    taken: list[tuple[float, float, float]] = []
    for i in np.argsort(-at[:, 1], kind="stable").tolist():
        words = short(names[i], 32)
        width, height = 8.6 * len(words), 20.0
        right = at[i, 0] + 16 + width <= frame.x1
        start = at[i, 0] + (16 if right else -16 - width)
        middle = float(at[i, 1])
        while any(abs(middle - y) < height and start < x1 and x0 < start + width for x0, x1, y in taken):
            middle -= 4
        taken.append((start, start + width, middle))
        far = abs(middle - at[i, 1]) > height / 2
        aside = 24 if far else 16
        offset = ((aside if right else -aside) * _POINTS_PER_PX, (middle - at[i, 1]) * _POINTS_PER_PX)
        line = {"arrowstyle": "-", "color": GREY, "relpos": (0 if right else 1, 0.5), "shrinkA": 0}
        axes.annotate(
            words,
            places[i],
            offset,
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=14,
            fontweight="bold",
            color=INK,
            zorder=6,
            arrowprops=line if far else None,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
        )
