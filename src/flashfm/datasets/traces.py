"""Request-rate traces: readers for each public format, and `load_trace` that picks the right one by name.

Enters: a file. Leaves: RateTraces. Large files are streamed, archives are never unpacked to disk, and what a file may
make us hold in memory is bounded. Every way in which a file can be damaged ends as a DataFormatError with its place.
"""

from __future__ import annotations

import bz2
import io
import itertools
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from flashfm.datasets.catalogue import source
from flashfm.datasets.files import read_raw
from flashfm.datasets.rate_trace import MAX_BINS, RateTrace
from flashfm.datasets.schema import Problem, numbers, refuse
from flashfm.datasets.sources import locate
from flashfm.errors import DataError, DataFormatError

__all__ = [
    "RateTrace",
    "load_trace",
    "read_arrivals",
    "read_bins",
    "read_invocations",
    "read_minute_counts",
    "read_rate_archive",
]

MAX_SPAN_S = 366 * 86_400.0
"""Longest trace of invocations; a later timestamp is a mistake or in another unit."""
MAX_ARCHIVE_BYTES = 128 * 2**20
"""What an archive may unpack to while it is read."""
_BLOCK = 2**20
_TARGET = "workload.txt"

Grouping = Literal["total", "app", "function"]


def load_trace(
    name: str, path: str | os.PathLike[str] | None = None, *, by: Grouping = "total"
) -> tuple[RateTrace, ...]:
    """The traces of a public data set: one, or several where the file has one for each function.

    Args:
        name: name in the catalogue, such as "nasa".
        path: the file; absent, it is looked for.
        by: what the invocations of Azure Functions 2021 are added up over.

    Raises:
        DataError: no trace has that name, or the file cannot be read.
        DataMissingError: the file is not on this machine.
        DataFormatError: the file is damaged or not in the format of `name`.
    """
    known = source(name)
    if known.kind != "trace":
        raise DataError(f"data set {name!r} is a table of measurements, not a trace")
    readers: dict[str, Callable[[Path], tuple[RateTrace, ...]]] = {
        "azure-functions-2021": lambda file: read_invocations(file, by=by, name=name),
        "azure-functions-2021-sample": lambda file: read_invocations(file, by=by, name=name),
        "azure-functions-2019-sample": lambda file: read_minute_counts(file, name=name),
        "azure-llm-conv": lambda file: (read_arrivals(file, name=name),),
        "azure-llm-code": lambda file: (read_arrivals(file, name=name),),
        "nasa": lambda file: (read_rate_archive(file, name=name),),
        "twitter": lambda file: (read_rate_archive(file, name=name),),
        "aws-elb": lambda file: (read_bins(file, name=name),),
    }
    return readers[name](locate(name) if path is None else Path(path))


def read_invocations(
    path: Path, *, by: Grouping = "total", bin_s: float = 60.0, name: str = "invocations"
) -> tuple[RateTrace, ...]:
    """Azure Functions 2021: one line an invocation; `app`, `func`, `end_timestamp` and `duration` in seconds.

    An invocation counts in the bin in which it started, `end_timestamp - duration`; one that started before the trace
    counts in the first. Lines may be in any order. The file is streamed: memory does not grow with its length.

    Returns:
        One trace in all, or one an app (`NAME/APP`) or a function (`NAME/APP/FUNC`), of equal length, sorted by name.

    Raises:
        DataFormatError: not such a file; a duration or timestamp is missing, negative or beyond `MAX_SPAN_S`.
    """
    counts = np.zeros((1, 1024), dtype=np.int64)
    rows: dict[str, int] = {}
    bins = 0
    for groups, starts in _invocations(path, by):
        at = (np.maximum(starts, 0.0) / bin_s).astype(np.int64)
        codes, unique = pd.factorize(groups)
        for group in unique:
            rows.setdefault(str(group), len(rows))
        bins = max(bins, int(at.max()) + 1)
        shape = (_room(counts.shape[0], len(rows)), _room(counts.shape[1], bins))
        if shape[0] * shape[1] > MAX_BINS:
            raise DataFormatError(
                f"{path}: {len(rows)} groups x {bins} bins are more than {MAX_BINS}; add up by app or over longer bins"
            )
        if shape != counts.shape:
            counts = np.pad(counts, [(0, new - old) for new, old in zip(shape, counts.shape, strict=True)])
        row_of = np.array([rows[str(group)] for group in unique])
        np.add.at(counts, (row_of[codes], at), 1)
    if not bins:
        raise DataFormatError(f"{path}: no invocations; expected one line for each")
    names = {group: name if by == "total" else f"{name}/{group}" for group in rows}
    return tuple(RateTrace(names[group], counts[rows[group], :bins].copy(), bin_s) for group in sorted(rows))


def _room(now: int, needed: int) -> int:
    """Capacity for `needed`, doubled so that growing is rare."""
    return now if needed <= now else max(needed, min(2 * now, 2 * needed))


