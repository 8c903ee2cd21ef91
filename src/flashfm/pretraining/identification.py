"""Trains the trajectory encoder by itself: from some episodes of a pair, tell what its observations do not show.

Enters: trajectories of many simulated pairs under one policy, and the hidden values of these pairs, which are known
where they were drawn. Leaves: an encoder whose embeddings hold what of that can be found out. The agent has no part in
it, so its embeddings are computed once and cached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.trajectories import SET, TrajectoryEncoder

READ_AT_ONCE = 200
"""Pairs that are embedded together."""


@dataclass(frozen=True)
class IdentificationConfig:
    """How an encoder is trained."""

    meta: MetaLearnerConfig = SET
    steps: int = 900
    tasks: int = 64
    """Pairs a step."""
    most_trajectories: int = 3
    """Episodes that an embedding is made of, 1 to this many."""
    read: int = 60
    """Steps read of each episode: drawn for a set, a run of them for a sequence."""
    learning_rate: float = 1e-3


def fit(
    trajectories: Float[Tensor, "env trajectory step token"],
    hidden: Float[Tensor, "env value"],
    config: IdentificationConfig | None = None,
    *,
    seed: int,
    on_step: Callable[[int, int], object] = lambda *_: None,
) -> TrajectoryEncoder:
    """Train an encoder, and standardise its embeddings over these pairs.

    Args:
        trajectories: episodes of each pair, as `replay.tokens`.
        hidden: of each pair, standardised, as `tasks.autoscaling.hidden`.
        config: settings.
        seed: of weights and draws.
        on_step: told of progress.
    """
    config = config or IdentificationConfig()
    generator = torch.Generator().manual_seed(seed)
    envs, episodes, length, token = trajectories.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = TrajectoryEncoder(token, config.meta)
        head = nn.Linear(config.meta.embed, hidden.shape[1])
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], config.learning_rate)
    for done in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * max(0.02, 1 - done / config.steps)
        env = torch.randint(envs, (config.tasks,), generator=generator)
        order = torch.randperm(episodes, generator=generator)
        several = int(torch.randint(1, min(config.most_trajectories, episodes) + 1, (1,), generator=generator))
        seen = trajectories[env][:, order[:several]][:, :, _some(length, config, generator)]
        loss = (head(encoder(seen)) - hidden[env]).pow(2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        on_step(done + 1, config.steps)
    with torch.no_grad():
        encoder.eval()
        encoder.standardise(embedded(encoder, trajectories[:, :1]))
    return encoder


def _some(length: int, config: IdentificationConfig, generator: torch.Generator) -> Tensor:
    """Steps that are read."""
    n = min(config.read, length)
    if config.meta.kind == "set":
        return torch.randperm(length, generator=generator)[:n]
    first = int(torch.randint(length - n + 1, (1,), generator=generator))
    return torch.arange(first, first + n)


def variants(
    encoder: TrajectoryEncoder, trajectories: Float[Tensor, "env trajectory step token"], most: int = 3
) -> Float[Tensor, "variant env embed"]:
    """Embeddings of each single episode, and of each run of `most` of them."""
    n = trajectories.shape[1]
    single = [embedded(encoder, trajectories[:, i : i + 1]) for i in range(n)]
    several = [embedded(encoder, trajectories[:, i : i + most]) for i in range(n - most + 1)]
    return torch.stack(single + several)


@torch.no_grad()
def embedded(
    encoder: TrajectoryEncoder, trajectories: Float[Tensor, "env trajectory step token"]
) -> Float[Tensor, "env embed"]:
    """Embeddings of many pairs, some at a time: what a network makes of each step takes far more room."""
    return torch.cat([encoder(some) for some in torch.split(trajectories, READ_AT_ONCE)])
