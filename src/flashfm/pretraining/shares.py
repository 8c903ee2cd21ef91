"""Shares of the pairs: how workers of a group train one agent, each on pairs of its own.

Enters: a group. Leaves: what is a rank's, the seeds of its chance, and the exchanges by which all ranks keep the same
weights. For one alone all of them change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from flashfm.engine.group import Group
from flashfm.models.ddpg import Exchange
from flashfm.tasks.autoscaling.simulator import seed_of


def own_seed(seed: int, group: Group) -> int:
    """The seed of chance in a rank's share of the pairs: for the first rank, and for one alone, the seed itself."""
    return seed_of(seed, group.rank) if group.rank else seed


def own_part(rows: int, group: Group) -> int:
    """How many of so many rows are a rank's."""
    return len(range(rows)[group.part(rows)])


def mean_gradients(group: Group, pairs: int) -> Exchange | None:
    """Puts the mean over all pairs in place of gradients that are means over a rank's pairs; None for one alone.

    A rank counts by its number of pairs, so that all pairs count alike, however many each rank has.

    Args:
        group: whose ranks call it together.
        pairs: this rank's, at least 1.
    """
    if group.size == 1:
        return None
    return partial(_mean, group, pairs / sum(_of_all(group, pairs)))


def least(group: Group, value: int) -> int:
    """The least that a rank has; all ranks have come here when it is known."""
    return min(_of_all(group, value))


def _of_all(group: Group, value: int) -> list[int]:
    found: list[int] = torch.cat(group.gather(torch.tensor([value]))).tolist()
    return found


def _mean(group: Group, share: float, gradients: Sequence[Tensor]) -> None:
    for gradient in gradients:
        gradient.mul_(share)
    group.sum(gradients)
