"""Sizeless's regressor, alone and with an embedding."""

from __future__ import annotations

import pytest
import torch

from flashfm.errors import ModelError
from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.regressor import FlashSizeless, RegressorConfig, SizelessRegressor

SMALL = RegressorConfig(neurons=8, layers=2)


def flash() -> FlashSizeless:
    torch.manual_seed(0)
    return FlashSizeless(6, 4, SMALL, MetaLearnerConfig(hidden=8, embed=12)).eval()


def test_the_defaults_are_those_of_table_3() -> None:
    network = SizelessRegressor(9, RegressorConfig())
    assert [tuple(layer.weight.shape) for layer in network.hidden] == [(256, 9), (256, 256), (256, 256), (256, 256)]
    assert network.output.weight.shape == (1, 256)


def test_one_number_for_each_row_of_any_shape() -> None:
    network = SizelessRegressor(3, SMALL)
    assert network(torch.randn(5, 3)).shape == (5,)
    assert network(torch.randn(5, 2, 3)).shape == (5, 2)


def test_the_output_is_linear_so_it_may_be_negative() -> None:
    network = SizelessRegressor(3, SMALL)
    rows = torch.randn(50, 3)
    with torch.no_grad():
        network.output.bias.fill_(-100.0)
    assert network(rows).max() < 0


def test_the_penalty_counts_hidden_kernels_alone() -> None:
    network = SizelessRegressor(3, SMALL)
    before = network.kernel_penalty()
    with torch.no_grad():
        network.output.weight.fill_(7.0)
        for layer in network.hidden:
            layer.bias.fill_(7.0)
    assert network.kernel_penalty() == before
    with torch.no_grad():
        for layer in network.hidden:
            layer.weight.fill_(2.0)
    assert float(network.kernel_penalty().detach()) == pytest.approx(4.0 * (3 * 8 + 8 * 8))


def test_the_embedding_conditions_the_answers_and_gets_gradient() -> None:
    network = flash()
    features, shots = torch.randn(3, 5, 6), torch.randn(3, 2, 4)
    seen = torch.ones(3, 2, dtype=torch.bool)
    answers = network(features, shots, seen)
    assert answers.shape == (3, 5)
    assert not torch.allclose(answers, network(features, shots.flip(0), seen))
    answers.sum().backward()
    gradient = network.meta_learner.input.weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0


def test_a_batch_of_tasks_equals_each_alone() -> None:
    network = flash()
    features, shots = torch.randn(4, 5, 6), torch.randn(4, 3, 4)
    seen = torch.tensor([[True, True, True], [True, False, False], [True, True, False], [True, True, True]])
    together = network(features, shots, seen)
    for i in range(4):
        k = int(seen[i].sum())
        alone = network(features[i : i + 1], shots[i : i + 1, :k], seen[i : i + 1, :k])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)


def test_the_penalty_of_flash_is_that_of_its_base_learner() -> None:
    network = flash()
    assert network.kernel_penalty() == network.base_learner.kernel_penalty()
    assert network.base_learner.hidden[0].in_features == 6 + 12


@pytest.mark.parametrize("changes", [{"neurons": 0}, {"layers": 0}])
def test_a_network_without_neurons_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="expected at least 1 of each"):
        RegressorConfig(**changes)
