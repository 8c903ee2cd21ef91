"""The loop that trains networks: it stays on its device, and workers share it out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from flashfm.errors import ModelError
from flashfm.models.device import CPU
from flashfm.models.flash import FlashConfig, FlashNet
from flashfm.models.meta_learner import Kind, MetaLearnerConfig
from flashfm.pretraining.network import Draws, Episodes, check_workers, train_networks, turns
from flashfm.pretraining.settings import PretrainConfig

FEATURES = 2
META = torch.device("meta")
"""A device whose tensors hold nothing: what asks for their values, or mixes them with others, is an error."""
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")


def episodes() -> dict[int, Episodes]:
    """Of two metrics and five configurations, as many as it takes."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    found = {}
    for k in (1, 2, 3):
        mean = normal(40, 5)
        observed = (mean + 0.3 * normal(40, 5)).index_fill(1, torch.arange(k), torch.nan)
        deviation = torch.full((40, 5), 0.3)
        found[k] = Episodes(normal(40, k, FEATURES + 5), normal(40, 5, FEATURES + 4), observed, mean, deviation)
    return found


def config(kind: Kind = "gru", **options: object) -> PretrainConfig:
    meta = MetaLearnerConfig(kind=kind, hidden=16, embed=8)
    return replace(PretrainConfig(network=FlashConfig(meta=meta, head=16), batch=8, members=2), **options)


def trained(settings: PretrainConfig, device: torch.device, steps: int = 5) -> tuple[FlashNet, ...]:
    rng = np.random.default_rng(0)
    return train_networks(episodes(), FEATURES, settings, steps, rng, lambda: None, device=device)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_no_step_asks_the_device_for_a_value(kind: Kind) -> None:
    for net in trained(config(kind), META):
        assert {parameter.device for parameter in net.parameters()} == {META}
        assert not net.training


def test_what_a_network_is_trained_on_does_not_depend_on_those_before() -> None:
    of_one, of_two = trained(config(members=1), CPU), trained(config(), CPU)
    for value, same, other in zip(*(net.parameters() for net in (*of_one, *of_two)), strict=True):
        assert torch.equal(value, same)
        if value.numel() > value.shape[-1] > 1:
            assert not torch.equal(same, other)


def test_draws_are_of_episodes_that_there_are() -> None:
    drawn = Draws.of(episodes(), config(), 200, np.random.default_rng(0))
    assert set(drawn.shots) == {1, 2, 3}
    assert drawn.chosen.shape == (200, 8)
    assert (int(drawn.chosen.min()), int(drawn.chosen.max())) == (0, 39)


@pytest.mark.parametrize(("networks", "workers", "expected"), [(3, 1, 3), (3, 2, 2), (3, 3, 1), (3, 4, 3), (4, 2, 2)])
def test_turns_of_a_worker(networks: int, workers: int, expected: int) -> None:
    assert turns(networks, workers) == expected


def test_more_workers_than_tasks_in_a_batch_are_one_line() -> None:
    check_workers(config(), 8)
    with pytest.raises(
        ModelError, match=r"^9 workers: expected 1 to 8 \(--workers\), so that each has a task of every batch$"
    ):
        check_workers(config(), 9)


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_trains_as_the_cpu_does_where_nothing_is_drawn() -> None:
    meta = MetaLearnerConfig(hidden=16, embed=8, dropout=0.0)
    settings = config(
        network=FlashConfig(meta=meta, head=16, dropout=0.0), token_noise=0.0, metric_dropout=0.0, members=1
    )
    (here,), (there,) = trained(settings, CPU, 30), trained(settings, torch.device("cuda", 0), 30)
    of = episodes()[2]
    with torch.inference_mode():
        expected = here(of.tokens, None, of.queries)[0]
        found = there(of.tokens.cuda(), None, of.queries.cuda())[0].cpu()
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)
