"""The measurements that a user gives of one pair, read and checked against a pretrained model.

Enters: a DataFrame of K rows. Leaves: `PairShots` over the model's grid, or a ShotsError of one line that names the
row, the column, what was expected and how to mend it. No file is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from flashfm.datasets.units import misnamed, stands_for
from flashfm.errors import ShotsError
from flashfm.models.flash import FlashModel, grid_places
from flashfm.records import Outcome
from flashfm.tasks.config_search import Pair, Shots

FAR = 5.0
"""A run time this many times outside of what was pretrained on is in doubt."""
UNITS = {"seconds": 1e3, "microseconds": 1e-3, "minutes": 6e4, "nanoseconds": 1e-6}
"""Unit -> its length in milliseconds."""


@dataclass(frozen=True, eq=False)
class PairShots:
    """What was measured of one pair."""

    pair: Pair
    shots: Shots
    """One task."""
    frame: pd.DataFrame
    """Configuration columns and `runtime_ms` of each shot."""
    failed: pd.DataFrame
    """Configuration columns and `outcome` of measurements that did not end well."""


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
    frame = frame.reset_index(drop=True)
    pair = _pair_of(frame)
    if not len(frame):
        return model, _none(model, pair)
    _check_columns(frame)
    ended = np.ones(len(frame), dtype=np.bool_)
    if "outcome" in frame:
        ended = _ended(frame["outcome"])
    configurations = model.space.check(frame, "shots")
    failed = (
        configurations[~ended].assign(outcome=frame["outcome"][~ended].astype(str))
        if not ended.all()
        else configurations[:0].assign(outcome="")
    )
    runtime = _numbers(frame, "runtime_ms", ended, above=0.0)[ended]
    metrics = _metrics(frame, model.metric_names, ended)
    configurations = configurations[ended].reset_index(drop=True)
    if not len(configurations):
        none = _none(model, pair)
        return model, PairShots(pair, none.shots, none.frame, failed.reset_index(drop=True))
    places = model.space.locate(configurations, grid_places(model.space, model.grid))
    if (places < 0).any():
        model = model.extended(configurations[places < 0].drop_duplicates())
        places = model.space.locate(configurations, grid_places(model.space, model.grid))
    if check_units:
        _check_units(model, places, runtime)
    shots = _averaged(places, np.log(runtime), metrics)
    table = model.grid.iloc[shots.config[0]].assign(runtime_ms=np.exp(shots.log_runtime[0])).reset_index(drop=True)
    return model, PairShots(pair, shots, table, failed.reset_index(drop=True))


def _none(model: FlashModel, pair: Pair) -> PairShots:
    shots = Shots(np.empty((1, 0), dtype=np.int64), np.empty((1, 0)), np.empty((1, 0, len(model.metric_names))))
    return PairShots(pair, shots, model.grid[:0].assign(runtime_ms=0.0), model.grid[:0].assign(outcome=""))


def _pair_of(frame: pd.DataFrame) -> Pair:
    found: list[str | None] = []
    for column, words in (("app", "applications"), ("platform", "platforms")):
        names = frame[column].dropna().astype(str).unique().tolist() if column in frame else []
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
    if "runtime_ms" not in columns:
        near = stands_for("runtime", columns)
        mend = f"if {near!r} is in milliseconds, rename it" if near else f"got {', '.join(columns[:12])}"
        raise ShotsError(f"shots: no column 'runtime_ms'; {mend}")


def _ended(outcome: pd.Series) -> np.ndarray:
    words = outcome.fillna(Outcome.OK.value).astype(str).to_numpy()
    known = {o.value for o in Outcome}
    for i, word in enumerate(words):
        if word not in known:
            raise ShotsError(
                f"shots: row {i + 1}, column 'outcome': expected one of {', '.join(sorted(known))}, got {word[:60]!r}"
            )
    return np.asarray(words == Outcome.OK.value)


def _numbers(
    frame: pd.DataFrame, column: str, ended: np.ndarray, *, above: float | None = None
) -> Float[np.ndarray, " row"]:
    """A column as numbers; where rows ended well, finite ones above a bound (a missing metric may be NaN)."""
    try:
        values = frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64)
        wrong = np.flatnonzero(np.isnan(values) & frame[column].notna().to_numpy())
        if wrong.size:
            got = str(frame[column].iloc[wrong[0]])[:60]
            raise ShotsError(f"shots: row {wrong[0] + 1}, column {column!r}: expected a number, got {got!r}") from None
    with np.errstate(invalid="ignore"):
        bad = np.isinf(values) if above is None else ~(np.isfinite(values) & (values > above))
    bad &= ended
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        words = "a finite number" if above is None else f"a finite number above {above:g}"
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
    return found[ended]


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
                    " if it is right, pass check_units=False"
                )


def _averaged(
    places: Int[np.ndarray, " row"], log_runtime: Float[np.ndarray, " row"], metrics: Float[np.ndarray, "row metric"]
) -> Shots:
    """One shot for each configuration: geometric mean of run times, mean of the metrics that are there."""
    unique, number, counts = np.unique(places, return_inverse=True, return_counts=True)
    mean = np.bincount(number, log_runtime) / counts
    seen = ~np.isnan(metrics)
    merged = np.full((len(unique), metrics.shape[1]), np.nan)
    for j in range(metrics.shape[1]):
        n = np.bincount(number, seen[:, j], len(unique))
        total = np.bincount(number, np.where(seen[:, j], metrics[:, j], 0.0), len(unique))
        merged[:, j] = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return Shots(unique[None], mean[None], merged[None])
