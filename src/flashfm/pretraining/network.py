"""The loop that trains meta-learner and head on episodes: K shots of a pair, asked for all its other configurations.

Enters: episodes of training pairs. Leaves: networks. What each is trained on is drawn before any is trained. Workers of
a group share the networks out, each to be trained by one of them, as far as they go evenly; the rest are trained by all
together, each on its part of every batch. All tensors of the loop stay on its device.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from flashfm.engine.group import ALONE, Group
from flashfm.errors import ModelError
from flashfm.models.device import CPU
from flashfm.models.flash import NORMAL, QUANTILES, SHIFT, FlashNet
from flashfm.pretraining.settings import PretrainConfig
from flashfm.pretraining.slices import Rows


@dataclass(frozen=True, eq=False)
class Episodes:
    """All episodes with the same K."""

    tokens: Float[Tensor, "episode shot token"]
    queries: Float[Tensor, "episode config feature"]
    observed: Float[Tensor, "episode config"]
    """Log run time; NaN where it is a shot or was not observed."""
    mean: Float[Tensor, "episode config"]
    deviation: Float[Tensor, "episode config"]

    def to(self, device: torch.device) -> Episodes:
        """The same there."""
        return Episodes(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Draws:
    """What one network is trained on."""

    seed: int
    """Of its weights, and of noise and dropout."""
    shots: list[int]
    """K of each step."""
    chosen: Int[Tensor, "step task"]
    """Episodes of each step."""

    @classmethod
    def of(cls, episodes: dict[int, Episodes], config: PretrainConfig, steps: int, rng: np.random.Generator) -> Draws:
        """Draw so many steps."""
        ks = sorted(episodes)
        chance = np.array([config.shot_weights[k - 1] for k in ks])
        seed, shots, chosen = int(rng.integers(2**31)), [], []
        for _ in range(steps):
            shots.append(int(rng.choice(ks, p=chance / chance.sum())))
            chosen.append(rng.integers(len(episodes[shots[-1]].tokens), size=config.batch))
        return cls(seed, shots, torch.from_numpy(np.stack(chosen)))


def turns(networks: int, workers: int) -> int:
    """How many networks a worker trains, one after the other, alone or with all others."""
    return networks // workers + networks % workers


def check_workers(config: PretrainConfig, workers: int) -> None:
    """Whether so many can train together.

    Raises:
        ModelError: there are more of them than tasks in a batch.
    """
    if not 1 <= workers <= config.batch:
        raise ModelError(
            f"{workers} workers: expected 1 to {config.batch} (--workers), so that each has a task of every batch"
        )


def train_networks(
    episodes: dict[int, Episodes],
    features: int,
    config: PretrainConfig,
    steps: int,
    rng: np.random.Generator,
    progress: Callable[[], object],
    *,
    group: Group = ALONE,
    device: torch.device = CPU,
) -> tuple[FlashNet, ...]:
    """Train `config.members` networks, alike but for what is drawn.

    Those that one worker trains are the same, bit for bit, however many there are; those that all train are the same up
    to the order of float sums.

    Args:
        episodes: of the training pairs, for each K.
        features: how many numbers at the start of a token, and of a query, are of the configuration.
        config: settings.
        steps: of each network.
        rng: draws batches and seeds.
        progress: called after each step of this worker.
        group: who trains.
        device: where, and where the networks are then.
    """
    draws = [Draws.of(episodes, config, steps, rng) for _ in range(config.members)]
    there = {k: of_k.to(device) for k, of_k in episodes.items()}
    shared_out = config.members - config.members % group.size
    nets, first = [], episodes[min(episodes)]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for member, drawn in enumerate(draws):
            torch.manual_seed(drawn.seed)
            net = FlashNet(first.tokens.shape[-1], first.queries.shape[-1], config.network).to(device)
            if member >= shared_out:
                _train(net, there, features, config, drawn, progress, group)
            elif member % group.size == group.rank:
                _train(net, there, features, config, drawn, progress, ALONE)
            nets.append(net.eval())
    for member, net in enumerate(nets[:shared_out]):
        group.broadcast(list(net.parameters()), member % group.size)
    return tuple(nets)


def _train(
    net: FlashNet,
    episodes: dict[int, Episodes],
    features: int,
    config: PretrainConfig,
    draws: Draws,
    progress: Callable[[], object],
    group: Group,
) -> None:
    """Train a network on the rows of each batch that are this worker's. Net and episodes are on the same device.

    Loss: mean absolute percentage error of the point, pinball loss of the log quantiles, and a little of the error by
    which a linear map of the embedding misses the mean token of the shots. It is a mean over the whole batch, so the
    gradients of all workers add up to its gradient.
    """
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = len(draws.shots)
    rising = max(0.1, 2 / steps)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps, pct_start=rising)
    device = episodes[draws.shots[0]].tokens.device
    normal, levels = torch.tensor(NORMAL, device=device), torch.tensor(QUANTILES, device=device)
    part = group.part(config.batch)
    share = (part.stop - part.start) / config.batch
    for k, chosen in zip(draws.shots, draws.chosen.to(device), strict=True):
        episode = episodes[k]
        read, observed = episode.tokens[chosen], episode.observed[chosen]
        all_known = (~torch.isnan(observed)).sum()
        noisy, read, observed = _disturbed(read, features, config)[part], read[part], observed[part]
        mine = chosen[part]
        asked, mean, deviation = episode.queries[mine], episode.mean[mine], episode.deviation[mine]
        known = ~torch.isnan(observed)
        observed = observed.nan_to_num()
        with Rows(part, config.batch) if group.size > 1 else nullcontext():
            output, embedding = net(noisy, None, asked)
        point = mean - SHIFT * deviation**2 + output[..., 0]
        percentage = (torch.exp((point - observed).clamp(max=3.0)) - 1).abs()
        missed = observed[..., None] - (mean[..., None] + deviation[..., None] * (normal + output[..., 1:]))
        pinball = torch.maximum(levels * missed, (levels - 1) * missed).mean(dim=-1)
        loss = ((percentage + pinball) * known).sum() / all_known
        loss = loss + config.decode_weight * share * (net.decode(embedding) - read.mean(dim=1)).pow(2).mean()
        optimiser.zero_grad()
        loss.backward()
        group.sum([parameter.grad for parameter in net.parameters() if parameter.grad is not None])
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        progress()


def _disturbed(
    read: Float[Tensor, "task shot token"], features: int, config: PretrainConfig
) -> Float[Tensor, "task shot token"]:
    """Tokens with noise on label and metrics, and some metrics missing."""
    values = (read.shape[-1] - features - 1) // 2
    label, shots = features + 1, read.shape[1]
    measured = read[..., features : label + values]
    measured = measured + config.token_noise * torch.randn_like(measured)
    kept = torch.rand(len(read), 1, values, device=read.device) >= config.metric_dropout
    kept &= torch.rand(len(read), 1, 1, device=read.device) >= config.metric_dropout
    mask = read[..., label + values :] * kept.expand(-1, shots, -1)
    parts = [read[..., :features], measured[..., :1], measured[..., 1:] * mask, mask]
    return torch.cat(parts, dim=-1)
