"""Rows of measurements from a file of any length, in chunks of whole pairs; memory does not grow with the file.

Enters: a `.parquet` or `.csv` file in which the rows of a pair follow each other. Leaves: `Chunk`s. A cell that cannot
be read is left as it is, for it is a problem of its pair; only a file that cannot be read is an error.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from jaxtyping import Bool, Int

from flashfm.adapt.rows import check_columns
from flashfm.errors import DataError, DataFormatError
from flashfm.fleet.answer import names_of
from flashfm.fleet.settings import FleetSettings
from flashfm.models.flash import FlashModel

BATCH_ROWS = 32_768
"""Rows that are read at a time."""
BLOCK_BYTES = 1 << 20
"""Of a CSV file, or of a column of a Parquet file, that are read at a time."""
MAX_PAIR_ROWS = 10_000
"""Rows of one pair; more are no measurements of one application."""
MISSING = ("", "nan", "na", "n/a", "null", "none")
"""Texts that stand for an empty cell, in any case of letters."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows of whole pairs."""

    frame: pd.DataFrame
    """Under our column names, without application and platform."""
    owner: Int[np.ndarray, " row"]
    """Number of the pair of each row, rising."""
    apps: pa.Array
    """Of each pair; null where there is none."""
    platforms: pa.Array
    first: Int[np.ndarray, " pair"]
    """Row of the file at which each pair begins, counted from 0."""
    end: int
    """Row of the file after the last."""
    problems: dict[int, str]
    """Pairs that cannot be answered for, such as those with too many rows, and why."""


@dataclass(frozen=True)
class Source:
    """A file whose columns are those of measurements; `Source.open` looks at it."""

    path: Path
    columns: dict[str, str]
    """Columns that are read -> what they are called here."""
    numbers: frozenset[str]
    """Which of them, by our names, hold numbers; the others hold texts."""
    rows: int | None
    """How many there are; None where only reading the file tells."""

    @classmethod
    def open(cls, path: Path, model: FlashModel, settings: FleetSettings) -> Source:
        """Look at a file's columns.

        Raises:
            DataFormatError: not such a file, damaged, or without a column that the settings name.
            ShotsError: a column is doubled, in another unit or missing.
            DataError: the operating system refuses to read it.
        """
        suffix = path.suffix.lower()
        if suffix not in (".parquet", ".csv"):
            raise DataFormatError(f"{path}: expected a .parquet or .csv file, got suffix {path.suffix!r}")
        if not path.is_file():
            got = "a directory, expected a file" if path.is_dir() else "not a file" if path.exists() else "no such file"
            raise DataFormatError(f"{path}: {got}")
        with readable(path):
            if suffix == ".csv":
                header, rows = header_of(path), None
            else:
                with pa.parquet.ParquetFile(path) as file:
                    header, rows = list(file.schema_arrow.names), file.metadata.num_rows
        called = {name: name.strip() for name in header}
        doubled = next((name for name in header if [h.strip() for h in header].count(name.strip()) > 1), None)
        if doubled is not None:
            raise DataFormatError(f"{path}: two or more columns are called {doubled.strip()!r}; keep one")
        other = names_of(list(called.values()), settings, str(path))
        called = {name: other.get(ours, ours) for name, ours in called.items()}
        check_columns([ours for ours in called.values() if ours])
        space, prefix = model.space, settings.today_prefix
        space.check(pd.DataFrame(columns=[ours for ours in called.values() if ours], dtype=np.float64), str(path))
        metrics = [f"{name}_mean" for name in model.metric_names]
        wanted = {
            "app",
            "platform",
            "outcome",
            "runtime_ms",
            *metrics,
            *space.names,
            *(prefix + n for n in space.names),
        }
        levels = [column.name for column in space.columns if column.levels]
        numbers = wanted - {"app", "platform", "outcome", *levels, *(prefix + name for name in levels)}
        return cls(path, {name: ours for name, ours in called.items() if ours in wanted}, frozenset(numbers), rows)

    def chunks(self, pairs: int, start: int = 0) -> Iterator[Chunk]:
        """The rows from `start` on, which must begin a pair, in chunks of so many pairs; the last may have fewer.

        Raises:
            DataFormatError: the file is damaged.
            DataError: the operating system refuses to read it.
        """
        kept: list[pa.Table] = []
        count, within, row = 0, 0, start
        last: pa.Table | None = None
        for batch in self._batches(start):
            begins = _begins(batch, last)
            last, place = batch.slice(batch.num_rows - 1), _place_within(begins, within)
            within, count = int(place[-1]) + 1, count + int(begins.sum())
            numbered = batch.append_column("_row", pa.array(np.arange(row, row + batch.num_rows)))
            kept.append(numbered.append_column("_begins", pa.array(begins)).filter(pa.array(place <= MAX_PAIR_ROWS)))
            row += batch.num_rows
            while count > pairs:
                table = pa.concat_tables(kept).combine_chunks()
                cut = int(np.flatnonzero(_array(table["_begins"]))[pairs])
                kept, count = [table.slice(cut)], count - pairs
                yield self._chunk(table.slice(0, cut), int(table["_row"][cut].as_py()))
        if count:
            yield self._chunk(pa.concat_tables(kept).combine_chunks(), row)

    def _chunk(self, table: pa.Table, end: int) -> Chunk:
        begins = _array(table["_begins"])
        owner = np.cumsum(begins) - 1
        pairs = table.filter(pa.array(begins))
        long = np.flatnonzero(np.bincount(owner) > MAX_PAIR_ROWS)
        columns = {
            name: _numbers(table[name]) if name in self.numbers else _array(text_of(table[name]))
            for name in table.column_names
            if name not in ("app", "platform", "_row", "_begins")
        }
        platforms = pairs["platform"] if "platform" in pairs.column_names else pa.nulls(len(pairs), pa.string())
        return Chunk(
            pd.DataFrame(columns),
            owner,
            _whole(pairs["app"]),
            _whole(platforms),
            _array(pairs["_row"]),
            end,
            {int(i): f"more than {MAX_PAIR_ROWS} rows; expected the measurements of one application" for i in long},
        )

    def _batches(self, start: int) -> Iterator[pa.Table]:
        """Rows from `start` on, under our column names, with names as texts."""
        with readable(self.path):
            for batch in self._csv(start) if self.path.suffix.lower() == ".csv" else self._parquet(start):
                table = batch.rename_columns([self.columns[name] for name in batch.column_names])
                for name in {"app", "platform"} & set(table.column_names):
                    table = table.set_column(table.column_names.index(name), name, text_of(table[name]))
                if table.num_rows:
                    yield table

    def _parquet(self, start: int) -> Iterator[pa.Table]:
        with pa.parquet.ParquetFile(self.path, pre_buffer=False, buffer_size=BLOCK_BYTES) as file:
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
            before = np.cumsum([0, *sizes])
            groups = [i for i in range(len(sizes)) if before[i + 1] > start]
            skip = start - int(before[groups[0]]) if groups else 0
            for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(self.columns)):
                yield pa.Table.from_batches([batch.slice(min(skip, batch.num_rows))])
                skip = max(0, skip - batch.num_rows)

    def _csv(self, start: int) -> Iterator[pa.Table]:
        read = pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)
        parse = pa.csv.ParseOptions(newlines_in_values=True)
        convert = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(self.columns, pa.string()),
            include_columns=list(self.columns),
            strings_can_be_null=False,
        )
        skip = start
        with pa.csv.open_csv(self.path, read, parse, convert) as file:
            for batch in file:
                yield pa.Table.from_batches([batch.slice(min(skip, batch.num_rows))])
                skip = max(0, skip - batch.num_rows)


