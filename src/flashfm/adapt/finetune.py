"""Light fine-tuning: gradient steps on the head for a pair, kept only where its own shots are told no worse.

Enters: a model and the shots of one pair, or of many with the same number of shots. Leaves: a new model that differs in
the head's weights, or the same model. Pairs are tuned together and do not touch: each has a head of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flashfm.models import flash
from flashfm.models.flash import FlashModel, FlashNet
from flashfm.tasks.config_search import Shots

AT_ONCE = 64
"""Pairs that are tuned together: their weights and moments stay near the processor."""


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


class EachLinear(nn.Module):
    """A linear layer of some networks that has moved in its own way for each task; at first it has not."""

    def __init__(self, layers: Sequence[nn.Linear], tasks: int) -> None:
        """Take one layer of each network, for so many tasks; the networks of a task follow each other."""
        super().__init__()
        self.start_weight = torch.stack([layer.weight.detach().T for layer in layers])
        self.start_bias = torch.stack([layer.bias.detach()[None] for layer in layers])
        device = self.start_weight.device
        self.weight = nn.Parameter(torch.zeros(tasks * len(layers), *self.start_weight.shape[1:], device=device))
        self.bias = nn.Parameter(torch.zeros(tasks * len(layers), *self.start_bias.shape[1:], device=device))

    def forward(self, inputs: Float[Tensor, "own query into"]) -> Float[Tensor, "own query out"]:
        """Each task's and network's inputs through their own weights."""
        bias, weight = self.whole()
        return torch.baddbmm(bias, inputs, weight)

    def whole(self) -> tuple[Float[Tensor, "own 1 out"], Float[Tensor, "own into out"]]:
        """Biases and weights as they are."""
        networks = len(self.start_weight)
        bias, weight = (part.view(-1, networks, *part.shape[1:]) for part in (self.bias, self.weight))
        return (bias + self.start_bias).flatten(0, 1), (weight + self.start_weight).flatten(0, 1)


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
    tuned, better = fine_tune_each(model, shots, config)
    if not better.any():
        return model
    nets = copy.deepcopy(model.nets)
    for net, of_task in zip(nets, tuned.nets, strict=True):
        for layer, each in zip(net.head, of_task.head, strict=True):
            if isinstance(layer, nn.Linear) and isinstance(each, EachLinear):
                bias, weight = each.whole()
                layer.weight.data = weight.data[0].T.contiguous()
                layer.bias.data = bias.data[0, 0].clone()
    return replace(model, nets=nets)


def fine_tune_each(
    model: FlashModel, shots: Shots, config: FineTuneConfig | None = None
) -> tuple[FlashModel, Bool[np.ndarray, " task"]]:
    """As `fine_tune`, for many pairs.

    Args:
        model: pretrained; it is not changed.
        shots: of any number of tasks, K >= 1.
        config: settings.

    Returns:
        A model that answers for these tasks alone, in this order, each with its own head; and whose heads have moved.
    """
    config = config or FineTuneConfig()
    mix = model.calibration.of("mix", shots.count)
    if not model.nets or shots.count == 0 or mix == 0 or not len(shots):
        return model, np.zeros(len(shots), dtype=np.bool_)
    ordered = model.in_order(shots)
    nets = tuple(_with_heads(net, len(shots)) for net in model.nets)
    better = np.zeros(len(shots), dtype=np.bool_)
    for start in range(0, len(shots), AT_ONCE):
        chosen = slice(start, start + AT_ONCE)
        part = ordered.part(chosen)
        heads = _heads([net.head for net in model.nets], len(part))
        better[chosen] = _move(heads, _asked(model, part), config).cpu().numpy()
        for i, net in enumerate(nets):
            for whole, own in zip(net.head.parameters(), heads.parameters(), strict=True):
                whole.data[chosen] = own.data[i :: len(nets)]
    return replace(model, nets=nets), better


def _heads(heads: Sequence[nn.Sequential], tasks: int) -> nn.Sequential:
    """The heads of networks of one shape, once for each task."""
    layers = []
    for alike in zip(*heads, strict=True):
        linear = [layer for layer in alike if isinstance(layer, nn.Linear)]
        layers.append(EachLinear(linear, tasks) if linear else alike[0])
    return nn.Sequential(*layers)


def _with_heads(net: FlashNet, tasks: int) -> FlashNet:
    """The same network with a head for each task."""
    other = copy.copy(net)
    other._modules = dict(net._modules)
    other.head = _heads([net.head], tasks)
    return other


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is asked of the heads: each shot told from all of them, and with two or more from the others."""

    inputs: Float[Tensor, "own query feature"]
    """For each task and network; the first K queries are those told from all shots."""
    base: Float[Tensor, "task query"]
    """The point without the head, in log ms."""
    mix: Float[Tensor, " query"]
    observed: Float[Tensor, "task query"]
    count: int
    """K."""

    def errors(self, heads: nn.Sequential) -> tuple[Float[Tensor, " task"], Float[Tensor, " task"]]:
        """Mean absolute percentage error of the shots told from all of them, and over all ways of telling."""
        tasks, queries = self.base.shape
        output = heads(self.inputs)[..., 0].reshape(tasks, -1, queries).mean(dim=1)
        errors = (torch.exp(self.base + self.mix * output - self.observed) - 1).abs()
        own, others = errors[:, : self.count].mean(dim=1), errors[:, self.count :]
        return own, (own + others.sum(dim=1)) / (1 + others.shape[1])


