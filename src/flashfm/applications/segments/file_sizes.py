"""Sizes of the files that the disk, S3 and compression segments handle, before and after the paper's update."""

from __future__ import annotations

import random
from typing import ClassVar

from flashfm.applications.segments.base import Params, Segment, log_uniform_int, pick

BASE_KB: tuple[int, ...] = (128, 256, 384)
"""Sizes in KiB that are drawn at generation (FLASH, appendix A.4, scenario 1)."""

PATCHED_KB: dict[int, int] = {128: 512, 256: 768, 384: 1024}
"""Base size -> size after the update, both in KiB (FLASH, appendix A.4, scenario 1)."""


def with_larger_file(params: Params) -> dict[str, int | float | str] | None:
    """`params` with the `file_kb` of after the update; None for a size that the paper does not name."""
    larger = PATCHED_KB.get(int(params["file_kb"]))
    return None if larger is None else {**params, "file_kb": larger}


class FileSegment(Segment):
    """A segment that handles `files` files of `file_kb` KiB in a run.

    Source: FLASH, appendix A.4, scenario 1; the number of files is ours.
    """

    bound: ClassVar[str] = "disk"

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """Draw `file_kb`, and `files`, log-uniform in [1, 8]."""
        return {"file_kb": pick(rng, BASE_KB), "files": log_uniform_int(rng, 1, 8)}

    @classmethod
    def patched(cls, params: Params) -> dict[str, int | float | str] | None:
        """Larger files (scenario 1)."""
        return with_larger_file(params)
