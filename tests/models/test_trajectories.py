"""Trajectory encoders: shapes, standardisation, and which order they do not mind."""

from __future__ import annotations

import pytest
import torch

from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.trajectories import SET, TrajectoryEncoder


@pytest.mark.parametrize("kind", ["gru", "lstm", "transformer", "set"])
def test_every_kind_embeds_and_minds_no_order_of_trajectories(kind: str) -> None:
    torch.manual_seed(0)
    encoder = TrajectoryEncoder(5, MetaLearnerConfig(kind=kind, hidden=16, layers=1, embed=8)).eval()  # type: ignore[arg-type]
    read = torch.randn(6, 3, 10, 5)
    embedding = encoder(read)
    assert embedding.shape == (6, 8)
    torch.testing.assert_close(encoder(read.flip(1)), embedding, rtol=1e-4, atol=1e-5)


def test_embeddings_come_out_standardised() -> None:
    torch.manual_seed(0)
    encoder = TrajectoryEncoder(5, SET).eval()
    read = 3 * torch.randn(200, 1, 10, 5)
    with torch.no_grad():
        encoder.standardise(encoder(read))
        embedding = encoder(read)
    assert float(embedding.mean(dim=0).abs().max()) < 1e-4
    assert float(embedding.std(dim=0).max()) <= 1.0