def _asked(model: FlashModel, shots: Shots) -> _Asked:
    """All shots asked for themselves first, then each left out in turn."""
    k = shots.count
    chosen = [(np.arange(k), np.arange(k))]
    if k > 1:
        chosen += [(np.delete(np.arange(k), j), np.array([j])) for j in range(k)]
    columns: list[list[Tensor]] = [[], [], [], []]
    for given, asked in chosen:
        some = Shots(shots.config[:, given], shots.log_runtime[:, given], shots.metrics[:, given])
        posterior = model.prior.posterior(some)
        base = posterior.mean - model.calibration.of("shift", some.count) * posterior.variance
        places = shots.config[:, asked]
        read = np.take_along_axis(flash.queries(model.features, some, posterior), places[..., None], axis=1)
        mix = np.full(len(asked), model.calibration.of("mix", some.count))
        arrays = (read, np.take_along_axis(base, places, axis=1), mix, shots.log_runtime[:, asked])
        tensors = [torch.from_numpy(array.astype(np.float32)).to(model.device) for array in arrays]
        with torch.no_grad():
            tokens = torch.from_numpy(model.tokens(some).astype(np.float32)).to(model.device)
            told = torch.stack([net.meta(tokens) * net.config.use_embedding for net in model.nets], dim=1)
        parts = [part[:, :, None] if part is told else part[:, None] for part in (tensors[0], told)]
        spread = (len(shots), len(model.nets), len(asked), -1)
        tensors[0] = torch.cat([part.expand(*spread) for part in parts], dim=-1).flatten(0, 1)
        for column, tensor in zip(columns, tensors, strict=True):
            column.append(tensor)
    base_, mix_, observed = (torch.cat(column, dim=-1) for column in columns[1:])
    return _Asked(torch.cat(columns[0], dim=1), base_, mix_, observed, k)


def _move(heads: nn.Sequential, asked: _Asked, config: FineTuneConfig) -> Bool[Tensor, " task"]:
    """Leave the heads at the step that is kept for each task, and say for which tasks that is not the start."""
    moves = list(heads.parameters())
    kept = [torch.zeros_like(move) for move in moves]
    # the squared distance to the start has a gradient of twice the move, which is what a decay of weights adds
    optimiser = torch.optim.Adam(moves, lr=config.learning_rate, weight_decay=2 * config.anchor, fused=True)
    first, best = (error.detach() for error in asked.errors(heads))
    moved = torch.zeros_like(first, dtype=torch.bool)
    for step in range(config.steps + 1):
        own, both = asked.errors(heads)
        better = (own.detach() <= first) & (both.detach() < best)
        best, moved = torch.where(better, both.detach(), best), moved | better
        of_head = better.repeat_interleave(len(moves[0]) // len(better))[:, None, None]
        for keep, move in zip(kept, moves, strict=True):
            torch.where(of_head, move.detach(), keep, out=keep)
        if step == config.steps:
            break
        optimiser.zero_grad()
        (both + config.no_worse * torch.relu(own - first)).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for keep, move in zip(kept, moves, strict=True):
        move.data = keep
    return moved
