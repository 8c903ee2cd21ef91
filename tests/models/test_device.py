"""Devices by name, and models that compute on another."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flashfm.errors import ModelError
from flashfm.models.device import CPU, device_of
from flashfm.models.flash import FlashModel
from flashfm.models.local import _at
from flashfm.tasks.config_search import Observations, Shots

has_gpu = torch.cuda.is_available()
META = torch.device("meta")
"""A device whose tensors hold nothing: what asks for their values, or mixes them with others, is an error."""


def some(unseen: Observations, k: int) -> Shots:
    rng = np.random.default_rng(0)
    return unseen.shots(np.arange(len(unseen)), np.stack([rng.permutation(6)[:k] for _ in range(len(unseen))]))


def test_names() -> None:
    assert device_of("cpu") == device_of("auto", workers=2) == CPU
    assert device_of("auto").type == ("cuda" if has_gpu else "cpu")


@pytest.mark.parametrize(
    ("name", "workers", "words"),
    [
        ("gpu", 1, "--device gpu: expected one of cpu, cuda, auto"),
        ("cuda", 2, "--device cuda with 2 workers: several train together on CPUs; "),
        pytest.param("cuda", 1, "finds no GPU", marks=pytest.mark.skipif(has_gpu, reason="there is a GPU")),
    ],
)
def test_what_there_is_not_is_one_line(name: str, workers: int, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        device_of(name, workers=workers)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_between_shots_and_posterior_asks_the_device_for_a_value(
    pretrained: FlashModel, unseen: Observations
) -> None:
    there = pretrained.to(META)
    assert (pretrained.device, there.device) == (CPU, META)
    shots = some(unseen, 3)
    parameters = _at(there.prior.likeness, 3, META)
    distance = there.prior._differences(shots) @ parameters["weight"].exp()
    for told in there.prior._condition(shots, distance, parameters):
        assert (told.device, told.shape) == (META, (len(unseen), 6))
    read = torch.from_numpy(there.tokens(shots).astype(np.float32)).to(META)
    assert there.nets[0].meta(read).device == META
    with pytest.raises(NotImplementedError, match="meta"):
        there.forecast(shots)  # whose last step is the copy to the CPU


def test_a_model_that_is_where_it_is_wanted_is_the_same(pretrained: FlashModel) -> None:
    assert pretrained.to(CPU) is pretrained


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu, reason="torch finds no GPU here")
def test_a_gpu_says_what_the_cpu_says(pretrained: FlashModel, unseen: Observations) -> None:
    there = pretrained.to(device_of("cuda"))
    for k in (0, 1, 3):
        expected, found = pretrained.forecast(some(unseen, k)), there.forecast(some(unseen, k))
        for name in ("point", "lower", "upper"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-4)
