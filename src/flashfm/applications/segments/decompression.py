"""Segment decompression: gunzip of a text file held in memory."""

from __future__ import annotations

import gzip
import random
import zlib
from typing import ClassVar

from flashfm.applications.segments.base import Params, Segment, log_uniform, pick
from flashfm.applications.segments.file_sizes import BASE_KB, with_larger_file
from flashfm.applications.segments.text import random_text

_KB_MS = 0.0045


class Decompression(Segment):
    """Decompress a random text that gzip compressed.

    Sizes: `file_kb`, the text in KiB before compression; `repeats` a run, such that it takes about 2 to 30 ms of CPU.

    Source: FLASH, appendix A.4, scenario 1.
    """

    kind: ClassVar[str] = "decompression"
    short: ClassVar[str] = "gunzip"
    bound: ClassVar[str] = "cpu"

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """Draw `file_kb` and `repeats`."""
        file_kb = pick(rng, BASE_KB)
        return {"file_kb": file_kb, "repeats": max(1, round(log_uniform(rng, 2.0, 30.0) / (_KB_MS * file_kb)))}

    @classmethod
    def patched(cls, params: Params) -> dict[str, int | float | str] | None:
        """A larger file (scenario 1)."""
        return with_larger_file(params)

    def prepare(self) -> None:
        """Draw the text and compress it."""
        text = random_text(self.context.rng(), 1024 * int(self.params["file_kb"]))
        self.packed = gzip.compress(text, 6, mtime=0)

    def run(self) -> int:
        """Decompress `repeats` times; returns a CRC-32 over the results."""
        checksum = 0
        for _ in range(int(self.params["repeats"])):
            checksum = zlib.crc32(gzip.decompress(self.packed), checksum)
        return checksum
