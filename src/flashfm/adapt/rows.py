"""Rows of measurements of any number of pairs, checked against a model; a bad row is a problem of its pair alone.

Enters: a DataFrame. Leaves: `Rows`, arrays with an entry for each row, and what is wrong with which row. A ShotsError
is raised only for what concerns the frame as a whole, such as a column that is missing. No file is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from flashfm.act.choose import OUTCOMES
from flashfm.datasets.units import misnamed, stands_for
from flashfm.errors import ShotsError
from flashfm.models.flash import FlashModel
from flashfm.tasks.space import ConfigSpace

LARGEST = 1e12
"""No run time in ms is as long."""
FAR = 2.0
"""A run time this many times outside of what was pretrained on is in doubt."""
MAX_CORES = 64
"""CPU time of more than this many times the run time is in another unit."""
UNITS = {"seconds": 1e3, "microseconds": 1e-3, "minutes": 6e4, "nanoseconds": 1e-6}
"""Unit -> its length in milliseconds."""
AT_ONCE = 64
"""Configurations outside of the grid whose usual run times are looked up at a time."""
_OFF = "switch this check off (check_units=False, --no-check-units)"


@dataclass(frozen=True)
class Problem:
    """What is wrong with a row."""

    row: int
    """Position in the frame."""
    words: str
    """What follows the number of the row."""

    def of(self, number: int) -> str:
        """The whole message, where the row is number `number` of its pair, counted from 1."""
        return f"shots: row {number}{self.words}"


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a frame; of those that have a problem, anything."""

    configurations: pd.DataFrame
    """The model's grid, and after it what else the rows were measured in, in order of first appearance."""
    config: Int[np.ndarray, " row"]
    """Position in `configurations`; -1 where it has a problem."""
    outcome: Int[np.ndarray, " row"]
    """Position in `OUTCOMES`."""
    log_runtime: Float[np.ndarray, " row"]
    """Logarithm of ms; NaN where the measurement did not end well."""
    metrics: Float[np.ndarray, "row metric"]
    """Raw units; NaN where missing, and where the measurement did not end well."""
    problems: list[Problem]
    """In order of what is looked at first."""

    @property
    def ended(self) -> Bool[np.ndarray, " row"]:
        """Where the measurement ended well."""
        return np.asarray(self.outcome == 0)


def read_rows(model: FlashModel, frame: pd.DataFrame, *, check_units: bool = True) -> Rows:
    """Check rows of any number of pairs.

    Args:
        model: what is to be adapted.
        frame: the configuration columns, `runtime_ms`, and where there are `outcome` and metrics `NAME_mean`.
        check_units: doubt run times that are far from all pretraining pairs and would be near in another unit.

    Raises:
        ShotsError: no frame, or a column is missing, doubled or misnamed.
    """
    if not isinstance(frame, pd.DataFrame):
        got = type(frame).__name__
        raise ShotsError(f"shots: expected a pandas DataFrame, got {got}; wrap rows as pd.DataFrame(rows)")
    check_columns(frame.columns, needed=len(frame) > 0)
    problems: list[Problem] = []
    outcome = _outcomes(frame, problems)
    ended = outcome == 0
    configurations, config = _configurations(model, frame, problems)
    runtime = _numbers(frame, "runtime_ms", ended, problems, above=0.0)
    metrics = _metrics(frame, model.metric_names, ended, problems)
    if check_units:
        sound = ended & (config >= 0) & (runtime > 0)
        _check_units(model, configurations, config, np.where(sound, runtime, np.nan), problems)
        _check_shares(model.metric_names, metrics, np.where(sound, runtime, np.nan), problems)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_runtime = np.log(np.where(ended, runtime, np.nan))
    return Rows(configurations, config, outcome, log_runtime, metrics, problems)


def check_columns(names: Iterable[object], *, needed: bool = True) -> None:
    """Refuse columns that are doubled or in another unit, and no `runtime_ms` where it is `needed`.

    Raises:
        ShotsError: such a column.
    """
    columns = [str(name) for name in names]
    doubled = next((column for column in columns if columns.count(column) > 1), None)
    if doubled is not None:
        raise ShotsError(f"shots: two or more columns are called {doubled!r}; keep one")
    wrong = next((found for c in columns if (found := misnamed(c)) and found.expected not in columns), None)
    if wrong is not None:
        raise ShotsError(f"shots: {wrong}")
    if "runtime_ms" not in columns and needed:
        near = stands_for("runtime", columns)
        mend = f"if {near!r} is in milliseconds, rename it" if near else f"got {', '.join(columns[:12])}"
        raise ShotsError(f"shots: no column 'runtime_ms'; {mend}")


