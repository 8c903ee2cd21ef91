"""Synthetic pairs whose run time follows a known law."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from flashfm.tasks.config_search import Observations
from flashfm.tasks.space import ConfigSpace

SIZES = np.array([128.0, 256.0, 512.0, 1024.0, 2048.0, 3008.0])


def observations(
    grid: pd.DataFrame, runtime_ms: np.ndarray, metrics: np.ndarray | None = None, names: tuple[str, ...] = ()
) -> Observations:
    space = ConfigSpace.fit(grid)
    if metrics is None:
        metrics = np.empty((*runtime_ms.shape, 0))
    pairs = tuple((f"app-{i:03d}", None) for i in range(len(runtime_ms)))
    return Observations(space, space.check(grid), pairs, np.log(runtime_ms), metrics, names)


@pytest.fixture(scope="session")
def build() -> Callable[..., Observations]:
    """Observations from a grid, run times in ms (NaN where missing) and metrics."""
    return observations


@pytest.fixture(scope="session")
def two_term() -> Callable[..., Observations]:
    """Pairs with run time = wait + work / min(size, one vCPU), and optionally their CPU time as a metric."""

    def make(
        pairs: int, seed: int = 0, *, cpu: bool = False, missing: float = 0.0, cap: float = 3008.0
    ) -> Observations:
        rng = np.random.default_rng(seed)
        wait, work = rng.uniform(5, 200, (pairs, 1)), rng.uniform(5, 400, (pairs, 1))
        runtime = wait + work * cap / np.minimum(SIZES, cap)
        runtime[:, 1:][rng.random((pairs, SIZES.size - 1)) < missing] = np.nan
        metrics = np.broadcast_to(work, runtime.shape)[..., None].copy() if cpu else None
        return observations(pd.DataFrame({"memory_mb": SIZES}), runtime, metrics, ("user_cpu_ms",) if cpu else ())

    return make
