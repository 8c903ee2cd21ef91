"""Segment image-compress: PNG in, JPEG out."""

from __future__ import annotations

import io
import random
import zlib
from typing import ClassVar

from flashfm.applications.segments.photograph import ImageSegment


class ImageCompress(ImageSegment):
    """Decode random PNG images and encode each as a JPEG.

    Sizes: `side` in pixels; `images` a run, such that a run takes about 2 to 30 ms of CPU; JPEG `quality` in [30, 95].

    Source: FLASH, appendix A.4, scenario 4.
    """

    kind: ClassVar[str] = "image-compress"
    short: ClassVar[str] = "imgcomp"
    image_ms: ClassVar[dict[int, float]] = {40: 0.25, 80: 0.5, 120: 0.9}
    source_format: ClassVar[str] = "PNG"

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """Draw `side`, `images` and `quality`."""
        return {**super().draw(rng), "quality": 30 + int(66 * rng.random())}

    def run(self) -> int:
        """Compress every image; returns a CRC-32 over the results."""
        from PIL import Image

        quality, checksum = min(95, int(self.params["quality"])), 0
        for i in range(int(self.params["images"])):
            encoded = io.BytesIO()
            with Image.open(io.BytesIO(self.sources[i % len(self.sources)])) as image:
                image.save(encoded, "JPEG", quality=quality, optimize=True)
            checksum = zlib.crc32(encoded.getbuffer(), checksum)
        return checksum