def unique_rows(frame: pd.DataFrame) -> tuple[Int[np.ndarray, " unique"], Int[np.ndarray, " row"]]:
    """The first row of each different one, in order of appearance, and which of them each row is."""
    number = np.zeros(len(frame), dtype=np.int64)
    for name in frame.columns:
        try:
            codes, _ = pd.factorize(frame[name], use_na_sentinel=False)
        except TypeError:  # values without a hash are no configuration; each is looked at on its own
            codes = np.arange(len(frame))
        number, _ = pd.factorize(number * (int(codes.max(initial=0)) + 1) + codes)
    return np.unique(number, return_index=True)[1], np.asarray(number, dtype=np.int64)


def check_each(
    space: ConfigSpace, frame: pd.DataFrame, what: str
) -> tuple[pd.DataFrame, Int[np.ndarray, " sound"], dict[int, str]]:
    """Check configurations one by one.

    Returns:
        Those that the space knows in canonical types, their rows, and for each other row what follows its number.

    Raises:
        ShotsError: a column is missing.
    """
    try:
        return space.check(frame, what), np.arange(len(frame)), {}
    except ShotsError as error:
        words = str(error)
        space.check(frame[:0], what)
    if len(frame) == 1:
        return space.check(frame[:0], what), np.empty(0, dtype=np.int64), {0: words.removeprefix(f"{what}: row 1")}
    half = len(frame) // 2
    one, other = check_each(space, frame[:half], what), check_each(space, frame[half:], what)
    sound = np.concatenate([one[1], other[1] + half])
    return pd.concat([one[0], other[0]], ignore_index=True), sound, one[2] | {half + i: w for i, w in other[2].items()}


def _configurations(
    model: FlashModel, frame: pd.DataFrame, problems: list[Problem]
) -> tuple[pd.DataFrame, Int[np.ndarray, " row"]]:
    """The configurations of a model and of rows, and which each row has."""
    space = model.space
    present = frame[[name for name in space.names if name in frame]]
    first, number = unique_rows(present)
    checked, sound, bad = check_each(space, present.iloc[first], "shots")
    for i in bad:
        problems += [Problem(int(row), bad[i]) for row in np.flatnonzero(number == i)]
    problems.sort(key=lambda problem: problem.row)
    places, keys = dict(model.places), space.keys(checked)
    new: list[int] = []
    for i, key in enumerate(keys):
        if key not in places:
            places[key] = len(model.grid) + len(new)
            new.append(i)
    of_unique = np.full(len(first), -1, dtype=np.int64)
    of_unique[sound] = [places[key] for key in keys]
    configurations = model.grid
    if new:
        configurations = pd.concat([model.grid, checked.iloc[new]], ignore_index=True)
    return configurations, of_unique[number]


def _outcomes(frame: pd.DataFrame, problems: list[Problem]) -> Int[np.ndarray, " row"]:
    """How each measurement ended."""
    if "outcome" not in frame:
        return np.zeros(len(frame), dtype=np.int64)
    codes, values = pd.factorize(frame["outcome"].astype(object), use_na_sentinel=True)
    words = [str(value) for value in values]
    known = np.array([OUTCOMES.index(word) if word in OUTCOMES else -1 for word in words] + [0], dtype=np.int64)
    found = known[codes]
    for row in np.flatnonzero(found < 0):
        got = words[codes[row]][:60]
        expected = ", ".join(sorted(OUTCOMES))
        problems.append(Problem(int(row), f", column 'outcome': expected one of {expected}, got {got!r}"))
    return np.asarray(found)


