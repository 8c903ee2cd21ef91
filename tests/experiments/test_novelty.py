"""Novelty as an experiment: who is asked, and what a pair of another platform looks like to a model of `lambda`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.experiments import evaluation, novelty
from flashfm.experiments.novelty import CEILING, KNOWN, MATCHED, METRIC, SETS, UNSEEN, as_lambda, of_platform, p_values
from flashfm.models.flash import FlashModel
from flashfm.pretraining.supervised import PretrainConfig
from flashfm.tasks.config_search import Observations


def contended(frame: pd.DataFrame) -> pd.DataFrame:
    """Two synthetic platforms as two levels of contention, with memory sizes as CPU shares and two memory sizes."""
    frame = frame.assign(platform=frame["platform"].map({"fast": "openwhisk-1", "slow": "openwhisk-3"}))
    small = frame[frame["memory_mb"] <= 1024].assign(cpu_shares=frame["memory_mb"])
    return pd.concat([small.assign(memory_mb=memory) for memory in (128.0, 512.0)], ignore_index=True)


def test_a_pair_of_openwhisk_as_lambda_sees_it(
    synthetic: Callable[..., pd.DataFrame], observe: Callable[..., Observations]
) -> None:
    like = observe(synthetic(3))
    there = observe(contended(synthetic(4, platforms=("fast",))), config_columns=["memory_mb", "cpu_shares"])
    seen = as_lambda(there, like, 256.0)
    assert seen.log_runtime.shape == (4, 6)
    assert [known.tolist() for known in seen.observed] == [[0, 2]] * 4, "128 and 512 MB"
    at = there.grid.index[(there.grid["memory_mb"] == 512) & (there.grid["cpu_shares"] == 256)][0]
    assert np.array_equal(seen.log_runtime[:, 2], there.log_runtime[:, at])
    assert np.array_equal(seen.metrics[:, 2], there.metrics[:, at])
    assert seen.pairs == there.pairs


def test_every_pair_has_as_many_p_values_as_sets(pretrained: FlashModel, unseen: Observations) -> None:
    found = p_values(pretrained, unseen, 2)
    assert found.shape == (len(unseen), SETS)
    assert ((found > 0) & (found <= 1)).all()
    assert np.array_equal(found, p_values(pretrained, unseen, 2)), "the same sets each time"
    assert p_values(pretrained, unseen.of_pairs(np.array([], dtype=np.int64)), 2).size == 0
    assert p_values(pretrained, unseen, 7).size == 0, "no pair has seven configurations"


def test_only_pairs_of_the_platform_and_the_applications(
    synthetic: Callable[..., pd.DataFrame], observe: Callable[..., Observations]
) -> None:
    data = observe(synthetic(6, platforms=("fast", "slow")))
    chosen = of_platform(data, "slow", data.apps[:2])
    assert chosen.pairs == tuple((app, "slow") for app in data.apps[:2])


def test_a_run_goes_on_and_has_a_ceiling_between_levels_of_contention(
    synthetic: Callable[..., pd.DataFrame],
    observe: Callable[..., Observations],
    small: PretrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("lightgbm")
    data = {
        "lambda": observe(synthetic(20, platforms=("fast",)).assign(platform="lambda")),
        "openwhisk": observe(
            contended(synthetic(20, platforms=("fast", "slow"))), config_columns=["memory_mb", "cpu_shares"]
        ),
    }
    monkeypatch.setattr(evaluation, "load", data.__getitem__)
    config = replace(small, members=1, least_steps=20, most_steps=20, likeness_steps=2, sets=2)
    done: list[int] = []
    found = novelty.run(tmp_path, splits=(0,), config=config, on_done=lambda: done.append(1))
    assert len(done) == 3
    by = {(r.home, r.asked, r.apps, r.shots, r.metric): r for r in found}
    assert all(0 <= row.share <= 1 and row.queries == row.pairs * SETS for row in found)
    for k in novelty.SHOTS:
        assert by["openwhisk-1", "openwhisk-1", UNSEEN, k, METRIC].pairs == 4
        assert by["openwhisk-1", "openwhisk-3", KNOWN, k, METRIC].pairs == 16
        assert ("openwhisk-3", "openwhisk-1", UNSEEN, k, CEILING) in by
        assert ("openwhisk-3", "openwhisk-1", UNSEEN, k, MATCHED) in by
        assert ("openwhisk-3", "openwhisk-3", UNSEEN, k, MATCHED) not in by, "5 % by construction"
    asked = {row.asked for row in found if row.home == "lambda"}
    assert asked == {"lambda", *(f"openwhisk-{n}, {shares} shares" for n in (1, 3) for shares in (128, 256, 512, 1024))}
    assert {row.shots for row in found if row.home == "lambda" and row.asked != "lambda"} == {1, 2}, "two sizes alone"
    again = novelty.run(tmp_path, splits=(0,), config=config)
    assert again == found
