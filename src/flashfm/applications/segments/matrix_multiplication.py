"""Segment matrix-multiplication: inference of a small dense network, the paper's "ML model serving"."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, ClassVar

from flashfm.applications.segments.base import Params, Segment, log_uniform, pick

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDES: tuple[int, ...] = (50, 75, 100)
"""Matrix dimensions that are drawn. The paper's base is 50; 75 and 100 are ours, for variety."""

PATCHED_FACTOR = 3
"""What the update multiplies the dimension by: 50 becomes 150 (FLASH, appendix A.4, scenario 6)."""

_REPEAT_MS: dict[int, float] = {50: 0.045, 75: 0.085, 100: 0.17}
_BATCHES = 4


class MatrixMultiplication(Segment):
    """Two dense layers and the best class of each row, over batches of inputs in turn.

    Sizes: `side`, the dimension of every matrix; `repeats`, batches a run, such that it takes about 2 to 30 ms of CPU.
    The BLAS is to be single-threaded (OPENBLAS_NUM_THREADS=1), as the measurement worker sets it.

    Source: FLASH, appendix A.4, scenario 6.
    """

    kind: ClassVar[str] = "matrix-multiplication"
    short: ClassVar[str] = "matrix"
    bound: ClassVar[str] = "cpu"
    requires: ClassVar[tuple[str, ...]] = ("numpy",)

    @classmethod
    def draw(cls, rng: random.Random) -> dict[str, int | float | str]:
        """Draw `side` and `repeats`."""
        side = pick(rng, SIDES)
        return {"side": side, "repeats": max(1, round(log_uniform(rng, 2.0, 30.0) / _REPEAT_MS[side]))}

    @classmethod
    def patched(cls, params: Params) -> dict[str, int | float | str]:
        """Three times the dimension (scenario 6)."""
        return {**params, "side": PATCHED_FACTOR * int(params["side"])}

    def prepare(self) -> None:
        """Import numpy; draw the weights and the batches."""
        import numpy as np

        rng = np.random.default_rng(self.context.seed)
        side = int(self.params["side"])
        self.hidden: NDArray[np.float64] = rng.standard_normal((side, side))
        self.output: NDArray[np.float64] = rng.standard_normal((side, side))
        self.batches: list[NDArray[np.float64]] = [rng.standard_normal((side, side)) for _ in range(_BATCHES)]

    def run(self) -> int:
        """Classify `repeats` batches; returns the sum of all classes."""
        import numpy as np

        total = 0
        for i in range(int(self.params["repeats"])):
            activations = np.maximum(self.batches[i % _BATCHES] @ self.hidden, 0.0)
            total += int((activations @ self.output).argmax(axis=1).sum())
        return total
