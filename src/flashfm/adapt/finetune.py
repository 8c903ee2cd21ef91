"""Light fine-tuning: gradient steps on the head for one pair, kept only where its own shots are told no worse.

Enters: a model and the shots of one pair. Leaves: a new model that differs in the head's weights, or the same model.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flashfm.models import flash
from flashfm.models.flash import FlashModel
from flashfm.tasks.config_search import Shots


@dataclass(frozen=True)
class FineTuneConfig:
    """How far a head may move."""

    steps: int = 30
    learning_rate: float = 1e-3
    """Of Adam."""
    anchor: float = 1.0
    """Weight of the squared distance to the pretrained weights."""
    no_worse: float = 5.0
    """Weight of how much worse the shots are told from all of them than before."""


def fine_tune(model: FlashModel, shots: Shots, config: FineTuneConfig | None = None) -> FlashModel:
    """Move the head towards the shots of one pair.

    Each shot is told from all of them, and with two or more from the others as well. The step with the least error of
    both kinds is kept, among those at which the shots told from all of them are no worse than before; where none is
    better, the model comes back as it was.

    Args:
        model: pretrained; it is not changed.
        shots: of one task, K >= 1.
        config: settings.
    """
    config = config or FineTuneConfig()
    mix = model.calibration.of("mix", shots.count)
    if not model.nets or shots.count == 0 or mix == 0:
        return model
    parts = _parts(model, model.in_order(shots))
    nets = copy.deepcopy(model.nets)
    weights = [weight for net in nets for weight in net.head.parameters()]
    start = [weight.detach().clone() for weight in weights]
    optimiser = torch.optim.Adam(weights, lr=config.learning_rate)
    with torch.no_grad():
        first, best = map(float, _errors(nets, parts))
    kept = None
    for _ in range(config.steps):
        optimiser.zero_grad()
        own, loss = _errors(nets, parts)
        moved = torch.stack([(a - b).pow(2).sum() for a, b in zip(weights, start, strict=True)]).sum()
        (loss + config.anchor * moved + config.no_worse * torch.relu(own - first)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            now, both = map(float, _errors(nets, parts))
        if now <= first and both < best:
            best, kept = both, copy.deepcopy(nets)
    return model if kept is None else replace(model, nets=kept)


@dataclass(frozen=True, eq=False)
class _Part:
    """Some shots, and what is asked from them: the shots' own configurations or those of the others."""

    tokens: Float[Tensor, "one shot token"]
    queries: Float[Tensor, "one query feature"]
    base: Float[Tensor, "one query"]
    """The point without the head, in log ms."""
    observed: Float[Tensor, "one query"]
    mix: float


def _parts(model: FlashModel, shots: Shots) -> list[_Part]:
    """All shots asked for themselves first, then each left out in turn."""
    k = shots.count
    chosen = [(np.arange(k), np.arange(k))]
    if k > 1:
        chosen += [(np.delete(np.arange(k), j), np.array([j])) for j in range(k)]
    found = []
    for given, asked in chosen:
        some = Shots(shots.config[:, given], shots.log_runtime[:, given], shots.metrics[:, given])
        posterior = model.prior.posterior(some)
        base = posterior.mean - model.calibration.of("shift", some.count) * posterior.variance
        read = flash.queries(model.features, some, posterior)
        places = shots.config[0, asked]
        arrays = (model.tokens(some), read[:, places], base[:, places], shots.log_runtime[:, asked])
        tokens, queries, start, observed = (torch.from_numpy(array.astype(np.float32)) for array in arrays)
        found.append(_Part(tokens, queries, start, observed, model.calibration.of("mix", some.count)))
    return found


def _errors(nets: tuple[flash.FlashNet, ...], parts: list[_Part]) -> tuple[Tensor, Tensor]:
    """Mean absolute percentage error of the shots told from all of them, and over all parts."""
    errors = []
    for part in parts:
        seen = torch.ones(part.tokens.shape[:2], dtype=torch.bool)
        output = torch.stack([net(part.tokens, seen, part.queries)[0] for net in nets]).mean(dim=0)
        point = part.base + part.mix * output[..., 0]
        errors.append((torch.exp(point - part.observed) - 1).abs().mean())
    return errors[0], torch.stack(errors).mean()