def _begins(batch: pa.Table, last: pa.Table | None) -> Bool[np.ndarray, " row"]:
    """Where another pair begins than that of the row before."""
    found = np.zeros(batch.num_rows, dtype=np.bool_)
    found[0] = last is None
    for name in {"app", "platform"} & set(batch.column_names):
        before = pa.concat_arrays(
            [_whole(last[name]) if last is not None else pa.nulls(1, pa.string()), _whole(batch[name])]
        )
        one, other = before.slice(0, batch.num_rows), before.slice(1)
        same = pc.fill_null(pc.equal(one, other), False)
        both = pc.and_(pc.is_null(one), pc.is_null(other))
        found |= ~_array(pc.or_(same, both))
    if last is None:
        found[0] = True
    return found


def _place_within(begins: Bool[np.ndarray, " row"], within: int) -> Int[np.ndarray, " row"]:
    """Which row of its pair each row is, from 0; the first rows go on from `within`."""
    rows = np.arange(len(begins))
    since = np.maximum.accumulate(np.where(begins, rows, -within))
    return rows - since


def text_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """As texts without spaces around them; null where empty."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        text = pa.chunked_array([pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())])
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """As numbers, NaN where empty; as texts where one of them is no number."""
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return _array(column.cast(pa.float64(), safe=False))
    text = text_of(column)
    missing = pc.is_in(pc.utf8_lower(text), pa.array(MISSING))
    text = pc.if_else(missing, pa.scalar(None, pa.string()), text)
    try:
        return _array(text.cast(pa.float64()))
    except pa.ArrowInvalid:
        return _array(text)


def _array(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    found: np.ndarray = _whole(column).to_numpy(zero_copy_only=False)
    return found


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """In one piece."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def header_of(path: Path) -> list[str]:
    """Names of a CSV file's columns."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next((record for record in csv.reader(file) if record), None)
    if header is None:
        raise DataFormatError(f"{path}: the file is empty; expected a header line and data rows")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise DataFormatError(f"{path}: one column called {header[0][:60]!r}; expected commas between columns")
    return header


@contextmanager
def readable(path: Path, kind: str | None = None) -> Iterator[None]:
    """What goes wrong in reading a file of the kind that its suffix or `kind` says, as an error of one line."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataFormatError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (pa.ArrowException, csv.Error, ValueError) as error:
        of_text = (kind or path.suffix.lower()) == ".csv"
        expected = "CSV" if of_text else "a readable Parquet file, damaged or cut short"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataFormatError(f"{path}: not {expected}: {reason}") from None
    except OSError as error:
        if error.errno is None:  # pyarrow's way of saying that the content is damaged
            raise DataFormatError(f"{path}: damaged or cut short: {str(error).splitlines()[0]}") from None
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
