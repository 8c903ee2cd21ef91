"""The whole model: shots in any order and any number give the same finite, ordered forecasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.models import flash
from flashfm.models.calibration import Calibration
from flashfm.models.flash import FlashConfig, FlashModel, FlashNet, Forecast
from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.novelty import LEVEL
from flashfm.tasks.config_search import Observations, Shots

PARTS = ("point", "lower", "upper", "mean", "variance")
FULL = Calibration(
    shift=np.linspace(1, 0, 6), mix=np.full(6, 1.0), below=np.linspace(0.5, -0.2, 6), above=np.linspace(-0.2, 0.5, 6)
)
"""Calibration that lets all of the head through, whatever pretraining on little data found."""


def shots_of(unseen: Observations, k: int, *, tasks: int = 5, seed: int = 0) -> Shots:
    rng = np.random.default_rng(seed)
    chosen = np.stack([rng.permutation(6)[:k] for _ in range(tasks)]).reshape(tasks, k)
    return unseen.shots(rng.integers(len(unseen), size=tasks), chosen)


def awake(net: FlashNet, seed: int = 0) -> FlashNet:
    """With a head that corrects visibly: a short pretraining leaves it near 0."""
    torch.manual_seed(seed)
    other = FlashNet(net.meta.input.in_features, net.head[0].in_features - net.config.meta.embed, net.config)
    torch.nn.init.normal_(other.head[-1].weight, std=0.3)
    return other.eval()


@pytest.fixture(scope="module", params=["networks", "no network"])
def model(request: pytest.FixtureRequest, pretrained: FlashModel) -> FlashModel:
    if request.param == "networks":
        return replace(pretrained, calibration=FULL, nets=tuple(map(awake, pretrained.nets, (0, 1))))
    return replace(pretrained, calibration=FULL, nets=(), novelty=None)


def assert_same(a: Forecast, b: Forecast, *, tasks: slice = slice(None), rtol: float = 1e-5) -> None:
    for name in PARTS:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name)[tasks], rtol=rtol, atol=1e-6, err_msg=name)
    assert (a.embedding is None) == (b.embedding is None)
    if a.embedding is not None and b.embedding is not None:
        np.testing.assert_allclose(a.embedding, b.embedding[tasks], rtol=1e-3, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)), st.integers(1, 6), st.integers(0, 1000))
def test_the_order_of_shots_changes_nothing(
    model: FlashModel, unseen: Observations, order: list[int], k: int, seed: int
) -> None:
    shots = shots_of(unseen, k, tasks=2, seed=seed)
    chosen = np.array([i for i in order if i < k])
    turned = Shots(shots.config[:, chosen], shots.log_runtime[:, chosen], shots.metrics[:, chosen])
    assert_same(model.forecast(turned), model.forecast(shots))


@pytest.mark.parametrize("k", [0, 1, 2, 3, 5, 6])
def test_a_batch_is_as_many_singles(model: FlashModel, unseen: Observations, k: int) -> None:
    shots = shots_of(unseen, k, tasks=7)
    batch = model.forecast(shots)
    for i in range(7):
        assert_same(model.forecast(shots.part(slice(i, i + 1))), batch, tasks=slice(i, i + 1))


@pytest.mark.parametrize("k", range(7))
@pytest.mark.parametrize("metrics", ["all", "some", "none"])
def test_forecasts_are_finite_and_ordered_for_any_number_of_shots(
    model: FlashModel, unseen: Observations, k: int, metrics: str
) -> None:
    shots = shots_of(unseen, k, tasks=20)
    gone = {"all": 0.0, "some": 0.5, "none": 1.0}[metrics]
    missing = np.random.default_rng(0).random(shots.metrics.shape) < gone
    forecast = model.forecast(replace(shots, metrics=np.where(missing, np.nan, shots.metrics)))
    for name in PARTS:
        assert getattr(forecast, name).shape == (20, 6)
        assert np.isfinite(getattr(forecast, name)).all()
    assert (forecast.lower <= forecast.point).all()
    assert (forecast.point <= forecast.upper).all()
    assert (forecast.variance > 0).all()
    assert (forecast.embedding is None) == (k == 0 or not model.nets)


@settings(max_examples=30, deadline=None)
@given(st.floats(-10, 25), st.floats(0, 1e12), st.integers(0, 5))
def test_any_shot_has_a_finite_forecast(model: FlashModel, log_runtime: float, metric: float, config: int) -> None:
    forecast = model.forecast(Shots(np.array([[config]]), np.array([[log_runtime]]), np.array([[[metric, np.nan]]])))
    assert all(np.isfinite(getattr(forecast, name)).all() for name in PARTS)
    assert (forecast.lower <= forecast.point).all()
    assert (forecast.point <= forecast.upper).all()


def test_a_forecast_repeats_itself_and_leaves_the_shots_alone(model: FlashModel, unseen: Observations) -> None:
    shots = shots_of(unseen, 3)
    before = [shots.config.copy(), shots.log_runtime.copy(), shots.metrics.copy()]
    first, second = model.forecast(shots), model.forecast(shots)
    for name in PARTS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    for value, old in zip((shots.config, shots.log_runtime, shots.metrics), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_the_point_is_shifted_prior_and_mixed_correction(model: FlashModel, unseen: Observations) -> None:
    shots = shots_of(unseen, 2)
    none = replace(model, calibration=replace(FULL, mix=np.zeros(6)))
    half = replace(model, calibration=replace(FULL, mix=np.full(6, 0.5)))
    bare, full = none.forecast(shots), model.forecast(shots)
    np.testing.assert_allclose(bare.point, bare.mean - FULL.shift[2] * bare.variance, rtol=1e-12)
    np.testing.assert_allclose(half.forecast(shots).point, (bare.point + full.point) / 2, rtol=1e-6)
    assert (np.abs(full.point - bare.point).max() > 1e-3) == bool(model.nets)


def test_networks_are_averaged(pretrained: FlashModel, unseen: Observations) -> None:
    shots = shots_of(unseen, 2)
    nets = [awake(pretrained.nets[0], seed) for seed in (1, 2)]
    both = replace(pretrained, calibration=FULL, nets=tuple(nets)).forecast(shots)
    singles = [replace(pretrained, calibration=FULL, nets=(net,)).forecast(shots) for net in nets]
    np.testing.assert_allclose(both.point, (singles[0].point + singles[1].point) / 2, rtol=1e-6)
    assert np.abs(singles[0].point - singles[1].point).max() > 1e-3
    assert both.embedding is not None
    np.testing.assert_array_equal(both.embedding, singles[0].embedding)


def test_margins_move_the_ends_in_deviations(pretrained: FlashModel, unseen: Observations) -> None:
    shots = shots_of(unseen, 1)
    zero = Calibration(*(np.zeros(6) for _ in range(4)))
    wide = replace(zero, below=np.full(6, 2.0), above=np.full(6, 3.0))
    plain = replace(pretrained, calibration=zero).forecast(shots)
    moved = replace(pretrained, calibration=wide).forecast(shots)
    deviation = np.sqrt(plain.variance)
    np.testing.assert_allclose(plain.lower, plain.mean - 1.6449 * deviation, rtol=1e-9)
    np.testing.assert_allclose(moved.lower, plain.lower - 2 * deviation, rtol=1e-9)
    np.testing.assert_allclose(moved.upper, plain.upper + 3 * deviation, rtol=1e-9)


def test_more_shots_than_there_are_values_for_take_the_last(model: FlashModel, unseen: Observations) -> None:
    steep = replace(FULL, shift=np.array([0, 0, 0, 0, 0, 1.0]))
    forecast = replace(model, nets=(), calibration=steep).forecast(shots_of(unseen, 6))
    np.testing.assert_allclose(forecast.point, forecast.mean - forecast.variance, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_pairs_are_judged_in_a_batch_as_one_by_one(pretrained: FlashModel, unseen: Observations, k: int) -> None:
    shots = shots_of(unseen, k, tasks=6)
    metrics = shots.metrics.copy()
    metrics[::2] = np.nan
    shots = replace(shots, metrics=metrics)
    p_value, distance = pretrained.judge(shots, pretrained.compared(shots, pretrained.embed(shots)))
    assert ((p_value > 0) & (p_value <= 1)).all()
    for i in range(6):
        one = shots.part(slice(i, i + 1))
        alone = pretrained.judge(one, pretrained.compared(one, pretrained.embed(one)))
        assert p_value[i] == pytest.approx(alone[0][0], abs=1e-6)
        assert distance[i] == pytest.approx(alone[1][0], rel=1e-3)


def test_pairs_of_the_same_world_are_seldom_called_novel(pretrained: FlashModel, unseen: Observations) -> None:
    novel = []
    for k in (1, 2, 3):
        for known in (1.0, np.nan):
            shots = shots_of(unseen, k, tasks=60)
            shots = replace(shots, metrics=shots.metrics * known)
            novel.append(pretrained.judge(shots, pretrained.compared(shots, pretrained.embed(shots)))[0] < LEVEL)
    assert float(np.mean(novel)) < 0.15  # few applications held out, few judged


def test_a_shot_between_those_of_the_grid_is_judged_too(pretrained: FlashModel) -> None:
    wider = pretrained.extended(pd.DataFrame({"memory_mb": [700.0]}))
    shots = Shots(np.array([[6, 1]]), np.array([[5.0, 5.5]]), np.array([[[60.0, 2e4], [60.0, 2e4]]]))
    p_value, distance = wider.judge(shots, wider.compared(shots, wider.embed(shots)))
    assert 0 < p_value[0] <= 1
    assert np.isfinite(distance[0])


def test_embeddings_are_those_of_the_forecast(pretrained: FlashModel, unseen: Observations) -> None:
    shots = shots_of(unseen, 3)
    turned = Shots(shots.config[:, ::-1], shots.log_runtime[:, ::-1], shots.metrics[:, ::-1])
    np.testing.assert_allclose(pretrained.embed(turned), pretrained.forecast(shots).embedding, rtol=1e-4, atol=1e-6)
    assert (pretrained.embed(shots) >= 0).all()


@pytest.mark.parametrize("k", [0, 1, 3])
def test_further_configurations_change_nothing_about_the_grid(model: FlashModel, unseen: Observations, k: int) -> None:
    shots = shots_of(unseen, k)
    forecast = model.forecast(shots)
    wider = model.extended(pd.DataFrame({"memory_mb": [200.0, 900.0, 2900.0]}))
    assert wider.grid["memory_mb"].tolist() == [*model.grid["memory_mb"], 200.0, 900.0, 2900.0]
    found = wider.forecast(shots)
    for name in PARTS:
        np.testing.assert_allclose(getattr(found, name)[:, :6], getattr(forecast, name), rtol=1e-7, err_msg=name)
        assert np.isfinite(getattr(found, name)).all()


def test_a_further_configuration_does_not_depend_on_others_asked_beside_it(
    model: FlashModel, unseen: Observations
) -> None:
    shots = shots_of(unseen, 2)
    asked = pd.DataFrame({"memory_mb": [200.0, 900.0, 2900.0]})
    together = model.extended(asked).forecast(shots)
    for i in range(3):
        alone = model.extended(asked.iloc[[i]]).forecast(shots)
        for name in PARTS:
            np.testing.assert_allclose(
                getattr(alone, name)[:, 6], getattr(together, name)[:, 6 + i], rtol=1e-7, err_msg=name
            )


def test_near_a_configuration_of_the_grid_the_forecast_is_near_too(
    pretrained: FlashModel, unseen: Observations
) -> None:
    shots = shots_of(unseen, 1, tasks=10)
    near = pretrained.grid.assign(memory_mb=lambda grid: grid["memory_mb"] * np.array([1.001] * 5 + [0.999]))
    found = pretrained.extended(near).forecast(shots)
    for name in ("point", "lower", "upper"):
        np.testing.assert_allclose(getattr(found, name)[:, 6:], getattr(found, name)[:, :6], atol=0.01, err_msg=name)


def test_a_further_configuration_goes_with_those_of_its_nearest(pretrained: FlashModel) -> None:
    together = np.zeros((6, 6), dtype=np.bool_)
    together[:3, :3] = together[3:, 3:] = True
    wider = replace(pretrained, together=together).extended(pd.DataFrame({"memory_mb": [130.0, 2900.0]}))
    np.testing.assert_array_equal(wider.together[6], [True] * 3 + [False] * 3 + [True, False])
    np.testing.assert_array_equal(wider.together, wider.together.T)


def test_configurations_that_some_pair_was_observed_in_together() -> None:
    log_runtime = np.array([[1.0, 1.0, np.nan], [np.nan, np.nan, 1.0]])
    np.testing.assert_array_equal(
        flash.observed_together(log_runtime), [[True, True, False], [True, True, False], [False, False, True]]
    )


@pytest.mark.parametrize("kind", ["gru", "lstm", "transformer", "set"])
def test_an_untrained_network_corrects_nothing(kind: str) -> None:
    net = FlashNet(7, 5, FlashConfig(meta=MetaLearnerConfig(kind=kind, hidden=8, embed=4), head=8)).eval()
    output, embedding = net(torch.randn(3, 2, 7), torch.ones(3, 2, dtype=torch.bool), torch.randn(3, 6, 5))
    assert output.shape == (3, 6, 4)
    assert embedding.shape == (3, 4)
    assert not output.any()


def test_the_head_can_be_kept_from_the_embedding() -> None:
    torch.manual_seed(0)
    config = FlashConfig(meta=MetaLearnerConfig(hidden=8, embed=4), head=8, use_embedding=False)
    net = FlashNet(7, 5, config).eval()
    torch.nn.init.normal_(net.head[-1].weight)
    asked, seen = torch.randn(1, 6, 5), torch.ones(1, 2, dtype=torch.bool)
    one, other = (net(torch.randn(1, 2, 7), seen, asked)[0] for _ in range(2))
    assert torch.equal(one, other)


def test_unseen_pairs_are_told_better_with_each_shot(
    pretrained: FlashModel, unseen: Observations, synthetic: Callable[..., pd.DataFrame]
) -> None:
    errors = []
    for k in range(4):
        rng = np.random.default_rng(0)
        pair = np.repeat(np.arange(len(unseen)), 5)
        chosen = np.stack([rng.permutation(6)[:3] for _ in pair])
        shots = unseen.shots(pair, chosen[:, :k])
        error = np.abs(np.exp(pretrained.forecast(shots).point - unseen.log_runtime[pair]) - 1)
        np.put_along_axis(error, chosen, np.nan, axis=1)  # the same queries for each K
        errors.append(float(np.nanmean(error)))
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < 0.5 * errors[0]
    assert errors[3] < 0.12
