"""One self-contained HTML page: words, tables and pictures in one file that needs no network and no script.

Enters: a title and sections. Leaves: a file. Every word is escaped, for names come from users' data, and pictures are
embedded as images, so that nothing in them can run.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

from flashfm.datasets.files import write_whole
from flashfm.errors import DataError

_PNG = b"\x89PNG\r\n\x1a\n"
MAX_PICTURE_BYTES = 20_000_000


@dataclass(frozen=True)
class Table:
    """A table in words."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for i, row in enumerate(self.rows):
            if len(row) != len(self.header):
                raise DataError(
                    f"row {i + 1} of a table has {len(row)} cells, expected {len(self.header)} as its header"
                )


@dataclass(frozen=True)
class Section:
    """A heading with what belongs to it, in this order: words, a picture, a table."""

    heading: str
    text: str = ""
    """Paragraphs, with an empty line between two."""
    table: Table | None = None
    picture: bytes | Path | None = None
    """A PNG or SVG picture, or the path of one."""
    alt: str = ""
    """What the picture shows, for those who do not see it; needed with a picture."""

    def __post_init__(self) -> None:
        if self.picture is not None and not self.alt.strip():
            raise DataError(f"section {self.heading!r}: a picture without words for it; expected a text in alt")

    @property
    def paragraphs(self) -> list[str]:
        """The text, paragraph by paragraph."""
        return _paragraphs(self.text)

    @cached_property
    def image(self) -> str:
        """The picture as a data URI, or nothing.

        Raises:
            DataError: it is neither PNG nor SVG, too large, or cannot be read.
        """
        return "" if self.picture is None else _data_uri(self.picture)

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Each column of the table, and whether it is to be set as figures: its cells start with digits."""
        if self.table is None:
            return []
        found = []
        for j, name in enumerate(self.table.header):
            cells = [row[j].lstrip("+-−±~<>≤≥ ") for row in self.table.rows]
            found.append((name, any(cells) and all(not cell or cell[0].isdigit() for cell in cells)))
        return found


def write_page(path: str | os.PathLike[str], title: str, intro: str = "", sections: Sequence[Section] = ()) -> Path:
    """Write a page.

    Args:
        path: where, usually `.html`.
        title: headline and title of the window.
        intro: first words, paragraphs with an empty line between two.
        sections: in order.

    Returns:
        `path`.

    Raises:
        DataError: a picture that is neither PNG nor SVG or cannot be read, or the page cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    source = resources.files("flashfm.reporting").joinpath("page.html").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    page = template.render(title=title, intro=_paragraphs(intro), sections=list(sections))
    path = Path(path)
    write_whole(path, lambda file: file.write(page.encode("utf-8", errors="replace")))
    return path


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def _data_uri(picture: bytes | Path) -> str:
    name = str(picture) if isinstance(picture, Path) else "picture"
    if isinstance(picture, Path):
        try:
            picture = picture.read_bytes()
        except OSError as error:
            raise DataError(f"{name}: cannot be read: {error.strerror or error}") from None
    if len(picture) > MAX_PICTURE_BYTES:
        raise DataError(f"{name}: {len(picture)} bytes, expected at most {MAX_PICTURE_BYTES}; draw it as PNG")
    if picture.startswith(_PNG):
        kind = "png"
    elif b"<svg" in picture[:2000]:
        kind = "svg+xml"
    else:
        raise DataError(f"{name}: expected a PNG or SVG picture, got {picture[:8]!r}")
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"
