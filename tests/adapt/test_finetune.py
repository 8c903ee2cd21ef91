"""Fine-tuning: the shots' own prediction is never worse, only heads move, and the model given stays as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.adapt.finetune import FineTuneConfig, fine_tune
from flashfm.models.calibration import Calibration
from flashfm.models.flash import FlashModel
from flashfm.tasks.config_search import Observations, Shots

TRUSTED = Calibration(shift=np.full(6, 0.8), mix=np.ones(6), below=np.zeros(6), above=np.zeros(6))
SHORT = FineTuneConfig(steps=5, learning_rate=3e-3)


@pytest.fixture(scope="module")
def model(pretrained: FlashModel) -> FlashModel:
    return replace(pretrained, calibration=TRUSTED)


def own_error(model: FlashModel, shots: Shots) -> float:
    point = np.take_along_axis(model.forecast(shots).point, shots.config, axis=1)
    return float(np.abs(np.exp(point - shots.log_runtime) - 1).mean())


def weights(model: FlashModel) -> dict[str, torch.Tensor]:
    return {f"{i}.{n}": v.clone() for i, net in enumerate(model.nets) for n, v in net.state_dict().items()}


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True),
    st.lists(st.floats(0.0, 12.0), min_size=6, max_size=6),
    st.lists(st.one_of(st.none(), st.floats(0, 1e6)), min_size=6, max_size=6),
)
def test_the_shots_own_prediction_is_never_worse(
    model: FlashModel, at: list[int], log_runtime: list[float], metric: list[float | None]
) -> None:
    k = len(at)
    metrics = np.array([[[np.nan if m is None else m, np.nan] for m in metric[:k]]])
    shots = Shots(np.array([at]), np.array([log_runtime[:k]]), metrics)
    tuned = fine_tune(model, shots, SHORT)
    before, after = own_error(model, shots), own_error(tuned, shots)
    assert after <= before * (1 + 1e-5) + 1e-6


def test_some_pairs_are_told_better_at_their_shots(model: FlashModel, unseen: Observations) -> None:
    better = 0
    for pair in range(5):
        shots = unseen.shots(np.array([pair]), np.array([[0, 3, 5]]))
        better += own_error(fine_tune(model, shots, SHORT), shots) < own_error(model, shots)
    assert better >= 2


def test_only_heads_move_and_the_given_model_stays_as_it_was(model: FlashModel, unseen: Observations) -> None:
    before = weights(model)
    shots = unseen.shots(np.array([2]), np.array([[0, 3, 5]]))
    tuned = fine_tune(model, shots, SHORT)
    after = weights(tuned)
    for name, value in weights(model).items():
        assert torch.equal(value, before[name])
        assert torch.equal(after[name], value) == (".head." not in name), name
    np.testing.assert_array_equal(tuned.embed(shots), model.embed(shots))
    assert not any(net.training for net in (*model.nets, *tuned.nets))
    assert tuned.prior is model.prior
    assert tuned.novelty is model.novelty


def test_it_repeats_itself(model: FlashModel, unseen: Observations) -> None:
    shots = unseen.shots(np.array([3]), np.array([[5, 0, 2]]))
    one, other = (fine_tune(model, shots, SHORT).forecast(shots).point for _ in range(2))
    np.testing.assert_array_equal(other, one)


def test_the_order_of_shots_does_not_matter(model: FlashModel, unseen: Observations) -> None:
    shots, turned = (unseen.shots(np.array([2]), np.array([at])) for at in ([0, 3, 5], [5, 0, 3]))
    one, other = (fine_tune(model, given, SHORT).forecast(given).point for given in (shots, turned))
    np.testing.assert_allclose(other, one, rtol=1e-4)


def test_unseen_applications_are_told_no_worse_on_the_whole(model: FlashModel, unseen: Observations) -> None:
    before, after = [], []
    for pair in range(0, len(unseen), 3):
        shots = unseen.shots(np.array([pair]), np.array([[0, 3, 5]]))
        for found, which in ((before, model), (after, fine_tune(model, shots, SHORT))):
            found.append(np.abs(np.exp(which.forecast(shots).point[0] - unseen.log_runtime[pair]) - 1)[[1, 2, 4]])
    assert np.mean(after) < 1.1 * np.mean(before)


@pytest.mark.parametrize("why", ["no shots", "no networks", "no trust"])
def test_where_nothing_can_be_tuned_the_model_comes_back(
    pretrained: FlashModel, unseen: Observations, why: str
) -> None:
    config = np.empty((1, 0), dtype=np.int64) if why == "no shots" else np.array([[0, 3]])
    model = replace(pretrained, calibration=replace(TRUSTED, mix=np.full(6, float(why != "no trust"))))
    if why == "no networks":
        model = replace(model, nets=(), novelty=None)
    assert fine_tune(model, unseen.shots(np.array([0]), config)) is model
