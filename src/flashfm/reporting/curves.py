"""Run time against memory, and request rates over time, as measured.

Enters: canonical frames and traces. Leaves: a PNG or SVG file, by suffix, 1200 x 700 pixels unless told; curves are
labelled where they end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from flashfm.datasets.rate_trace import RateTrace
from flashfm.errors import DataError
from flashfm.records import Outcome
from flashfm.reporting.style import (
    GREY,
    INK,
    MARKERS,
    PALETTE,
    SIZE_PX,
    decade_ticks,
    end_labels,
    footnote,
    grid,
    headline,
    new_figure,
    save,
    short,
    size_ticks,
    styled,
    time_words,
)

CPU_BOUND, IO_BOUND = 0.8, 0.2
"""Shares of CPU time in the run time from which, and up to which, an application is called so."""
AXES = {"memory_mb": "memory size (MB)", "cpu_shares": "CPU shares"}
MAX_PANELS = 4
"""Traces drawn below each other; more are named in the caption."""
_POINTS = 1200
"""Bins of a drawn trace; longer ones are averaged, with their extremes shaded."""


def principal_platform(frame: pd.DataFrame) -> str | None:
    """The platform with most memory sizes, then with most rows; None where the table has no platforms."""
    if "platform" not in frame or frame.empty:
        return None
    counted = frame.groupby("platform")["memory_mb"].agg(["nunique", "size"]).sort_values(["nunique", "size"])
    return str(counted.index[-1])


def curve_points(frame: pd.DataFrame, platform: str | None = None) -> tuple[pd.DataFrame, str]:
    """Rows to draw as curves: one for each application and size on one platform.

    The size is `memory_mb`, or `cpu_shares` where a platform has more of those. Where several configurations share a
    size, run times are their geometric mean, over those that ended well.

    Args:
        frame: rows of a MeasurementTable with `memory_mb`.
        platform: which platform; absent, the principal one.

    Returns:
        Columns `app`, the size, `runtime_ms`, `runtime_cov` where there is one, `outcome`; and the name of the size.
    """
    platform = platform or principal_platform(frame)
    rows = frame if platform is None else frame[frame["platform"] == platform]
    shares = rows["cpu_shares"].nunique() if "cpu_shares" in rows else 0
    axis = "cpu_shares" if shares > rows["memory_mb"].nunique() else "memory_mb"
    key = ["app", axis]
    if not rows.duplicated(key).any():
        return rows.sort_values(key), axis
    ok = rows[rows["outcome"] == Outcome.OK.value]
    ok = ok.assign(runtime_ms=np.log(ok["runtime_ms"].astype("float64")))
    means = [name for name in ("runtime_ms", "runtime_cov") if name in ok]
    joined = ok.groupby(key, as_index=False)[means].mean().assign(outcome=Outcome.OK.value)
    joined["runtime_ms"] = np.exp(joined["runtime_ms"])
    bad = rows[~rows.set_index(key).index.isin(joined.set_index(key).index)].drop_duplicates(key)
    return pd.concat([joined, bad[[*key, "outcome"]]], ignore_index=True).sort_values(key), axis


def representative_apps(frame: pd.DataFrame) -> dict[str, str]:
    """A CPU-bound, a mixed and an I/O-bound application of a table: kind -> name, fewer where there are fewer.

    What counts is the share of CPU time in the run time at the largest memory size of the principal platform: the
    application of most CPU time whose share is at least `CPU_BOUND`, the one whose share is next to one half, and the
    one of the smallest share, at most `IO_BOUND`.

    Raises:
        DataError: the table has no memory sizes or no CPU times.
    """
    needed = ["memory_mb", "user_cpu_ms_mean", "system_cpu_ms_mean"]
    absent = [column for column in needed if column not in frame]
    if absent:
        raise DataError(
            f"cannot tell CPU-bound from I/O-bound without the column {absent[0]!r}; name applications yourself"
        )
    platform = principal_platform(frame)
    of_platform = frame if platform is None else frame[frame["platform"] == platform]
    ok = of_platform[of_platform["outcome"] == Outcome.OK.value].dropna(subset=needed)
    largest = ok.sort_values("memory_mb").groupby("app", sort=True).tail(1)
    cpu = largest["user_cpu_ms_mean"] + largest["system_cpu_ms_mean"]
    share = pd.Series((cpu / largest["runtime_ms"]).to_numpy(), index=largest["app"]).sort_index()
    if share.empty:
        raise DataError("no application of the table ended well with its CPU time measured; name applications yourself")
    work = pd.Series(cpu.to_numpy(), index=largest["app"]).sort_index()
    chosen = {
        "CPU-bound": work[share >= CPU_BOUND].nlargest(1),
        "mixed": share[(share > IO_BOUND) & (share < CPU_BOUND)].sub(0.5).abs().nsmallest(1),
        "I/O-bound": share[share <= IO_BOUND].nsmallest(1),
    }
    return {kind: str(found.index[0]) for kind, found in chosen.items() if len(found)}


@styled()
def runtime_curves(
    frame: pd.DataFrame,
    apps: Sequence[str] | Mapping[str, str],
    path: str | os.PathLike[str],
    *,
    platform: str | None = None,
    title: str | None = None,
    size_px: tuple[int, int] = SIZE_PX,
) -> Path:
    """Draw run time against memory on log-log axes, with the ideal: half the time for twice the memory.

    Args:
        frame: rows of a MeasurementTable with `memory_mb`.
        apps: names, or kind -> name (see `representative_apps`); at most six. The ideal starts at the first.
        path: `.png` or `.svg`.
        platform: which platform; absent, the principal one of these applications.
        title: the headline; absent, it says what is drawn.
        size_px: width and height.

    Returns:
        `path`.

    Raises:
        DataError: no memory sizes, an application that is not there, too many of them, another suffix, or the file
            cannot be written.
    """
    kinds = dict(apps) if isinstance(apps, Mapping) else dict(zip(apps, apps, strict=True))
    if not 1 <= len(kinds) <= len(PALETTE):
        raise DataError(f"{len(kinds)} applications to draw, expected 1 to {len(PALETTE)}")
    if "memory_mb" not in frame:
        raise DataError("run time against memory needs the column 'memory_mb'")
    rows = frame[frame["app"].isin(list(kinds.values()))]
    platform = platform or principal_platform(rows)
    rows, axis = curve_points(rows, platform)
    curves = {}
    for kind, app in kinds.items():
        of_app = rows[rows["app"] == app]
        if not (of_app["outcome"] == Outcome.OK.value).any():
            raise DataError(
                f"application {app!r} has no row that ended well" + (f" on {platform!r}" if platform else "")
            )
        curves[short(app) if kind == app else f"{short(app)}\n{short(kind)}"] = of_app

    figure, panels = new_figure(size_px)
    axes = panels[0, 0]
    ends = [_draw_curve(axes, of_app, axis, i) for i, of_app in enumerate(curves.values())]
    ok = rows[rows["outcome"] == Outcome.OK.value]
    sizes = np.unique(rows[axis].to_numpy(dtype="float64"))
    if axis == "memory_mb":
        _draw_ideal(axes, next(iter(curves.values())), float(ok["runtime_ms"].min()))
    axes.set(xscale="log", yscale="log", ylabel="mean run time", xlabel=AXES[axis])
    headline(axes, title or f"Run time against {AXES[axis].split(' (')[0]}")
    axes.set_ylim(float(ok["runtime_ms"].min()) / 1.5, float(ok["runtime_ms"].max()) * 1.35)
    size_ticks(axes, sizes)
    _time_ticks(axes)
    low, high = axes.get_ylim()
    end_labels(axes, list(curves), np.log(np.array(ends) / low) / np.log(high / low), PALETTE[: len(curves)])
    spread = ok.get("runtime_cov", pd.Series(dtype="float64")).notna().any()
    notes = [f"platform: {platform}"] * bool(platform) + ["shade: one standard deviation of invocations"] * bool(spread)
    footnote(figure, "; ".join(notes))
    return save(figure, path)


@styled()
def rate_curves(
    traces: Sequence[RateTrace], path: str | os.PathLike[str], *, title: str = "", size_px: tuple[int, int] = SIZE_PX
) -> Path:
    """Draw the request rate of each trace over time, below each other.

    A long trace is averaged over equal stretches; the shade reaches from the lowest to the highest bin in each.

    Raises:
        DataError: no trace, another suffix, or the file cannot be written.
    """
    if not traces:
        raise DataError("no trace to draw")
    shown = traces[:MAX_PANELS]
    figure, panels = new_figure(size_px, rows=len(shown))
    averaged: list[str] = []
    for i, (trace, axes) in enumerate(zip(shown, panels[:, 0], strict=True)):
        times, mean, low, high = _envelope(trace)
        unit, seconds = ("days", 86_400.0) if trace.duration_s > 2 * 86_400 else ("hours", 3600.0)
        unit, seconds = (unit, seconds) if trace.duration_s > 2 * 3600 else ("minutes", 60.0)
        color = PALETTE[1]
        if len(mean) < len(trace):
            axes.fill_between(times / seconds, low, high, color=color, alpha=0.22, linewidth=0)
            stretch = f"{2 * times[0] / 60:.3g} minutes" if times[0] > 60 else f"{2 * times[0]:.3g} s"
            averaged = [f"line: mean over {stretch}; shade: lowest to highest {trace.bin_s:g} s"]
        axes.plot(times / seconds, mean, color=color, linewidth=1.4)
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, trace.duration_s / seconds)
        axes.set_ylabel("requests/s")
        words = title if title and i == 0 else short(trace.name, 60)
        note = f"{trace.total:,} requests in {trace.duration_s / seconds:.3g} {unit}"
        axes.set_title(words, loc="left", fontsize=18 if len(shown) == 1 else 12, pad=12 if len(shown) == 1 else 6)
        axes.annotate(note, (1, 1), xycoords="axes fraction", ha="right", va="bottom", color=GREY, fontsize=12)
        if i == len(shown) - 1:
            axes.set_xlabel(f"{unit} since the start")
    more = [f"{len(traces) - len(shown)} more traces are not drawn"] * (len(traces) > len(shown))
    footnote(figure, "; ".join(averaged + more))
    return save(figure, path)


def _draw_curve(axes: Any, rows: pd.DataFrame, axis: str, i: int) -> float:
    """One application's points, its spread, and a cross where it did not end well; returns the last run time in ms."""
    color, marker = PALETTE[i], MARKERS[i]
    ok = rows[rows["outcome"] == Outcome.OK.value]
    memory, runtime = ok[axis].to_numpy(dtype="float64"), ok["runtime_ms"].to_numpy(dtype="float64")
    axes.plot(memory, runtime, color=color, marker=marker, markersize=8, linewidth=2.4, zorder=3)
    if "runtime_cov" in ok and ok["runtime_cov"].notna().any():
        factor = 1 + ok["runtime_cov"].fillna(0).to_numpy(dtype="float64")
        axes.fill_between(memory, runtime / factor, runtime * factor, color=color, alpha=0.15, linewidth=0, zorder=2)
    failed = rows[rows["outcome"] != Outcome.OK.value]
    for size, outcome in zip(failed[axis], failed["outcome"], strict=True):
        nearest = runtime[np.abs(memory - size).argmin()]
        axes.plot([size], [nearest], marker="x", markersize=11, markeredgewidth=3, color=color, linestyle="", zorder=4)
        words = str(outcome).replace("_", " ")
        axes.annotate(
            words, (size, nearest), (13, 0), textcoords="offset points", va="center", fontsize=12, color=color
        )
    return float(runtime[-1])


