"""Segment image-resize: a larger version and a thumbnail of each image."""

from __future__ import annotations

import io
import random
import zlib
from typing import ClassVar

from flashfm.applications.segments.base import Params, Segment, log_uniform, pick
from flashfm.applications.segments.photograph import BASE_SIDES, PATCHED_FACTOR, photographs

_IMAGE_MS: dict[int, float] = {40: 0.9, 80: 3.0, 120: 6.0}


class ImageResize(Segment):
    """Decode random JPEG images, resize each to double and to half its side (Lanczos), and encode both as PNG.

    Sizes: `side` in pixels; `images` a run, such that a run takes about 2 to 30 ms of CPU.

    Source: FLASH, appendix A.4, scenario 4.
    """

    kind: ClassVar[str] = "image-resize"
    short: ClassVar[str] = "imgsize"
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
        """Import Pillow; draw the images."""
        rng = self.context.rng()
        self.sources = photographs(rng, int(self.params["images"]), int(self.params["side"]), "JPEG")

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
