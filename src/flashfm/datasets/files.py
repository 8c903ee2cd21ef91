"""Measurement tables as files: CSV and Parquet in, a raw DataFrame out, and the way back, atomically.

Nothing here judges values; `schema.checked` does. Every way in which a file can be damaged ends as a DataFormatError.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Literal

import pandas as pd

from flashfm.datasets.schema import Origin
from flashfm.errors import DataError, DataFormatError

VERSION = 1
"""Version of the Parquet metadata; a file with a later one is refused."""
MAX_ROWS = 10_000_000
"""Rows that a file may have; a table of measurements is far below."""
_METADATA = b"flashfm"

Raw = tuple[pd.DataFrame, Origin, dict[str, Any]]
"""Rows, where they came from, and what the file's metadata say."""


def read_raw(path: Path) -> Raw:
    """Read `.parquet` or `.csv`; cells of a CSV file stay text.

    Raises:
        DataFormatError: not such a file, or damaged.
        DataError: the operating system refuses to read it.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataFormatError(f"{path}: expected a .parquet or .csv file, got suffix {path.suffix!r}")
    try:
        if not path.is_file():
            got = "a directory, expected a file" if path.is_dir() else "not a file" if path.exists() else "no such file"
            raise DataFormatError(f"{path}: {got}")
        return reader(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place; `path` is never half written.

    Raises:
        DataError: the file cannot be written; one that was there before is unharmed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}; nothing was changed") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_frame(path: Path, frame: pd.DataFrame, metadata: Mapping[str, Any]) -> None:
    """Write `.parquet` (zstd, with `metadata`) or `.csv` (without).

    Raises:
        DataFormatError: another suffix, or metadata that JSON cannot hold.
        DataError: as `write_whole`.
    """
    stored = as_json({"version": VERSION, **metadata}, str(path))
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise DataFormatError(f"{path}: expected a .parquet or .csv file, got suffix {path.suffix!r}")

    def fill(file: IO[bytes]) -> None:
        if suffix == ".csv":
            text = [frame[column] for column in frame.columns if pd.api.types.is_string_dtype(frame[column])]
            returns = any(column.str.contains("\r", regex=False).any() for column in text)
            quoting: Literal[0, 2] = (
                csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
            )  # minimal leaves a lone \r bare
            frame.to_csv(file, index=False, encoding="utf-8", lineterminator="\n", mode="wb", quoting=quoting)
            return
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        table = table.replace_schema_metadata({_METADATA: stored.encode()})
        pyarrow.parquet.write_table(table, file, compression="zstd")

    write_whole(path, fill)


def as_json(value: object, name: str) -> str:
    """JSON text of a card or of metadata.

    Raises:
        DataFormatError: JSON cannot hold it.
    """
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataFormatError(f"{name}: the data card must be plain JSON values: {error}") from None


def _read_csv(path: Path) -> Raw:
    rows: list[list[str | None]] = []
    lines: list[int] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next((record for record in reader if record), None)
            if header is None:
                raise DataFormatError(f"{path}: the file is empty; expected a header line and data rows")
            header = [name.strip() for name in header]
            if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
                raise DataFormatError(f"{path}: one column called {header[0][:60]!r}; expected commas between columns")
            _refuse_doubled(path, header)
            before = reader.line_num
            for record in reader:
                if record:
                    if len(record) != len(header):
                        raise DataFormatError(
                            f"{path}: row {len(rows) + 1} (line {before + 1}) has {len(record)} fields,"
                            f" expected {len(header)} as in the header; quote fields that contain commas"
                        )
                    if len(rows) == MAX_ROWS:
                        raise DataFormatError(f"{path}: more than {MAX_ROWS} rows; one row per (pair, configuration)")
                    rows.append([field or None for field in record])
                    lines.append(before + 1)
                before = reader.line_num
    except UnicodeDecodeError as error:
        raise DataFormatError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise DataFormatError(f"{path}: row {len(rows) + 1} is not CSV: {error}") from None
    return pd.DataFrame(rows, columns=header, dtype="str"), Origin(str(path), lines), {}


def _read_parquet(path: Path) -> Raw:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if file.metadata.num_rows > MAX_ROWS:
                raise DataFormatError(f"{path}: more than {MAX_ROWS} rows; one row per (pair, configuration)")
            _refuse_doubled(path, list(file.schema_arrow.names))
            table = file.read()
        frame = table.to_pandas(ignore_metadata=True)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataFormatError(f"{path}: not a readable Parquet file, damaged or cut short: {reason}") from None
    metadata = table.schema.metadata or {}
    frame = frame.drop(columns=[c for c in frame.columns if str(c).startswith("__index_level_")])
    return frame, Origin(str(path)), _stored(path, metadata.get(_METADATA))


def _stored(path: Path, text: bytes | None) -> dict[str, Any]:
    """Our own part of the Parquet metadata: `config_columns` and `card`; empty where another program wrote the file."""
    if text is None:
        return {}
    try:
        stored = json.loads(text)
        version, config, card = stored["version"], stored["config_columns"], stored["card"]
        well_formed = isinstance(card, dict) and isinstance(config, list) and all(isinstance(c, str) for c in config)
    except (ValueError, KeyError, TypeError):
        well_formed, version, config, card = False, None, [], {}
    if not well_formed or not isinstance(version, int):
        raise DataFormatError(f"{path}: the flashfm metadata in the file are damaged; write the table again")
    if version > VERSION:
        raise DataFormatError(f"{path}: written by a later flashfm (table version {version}, known {VERSION}); upgrade")
    return {"config_columns": config, "card": card}


def _refuse_doubled(path: Path, names: list[str]) -> None:
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise DataFormatError(f"{path}: column {doubled!r} appears {names.count(doubled)} times; keep one")


_READERS: dict[str, Callable[[Path], Raw]] = {".parquet": _read_parquet, ".csv": _read_csv}
