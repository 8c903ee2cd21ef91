"""What pairs are called where a plan is applied: names from a user's file, or the application's own.

Enters: a CSV file with the columns `app`, perhaps `platform`, and those of the names; and pairs. Leaves: for each pair
its names, or why it has none. Names are data: each is checked against what the platform allows before it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from jaxtyping import Int, Shaped

from flashfm.errors import DataFormatError
from flashfm.fleet.rows import BLOCK_BYTES, header_of, readable, text_of
from flashfm.fleet.seen import numbers_of

Words = Shaped[np.ndarray, " pair"]
"""A text for each pair; None, or the empty text, where there is none."""


@dataclass(frozen=True)
class Field:
    """One of the names that a patch needs of a pair."""

    name: str
    """The column of the user's file."""
    pattern: str
    """A regular expression of RE2 that the whole name matches."""
    words: str
    """What such a name is called."""
    optional: bool = False
    """Whether it may be empty; then it is, where there is no file of names."""


@dataclass(frozen=True, eq=False)
class Names:
    """A user's file of names."""

    path: Path
    table: pa.Table
    """One row a pair: `app`, perhaps `platform`, and the names as texts."""
    numbers: Shaped[np.ndarray, " row"]
    """Rising numbers of its pairs."""
    rows: Int[np.ndarray, " row"]
    """The row of each."""

    @classmethod
    def read(cls, path: Path, fields: Sequence[Field]) -> Names:
        """Read a file.

        Raises:
            DataFormatError: not a CSV file, damaged, without a needed column, or a pair comes twice.
            DataError: the operating system refuses to read it.
        """
        if path.suffix.lower() != ".csv" or not path.is_file():
            got = "no such file" if not path.exists() else "another one"
            raise DataFormatError(f"{path}: expected a .csv file of names, got {got}")
        needed = ["app", *(field.name for field in fields if not field.optional)]
        with readable(path):
            written = header_of(path)
            header = [name.strip() for name in written]
            absent = next((name for name in needed if name not in header), None)
            doubled = next((name for name in header if header.count(name) > 1), None)
            if absent is not None or doubled is not None:
                wrong = f"no column {absent!r}" if absent is not None else f"two or more columns {doubled!r}"
                raise DataFormatError(
                    f"{path}: {wrong}, got {', '.join(header[:12])}; expected {','.join(needed)} and perhaps platform"
                )
            known = {"app", "platform", *(field.name for field in fields)}
            wanted = [name for name in written if name.strip() in known]
            raw = pa.csv.read_csv(
                path,
                pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                pa.csv.ParseOptions(newlines_in_values=True),
                pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted, strings_can_be_null=False
                ),
            )
        table = pa.table({name.strip(): text_of(raw[name]) for name in wanted}).combine_chunks()
        empty = np.flatnonzero(table["app"].is_null().to_numpy())
        if empty.size:
            raise DataFormatError(f"{path}: row {empty[0] + 1}, column 'app': empty cell, expected a name")
        found = numbers_of(*_pairs(table)) if len(table) else np.empty(0, np.uint64)
        rows = np.argsort(found, kind="stable")
        again = np.flatnonzero(found[rows][1:] == found[rows][:-1])
        if again.size:
            first, second = sorted(rows[again[0] : again[0] + 2].tolist())
            app = table["app"][second].as_py()
            raise DataFormatError(
                f"{path}: row {second + 1}: the pair of {app[:60]!r} has names in row {first + 1} already; keep one"
            )
        return cls(path, table, found[rows], rows)

    def places(self, apps: pa.Array, platforms: pa.Array) -> Int[np.ndarray, " pair"]:
        """The row of each pair, -1 where there is none; without a column of platforms, that of its application."""
        if not len(self.numbers):
            return np.full(len(apps), -1, dtype=np.int64)
        by_platform = "platform" in self.table.column_names
        asked = numbers_of(apps, platforms if by_platform else pa.nulls(len(apps), pa.string()))
        at = np.minimum(np.searchsorted(self.numbers, asked), len(self.numbers) - 1)
        return np.where(self.numbers[at] == asked, self.rows[at], -1)


@dataclass(frozen=True)
class Naming:
    """How pairs get the names that a patch needs."""

    fields: tuple[Field, ...]
    names: Names | None = None

    def of(self, apps: pa.Array, platforms: pa.Array) -> tuple[dict[str, Words], Words]:
        """The names of each pair by field, and why it has none; the empty text where it has."""
        problem = np.full(len(apps), "", dtype=object)
        if self.names is None:
            given = {field.name: pa.nulls(len(apps), pa.string()) if field.optional else apps for field in self.fields}
        else:
            at = self.names.places(apps, platforms)
            problem[at < 0] = f"not in {self.names.path.name}"
            rows = pa.array(at, mask=at < 0)
            table = self.names.table
            given = {
                field.name: table[field.name].combine_chunks().take(rows)
                if field.name in table.column_names
                else pa.nulls(len(apps), pa.string())
                for field in self.fields
            }
        for field in self.fields:
            fits = pc.match_substring_regex(given[field.name], rf"\A(?:{field.pattern})\z")
            fine = pc.fill_null(fits, field.optional).to_numpy(zero_copy_only=False)
            what = f"the {field.name}" if self.names is not None else "the application's name"
            problem[~fine & (problem == "")] = f"{what} is no {field.words}"
        return {name: words.to_numpy(zero_copy_only=False) for name, words in given.items()}, problem


def _pairs(table: pa.Table) -> tuple[pa.Array, pa.Array]:
    app = table["app"].combine_chunks()
    if "platform" not in table.column_names:
        return app, pa.nulls(len(table), pa.string())
    return app, table["platform"].combine_chunks()
