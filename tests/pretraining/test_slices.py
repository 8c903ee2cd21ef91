"""Dropout of parts of a batch: together they are what the whole batch would be, for every encoder."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from flashfm.engine.group import Group
from flashfm.models.flash import FlashConfig, FlashNet
from flashfm.models.meta_learner import Kind, MetaLearnerConfig
from flashfm.pretraining.slices import Rows


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("shots", [1, 3])
def test_parts_are_dropped_as_the_whole_is(kind: Kind, shots: int) -> None:
    rows = 7
    torch.manual_seed(0)
    meta = MetaLearnerConfig(kind=kind, hidden=16, layers=3, embed=8, dropout=0.3)
    net = FlashNet(6, 5, FlashConfig(meta=meta, head=12, dropout=0.4)).train()
    torch.nn.init.normal_(net.head[-1].weight)
    read, asked = torch.randn(rows, shots, 6), torch.randn(rows, 4, 5)

    torch.manual_seed(1)
    output, embedding = net(read, None, asked)
    after = torch.rand(1)
    found = []
    for rank in range(3):
        part = Group(rank, 3).part(rows)
        torch.manual_seed(1)
        with Rows(part, rows):
            found.append(net(read[part], None, asked[part]))
        assert torch.equal(torch.rand(1), after)
    torch.testing.assert_close(torch.cat([one for one, _ in found]), output)
    torch.testing.assert_close(torch.cat([other for _, other in found]), embedding)
    assert not torch.allclose(net.eval()(read, None, asked)[0], output)  # or nothing was dropped
