"""The measurements that a user gives of one pair, read and checked against a pretrained model.

Enters: a DataFrame of K rows. Leaves: `PairShots` over the model's grid, or a ShotsError of one line that names the
row, the column, what was expected and how to mend it. No file is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from flashfm.datasets.units import misnamed, stands_for
from flashfm.errors import ShotsError
from flashfm.models.flash import FlashModel
from flashfm.records import Outcome
from flashfm.tasks.config_search import Pair, Shots

LARGEST = 1e12
"""No run time in ms is as long."""
FAR = 2.0
"""A run time this many times outside of what was pretrained on is in doubt."""
MAX_CORES = 64
"""CPU time of more than this many times the run time is in another unit."""
UNITS = {"seconds": 1e3, "microseconds": 1e-3, "minutes": 6e4, "nanoseconds": 1e-6}
"""Unit -> its length in milliseconds."""


@dataclass(frozen=True, eq=False)
class PairShots:
    """What was measured of one pair."""

    pair: Pair
    shots: Shots
    """One task; positions are those in the grid of the model that `read_shots` gives, in the order of the rows."""
    failed: pd.DataFrame
    """Configuration columns and `outcome` of measurements that did not end well, those that also did left out."""


def read_shots(model: FlashModel, frame: pd.DataFrame, *, check_units: bool = True) -> tuple[FlashModel, PairShots]:
    """Check the shots of one pair.

    Args:
        model: what is to be adapted.
        frame: the configuration columns, `runtime_ms`, and where there are `app`, `platform`, `outcome` and metrics
            `NAME_mean`; rows of the same configuration are averaged. No rows is K = 0.
        check_units: refuse run times that are far from all pretraining pairs and would be near in another unit.

    Returns:
        The model, extended by configurations of shots that its grid has not, and the shots.

    Raises:
        ShotsError: a column is missing, a value is no number or out of range, more than one pair, or another unit.
    """
    model, rows = _read_rows(model, frame, check_units)
    pair = _pair_of(frame)
    failed = rows.checked[~rows.ended]
    if len(failed):
        worked = {key for key, ended in zip(model.space.keys(rows.checked), rows.ended, strict=True) if ended}
        failed = failed.assign(outcome=frame["outcome"].astype(str).to_numpy()[~rows.ended])
        failed = failed[[key not in worked for key in model.space.keys(failed)]].reset_index(drop=True)
    return model, PairShots(pair, _averaged(rows.places, rows.log_runtime, rows.metrics), failed)


def read_many(model: FlashModel, frame: pd.DataFrame) -> tuple[FlashModel, list[tuple[Pair, Shots]]]:
    """Check the shots of several pairs, told apart by `app` and `platform`; arguments and errors as `read_shots`."""
    model, rows = _read_rows(model, frame, check_units=True)
    names = [frame[c].tolist() if c in frame else [None] * len(frame) for c in ("app", "platform")]
    pairs = [(str(app), None if pd.isna(platform) else str(platform)) for app, platform in zip(*names, strict=True)]
    number = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
    owner = np.array([number[pair] for pair in pairs], dtype=np.int64)[rows.ended]
    found = []
    for pair, i in number.items():
        own = owner == i
        found.append((pair, _averaged(rows.places[own], rows.log_runtime[own], rows.metrics[own])))
    return model, found


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of a frame that were checked; the last three are those that ended well."""

    checked: pd.DataFrame
    ended: Bool[np.ndarray, " row"]
    places: Int[np.ndarray, " ok"]
    log_runtime: Float[np.ndarray, " ok"]
    metrics: Float[np.ndarray, "ok metric"]


def _read_rows(model: FlashModel, frame: pd.DataFrame, check_units: bool) -> tuple[FlashModel, _Rows]:
    if not isinstance(frame, pd.DataFrame):
        got = type(frame).__name__
        raise ShotsError(f"shots: expected a pandas DataFrame, got {got}; wrap rows as pd.DataFrame(rows)")
    _check_columns(frame)
    ended = _ended(frame)
    checked = model.space.check(frame, "shots")
    runtime = _numbers(frame, "runtime_ms", ended, above=0.0)[ended]
    metrics = _metrics(frame, model.metric_names, ended)
    configurations = checked if ended.all() else checked[ended].reset_index(drop=True)
    places = model.space.locate(configurations, model.places)
    if (places < 0).any():
        model = model.extended(configurations[places < 0].drop_duplicates())
        places = model.space.locate(configurations, model.places)
    if check_units:
        _check_units(model, places, runtime)
        _check_shares(model.metric_names, metrics, runtime)
    return model, _Rows(checked, ended, places, np.log(runtime), metrics)


def _pair_of(frame: pd.DataFrame) -> Pair:
    found: list[str | None] = []
    for column, words in (("app", "applications"), ("platform", "platforms")):
        values = frame[column].tolist() if column in frame else []
        names = list(dict.fromkeys(str(value) for value in values if not pd.isna(value)))
        if len(names) > 1:
            raise ShotsError(
                f"shots: expected rows of one pair, got {len(names)} {words} ({', '.join(map(repr, names[:3]))});"
                " adapt to each on its own"
            )
        found.append(names[0] if names else None)
    return found[0] or "", found[1]


