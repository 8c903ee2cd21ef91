"""Generated loads beside real ones: how much they vary, how bursty they are, over which time.

Windows of an episode's length, scaled to mean 1, from every trace that is on this machine and from the generator's
default distribution. A trace counts as much as another in what is called "all traces", however long it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from flashfm.datasets.files import write_whole
from flashfm.datasets.rate_trace import DAILY_LOAD, RateTrace
from flashfm.datasets.traces import Grouping, load_trace
from flashfm.errors import DataError, DataMissingError
from flashfm.experiments import results
from flashfm.experiments.results import Row
from flashfm.reporting.loads import load_panels
from flashfm.tasks.autoscaling.loads import CLOCK_STEPS, at_step, draw, generate, replay
from flashfm.tasks.autoscaling.parameters import STEP_S

STEPS = 100
"""Of a window: an episode of the paper (FLASH, table 5)."""
WINDOWS, QUICK_WINDOWS = 2_000, 200
"""Of each trace, and of the generator."""
SCALES = (1, 4, 16)
"""Steps over which dispersion is taken."""
JUMP = 1.5
"""Ratio of neighbouring steps from which their change is a jump."""
GENERATED, ALL = "generated", "all traces"
COMPARED: dict[str, Grouping] = {
    "azure-functions-2021": "app",
    "azure-functions-2021-sample": "total",
    "azure-functions-2019-sample": "total",
    "azure-llm-conv": "total",
    "azure-llm-code": "total",
    "nasa": "total",
    "twitter": "total",
    "aws-elb": "total",
}
"""Traces and what the invocations of each are added up over."""

Windows = Float[np.ndarray, "step window"]
Statistics = dict[str, Float[np.ndarray, " window"]]


def run(
    folder: Path, results_folder: Path, *, quick: bool = False, on_step: Callable[[int, int], object] = lambda *_: None
) -> Path:
    """Compare, and write `loads.json`, its table and `loads.png`.

    Args:
        folder: gets `windows.npz`, all windows that were compared.
        results_folder: where results go.
        quick: fewer windows.
        on_step: told of the traces that are done and of all of them.

    Returns:
        Path of `loads.json`.

    Raises:
        DataError: no trace is on this machine, one is damaged, or a result cannot be written.
    """
    rng, n = np.random.default_rng(0), QUICK_WINDOWS if quick else WINDOWS
    windows: dict[str, Windows] = {}
    left_out: dict[str, str] = {}
    days: list[dict[str, Any]] = []
    for done, name in enumerate(COMPARED):
        try:
            traces = load_trace(name, by=COMPARED[name])
        except DataMissingError:
            left_out[name] = "not on this machine"
        else:
            try:
                windows[name] = sample(traces, n, rng)
            except DataError as error:
                left_out[name] = str(error)
            days.append(_days(name, traces))
        on_step(done + 1, len(COMPARED))
    if not windows:
        mend = "run: flashfm data fetch nasa, or set FLASHFM_DATA to a folder that has traces"
        raise DataError(f"no trace to compare with; {mend}")
    start = rng.integers(CLOCK_STEPS, size=n)
    load = generate(draw(rng, n), STEPS - 1, rng, start)
    windows[GENERATED] = load / load.mean(axis=0)
    folder.mkdir(parents=True, exist_ok=True)
    small = {name: of.astype(np.float32) for name, of in windows.items()}
    write_whole(folder / "windows.npz", lambda file: np.savez_compressed(file, allow_pickle=False, **small))
    return _write(results_folder, windows, left_out, days, n, quick)


def sample(traces: tuple[RateTrace, ...], n: int, rng: np.random.Generator) -> Windows:
    """`n` windows of `STEPS` steps with mean 1, shared out evenly over those of the traces that have any.

    Raises:
        DataError: none of them has; the reason of the last.
    """
    usable, reason = [], DataError("no traces")
    for trace in traces:
        try:
            binned = at_step(trace, rng)
            replay(binned, STEPS - 1, rng, np.ones(1))
            usable.append(binned)
        except DataError as error:
            reason = error
    if not usable:
        raise reason
    shares = [len(part) for part in np.array_split(np.arange(n), min(len(usable), n))]
    parts = [replay(trace, STEPS - 1, rng, np.ones(share)) for trace, share in zip(usable, shares, strict=False)]
    return np.concatenate(parts, axis=1)


def statistics(windows: Windows) -> Statistics:
    """What describes a load, for each window of mean 1.

    Returns:
        The coefficient of variation; the 99th percentile of a step over the mean; the correlation of neighbouring
        steps, 0 where nothing varies; the share of steps that differ by `JUMP` times or more from the one before; and
        the dispersion over m steps: m times the variance of means over m steps, which for independent steps is the
        same for every m.
    """
    off = windows - windows.mean(axis=0)
    square = (off**2).mean(axis=0)
    high = np.maximum(windows[1:], windows[:-1])
    found: Statistics = {
        "coefficient of variation": np.sqrt(square),
        "p99 / mean": np.quantile(windows, 0.99, axis=0),
        "lag-1 autocorrelation": (off[1:] * off[:-1]).mean(axis=0) / np.maximum(square, 1e-12),
        "share of jumps": (high > JUMP * np.minimum(windows[1:], windows[:-1])).mean(axis=0),
    }
    for m in SCALES:
        blocks = windows[: len(windows) // m * m].reshape(-1, m, windows.shape[1]).mean(axis=1)
        found[f"dispersion, {m} step{'s' * (m > 1)}"] = m * blocks.var(axis=0, ddof=1)
    return found


def distance(
    values: Float[np.ndarray, " a"],
    others: Float[np.ndarray, " b"],
    weights: Float[np.ndarray, " b"] | None = None,
) -> float:
    """Kolmogorov-Smirnov distance: how far two cumulative distributions lie apart at most, in [0, 1]."""
    weights = np.ones(others.size) if weights is None else weights
    points = np.unique(np.concatenate([values, others]))
    order = np.argsort(others)
    below = np.concatenate([[0.0], np.cumsum(weights[order])]) / weights.sum()
    ours = np.searchsorted(np.sort(values), points, side="right") / values.size
    theirs = below[np.searchsorted(others[order], points, side="right")]
    return float(np.abs(ours - theirs).max())


def _days(name: str, traces: tuple[RateTrace, ...]) -> dict[str, Any]:
    """How many whole days the paper's threshold puts on each side."""
    split = [trace.split_by_daily_load() for trace in traces if trace.days()]
    higher, lower = sum(len(high) for high, _ in split), sum(len(low) for _, low in split)
    return {"trace": name, "threshold_per_day": DAILY_LOAD, "higher_days": higher, "lower_days": lower}


