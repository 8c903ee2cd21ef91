"""What the image segments share: sizes, and random images that look like photographs to a codec."""

from __future__ import annotations

import io
import random
from typing import ClassVar

from flashfm.applications.segments.base import Params, Segment, log_uniform, pick

BASE_SIDES: tuple[int, ...] = (40, 80, 120)
"""Sides in pixels that are drawn at generation. The paper's base is 40; 80 and 120 are ours, for variety."""

PATCHED_FACTOR = 4
"""What the update multiplies the side by: 40 becomes 160 (FLASH, appendix A.4, scenario 4)."""

DISTINCT = 8
"""Most different images that one instance holds; a segment that handles more takes them in turn."""

_COARSE = 8
_NOISE = 0.12


def photograph(rng: random.Random, side: int, file_format: str) -> bytes:
    """A random RGB image of `side` x `side` pixels, encoded as `file_format` ("PNG" or "JPEG")."""
    from PIL import Image

    coarse = Image.frombytes("RGB", (_COARSE, _COARSE), rng.randbytes(3 * _COARSE * _COARSE))
    smooth = coarse.resize((side, side), Image.Resampling.BICUBIC)
    noise = Image.frombytes("RGB", (side, side), rng.randbytes(3 * side * side))
    encoded = io.BytesIO()
    Image.blend(smooth, noise, _NOISE).save(encoded, file_format)
    return encoded.getvalue()


def photographs(rng: random.Random, images: int, side: int, file_format: str) -> list[bytes]:
    """The different inputs of a segment that handles `images` images: as many, but at most `DISTINCT`."""
    return [photograph(rng, side, file_format) for _ in range(min(images, DISTINCT))]


class ImageSegment(Segment):
    """A segment that handles `images` random images of `side` x `side` pixels in a run; it takes 2 to 30 ms of CPU.

    Source: FLASH, appendix A.4, scenario 4.
    """

    bound: ClassVar[str] = "cpu"
    requires: ClassVar[tuple[str, ...]] = ("pillow",)
    image_ms: ClassVar[dict[int, float]]
    """CPU time of one image by its side, in ms."""
    source_format: ClassVar[str] = "JPEG"

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """Draw `side` and `images`."""
        side = pick(rng, BASE_SIDES)
        return {"side": side, "images": max(1, round(log_uniform(rng, 2.0, 30.0) / cls.image_ms[side]))}

    @classmethod
    def patched(cls, params: Params) -> dict[str, int | float | str]:
        """Four times the side (scenario 4)."""
        return {**params, "side": PATCHED_FACTOR * int(params["side"])}

    def prepare(self) -> None:
        """Import Pillow; draw the images."""
        images, side = int(self.params["images"]), int(self.params["side"])
        self.rng = self.context.rng()
        self.sources = photographs(self.rng, images, side, self.source_format)