def _numbers(
    frame: pd.DataFrame,
    column: str,
    ended: Bool[np.ndarray, " row"],
    problems: list[Problem],
    *,
    above: float | None = None,
) -> Float[np.ndarray, " row"]:
    """A column as numbers, NaN where there is none; finite and above a bound where rows ended well."""
    if column not in frame:
        return np.full(len(frame), np.nan)
    no_number = np.zeros(len(frame), dtype=np.bool_)
    try:
        values = frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64)
        no_number = np.isnan(values) & frame[column].notna().to_numpy()
        for row in np.flatnonzero(no_number):
            got = str(frame[column].iloc[row])[:60]
            problems.append(Problem(int(row), f", column {column!r}: expected a number, got {got!r}"))
    with np.errstate(invalid="ignore"):
        bad = np.isinf(values) if above is None else ~((values > above) & (values < LARGEST))
    for row in np.flatnonzero(bad & ended & ~no_number):
        words = "a finite number" if above is None else f"a number above {above:g} and below {LARGEST:g}"
        got = "an empty cell" if np.isnan(values[row]) else f"{values[row]:g}"
        problems.append(Problem(int(row), f", column {column!r}: expected {words}, got {got}"))
    return np.asarray(values)


def _metrics(
    frame: pd.DataFrame, names: Sequence[str], ended: Bool[np.ndarray, " row"], problems: list[Problem]
) -> Float[np.ndarray, "row metric"]:
    found = np.full((len(frame), len(names)), np.nan)
    for j, name in enumerate(names):
        column = f"{name}_mean"
        if column in frame:
            values = _numbers(frame, column, ended, problems)
            for row in np.flatnonzero((values < 0) & np.isfinite(values) & ended):
                words = f", column {column!r}: expected a number of at least 0, got {values[row]:g}"
                problems.append(Problem(int(row), words))
            found[:, j] = np.where(ended, values, np.nan)
    return found


def _check_units(
    model: FlashModel,
    configurations: pd.DataFrame,
    config: Int[np.ndarray, " row"],
    runtime: Float[np.ndarray, " row"],
    problems: list[Problem],
) -> None:
    """Doubt run times, NaN where there is none, that would be usual in another unit."""
    low, high = _usual(model, configurations)
    low, high = low[config], high[config]
    with np.errstate(invalid="ignore"):
        far = (runtime < low / FAR) | (runtime > high * FAR)
        rows = np.flatnonzero(far)
        near = np.array([(low <= runtime * f) & (runtime * f <= high) for f in UNITS.values()])
    for row in rows[near[:, rows].any(axis=0)]:
        unit, factor = list(UNITS.items())[int(near[:, row].argmax())]
        times = f"multiply by {factor:g}" if factor > 1 else f"divide by {1 / factor:g}"
        words = (
            f", column 'runtime_ms': {runtime[row]:g} looks like {unit}, not milliseconds (pretraining pairs took"
            f" {low[row]:.3g} to {high[row]:.3g} ms there): {times}; if it is right, {_OFF}"
        )
        problems.append(Problem(int(row), words))


def _usual(
    model: FlashModel, configurations: pd.DataFrame
) -> tuple[Float[np.ndarray, " config"], Float[np.ndarray, " config"]]:
    """Least and most run time in ms of pretraining pairs in each configuration."""
    grid = len(model.grid)
    profiles = [model.prior.gp.profiles]
    for start in range(grid, len(configurations), AT_ONCE):
        features = model.space.features(configurations.iloc[start : start + AT_ONCE])
        profiles.append(model.prior.gp.extended(features).profiles[:, grid:])
    known = np.concatenate(profiles, axis=1)
    return np.exp(known.min(axis=0)), np.exp(known.max(axis=0))


def _check_shares(
    names: Sequence[str],
    metrics: Float[np.ndarray, "row metric"],
    runtime: Float[np.ndarray, " row"],
    problems: list[Problem],
) -> None:
    """CPU time far beyond the run time means that one of the two is in another unit."""
    timed = [j for j, name in enumerate(names) if name.endswith("_ms")]
    if not timed:
        return
    busy = np.nansum(metrics[:, timed], axis=1)
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero(busy > MAX_CORES * runtime)
    for row in rows:
        words = (
            f": CPU time of {busy[row]:g} ms ({', '.join(names[j] for j in timed)}) in a run of {runtime[row]:g} ms;"
            f" expected at most {MAX_CORES} times as much: runtime_ms or they are in another unit;"
            f" if it is right, {_OFF}"
        )
        problems.append(Problem(int(row), words))
