"""Trains the trajectory encoder by itself: from some episodes of a pair, tell what its observations do not show.

Enters: trajectories of many simulated pairs under one policy, and the hidden values of these pairs, which are known
where they were drawn. Leaves: an encoder whose embeddings hold what of that can be found out. The agent has no part in
it, so its embeddings are computed once and cached. All is on the device of the trajectories; what is drawn is drawn
before the first step, on the CPU, the same for every device. Ranks of a group train one encoder, each on its own pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from flashfm.engine.group import ALONE, Group
from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.trajectories import SET, TrajectoryEncoder
from flashfm.pretraining.shares import mean_gradients, own_part, own_seed

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
    group: Group = ALONE,
) -> TrajectoryEncoder:
    """Train an encoder, and standardise its embeddings over these pairs.

    Args:
        trajectories: episodes of each pair, as `replay.tokens`.
        hidden: of each pair, standardised, as `tasks.autoscaling.hidden`.
        config: settings.
        seed: of weights and draws.
        on_step: told of progress.
        group: whose ranks train one encoder together, each on its own pairs, which are given.
    """
    config = config or IdentificationConfig()
    device, (_, _, _, token) = trajectories.device, trajectories.shape
    drawn = _Draws.of(trajectories, config, torch.Generator().manual_seed(own_seed(seed, group)), group)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = TrajectoryEncoder(token, config.meta).to(device)
        head = nn.Linear(config.meta.embed, hidden.shape[1]).to(device)
    weights = [*encoder.parameters(), *head.parameters()]
    optimiser, exchange = torch.optim.Adam(weights, config.learning_rate), mean_gradients(group, len(trajectories))
    for done, several in enumerate(drawn.several):
        for settings in optimiser.param_groups:
            settings["lr"] = config.learning_rate * max(0.02, 1 - done / config.steps)
        env, order = drawn.env[done], drawn.order[done, :several]
        seen = trajectories[env][:, order][:, :, drawn.steps[done]]
        loss = (head(encoder(seen)) - hidden[env]).pow(2).mean()
        optimiser.zero_grad()
        loss.backward()
        if exchange is not None:
            exchange([weight.grad for weight in weights if weight.grad is not None])
        optimiser.step()
        on_step(done + 1, config.steps)
    with torch.no_grad():
        encoder.eval()
        encoder.standardise(torch.cat(group.gather(embedded(encoder, trajectories[:, :1]))))
    return encoder


@dataclass(frozen=True, eq=False)
class _Draws:
    """What is read in each training step; tensors are on the device of the trajectories."""

    env: Int[Tensor, "training task"]
    order: Int[Tensor, "training trajectory"]
    several: list[int]
    """How many trajectories are read, the first ones of `order`."""
    steps: Int[Tensor, "training read"]

    @classmethod
    def of(
        cls,
        trajectories: Float[Tensor, "env trajectory step token"],
        config: IdentificationConfig,
        generator: torch.Generator,
        group: Group,
    ) -> _Draws:
        (envs, episodes, length, _), tasks = trajectories.shape, own_part(config.tasks, group)
        most = min(config.most_trajectories, episodes)
        env, order, several, steps = [], [], [], []
        for _ in range(config.steps):
            env.append(torch.randint(envs, (tasks,), generator=generator))
            order.append(torch.randperm(episodes, generator=generator))
            several.append(int(torch.randint(1, most + 1, (1,), generator=generator)))
            steps.append(_some(length, config, generator))
        there = [torch.stack(part).to(trajectories.device) for part in (env, order, steps)]
        return cls(there[0], there[1], several, there[2])


def _some(length: int, config: IdentificationConfig, generator: torch.Generator) -> Int[Tensor, " read"]:
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