def _check_columns(frame: pd.DataFrame) -> None:
    columns = [str(column) for column in frame.columns]
    doubled = next((column for column in columns if columns.count(column) > 1), None)
    if doubled is not None:
        raise ShotsError(f"shots: two or more columns are called {doubled!r}; keep one")
    wrong = next((found for c in columns if (found := misnamed(c)) and found.expected not in columns), None)
    if wrong is not None:
        raise ShotsError(f"shots: {wrong}")
    if "runtime_ms" not in columns and len(frame):
        near = stands_for("runtime", columns)
        mend = f"if {near!r} is in milliseconds, rename it" if near else f"got {', '.join(columns[:12])}"
        raise ShotsError(f"shots: no column 'runtime_ms'; {mend}")


def _ended(frame: pd.DataFrame) -> np.ndarray:
    """Where a measurement ended well."""
    if "outcome" not in frame:
        return np.ones(len(frame), dtype=np.bool_)
    words = ["ok" if pd.isna(value) else str(value) for value in frame["outcome"].tolist()]
    known = {outcome.value for outcome in Outcome}
    for i, word in enumerate(words):
        if word not in known:
            raise ShotsError(
                f"shots: row {i + 1}, column 'outcome': expected one of {', '.join(sorted(known))}, got {word[:60]!r}"
            )
    return np.array([word == Outcome.OK.value for word in words], dtype=np.bool_)


def _numbers(
    frame: pd.DataFrame, column: str, ended: np.ndarray, *, above: float | None = None
) -> Float[np.ndarray, " row"]:
    """A column as numbers, NaN where there is none; finite and above a bound where rows ended well."""
    if column not in frame:
        return np.full(len(frame), np.nan)
    try:
        values = frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64)
        wrong = np.flatnonzero(np.isnan(values) & frame[column].notna().to_numpy())
        if wrong.size:
            got = str(frame[column].iloc[wrong[0]])[:60]
            raise ShotsError(f"shots: row {wrong[0] + 1}, column {column!r}: expected a number, got {got!r}") from None
    with np.errstate(invalid="ignore"):
        bad = np.isinf(values) if above is None else ~((values > above) & (values < LARGEST))
    bad &= ended
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        words = "a finite number" if above is None else f"a number above {above:g} and below {LARGEST:g}"
        got = "an empty cell" if np.isnan(values[i]) else f"{values[i]:g}"
        raise ShotsError(f"shots: row {i + 1}, column {column!r}: expected {words}, got {got}")
    return np.asarray(values)


def _metrics(frame: pd.DataFrame, names: Sequence[str], ended: np.ndarray) -> Float[np.ndarray, "shot metric"]:
    found = np.full((len(frame), len(names)), np.nan)
    for j, name in enumerate(names):
        column = f"{name}_mean"
        if column in frame:
            found[:, j] = _numbers(frame, column, ended)
            negative = np.flatnonzero((found[:, j] < 0) & ended)
            if negative.size:
                raise ShotsError(
                    f"shots: row {negative[0] + 1}, column {column!r}: expected a number of at least 0,"
                    f" got {found[negative[0], j]:g}"
                )
    return np.asarray(found[ended])


def _check_units(model: FlashModel, places: Int[np.ndarray, " shot"], runtime: Float[np.ndarray, " shot"]) -> None:
    known = np.exp(model.prior.gp.profiles[:, places])
    low, high = known.min(axis=0), known.max(axis=0)
    for i, value in enumerate(runtime):
        if low[i] / FAR <= value <= high[i] * FAR:
            continue
        for unit, factor in UNITS.items():
            if low[i] <= value * factor <= high[i]:
                times = f"multiply by {factor:g}" if factor > 1 else f"divide by {1 / factor:g}"
                raise ShotsError(
                    f"shots: row {i + 1}, column 'runtime_ms': {value:g} looks like {unit}, not milliseconds"
                    f" (pretraining pairs took {low[i]:.3g} to {high[i]:.3g} ms there): {times};"
                    " if it is right, switch this check off (check_units=False, --no-check-units)"
                )


def _check_shares(
    names: Sequence[str], metrics: Float[np.ndarray, "shot metric"], runtime: Float[np.ndarray, " shot"]
) -> None:
    """CPU time far beyond the run time means that one of the two is in another unit."""
    timed = [j for j, name in enumerate(names) if name.endswith("_ms")]
    if not timed:
        return
    busy = np.nansum(metrics[:, timed], axis=1)
    wrong = np.flatnonzero(busy > MAX_CORES * runtime)
    if wrong.size:
        i = int(wrong[0])
        raise ShotsError(
            f"shots: row {i + 1}: CPU time of {busy[i]:g} ms ({', '.join(names[j] for j in timed)}) in a run of"
            f" {runtime[i]:g} ms; expected at most {MAX_CORES} times as much: runtime_ms or they are in another unit;"
            " if it is right, switch this check off (check_units=False, --no-check-units)"
        )


def _averaged(
    places: Int[np.ndarray, " row"], log_runtime: Float[np.ndarray, " row"], metrics: Float[np.ndarray, "row metric"]
) -> Shots:
    """One shot for each configuration: geometric mean of run times, mean of the metrics that are there."""
    unique, first, number, counts = np.unique(places, return_index=True, return_inverse=True, return_counts=True)
    if len(unique) == len(places):
        return Shots(places[None], log_runtime[None], metrics[None])
    mean = np.bincount(number, log_runtime) / counts
    seen = ~np.isnan(metrics)
    merged = np.full((len(unique), metrics.shape[1]), np.nan)
    for j in range(metrics.shape[1]):
        n = np.bincount(number, seen[:, j], len(unique))
        total = np.bincount(number, np.where(seen[:, j], metrics[:, j], 0.0), len(unique))
        merged[:, j] = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    order = np.argsort(first)
    return Shots(unique[None, order], mean[None, order], merged[None, order])
