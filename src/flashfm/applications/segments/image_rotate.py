"""Segment image-rotate: each image turned by an angle of its own."""

from __future__ import annotations

import io
import random
import zlib
from typing import ClassVar

from flashfm.applications.segments.base import Params, Segment, log_uniform, pick
from flashfm.applications.segments.photograph import BASE_SIDES, PATCHED_FACTOR, photographs

_IMAGE_MS: dict[int, float] = {40: 0.3, 80: 0.8, 120: 1.6}


class ImageRotate(Segment):
    """Decode random JPEG images, rotate each by a random angle (bicubic, canvas expanded), and encode it as JPEG.

    Sizes: `side` in pixels; `images` a run, such that a run takes about 2 to 30 ms of CPU.

    Source: FLASH, appendix A.4, scenario 4.
    """

    kind: ClassVar[str] = "image-rotate"
    short: ClassVar[str] = "imgrot"
    bound: ClassVar[str] = "cpu"
    requires: ClassVar[tuple[str, ...]] = ("pillow",)

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """Draw `side` and `images`."""
        side = pick(rng, BASE_SIDES)
        return {"side": side, "images": max(1, round(log_uniform(rng, 2.0, 30.0) / _IMAGE_MS[side]))}

    @classmethod
    def patched(cls, params: Params) -> dict[str, int | float | str]:
        """Four times the side (scenario 4)."""
        return {**params, "side": PATCHED_FACTOR * int(params["side"])}

    def prepare(self) -> None:
        """Import Pillow; draw the images and their angles."""
        rng = self.context.rng()
        self.sources = photographs(rng, int(self.params["images"]), int(self.params["side"]), "JPEG")
        self.angles = [360 * rng.random() for _ in self.sources]

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
