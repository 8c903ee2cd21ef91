"""A small synthetic world that the tests of models share: functions that wait and compute, in six sizes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small models on many threads wait for each other

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

if TYPE_CHECKING:  # most tests need no torch
    from flashfm.models.flash import FlashModel
    from flashfm.pretraining.supervised import PretrainConfig
    from flashfm.tasks.config_search import Observations

settings.register_profile("any-machine", deadline=None)  # how long an example takes is the machine's business
settings.load_profile("any-machine")

SIZES = (128.0, 256.0, 512.0, 1024.0, 2048.0, 3008.0)
ONE_CPU_MB = {None: 1769.0, "fast": 1769.0, "slow": 900.0}


def measurements(
    apps: int = 16,
    *,
    seed: int = 0,
    platforms: tuple[str | None, ...] = (None,),
    metrics: bool = True,
    noise: float = 0.03,
) -> pd.DataFrame:
    """run time = (wait + work / CPU share) x log-normal noise; CPU time tells of the work, bytes of the waiting."""
    rng = np.random.default_rng(seed)
    rows = []
    for app in range(apps):
        wait, work = np.exp(rng.normal(3.0, 1.0)), np.exp(rng.normal(4.0, 1.0))
        for platform in platforms:
            for size in SIZES:
                share = min(1.0, size / ONE_CPU_MB[platform])
                runtime = (wait + work / share) * np.exp(rng.normal(0.0, noise))
                row: dict[str, object] = {"app": f"app-{seed}-{app:03d}", "memory_mb": size, "runtime_ms": runtime}
                if platform is not None:
                    row["platform"] = platform
                if metrics:
                    row["user_cpu_ms_mean"] = work * np.exp(rng.normal(0.0, 0.05))
                    row["net_in_bytes_mean"] = 1e3 * wait * np.exp(rng.normal(0.0, 0.05))
                rows.append(row)
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def synthetic() -> Callable[..., pd.DataFrame]:
    """Makes tables of synthetic measurements."""
    return measurements


@pytest.fixture(scope="session")
def observe() -> Callable[..., Observations]:
    """Observations of a frame of measurements."""
    from flashfm.datasets.table import MeasurementTable
    from flashfm.tasks.config_search import Observations

    def of(frame: pd.DataFrame, **options: object) -> Observations:
        return Observations.from_table(MeasurementTable.from_frame(frame, **options))

    return of


@pytest.fixture(scope="session")
def small() -> PretrainConfig:
    """Settings with which pretraining takes seconds."""
    from flashfm.models.flash import FlashConfig
    from flashfm.models.hierarchical_gp import PriorConfig
    from flashfm.models.meta_learner import MetaLearnerConfig
    from flashfm.pretraining.supervised import PretrainConfig

    return PretrainConfig(
        prior=PriorConfig(steps=15, em_steps=5),
        network=FlashConfig(meta=MetaLearnerConfig(hidden=16, embed=8), head=16),
        members=2,
        likeness_steps=10,
        likeness_tasks=60,
        least_steps=60,
        most_steps=60,
        sets=4,
    )


@pytest.fixture(scope="session")
def pretrained(observe: Callable[..., Observations], small: PretrainConfig) -> FlashModel:
    """A model of 24 synthetic applications, network and novelty included."""
    from flashfm.pretraining.supervised import pretrain

    return pretrain(observe(measurements(24)), small, seed=0)


@pytest.fixture(scope="session")
def unseen(observe: Callable[..., Observations]) -> Observations:
    """Applications of the same world that `pretrained` has not seen."""
    return observe(measurements(24, seed=1))


@pytest.fixture(scope="session")
def mixed(observe: Callable[..., Observations], small: PretrainConfig) -> FlashModel:
    """Of a space with every kind of column, without metrics, platforms and networks."""
    from dataclasses import replace

    from flashfm.pretraining.supervised import pretrain

    frame = measurements(5, metrics=False)
    frame["family"] = np.where(frame["memory_mb"] > 600, "big", "small")
    frame["shares"] = np.where(frame["memory_mb"] > 600, np.nan, 256.0)
    data = observe(frame, config_columns=["memory_mb", "family", "shares"])
    return pretrain(data, replace(small, likeness_steps=2), seed=0)
