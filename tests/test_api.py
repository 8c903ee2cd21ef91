"""The public names, and pretraining from a user's table."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import flashfm
from flashfm import api
from flashfm.artifact.card import CardData, Score
from flashfm.errors import DataFormatError, ModelError
from flashfm.models.calibration import Held
from flashfm.pretraining.supervised import PretrainConfig


@pytest.fixture(scope="module")
def quick(small: PretrainConfig) -> PretrainConfig:
    """Settings with which a network takes a second or two."""
    return replace(small, cross_folds=2, inner_folds=2, least_steps=20, most_steps=20)


Frames = Callable[..., pd.DataFrame]


def clouds(apps: int) -> pd.DataFrame:
    """Run times on clusters: a categorical column, and one that only one provider has; no metrics."""
    rng = np.random.default_rng(0)
    rows = []
    for app in range(apps):
        work, parallel = np.exp(rng.normal(8, 1)), rng.uniform(0.3, 0.95)
        for provider, vms in (("aws", ("large", "xlarge")), ("gcp", (None,))):
            for vm in vms:
                for nodes in (2, 3, 4):
                    time = work * {"large": 1.3, "xlarge": 0.8, None: 1.0}[vm] * (1 - parallel + parallel / nodes)
                    row = {"job": f"job-{app}", "provider": provider, "vm": vm, "nodes": nodes}
                    rows.append({**row, "took_ms": time * np.exp(rng.normal(0, 0.05))})
    return pd.DataFrame(rows)


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", flashfm.__all__)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    found = getattr(flashfm, name)
    assert name in dir(flashfm)
    assert isinstance(found, str) or found.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = flashfm.nothing


def test_data_and_prices_need_no_torch() -> None:
    script = "import sys, flashfm; flashfm.MeasurementTable, flashfm.LambdaPrice; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


# -- pretraining -----------------------------------------------------------------------------------------------------


def test_a_table_becomes_a_model_with_a_card(synthetic: Frames, quick: PretrainConfig, tmp_path) -> None:
    frame = synthetic(13, platforms=("fast", "slow"))
    steps: list[tuple[int, int]] = []
    model = flashfm.pretrain(frame, config=quick, seed=3, on_step=lambda *step: steps.append(step))
    assert len(model.pairs) == 26
    assert model.config_columns == ("memory_mb",)
    assert steps[-1][0] == steps[-1][1] == len(steps)
    for said in ("| measurements | fast | 13 | 13 | 78 |", "| seed | 3 |", "memory_mb: 128 to 3008", "## Intervals"):
        assert said in model.card
    model.save_pretrained(tmp_path / "model")
    loaded = flashfm.FlashRegressor.from_pretrained(tmp_path / "model")
    assert loaded.card == model.card
    shot = frame[:1]
    pd.testing.assert_frame_equal(loaded.adapt(shot).predict(), model.adapt(shot).predict(), rtol=1e-5)


def test_the_card_keeps_what_it_is_given(synthetic: Frames, quick: PretrainConfig) -> None:
    card = CardData(
        "mine", "config-search", "Ours.", limits=("Only this.",), scores=(Score("d", "p", 1, 0.1, 0.1, 0.0, 9),)
    )
    model = flashfm.pretrain(synthetic(4), config=quick, card=card)
    assert model.card.startswith("# mine\n\nOurs.")
    assert re.findall(r"^- .*", model.card, re.MULTILINE) == ["- Only this."]
    assert "| d | p | 1 | 0.100 |" in model.card
    assert "too few for a network" not in model.card


def test_repeated_rows_are_averaged(synthetic: Frames, quick: PretrainConfig) -> None:
    frame = synthetic(4)
    twice = pd.concat([frame.assign(runtime_ms=frame["runtime_ms"] * f) for f in (0.5, 1.5)])
    once, both = (flashfm.pretrain(of, config=quick).adapt().predict() for of in (frame, twice))
    pd.testing.assert_frame_equal(once, both, rtol=1e-6)


@pytest.mark.parametrize("apps", [3, 13], ids=["prior alone", "with a network"])
def test_columns_of_ones_own_categorical_and_conditional(
    apps: int, quick: PretrainConfig, small: PretrainConfig
) -> None:
    model = flashfm.pretrain(
        clouds(apps),
        config_columns=["provider", "vm", "nodes"],
        target="took_ms",
        pair_column="job",
        config=quick if apps > 3 else small,
    )
    assert (not model.model.nets) == (apps < quick.least_for_network)
    assert ("too few for a network" in model.card) == (apps < quick.least_for_network)
    shot = pd.DataFrame({"provider": ["gcp"], "nodes": [2], "runtime_ms": [3000.0]})
    found = model.adapt(shot).predict()
    assert len(found) == 9
    assert (found["lower_ms"] <= found["runtime_ms"]).all()
    of_gcp = found[found["provider"] == "gcp"].set_index("nodes")["runtime_ms"]
    assert of_gcp[4.0] < of_gcp[2.0] == pytest.approx(3000, rel=0.2)


def test_other_configuration_columns_of_a_table(synthetic: Frames, quick: PretrainConfig) -> None:
    frame = synthetic(4).assign(disk=lambda rows: rows["memory_mb"] * 2)
    table = flashfm.MeasurementTable.from_frame(frame, config_columns=["memory_mb", "disk"])
    model = flashfm.pretrain(table, config_columns=["disk"], config=quick)
    assert model.config_columns == ("disk",)


def test_what_cannot_be_pretrained(synthetic: Frames) -> None:
    frame = synthetic(2)
    with pytest.raises(ModelError, match="task: expected config-search, got 'autoscaling'"):
        flashfm.pretrain(frame, task="autoscaling")
    with pytest.raises(ModelError, match=r"2 applications.*at least 3"):
        flashfm.pretrain(frame)
    with pytest.raises(DataFormatError, match="no column 'cloud' as you named it"):
        flashfm.pretrain(frame, platform_column="cloud")
    with pytest.raises(DataFormatError, match="no column 'seconds'"):
        flashfm.pretrain(frame, target="seconds")


# -- coverage --------------------------------------------------------------------------------------------------------


def held(pairs: int, rng: np.random.Generator, spread: float = 1.0) -> Held:
    mean = rng.normal(size=pairs * 6)
    observed = mean + spread * rng.normal(size=mean.size)
    return Held(np.repeat(np.arange(pairs), 6), observed, mean, np.ones(mean.size), np.zeros((mean.size, 4)))


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_coverage_is_near_nominal_however_wide_the_spread(spread: float) -> None:
    found = api.coverage({1: held(400, np.random.default_rng(0), spread)})
    assert found[1] == pytest.approx(0.9, abs=0.02)


def test_coverage_is_judged_on_pairs_that_the_margins_have_not_seen() -> None:
    calm, wild = held(1, np.random.default_rng(0), 0.1), held(1, np.random.default_rng(0), 10.0)
    both = Held(
        np.repeat([0, 1], 6),
        np.concatenate([calm.observed, wild.observed]),
        np.concatenate([calm.mean, wild.mean]),
        np.ones(12),
        np.zeros((12, 4)),
    )
    of_wild = float((np.abs(wild.observed - wild.mean) <= np.abs(calm.observed - calm.mean).max() + 1e-9).mean())
    assert api.coverage({1: both})[1] == pytest.approx((1 + of_wild) / 2)
    assert api.coverage({2: calm}) == {}