def _invocations(path: Path, by: Grouping) -> Iterator[tuple[pd.Series, Float[np.ndarray, " invocation"]]]:
    """Pieces of the file as (group of each invocation, its start in seconds)."""
    import pyarrow
    import pyarrow.csv

    columns = ["app", "func", "end_timestamp", "duration"]
    types = dict.fromkeys(columns, pyarrow.string())
    options = pyarrow.csv.ConvertOptions(column_types=types, include_columns=columns)
    try:
        reading = pyarrow.csv.ReadOptions(block_size=4 * _BLOCK, use_threads=False)
        with pyarrow.csv.open_csv(path, read_options=reading, convert_options=options) as batches:
            before = 0
            for batch in batches:
                frame = batch.to_pandas()
                if frame.empty:
                    continue
                yield _one_piece(frame, before, path, by)
                before += len(frame)
    except (pyarrow.ArrowException, KeyError) as error:
        raise DataFormatError(f"{path}: expected CSV with columns {', '.join(columns)}: {_first_line(error)}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or _first_line(error)}") from None


def _one_piece(
    frame: pd.DataFrame, before: int, path: Path, by: Grouping
) -> tuple[pd.Series, Float[np.ndarray, " invocation"]]:
    """Checked groups and starts of the invocations in `frame`, which follows `before` others."""
    seconds = {
        c: pd.to_numeric(frame[c], errors="coerce").to_numpy(dtype="float64") for c in ("end_timestamp", "duration")
    }
    with np.errstate(invalid="ignore"):
        bad = {column: ~((values >= 0) & (values <= MAX_SPAN_S)) for column, values in seconds.items()}
    bad |= {column: (frame[column] == "").to_numpy(dtype=bool) for column in ("app", "func")}
    for column, wrong in bad.items():
        if wrong.any():
            at = int(wrong.argmax())
            expected = f"seconds from 0 to {MAX_SPAN_S:.0f}" if column in seconds else "a value"
            raise DataFormatError(
                f"{path}: row {before + at + 1} (line {before + at + 2}), column {column!r}: expected {expected},"
                f" got {str(frame[column].iloc[at])[:60]!r}"
                + (f"; and {int(wrong.sum()) - 1} more nearby" if wrong.sum() > 1 else "")
            )
    groups = {"total": pd.Series("", index=frame.index), "app": frame["app"]}
    chosen = groups[by] if by in groups else frame["app"] + "/" + frame["func"]
    return chosen, seconds["end_timestamp"] - seconds["duration"]


def read_minute_counts(path: Path, *, name: str = "functions") -> tuple[RateTrace, ...]:
    """Azure Functions 2019: one line a function with its invocations in each minute of a day, columns `1` to `1440`.

    Returns:
        One trace for each function, called `NAME/` and its `HashFunction`.

    Raises:
        DataFormatError: not such a file, or a count is not a whole number of at least 0.
    """
    raw, origin, _ = read_raw(path)
    minutes = [str(minute) for minute in range(1, 1441)]
    absent = [column for column in ["HashFunction", *minutes] if column not in raw]
    if absent or raw.empty:
        lacking = f"column {absent[0]!r} is missing" if absent else "it has no rows"
        raise DataFormatError(f"{path}: expected HashFunction and minutes 1 to 1440, one row a function: {lacking}")
    cells = raw[minutes].to_numpy(dtype=object)
    counts = pd.to_numeric(pd.Series(cells.ravel()), errors="coerce").to_numpy(dtype="float64").reshape(cells.shape)
    rows, columns = np.nonzero(~((counts >= 0) & (counts < 2**53) & (counts % 1 == 0)))
    expected = "a whole number of at least 0"
    refuse(
        [Problem(int(i), minutes[j], expected, repr(cells[i, j])) for i, j in zip(rows, columns, strict=True)], origin
    )
    whole = counts.astype(np.int64)
    return tuple(RateTrace(f"{name}/{function}", whole[i], 60.0) for i, function in enumerate(raw["HashFunction"]))


def read_arrivals(path: Path, *, bin_s: float = 1.0, name: str = "arrivals") -> RateTrace:
    """Azure LLM inference: one line a request with its `TIMESTAMP`, in any order; the first one starts the first bin.

    Raises:
        DataFormatError: not such a file, or a timestamp is none.
    """
    seconds = _timestamps(path, "TIMESTAMP")
    bins = ((seconds - seconds.min()) / bin_s).astype(np.int64)
    return RateTrace(name, np.bincount(bins), bin_s)


