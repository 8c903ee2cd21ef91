"""Random images that look like photographs to a codec: smooth gradients and noise; the input of the image segments."""

from __future__ import annotations

import io
import random

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
