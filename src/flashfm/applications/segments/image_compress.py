"""Segment image-compress: PNG in, JPEG out."""

from __future__ import annotations

import io
import random
import zlib
from typing import ClassVar

from flashfm.applications.segments.base import Params, Segment, log_uniform, pick
from flashfm.applications.segments.photograph import BASE_SIDES, PATCHED_FACTOR, photographs

_IMAGE_MS: dict[int, float] = {40: 0.25, 80: 0.5, 120: 0.9}


class ImageCompress(Segment):
    """Decode random PNG images and encode each as a JPEG.

    Sizes: `side` in pixels; `images` a run, such that a run takes about 2 to 30 ms of CPU; JPEG `quality` in [30, 95].

    Source: FLASH, appendix A.4, scenario 4.
    """

    kind: ClassVar[str] = "image-compress"
    short: ClassVar[str] = "imgcomp"
    bound: ClassVar[str] = "cpu"
    requires: ClassVar[tuple[str, ...]] = ("pillow",)

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """Draw `side`, `images` and `quality`."""
        side = pick(rng, BASE_SIDES)
        images = max(1, round(log_uniform(rng, 2.0, 30.0) / _IMAGE_MS[side]))
        return {"side": side, "images": images, "quality": 30 + int(66 * rng.random())}

    @classmethod
    def patched(cls, params: Params) -> dict[str, int | float | str]:
        """Four times the side (scenario 4)."""
        return {**params, "side": PATCHED_FACTOR * int(params["side"])}

    def prepare(self) -> None:
        """Import Pillow; draw the images."""
        rng = self.context.rng()
        self.sources = photographs(rng, int(self.params["images"]), int(self.params["side"]), "PNG")

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
