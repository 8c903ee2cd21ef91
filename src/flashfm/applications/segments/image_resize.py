"""Segment image-resize: a larger version and a thumbnail of each image."""

from __future__ import annotations

import io
import zlib
from typing import ClassVar

from flashfm.applications.segments.photograph import ImageSegment


class ImageResize(ImageSegment):
    """Decode random JPEG images, resize each to double and to half its side (Lanczos), and encode both as PNG.

    Sizes: `side` in pixels; `images` a run, such that a run takes about 2 to 30 ms of CPU.

    Source: FLASH, appendix A.4, scenario 4.
    """

    kind: ClassVar[str] = "image-resize"
    short: ClassVar[str] = "imgsize"
    image_ms: ClassVar[dict[int, float]] = {40: 0.9, 80: 3.0, 120: 6.0}

    def run(self) -> int:
        """Resize every image twice; returns a CRC-32 over the results."""
        from PIL import Image

        side, checksum = int(self.params["side"]), 0
        for i in range(int(self.params["images"])):
            with Image.open(io.BytesIO(self.sources[i % len(self.sources)])) as image:
                for target in (2 * side, max(1, side // 2)):
                    encoded = io.BytesIO()
                    resized = image.resize((target, target), Image.Resampling.LANCZOS)
                    resized.save(encoded, "PNG", compress_level=1)
                    checksum = zlib.crc32(encoded.getbuffer(), checksum)
        return checksum
