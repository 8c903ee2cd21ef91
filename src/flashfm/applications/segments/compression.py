"""Segment compression: gzip of a text file held in memory."""

from __future__ import annotations

import gzip
import random
import zlib
from typing import ClassVar

from flashfm.applications.segments.base import Params, Segment, pick
from flashfm.applications.segments.file_sizes import BASE_KB, with_larger_file
from flashfm.applications.segments.text import random_text


class Compression(Segment):
    """Compress a random text with gzip.

    Sizes: `file_kb`, the text in KiB; `level` of gzip, one of 1, 6 and 9. A run takes about 1.5 to 40 ms of CPU.

    Source: FLASH, appendix A.4, scenario 1.
    """

    kind: ClassVar[str] = "compression"
    short: ClassVar[str] = "gzip"
    bound: ClassVar[str] = "cpu"

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """Draw `file_kb` and `level`."""
        return {"file_kb": pick(rng, BASE_KB), "level": pick(rng, (1, 6, 9))}

    @classmethod
    def patched(cls, params: Params) -> dict[str, int | float | str] | None:
        """A larger file (scenario 1)."""
        return with_larger_file(params)

    def prepare(self) -> None:
        """Draw the text."""
        self.text = random_text(self.context.rng(), 1024 * int(self.params["file_kb"]))

    def run(self) -> int:
        """Compress; returns a CRC-32 of the result."""
        return zlib.crc32(gzip.compress(self.text, min(9, int(self.params["level"])), mtime=0))