def read_bins(path: Path, *, bin_s: float = 300.0, name: str = "bins") -> RateTrace:
    """AWS load balancer (NAB): `timestamp` and `value`, the requests of 5 minutes; times must ascend.

    A bin that is absent counts 0: CloudWatch reports `RequestCount` only where there are requests.

    Raises:
        DataFormatError: not such a file, times that do not fall on bins or do not ascend, or a count below 0.
    """
    raw, origin, _ = read_raw(path)
    seconds = _timestamps(path, "timestamp")
    if "value" not in raw:
        raise DataFormatError(f"{path}: no column 'value', got {', '.join(raw.columns)}")
    values = numbers(raw, ["value"], origin)["value"].to_numpy(dtype="float64")
    bins = (seconds - seconds[0]) / bin_s
    ascends = np.concatenate([[True], np.diff(bins) > 0])
    wrong_time = np.flatnonzero((bins % 1 != 0) | ~ascends)
    expected = f"a time {bin_s:g} s or a multiple of it after the one before"
    refuse([Problem(int(i), "timestamp", expected, repr(raw.at[i, "timestamp"])) for i in wrong_time], origin)
    wrong_value = np.flatnonzero(~((values >= 0) & (values % 1 == 0)))
    refuse([Problem(int(i), "value", "a whole number of at least 0", f"{values[i]:g}") for i in wrong_value], origin)
    counts = np.zeros(int(bins[-1]) + 1, dtype=np.int64)
    counts[bins.astype(np.int64)] = values.astype(np.int64)
    return RateTrace(name, counts, bin_s)


def _timestamps(path: Path, column: str) -> Float[np.ndarray, " row"]:
    """Seconds of a column of dates and times, spanning at most `MAX_SPAN_S`."""
    raw, origin, _ = read_raw(path)
    if column not in raw or raw.empty:
        got = ", ".join(list(raw.columns)[:12])
        raise DataFormatError(
            f"{path}: expected a column {column!r} and a row for each entry, got {got}, {len(raw)} rows"
        )
    times = pd.to_datetime(raw[column], errors="coerce", format="ISO8601")
    expected = "a date and time such as 2023-11-16 18:17:03.97"
    bad = times.index[times.isna()]
    refuse([Problem(int(i), column, expected, repr(raw.at[i, column])) for i in bad], origin)
    seconds = (times - times.min()).dt.total_seconds().to_numpy(dtype="float64")
    if seconds.max() > MAX_SPAN_S:
        last = int(seconds.argmax())
        where = f"{origin.row(last)}, column {column!r}"
        raise DataFormatError(f"{path}: {where}: {raw.at[last, column]!r} is more than a year after the first entry")
    return seconds


def read_rate_archive(path: Path, *, bin_s: float = 1.0, name: str = "rates") -> RateTrace:
    """NASA and Twitter: a tar.bz2 with `workload.txt`, whole numbers apart by blanks, the requests of each second.

    The archive is read as a stream: nothing is written to disk, member names are only compared, and what it unpacks to
    is bounded by `MAX_ARCHIVE_BYTES`.

    Raises:
        DataFormatError: not such an archive, damaged, too large, or something in it is not a count.
    """
    try:
        with bz2.open(path) as unpacked, tarfile.open(fileobj=_Bounded(unpacked, path), mode="r|") as archive:
            for member in archive:
                if member.isreg() and not member.issparse() and Path(member.name).name == _TARGET:
                    text = archive.extractfile(member)
                    if text is not None:
                        return RateTrace(name, _counts(text.read, path), bin_s)
    except (tarfile.TarError, EOFError, ValueError) as error:
        reason = _first_line(error)
        raise DataFormatError(f"{path}: not a readable tar.bz2 archive, damaged or cut short: {reason}") from None
    except OSError as error:
        if error.errno is not None:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        raise DataFormatError(f"{path}: not a bzip2 file: {_first_line(error)}") from None
    raise DataFormatError(f"{path}: no file {_TARGET} in the archive")


def _counts(read: Callable[[int], bytes], path: Path) -> Int[np.ndarray, " bin"]:
    """Whole numbers out of text, read in blocks."""
    pieces: list[np.ndarray] = []
    n, rest = 0, b""
    for block in itertools.chain(iter(lambda: read(_BLOCK), b""), [b" "]):
        text = rest + block
        words = text.split()
        rest = words.pop() if words and not text[-1:].isspace() else b""
        if text.translate(None, b"0123456789 \t\r\n") or max(map(len, [*words, rest])) > 9:
            bad = next(i for i, word in enumerate([*words, rest]) if len(word) > 9 or not word.isdigit())
            got = [*words, rest][bad][:40]
            raise DataFormatError(f"{path}: number {n + bad + 1}: expected a whole number below 10^9, got {got!r}")
        n += len(words)
        if n > MAX_BINS:
            raise DataFormatError(f"{path}: more than {MAX_BINS} numbers; expected one for each second")
        if words:  # of blanks alone, fromstring makes a number
            pieces.append(np.fromstring(text[: len(text) - len(rest)], dtype=np.int64, sep=" "))
    if not n:
        raise DataFormatError(f"{path}: {_TARGET} is empty; expected whole numbers")
    return np.concatenate(pieces)


class _Bounded(io.RawIOBase):
    """Reads another stream and refuses to go on past `MAX_ARCHIVE_BYTES`."""

    def __init__(self, stream: bz2.BZ2File, path: Path) -> None:
        self._stream, self._path, self._left = stream, path, MAX_ARCHIVE_BYTES

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes."""
        data = self._stream.read(_BLOCK if size < 0 else size)
        self._left -= len(data)
        if self._left < 0:
            raise DataFormatError(f"{self._path}: unpacks to more than {MAX_ARCHIVE_BYTES} bytes; not a trace")
        return data


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
