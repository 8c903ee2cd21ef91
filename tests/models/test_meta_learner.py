"""The meta-learner: shapes, padding, order, bad input."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.errors import ModelError
from flashfm.models.meta_learner import Kind, MetaLearner, MetaLearnerConfig

KINDS = get_args(Kind)
FEATURES = 5


def learner(kind: Kind, *, dropout: float = 0.05, layers: int = 2) -> MetaLearner:
    torch.manual_seed(0)
    config = MetaLearnerConfig(kind=kind, hidden=16, layers=layers, dropout=dropout, embed=24)
    return MetaLearner(FEATURES, config).eval()


def all_seen(shots: torch.Tensor) -> torch.Tensor:
    return torch.ones(shots.shape[:2], dtype=torch.bool)


def test_the_defaults_are_those_of_table_6() -> None:
    config = MetaLearnerConfig()
    assert (config.kind, config.hidden, config.layers, config.dropout, config.embed) == ("gru", 256, 2, 0.05, 32)
    network = MetaLearner(FEATURES, config)
    assert isinstance(network.body, torch.nn.GRU)
    assert network.body.bidirectional
    assert network.output.in_features == 512


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 3])
def test_an_embedding_for_each_task_that_differs_by_task_and_is_not_negative(kind: Kind, layers: int) -> None:
    shots = torch.randn(7, 3, FEATURES)
    embedding = learner(kind, layers=layers)(shots, all_seen(shots))
    assert embedding.shape == (7, 24)
    assert embedding.min() >= 0
    assert len(torch.unique(embedding, dim=0)) == 7


@pytest.mark.parametrize("kind", KINDS)
@given(
    seed=st.integers(0, 2**16), mask=st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4)
)
@settings(deadline=None, max_examples=25)
def test_padding_changes_nothing_wherever_it_stands(kind: Kind, seed: int, mask: list[list[bool]]) -> None:
    network = learner(kind)
    seen = torch.tensor(mask)
    seen[~seen.any(dim=1), seed % 5] = True
    shots = torch.randn(len(seen), 5, FEATURES, generator=torch.Generator().manual_seed(seed))
    rng = np.random.default_rng(seed)
    filler = torch.from_numpy(rng.choice([np.nan, np.inf, -1e30, 0.0, 3.0], shots.shape).astype(np.float32))
    with torch.no_grad():
        together = network(torch.where(seen[..., None], shots, filler), seen)
        for i in range(len(seen)):
            alone = shots[i, seen[i]][None]
            torch.testing.assert_close(together[i], network(alone, all_seen(alone))[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["transformer", "set"])
@given(seed=st.integers(0, 2**16))
@settings(deadline=None, max_examples=25)
def test_these_read_shots_in_any_order_alike(kind: Kind, seed: int) -> None:
    network = learner(kind)
    generator = torch.Generator().manual_seed(seed)
    shots = torch.randn(3, 4, FEATURES, generator=generator)
    order = torch.randperm(4, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(
            network(shots, all_seen(shots)), network(shots[:, order], all_seen(shots)), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_recurrent_network_reads_a_sequence(kind: Kind) -> None:
    network = learner(kind)
    shots = torch.randn(3, 4, FEATURES)
    changed = (network(shots, all_seen(shots)) - network(shots.flip(1), all_seen(shots))).abs().max()
    assert changed > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_with_padding_that_is_not_a_number(kind: Kind) -> None:
    network = learner(kind).train()
    shots = torch.randn(4, 3, FEATURES)
    seen = torch.tensor([[True, True, True], [True, False, False], [False, True, False], [True, False, True]])
    shots[~seen] = float("nan")
    network(shots, seen).sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert network.input.weight.grad is not None
    assert network.input.weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_in_training_alone(kind: Kind) -> None:
    network = learner(kind, dropout=0.5)
    shots = torch.randn(6, 3, FEATURES)
    seen = all_seen(shots)
    assert torch.equal(network(shots, seen), network(shots, seen))
    network.train()
    assert not torch.equal(network(shots, seen), network(shots, seen))


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_without_a_shot_is_refused_by_its_number(kind: Kind) -> None:
    seen = torch.tensor([[True, False], [False, False]])
    with pytest.raises(ModelError, match="task 1 of the batch has no measured shot"):
        learner(kind)(torch.zeros(2, 2, FEATURES), seen)
    with pytest.raises(ModelError, match="have no measured shot"):
        learner(kind)(torch.zeros(2, 0, FEATURES))


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_mask_all_shots_are_seen(kind: Kind) -> None:
    shots = torch.randn(3, 4, FEATURES)
    network = learner(kind).eval()
    assert torch.equal(network(shots), network(shots, torch.ones(3, 4, dtype=torch.bool)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "layers 0: expected at least 1"),
        ({"embed": -1}, "embed -1"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"kind": "transformer", "hidden": 30}, "multiple of the 4 heads"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        MetaLearnerConfig(**changes)  # type: ignore[arg-type]


def test_an_unknown_kind_from_a_file_is_refused() -> None:
    config = MetaLearnerConfig()
    object.__setattr__(config, "kind", "mamba")
    with pytest.raises(ModelError, match="kind 'mamba': expected one of gru, lstm, transformer, set"):
        config.__post_init__()
