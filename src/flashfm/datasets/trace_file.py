"""Request-rate traces of users: a table of times and requests, whose units are in the names of its columns.

Enters: a `.csv` or `.parquet` file, or the name of a public trace. Leaves: one RateTrace. Nothing is repaired: a gap, a
time that goes back, a value that is no count, or a column in another unit is refused with its row or with the factor.

`time_s` or `timestamp` says when a bin begins: seconds since any moment, or a date and time; bins are equally long.
`requests` is how many came in the bin, whole; `rate_per_s` is requests a second; at least 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from flashfm.datasets.catalogue import SOURCES
from flashfm.datasets.files import read_raw
from flashfm.datasets.rate_trace import RateTrace
from flashfm.datasets.schema import Origin, Problem, numbers, refuse
from flashfm.datasets.traces import load_trace
from flashfm.errors import DataError, DataFormatError

TIMES, VALUES = ("time_s", "timestamp"), ("requests", "rate_per_s")
LONGEST_BIN_S = 3600.0
"""A longer bin is another unit: loads are served in steps of half a minute."""
MOST = 1e9
"""Requests of a bin, or a second; more is a mistake."""
UNEVEN = 0.01
"""Share of a bin by which times may be rounded."""
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
_OTHER_TIMES = {f"{word}_{unit}": s for word in ("time", "timestamp") for unit, s in _SECONDS.items()}
_OTHER_VALUES = {
    **{f"rate_per_{unit}": s for unit, s in _SECONDS.items()},
    **dict.fromkeys(("rps", "qps", "requests_per_s", "requests_per_sec"), 1.0),
    **dict.fromkeys(("rpm", "requests_per_min", "requests_per_minute", "rate_per_minute"), 60.0),
    **dict.fromkeys(("rph", "requests_per_h", "requests_per_hour", "rate_per_hour"), 3600.0),
}


def open_trace(what: str, format_: str | None = None) -> RateTrace:
    """A trace by the name of a public data set, or from a file; of several in it the one with most requests.

    Args:
        what: a name from `flashfm data list`, or a file.
        format_: name of the data set in whose format the file is; None for the columns above.

    Raises:
        DataError: neither a name nor a file, or one of a table of measurements.
        DataMissingError: the data set is not on this machine.
        DataFormatError: the file is damaged or not as it must be; the message names row and column.
    """
    if format_ is None and what not in SOURCES:
        if not Path(what).exists() and Path(what).suffix.lower() not in (".csv", ".parquet"):
            known = ", ".join(name for name, source in SOURCES.items() if source.kind == "trace")
            raise DataError(f"{what!r} is neither a file nor a trace; expected a path, or one of {known}")
        return read_trace(Path(what))
    several = load_trace(what) if format_ is None else load_trace(format_, what)
    return max(several, key=lambda trace: trace.total)


def read_trace(path: Path) -> RateTrace:
    """A trace of a user, from a file with the columns above; it is named after the file.

    Raises:
        DataFormatError: see the module.
    """
    raw, origin, _ = read_raw(path)
    time = _column(raw, TIMES, _OTHER_TIMES, "when a bin begins", origin)
    value = _column(raw, VALUES, _OTHER_VALUES, "how many requests came", origin)
    if len(raw) < 2:
        raise DataFormatError(f"{path}: {len(raw)} rows; expected at least 2, or the length of a bin is unknown")
    seconds = _times(raw, time, origin)
    steps = np.diff(seconds)
    bin_s = float(np.median(steps))
    expected = f"{bin_s:g} s after the row before, as most are" if bin_s > 0 else "a time after the one before"
    wrong = np.flatnonzero(~(np.abs(steps - bin_s) <= UNEVEN * bin_s) | (steps <= 0))
    mend = "fill a gap with what came in it, or cut the trace there"
    refuse([Problem(int(i) + 1, time, expected, f"{steps[i]:g} s", mend) for i in wrong], origin)
    if bin_s > LONGEST_BIN_S:
        mend = "are the times in milliseconds? divide them by 1000" if time == "time_s" else "give finer ones"
        raise DataFormatError(f"{path}: rows are {bin_s:g} s apart, expected at most {LONGEST_BIN_S:g} s; {mend}")
    bin_s = round(float(seconds[-1] - seconds[0]) / len(steps), 6)
    of_bin = _values(raw, value, origin) * (bin_s if value == "rate_per_s" else 1.0)
    whole = np.diff(np.floor(np.concatenate([[0.0], np.cumsum(of_bin)]) + 0.5)).astype(np.int64)
    if not whole.any():
        raise DataFormatError(f"{path}: column {value!r}: no request in {len(raw)} rows; expected some")
    return RateTrace(path.name, whole, bin_s)


def _column(raw: pd.DataFrame, wanted: tuple[str, str], others: dict[str, float], what: str, origin: Origin) -> str:
    """Which of two columns there is, once it is there alone."""
    found = [name for name in wanted if name in raw]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataFormatError(f"{origin.name}: columns {found[0]!r} and {found[1]!r}, both say {what}; keep one")
    near = next((column for column in map(str, raw.columns) if column.lower() in others), None)
    if near is not None:
        ours, unit_s = ("time_s" if wanted == TIMES else "rate_per_s"), others[near.lower()]
        factor = unit_s if wanted == TIMES else 1 / unit_s
        times = f"multiply by {factor:.12g}" if factor > 1 else f"divide by {1 / factor:.12g}"
        mend = "rename it" if factor == 1 else f"{times} and rename it"
        raise DataFormatError(f"{origin.name}: column {near!r}, expected {ours!r}: {mend}")
    listed = ", ".join(list(map(str, raw.columns))[:12])
    raise DataFormatError(f"{origin.name}: no column {wanted[0]!r} or {wanted[1]!r}, which says {what}; got {listed}")


def _times(raw: pd.DataFrame, column: str, origin: Origin) -> Float[np.ndarray, " row"]:
    """Seconds of each row."""
    if column == "time_s":
        seconds = numbers(raw, [column], origin)[column].to_numpy(dtype=np.float64)
        bad, expected = ~np.isfinite(seconds), "seconds"
    else:
        times = pd.to_datetime(raw[column], errors="coerce", format="ISO8601", utc=True)
        seconds = (times - times.min()).dt.total_seconds().to_numpy(dtype=np.float64)
        bad, expected = ~np.isfinite(seconds), "a date and time such as 2023-11-16T18:17:00; numbers go in 'time_s'"
    refuse([Problem(int(i), column, expected, _said(raw, column, int(i))) for i in np.flatnonzero(bad)], origin)
    return seconds


def _values(raw: pd.DataFrame, column: str, origin: Origin) -> Float[np.ndarray, " row"]:
    """Requests, or requests a second, of each row."""
    values = numbers(raw, [column], origin)[column].to_numpy(dtype=np.float64)
    sound = (values >= 0) & (values <= MOST)
    expected, mend = f"a number from 0 to {MOST:g}", ""
    if column == "requests":
        parts = np.isfinite(values) & (np.floor(values) != values)
        sound &= ~parts
        expected = f"a whole number from 0 to {MOST:g}"
        mend = "if these are rates, call the column 'rate_per_s'" if parts.any() else ""
    wrong = np.flatnonzero(~sound)
    refuse([Problem(int(i), column, expected, _said(raw, column, int(i)), mend) for i in wrong], origin)
    return values


def _said(raw: pd.DataFrame, column: str, i: int) -> str:
    value = raw[column].iloc[i]
    return "nothing" if pd.isna(value) else repr(str(value))[:60]
