"""Segment image-rotate: each image turned by an angle of its own."""

from __future__ import annotations

import io
import zlib
from typing import ClassVar

from flashfm.applications.segments.photograph import ImageSegment


class ImageRotate(ImageSegment):
    """Decode random JPEG images, rotate each by a random angle (bicubic, canvas expanded), and encode it as JPEG.

    Sizes: `side` in pixels; `images` a run, such that a run takes about 2 to 30 ms of CPU.

    Source: FLASH, appendix A.4, scenario 4.
    """

    kind: ClassVar[str] = "image-rotate"
    short: ClassVar[str] = "imgrot"
    image_ms: ClassVar[dict[int, float]] = {40: 0.3, 80: 0.8, 120: 1.6}

    def prepare(self) -> None:
        """Import Pillow; draw the images and their angles."""
        super().prepare()
        self.angles = [360 * self.rng.random() for _ in self.sources]

    def run(self) -> int:
        """Rotate every image; returns a CRC-32 over the results."""
        from PIL import Image

        checksum = 0
        for i in range(int(self.params["images"])):
            at = i % len(self.sources)
            encoded = io.BytesIO()
            with Image.open(io.BytesIO(self.sources[at])) as image:
                rotated = image.rotate(self.angles[at], Image.Resampling.BICUBIC, expand=True)
            rotated.save(encoded, "JPEG")
            checksum = zlib.crc32(encoded.getbuffer(), checksum)
        return checksum
