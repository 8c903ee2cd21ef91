"""Segment sleep: waits for time to pass, as a function does that polls or backs off."""

from __future__ import annotations

import random
import time
from typing import ClassVar

from flashfm.applications.segments.base import Segment, log_uniform_int


class Sleep(Segment):
    """Wait without using the CPU.

    Sizes: `sleep_ms` in milliseconds, log-uniform in [10, 200]. No update scenario of the paper names it.
    """

    kind: ClassVar[str] = "sleep"
    short: ClassVar[str] = "sleep"
    bound: ClassVar[str] = "time"

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """Draw `sleep_ms`."""
        return {"sleep_ms": log_uniform_int(rng, 10, 200)}

    def run(self) -> int:
        """Sleep; returns the milliseconds asked for."""
        sleep_ms = int(self.params["sleep_ms"])
        time.sleep(sleep_ms / 1000)
        return sleep_ms
