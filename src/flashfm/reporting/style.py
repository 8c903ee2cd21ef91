"""What all pictures share: what a table must hold, size, colours, ticks, labels, the key, and how a file is written.

matplotlib is loaded when the first picture is drawn. Colours are those of Okabe and Ito, which colour-blind people can
tell apart. Names come from users' data: none is taken for a formula, and none is so long that it pushes the plot away.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from flashfm.datasets.files import write_whole
from flashfm.errors import DataError

PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, the most distinct first."""
MARKERS = "osD^vP"
SIZE_PX = (1200, 700)
GREY = "#6e6e6e"
INK = "#222222"
LONGEST = 40
"""Characters of a name that a picture shows."""
_STYLE: dict[Any, Any] = {
    "font.size": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "svg.hashsalt": "flashfm",
    "svg.fonttype": "none",
    "text.parse_math": False,
}


def need(frame: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Refuse a table that lacks a column.

    Args:
        frame: the table.
        columns: what must be there.
        what: needs them, with its verb, such as "scores need".

    Raises:
        DataError: names the first column that is absent.
    """
    absent = [name for name in columns if name not in frame]
    if absent:
        raise DataError(f"{what} the column {absent[0]!r}, got {', '.join(map(str, frame.columns))}")


def need_positive(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse a table that has anything but finite numbers above 0 in some columns.

    Raises:
        DataError: names the first such row and column.
    """
    values = frame[list(columns)].to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.argwhere(~(np.isfinite(values) & (values > 0)))
    if len(wrong):
        row, column = wrong[0]
        got = f"{values[row, column]:g}"
        raise DataError(f"row {row + 1}, column {columns[column]!r}: expected a number above 0, got {got}")


@contextmanager
def styled() -> Iterator[None]:
    """Draw under the project's style, whatever the caller's own is; characters without a glyph become boxes."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_figure(size_px: tuple[int, int], rows: int = 1, columns: int = 1, **shared: Any) -> tuple[Any, np.ndarray]:
    """A white figure with a grid of axes, shape (row, column), without any global state; call it under `styled`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size_px[0] / 100, size_px[1] / 100), dpi=100, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def save(figure: Any, path: str | os.PathLike[str]) -> Path:
    """Write a `.png` or `.svg` file, whole or not at all; the same picture is the same file.

    Raises:
        DataError: another suffix, or the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("png", "svg"):
        raise DataError(f"{path}: expected a .png or .svg file, got suffix {path.suffix!r}")
    metadata = {"Date": None} if kind == "svg" else None
    with styled():
        write_whole(path, lambda file: figure.savefig(file, format=kind, dpi=100, metadata=metadata))
    return path


def short(name: object, longest: int = LONGEST) -> str:
    """A name on one line, cut where it is longer than a picture has room for."""
    words = " ".join(str(name).split()) or "(no name)"
    return words if len(words) <= longest else words[: longest - 1] + "…"


def headline(axes: Any, words: str) -> None:
    """The title, at the left."""
    axes.set_title(words, loc="left", fontsize=18, pad=14)


def footnote(figure: Any, words: str) -> None:
    """Small print below everything."""
    if words:
        figure.supxlabel(words, x=0.995, ha="right", color=GREY, fontsize=12)


def key(figure: Any, marks: Sequence[Any], size: int = 13, spacing: float = 2.0) -> None:
    """What the marks mean, each by its label, in one line below the panels; the spacing is in font sizes."""
    figure.legend(
        handles=marks, loc="outside lower left", ncols=len(marks), frameon=False, fontsize=size, columnspacing=spacing
    )


def grid(axes: Any, axis: str = "both") -> None:
    """Faint lines behind everything."""
    axes.grid(color="#dddddd", linewidth=0.8, axis=axis)
    axes.set_axisbelow(True)


def time_words(ms: float) -> str:
    """A run time on an axis: in ms, from one second on in s."""
    return f"{ms:g} ms" if ms < 1000 else f"{ms / 1000:g} s"


def size_ticks(axes: Any, sizes: Float[np.ndarray, " size"], most: int = 15) -> None:
    """Ticks on a logarithmic x axis at these sizes, as many as there is room for, the largest first."""
    from matplotlib.ticker import FixedLocator, NullLocator

    room = np.log(sizes[-1] / sizes[0]) / most
    kept = [float(sizes[-1])]
    for size in sizes[-2::-1].tolist():
        if np.log(kept[-1] / size) >= room:
            kept.append(size)
    axes.xaxis.set_major_locator(FixedLocator(kept))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{size:g}" for size in kept])


def decade_ticks(axes: Any, axis: str, say: Any, most: int = 9) -> None:
    """Ticks on a logarithmic axis at 1, 2, 5 x 10^n, or at fewer of them, each in the words of `say`."""
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks: list[float] = []
    for steps in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**n for n in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            break
    side = axes.xaxis if axis == "x" else axes.yaxis
    side.set_major_locator(FixedLocator(ticks))
    side.set_minor_locator(NullLocator())
    side.set_minor_formatter(NullFormatter())
    side.set_ticklabels([say(tick) for tick in ticks])
    (axes.set_xlim if axis == "x" else axes.set_ylim)(low, high)


def apart(wanted: Float[np.ndarray, " label"], gap: float) -> Float[np.ndarray, " label"]:
    """Heights next to the wanted ones, in fractions of the axes, no two closer than `gap`, in the same order."""
    order = np.argsort(wanted, kind="stable")
    placed = wanted[order].copy()
    for j in range(1, placed.size):
        placed[j] = max(placed[j], placed[j - 1] + gap)
    drift = min(float((placed - wanted[order]).mean()), placed[0] - gap / 2)
    placed -= max(0.0, placed[-1] - (1 - gap / 2), drift)
    heights = np.empty_like(placed)
    heights[order] = placed
    return heights


def end_labels(axes: Any, names: Sequence[str], heights: Float[np.ndarray, " label"], colors: Sequence[str]) -> None:
    """A name right of the axes for each height, a fraction of them, moved apart where two would touch."""
    lines = max(name.count("\n") + 1 for name in names)
    placed = apart(heights, 0.045 * lines + 0.015)
    for name, height, color in zip(names, placed.tolist(), colors, strict=True):
        axes.annotate(
            name,
            (1.02, height),
            xycoords="axes fraction",
            va="center",
            color=color,
            fontsize=14,
            annotation_clip=False,
        )
