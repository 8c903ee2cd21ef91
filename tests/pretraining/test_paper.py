"""The paper's two systems: what they read, that they learn, and what they answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from flashfm.datasets.table import MeasurementTable
from flashfm.errors import ModelError, ShotsError
from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.regressor import FlashSizeless, RegressorConfig
from flashfm.pretraining.paper import (
    METRICS,
    FittedPaper,
    FlashMethod,
    Inputs,
    PaperConfig,
    SizelessMethod,
    draw,
    pretrain,
)
from flashfm.tasks.config_search import Observations

SIZES = (128, 256, 512, 1024, 2048)
TINY = PaperConfig(
    epochs=30,
    flash_learning_rate=3e-3,
    learning_rate=3e-3,
    base=RegressorConfig(neurons=16, layers=2),
    meta=MetaLearnerConfig(hidden=8, embed=4),
    batch=16,
)
METHODS = [SizelessMethod(TINY), FlashMethod(TINY)]


def observations(apps: int = 12, *, metrics: bool = True, seed: int = 0) -> Observations:
    """Applications that wait and compute, at five sizes."""
    rng = np.random.default_rng(seed)
    rows = []
    for app in range(apps):
        wait, work = rng.uniform(5, 50), rng.uniform(20, 400)
        for size in SIZES:
            row = {
                "app": f"a{app}",
                "memory_mb": size,
                "runtime_ms": wait + work / min(1.0, size / 1769),
                "outcome": "ok",
            }
            if metrics:
                row |= {"user_cpu_ms_mean": work, "net_rx_bytes_mean": wait * 1e6, "rss_mb_mean": 40.0}
            rows.append(row)
    return Observations.from_table(MeasurementTable.from_frame(pd.DataFrame(rows), config_columns=["memory_mb"]))


def some_shots(data: Observations, k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    pairs = np.arange(len(data))
    return pairs, np.stack([rng.permutation(len(SIZES))[:k] for _ in pairs])


def test_the_defaults_are_the_papers() -> None:
    config = PaperConfig()
    assert (config.epochs, config.l2, config.learning_rate, config.flash_learning_rate) == (200, 0.01, 1e-3, 3e-4)
    assert config.base == RegressorConfig(256, 4)
    assert config.meta == MetaLearnerConfig()
    assert (SizelessMethod().name, FlashMethod().name) == ("Sizeless", "FLASH-Sizeless")
    assert SizelessMethod().per_shots
    assert FlashMethod().per_shots


def test_shots_are_configuration_metrics_of_table_2_and_run_time_standardised() -> None:
    data = observations()
    inputs = Inputs.fit(data)
    assert [data.metric_names[i] for i in inputs.metrics] == [m for m in METRICS if m in data.metric_names]
    every = np.broadcast_to(np.arange(len(SIZES)), data.log_runtime.shape)
    shots = inputs.shots(every, data.log_runtime, data.metrics)
    assert shots.shape == (12, 5, data.features.shape[1] + 2 + 1)
    np.testing.assert_allclose(shots[0, :, :1], data.features, rtol=1e-6)
    np.testing.assert_allclose(shots[..., 1:].mean(axis=(0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(shots[..., 1:].std(axis=(0, 1)), 1, rtol=1e-5)
    runtime = np.exp(data.log_runtime)
    np.testing.assert_allclose(shots[..., -1], (runtime - runtime.mean()) / runtime.std(), rtol=1e-4, atol=1e-6)
    assert inputs.unit_ms == pytest.approx(np.exp(np.median(data.log_runtime)))


def test_a_missing_metric_stands_at_its_mean() -> None:
    data = observations()
    missing = data.metrics.copy()
    missing[0, 0] = np.nan
    inputs = Inputs.fit(replace(data, metrics=missing))
    config = np.zeros(1, dtype=np.int64)
    shots = inputs.shots(config, data.log_runtime[0, :1], missing[0, :1])
    np.testing.assert_array_equal(shots[0, 1:-1], 0)


def test_without_metrics_the_configuration_and_the_run_time_are_left() -> None:
    data = observations(metrics=False)
    inputs = Inputs.fit(data)
    shots = inputs.shots(np.array([2]), data.log_runtime[0, 2:3], data.metrics[0, 2:3])
    assert shots.shape == (1, data.features.shape[1] + 1)


@pytest.mark.parametrize("shots", [1, 2, 3])
def test_an_epoch_draws_each_configuration_once_as_first_shot(shots: int) -> None:
    observed = np.random.default_rng(0).random((9, 7)) < 0.7
    observed[0] = False
    observed[0, :shots] = True
    pair, chosen, asked = draw(observed, shots, 3, 1_000, np.random.default_rng(1))
    enough = observed & (observed.sum(axis=1, keepdims=True) > shots)
    assert sorted(zip(pair.tolist(), chosen[:, 0].tolist(), strict=True)) == list(
        zip(*(part.tolist() for part in np.nonzero(enough)), strict=True)
    )
    for p, shot, ask in zip(pair, chosen, asked, strict=True):
        known = [*shot.tolist(), *ask[ask >= 0].tolist()]
        assert len(set(known)) == len(known)
        assert observed[p, known].all()
        assert (ask >= 0).sum() == min(3, observed[p].sum() - shots)
    limited = draw(observed, shots, 3, 4, np.random.default_rng(1))
    assert len(limited[0]) == 4


@pytest.mark.parametrize("flash", [False, True])
def test_training_lowers_the_error(flash: bool) -> None:
    _, _, history = pretrain(observations(), 1, 0, TINY, flash=flash)
    assert len(history) == TINY.epochs
    assert history[-1] < 0.6 * history[0]


def test_training_changes_the_meta_learner() -> None:
    data = observations()
    untrained, _, _ = pretrain(data, 2, 0, replace(TINY, epochs=0), flash=True)
    trained, _, _ = pretrain(data, 2, 0, replace(TINY, epochs=1), flash=True)
    assert isinstance(untrained, FlashSizeless)
    assert isinstance(trained, FlashSizeless)
    before, after = untrained.meta_learner.state_dict(), trained.meta_learner.state_dict()
    assert not any(torch.equal(before[name], after[name]) for name in before if "weight" in name)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("k", [1, 3])
def test_every_configuration_gets_a_finite_positive_run_time(method: SizelessMethod | FlashMethod, k: int) -> None:
    fitted = method.fit(observations(), shots=k, seed=0)
    test = observations(apps=6, seed=1)
    pairs, configs = some_shots(test, k)
    runtime = fitted.predict(test.shots(pairs, configs))
    assert runtime.shape == (6, len(SIZES))
    assert np.isfinite(runtime).all()
    assert (runtime > 0).all()
    np.testing.assert_allclose(runtime[2:3], fitted.predict(test.shots(pairs[2:3], configs[2:3])), rtol=1e-4)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_seed_fixes_the_result_and_leaves_the_global_generator_alone(method: SizelessMethod | FlashMethod) -> None:
    method = replace(method, config=replace(TINY, epochs=2))
    data = observations()
    shots = data.shots(*some_shots(data, 1))
    state = torch.get_rng_state()
    first = method.fit(data, shots=1, seed=3).predict(shots)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(first, method.fit(data, shots=1, seed=3).predict(shots))
    assert not np.array_equal(first, method.fit(data, shots=1, seed=4).predict(shots))


def test_a_negative_answer_of_the_network_becomes_a_small_run_time() -> None:
    data = observations()
    fitted = SizelessMethod(replace(TINY, epochs=0)).fit(data, shots=1, seed=0)
    with torch.no_grad():
        fitted.model.output.bias.fill_(-1e3)  # type: ignore[operator, union-attr]
    runtime = fitted.predict(data.shots(*some_shots(data, 1)))
    np.testing.assert_allclose(runtime, 1e-3 * fitted.inputs.unit_ms)


def test_another_number_of_shots_is_refused() -> None:
    data = observations()
    fitted = SizelessMethod(replace(TINY, epochs=0)).fit(data, shots=1, seed=0)
    assert isinstance(fitted, FittedPaper)
    with pytest.raises(ShotsError, match="2 shots, expected 1"):
        fitted.predict(data.shots(*some_shots(data, 2)))


def test_pairs_with_too_few_configurations_are_refused() -> None:
    with pytest.raises(ModelError, match="no training pair has more than 5 measured configurations"):
        SizelessMethod(TINY).fit(observations(), shots=5, seed=0)


def test_the_observed_cells_alone_are_asked() -> None:
    data = observations()
    holes = data.log_runtime.copy()
    holes[::2, 3] = np.nan
    metrics = data.metrics.copy()
    metrics[::2, 3] = np.nan
    _, inputs, history = pretrain(replace(data, log_runtime=holes, metrics=metrics), 1, 0, TINY, flash=False)
    assert np.isfinite(history).all()
    assert history[-1] < 0.6 * history[0]
    assert inputs.unit_ms == pytest.approx(np.exp(np.nanmedian(holes)))
