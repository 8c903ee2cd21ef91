"""Pretrain a model on run times of your own, with configuration columns of your own, save it and ask it.

    python examples/05-pretrain-on-your-data.py

Columns may be numbers or words, and empty where they do not apply; system metrics may be absent, as here. With 12
applications or more a network is trained on top of the prior, which takes minutes instead of half a minute.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import flashfm


def your_measurements(jobs: int = 9) -> pd.DataFrame:
    """Jobs on clusters of two providers, of which one has two sizes of machines."""
    rng = np.random.default_rng(0)
    rows = []
    for job in range(jobs):
        work_ms, parallel = np.exp(rng.normal(8, 1)), rng.uniform(0.3, 0.95)
        for provider, sizes in (("aws", {"large": 1.3, "xlarge": 0.8}), ("gcp", {None: 1.0})):
            for size, slowness in sizes.items():
                for nodes in (2, 3, 4):
                    took_ms = work_ms * slowness * (1 - parallel + parallel / nodes) * np.exp(rng.normal(0, 0.05))
                    rows.append(
                        {"job": f"job-{job}", "provider": provider, "size": size, "nodes": nodes, "took_ms": took_ms}
                    )
    return pd.DataFrame(rows)


def main() -> None:
    model = flashfm.pretrain(
        your_measurements(),
        config_columns=["provider", "size", "nodes"],
        target="took_ms",
        pair_column="job",
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder) / "my-model")  # with a model card, README.md
        model = flashfm.FlashRegressor.from_pretrained(Path(folder) / "my-model")
    print(model)

    shot = pd.DataFrame({"provider": ["gcp"], "nodes": [2], "runtime_ms": [3000.0]})
    adapted = model.adapt(shot)
    print(adapted.predict().round(0).to_string(index=False))
    fastest = adapted.recommend("runtime")
    assert isinstance(fastest, flashfm.Recommendation)
    print("fastest:", fastest.config)
    print("measure next:", adapted.next_measurement().config)


if __name__ == "__main__":
    main()