def _write(
    folder: Path,
    windows: Mapping[str, Windows],
    left_out: Mapping[str, str],
    days: list[dict[str, Any]],
    n: int,
    quick: bool,
) -> Path:
    found = {name: statistics(of) for name, of in windows.items()}
    real = [name for name in found if name != GENERATED]
    weights = np.concatenate([np.full(windows[name].shape[1], 1 / windows[name].shape[1]) for name in real])
    pooled = {key: np.concatenate([found[name][key] for name in real]) for key in found[GENERATED]}
    rows = [_row(name, key, values) for name in found for key, values in found[name].items()]
    rows += [_row(ALL, key, values, weights) for key, values in pooled.items()]
    apart = {key: distance(found[GENERATED][key], values, weights) for key, values in pooled.items()}
    nan = float("nan")
    rows += [
        Row(f"{GENERATED} against {ALL}", GENERATED, f"KS distance, {key}", value, value, nan, 0, n)
        for key, value in apart.items()
    ]
    path = folder / "loads.json"
    results.write(
        path,
        command="flashfm reproduce loads" + (" --quick" if quick else ""),
        protocol=f"{n} windows of {STEPS} steps of {STEP_S:g} s, each scaled to mean 1, of each trace and of the"
        " generator's default; windows with fewer requests than steps, or in a gap, are not taken; bins of a minute or"
        " more are parted as Poisson arrivals would be, which tells nothing of what went on within them"
        " (azure-functions-2019: mostly jobs of five requests each minute; aws-elb: bins of 300 s); windows overlap,"
        " those of the LLM traces, an hour long, nearly wholly; mean, median and sd over windows; in"
        f" {ALL!r} every trace counts the same",
        seeds=[0],
        rows=rows,
        more={"left_out": dict(left_out), "days": days, "ks_distance": apart},
    )
    load_panels(
        {name: typical(windows[name]) for name in real},
        spread(windows[GENERATED], len(real)),
        {name: found[name] for name in real},
        found[GENERATED],
        folder / "loads.png",
        step_s=STEP_S,
        note=f"{n} windows of each, mean 1; dashed: all traces, each counting the same",
    )
    return path


def typical(windows: Windows) -> Float[np.ndarray, " step"]:
    """The window whose coefficient of variation is the median one."""
    order = np.argsort(windows.std(axis=0), kind="stable")
    return np.asarray(windows[:, order[order.size // 2]])


def spread(windows: Windows, n: int) -> list[Float[np.ndarray, " step"]]:
    """`n` windows at even shares of the coefficient of variation, from the calmest on."""
    order = np.argsort(windows.std(axis=0), kind="stable")
    return [windows[:, order[int((i + 0.5) / n * order.size)]] for i in range(n)]


def _row(
    name: str, key: str, values: Float[np.ndarray, " window"], weights: Float[np.ndarray, " window"] | None = None
) -> Row:
    weights = np.ones(values.size) if weights is None else weights
    mean = float(np.average(values, weights=weights))
    sd = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    order = np.argsort(values, kind="stable")
    middle = int(np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2))
    method = GENERATED if name == GENERATED else "real"
    return Row(name, method, key, mean, float(values[order[middle]]), sd, 0, values.size)
