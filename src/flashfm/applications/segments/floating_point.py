"""Segment floating-point: arithmetic in the interpreter, as a function that scores or simulates does."""

from __future__ import annotations

import math
import random
from typing import ClassVar

from flashfm.applications.segments.base import Params, Segment, log_uniform_int

PATCHED_FACTOR = 16
"""What the update multiplies the operations by."""


class FloatingPoint(Segment):
    """A loop of square root, sine and multiply-add.

    Sizes: `operations`, rounds of the loop, log-uniform in [1.2e4, 1.8e5]: about 2 to 30 ms of CPU.

    Source: FLASH, appendix A.4, scenario 3, changes the operations from 10^8 to 20^8. Taken literally that is a factor
    of 256 over a base of many seconds; here it is a factor of 16 over a base that suits a request of milliseconds.
    """

    kind: ClassVar[str] = "floating-point"
    short: ClassVar[str] = "float"
    bound: ClassVar[str] = "cpu"

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """Draw `operations`."""
        return {"operations": log_uniform_int(rng, 12_000, 180_000)}

    @classmethod
    def patched(cls, params: Params) -> dict[str, int | float | str]:
        """Sixteen times the operations (scenario 3)."""
        return {**params, "operations": PATCHED_FACTOR * int(params["operations"])}

    def prepare(self) -> None:
        """Draw the start of the iteration and its coefficients."""
        rng = self.context.rng()
        self.start, self.scale, self.shift = (0.5 + rng.random() for _ in range(3))

    def run(self) -> int:
        """Iterate; returns the last value in units of 1e-9."""
        sqrt, sin = math.sqrt, math.sin
        x, scale, shift = self.start, self.scale, self.shift
        for _ in range(int(self.params["operations"])):
            x = sqrt(x * scale + shift) + sin(x) + 1.0  # stays in (0, 10): sine is at least -1, the root positive
        return int(x * 1e9)
