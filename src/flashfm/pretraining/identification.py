"""Trains the trajectory encoder by itself: from some episodes of a pair, tell what happens in another one.

Enters: trajectories of many pairs under one policy. Leaves: an encoder whose embeddings hold what the state of a single
step does not show, because that is what helps to foresee the next one. The agent has no part in it, so its embeddings
are computed once and cached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.trajectories import SET, TrajectoryEncoder
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION


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
    asked: int = 16
    """Steps of another episode that are to be told."""
    learning_rate: float = 1e-3
    decoder: int = 128
    """Width of the decoder's hidden layer."""


def fit(
    trajectories: Float[Tensor, "env trajectory step token"],
    config: IdentificationConfig | None = None,
    *,
    seed: int,
    on_step: Callable[[int, int], object] = lambda *_: None,
) -> TrajectoryEncoder:
    """Train an encoder, and standardise its embeddings over these pairs.

    Args:
        trajectories: at least two episodes of each pair, as `replay.tokens`.
        config: settings.
        seed: of weights and draws.
        on_step: told of progress.
    """
    config = config or IdentificationConfig()
    generator = torch.Generator().manual_seed(seed)
    envs, episodes, length, token = trajectories.shape
    told = len(OBSERVATION) + len(ACTION)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = TrajectoryEncoder(token, config.meta)
        decoder = nn.Sequential(
            nn.Linear(told + config.meta.embed, config.decoder), nn.ReLU(), nn.Linear(config.decoder, token - told)
        )
        optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], config.learning_rate)
        for done in range(config.steps):
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * max(0.02, 1 - done / config.steps)
            env = torch.randint(envs, (config.tasks,), generator=generator)
            order = torch.randperm(episodes, generator=generator)
            several = int(torch.randint(1, min(config.most_trajectories, episodes - 1) + 1, (1,), generator=generator))
            seen = trajectories[env][:, order[:several]][:, :, _some(length, config, generator)]
            asked = torch.randint(length, (config.asked,), generator=generator)
            other = trajectories[env][:, order[-1]][:, asked]
            embedding = encoder(seen)[:, None].expand(-1, config.asked, -1)
            predicted = decoder(torch.cat([other[..., :told], embedding], dim=-1))
            loss = (predicted - other[..., told:]).pow(2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            on_step(done + 1, config.steps)
    with torch.no_grad():
        encoder.eval()
        encoder.standardise(encoder(trajectories[:, :1]))
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
    with torch.no_grad():
        single = [encoder(trajectories[:, i : i + 1]) for i in range(n)]
        several = [encoder(trajectories[:, i : i + most]) for i in range(n - most + 1)]
    return torch.stack(single + several)
