"""Pretrains the tiny model `golden-model` and writes what it predicts to `golden.json`.

From the root of the repository, after a change of the format or of what a model computes that is meant:

    python -m tests.adapt.make_golden

The committed files must go on loading; a change that breaks them breaks the models of users.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd

from flashfm.adapt.adapted import AdaptedRegressor
from flashfm.adapt.fewshot import FlashRegressor

HERE = Path(__file__).parent
MODEL, ANSWERS = HERE / "golden-model", HERE / "golden.json"
SIZES = [128, 256, 512, 1024, 2048]


def measured() -> pd.DataFrame:
    """Fourteen applications on two platforms, of which one has a column that the other has not."""
    rng = np.random.default_rng(20240607)
    rows = []
    for app in range(14):
        wait, work = np.exp(rng.normal(3.0, 1.0)), np.exp(rng.normal(4.0, 1.0))
        for platform in ("lambda", "openwhisk"):
            for size in SIZES:
                for shares in (256, 1024) if platform == "openwhisk" and size < 1000 else (np.nan,):
                    share = min(1.0, size / 1769 if platform == "lambda" else np.nan_to_num(shares, nan=512) / 1024)
                    runtime = (wait + work / share) * np.exp(rng.normal(0.0, 0.03))
                    row = {"app": f"app-{app}", "platform": platform, "memory_mb": size, "cpu_shares": shares}
                    rows.append(
                        row | {"runtime_ms": runtime, "user_cpu_ms_mean": work, "net_in_bytes_mean": 1e3 * wait}
                    )
    frame = pd.DataFrame(rows)
    frame.loc[rng.random(len(frame)) < 0.2, "net_in_bytes_mean"] = np.nan
    return frame[rng.random(len(frame)) < 0.9].reset_index(drop=True)


def shots() -> list[dict[str, Any]]:
    """Of one function, in the order in which they are given."""
    return [
        {"memory_mb": 512, "cpu_shares": 256, "runtime_ms": 731.0, "user_cpu_ms_mean": 130.0, "net_in_bytes_mean": 9e4},
        {"memory_mb": 128, "cpu_shares": 1024, "runtime_ms": 244.0, "user_cpu_ms_mean": 131.0},
        {"memory_mb": 300, "cpu_shares": 512, "runtime_ms": 402.0, "net_in_bytes_mean": 1e5},
    ]


def queries() -> pd.DataFrame:
    """Some of the grid, and some between."""
    return pd.DataFrame({"memory_mb": [128, 256, 700, 2048.0], "cpu_shares": [256, 900, 256, np.nan]})


def answers(adapted: AdaptedRegressor) -> dict[str, Any]:
    """Everything that a model says of a pair, as JSON."""
    numbers = ["runtime_ms", "lower_ms", "upper_ms"]
    found: dict[str, Any] = {
        "grid": adapted.predict()[numbers].to_numpy().tolist(),
        "queries": adapted.predict(queries())[numbers].to_numpy().tolist(),
        "next": dict(adapted.next_measurement().config),
    }
    if adapted.embedding is not None and adapted.novelty is not None:
        found |= {"embedding": adapted.embedding.astype(float).tolist()}
        found |= {"p_value": adapted.novelty.p_value, "distance": adapted.novelty.distance}
        found |= {"nearest": [list(near) for near in adapted.nearest(3)]}
    return found


def all_answers(model: FlashRegressor) -> dict[str, Any]:
    """By the number of shots."""
    return {str(k): answers(model.adapt(pd.DataFrame(shots()[:k]) if k else None)) for k in range(4)}


def main() -> None:
    """Write both."""
    from flashfm.datasets.table import MeasurementTable
    from flashfm.models.flash import FlashConfig
    from flashfm.models.hierarchical_gp import PriorConfig
    from flashfm.models.meta_learner import MetaLearnerConfig
    from flashfm.pretraining.supervised import PretrainConfig, pretrain
    from flashfm.tasks.config_search import Observations

    config = PretrainConfig(
        prior=PriorConfig(steps=20, em_steps=5),
        network=FlashConfig(meta=MetaLearnerConfig(hidden=8, embed=6), head=12),
        members=2,
        likeness_steps=20,
        likeness_tasks=60,
        least_steps=150,
        most_steps=150,
        sets=4,
    )
    table = MeasurementTable.from_frame(measured())
    FlashRegressor(pretrain(Observations.from_table(table), config, seed=0), "# Golden\n").save_pretrained(MODEL)
    ANSWERS.write_text(json.dumps(all_answers(FlashRegressor.from_pretrained(MODEL)), indent=1) + "\n")


if __name__ == "__main__":
    main()
