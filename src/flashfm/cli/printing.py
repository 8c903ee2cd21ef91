"""What commands print, and the spec files that they write: tables for people, JSON for machines."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flashfm.errors import SpecError

if TYPE_CHECKING:
    from flashfm.applications.spec import ApplicationSpec


def print_json(data: object) -> None:
    """JSON for machines, on standard output."""
    print(json.dumps(data, indent=2))


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns side by side, the last one as long as it is."""
    widths = [max(len(row[i]) for row in (titles, *rows)) for i in range(len(titles) - 1)]
    for row in (titles, *rows):
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip())


def split_names(text: str | None) -> list[str] | None:
    """`A, B` as a list of names; None where nothing was given."""
    return None if text is None else [name for name in map(str.strip, text.split(",")) if name]


def percent(value: float | None) -> str:
    """A share in whole percent; a dash where there is none."""
    return "-" if value is None else f"{100 * value:.0f} %"


def write_specs(specs: Sequence[ApplicationSpec], out: Path) -> None:
    """Write specs: one to FILE.json as an object, several as a list, or each into a file of a directory.

    Raises:
        SpecError: the place cannot be written.
    """
    try:
        if out.suffix == ".json":
            items = [spec.to_dict() for spec in specs]
            _replace(out, items if len(items) > 1 else items[0])
        else:
            out.mkdir(parents=True, exist_ok=True)
            for spec in specs:
                _replace(out / f"{spec.name}.json", spec.to_dict())
    except OSError as error:
        raise SpecError(f"cannot write {str(out)!r}: {error.strerror or error}; choose another --out") from error


def _replace(path: Path, data: object) -> None:
    """Write a whole file or none."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(json.dumps(data, indent=2) + "\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
