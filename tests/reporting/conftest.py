"""What a picture file shows."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest


@pytest.fixture(scope="session")
def words_of() -> Callable[[Path], list[str]]:
    """The text that an SVG file shows."""

    def read(svg: Path) -> list[str]:
        nodes = ElementTree.parse(svg).getroot().iter("{http://www.w3.org/2000/svg}text")
        return ["".join(node.itertext()).strip() for node in nodes]

    return read


@pytest.fixture(scope="session")
def png_size() -> Callable[[Path], tuple[int, int]]:
    """Width and height of a PNG file."""

    def read(path: Path) -> tuple[int, int]:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", content[16:24])
        return width, height

    return read
