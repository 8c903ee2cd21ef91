"""A plan as CSV for a spreadsheet, in which no name can become a formula.

Enters: a plan. Leaves: UTF-8 text with a byte order mark, by which spreadsheets tell it, one row a pair. Every text is
quoted, and where a cell, or what a spreadsheet with another separator would take for one, begins with `= + - @`, a tab
or a line break, an apostrophe stands before it (https://owasp.org/www-community/attacks/CSV_Injection). Numbers stay
as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from flashfm.fleet import sam
from flashfm.fleet.plan import TODAY
from flashfm.fleet.reading import PlanFile

MARK = b"\xef\xbb\xbf"
HEAD = MARK + b'"app","platform","status","confidence",'
"""How a file begins; only one that begins so is ever replaced."""
_FORMULA = r"(\A|[,;|\t\r\n\"])([\s\x00]*)([=+\-@\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}])"
_BREAK = r"\A([\t\r\n])"


def check_place(out: Path) -> None:
    """Refuse a file that begins otherwise than ours.

    Raises:
        DataError: it does, is no file, or cannot be read.
    """
    sam.check_place(out, HEAD)


def order(columns: Sequence[str], config: Sequence[str]) -> list[str]:
    """All columns of a plan: what is to be done first, then what it brings, then what it rests on."""
    first = ["app", "platform", "status", "confidence", *config, *(f"{TODAY}{name}" for name in config)]
    first += [name for name in columns if name.startswith("saving")]
    first += [f"{TODAY}usd_per_million", *(name for name in columns if name.startswith("usd_per_million"))]
    first += [f"{TODAY}runtime_ms", "runtime_ms", "lower_ms", "upper_ms", "reason", "mend"]
    return [*first, *(name for name in columns if name not in first)]


def harmless(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts in which a spreadsheet finds no formula; all others stay as they are."""
    return pc.replace_substring_regex(pc.replace_substring_regex(texts, _FORMULA, r"\1\2'\3"), _BREAK, r"'\1")


def write(plan: PlanFile, file: IO[bytes]) -> None:
    """Write the rows, batch by batch."""
    names = order(plan.schema.names, plan.config)
    schema = pa.schema([plan.schema.field(name) for name in names])
    file.write(MARK)
    with pa.csv.CSVWriter(file, schema) as writer:
        for table in plan.batches(names):
            columns = [harmless(table[name]) if table[name].type == pa.string() else table[name] for name in names]
            writer.write_table(pa.table(columns, schema=schema))
