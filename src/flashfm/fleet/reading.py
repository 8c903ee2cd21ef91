"""A plan on disk, read in batches; memory does not grow with the plan.

Enters: a Parquet file that `flashfm.fleet.recommend` wrote. Leaves: its columns, what it was made with, and batches of
rows. Nothing is written here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from flashfm.errors import DataFormatError
from flashfm.fleet.parts import KEY, VERSION
from flashfm.fleet.plan import config_names
from flashfm.fleet.rows import BLOCK_BYTES, readable

BATCH_PAIRS = 16_384
"""Pairs that are read at a time."""
NEEDED = ("app", "platform", "status", "reason", "mend", "runtime_ms", "usd_per_million", "saving", "confidence")


@dataclass(frozen=True, eq=False)
class PlanFile:
    """A plan; `PlanFile.open` looks at it."""

    path: Path
    schema: pa.Schema
    config: tuple[str, ...]
    """Names of the configuration columns."""
    pairs: int
    told: dict[str, Any]
    """What the plan was made with: `run`, and what it comes to: `summary`; see `flashfm.fleet.parts`."""

    @classmethod
    def open(cls, path: Path) -> PlanFile:
        """Look at a plan's columns.

        Raises:
            DataFormatError: no plan, of a later version, or damaged.
            DataError: the operating system refuses to read it.
        """
        mend = "make one with `flashfm recommend --data FILE --out PLAN.parquet`"
        if not path.is_file():
            got = "a directory, expected a plan" if path.is_dir() else "not a file" if path.exists() else "no such file"
            raise DataFormatError(f"{path}: {got}; {mend}")
        with readable(path, ".parquet"), pa.parquet.ParquetFile(path) as file:
            schema, pairs = file.schema_arrow, file.metadata.num_rows
        try:
            told = json.loads((schema.metadata or {})[KEY])
            version, run, summary = told["version"], told["run"], told["summary"]
            sound = isinstance(version, int) and isinstance(run, dict) and isinstance(summary, dict)
        except (KeyError, TypeError, ValueError, RecursionError):
            sound, version = False, 0
        config = config_names(schema)
        if not sound or not config or not set(NEEDED) <= set(schema.names):
            raise DataFormatError(f"{path}: expected a plan of a fleet, got another Parquet file; {mend}")
        if version > VERSION:
            raise DataFormatError(f"{path}: a plan of version {version}, known is {VERSION}; upgrade flashfm")
        return cls(path, schema, config, pairs, told)

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of the configuration columns that hold numbers."""
        return tuple(name for name in self.config if self.schema.field(name).type == pa.float64())

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows in order, or some of their columns; each batch has at least one row and whole columns.

        Raises:
            DataFormatError: the file is damaged.
            DataError: the operating system refuses to read it.
        """
        with (
            readable(self.path, ".parquet"),
            pa.parquet.ParquetFile(self.path, pre_buffer=False, buffer_size=BLOCK_BYTES) as file,
        ):
            for batch in file.iter_batches(BATCH_PAIRS, columns=None if columns is None else list(columns)):
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])


def numbers(table: pa.Table, name: str) -> np.ndarray:
    """A column of numbers, NaN where empty."""
    return np.asarray(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)


def texts(table: pa.Table, name: str) -> np.ndarray:
    """A column of texts, None where empty."""
    return np.asarray(table[name].to_numpy(), dtype=object)