def _draw_ideal(axes: Any, rows: pd.DataFrame, lowest_ms: float) -> None:
    """The line of 1/quota through the first point of an application, down to the lowest run time drawn."""
    ok = rows[rows["outcome"] == Outcome.OK.value]
    start_mb, start_ms = float(ok["memory_mb"].iloc[0]), float(ok["runtime_ms"].iloc[0])
    end_mb = min(float(ok["memory_mb"].iloc[-1]), start_mb * start_ms / lowest_ms * 1.25)
    if end_mb <= 1.3 * start_mb:
        return
    end_ms = start_ms * start_mb / end_mb
    axes.plot([start_mb, end_mb], [start_ms, end_ms], color=INK, linestyle=(0, (5, 4)), linewidth=1.3, zorder=5)
    at = (start_mb**0.8 * end_mb**0.2, start_ms**0.8 * end_ms**0.2)
    words = "ideal: twice the memory,\nhalf the time"
    axes.annotate(words, at, (16, 2), textcoords="offset points", ha="left", va="bottom", color="#444444", fontsize=13)


def _time_ticks(axes: Any) -> None:
    """Ticks at 1, 2, 5 x 10^n ms, in plain words."""
    low, high = axes.get_ylim()
    most = 9 if np.log10(high / low) < 3 else 6
    decade_ticks(axes, "y", time_words, most)
    grid(axes)


def _envelope(trace: RateTrace) -> tuple[Float[np.ndarray, " x"], ...]:
    """Times in seconds and mean, lowest and highest rate of at most `_POINTS` equal stretches of a trace."""
    step = max(1, -(-len(trace) // _POINTS))
    kept = len(trace) // step * step
    blocks = trace.rate_per_s[:kept].reshape(-1, step)
    times = (np.arange(blocks.shape[0]) + 0.5) * step * trace.bin_s
    return times, blocks.mean(axis=1), blocks.min(axis=1), blocks.max(axis=1)
