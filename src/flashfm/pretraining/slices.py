"""Dropout of a part of a batch as it is of the whole batch: what several train together is what one alone trains.

Enters: which rows a process has of how many. Leaves: a block in which networks drop what they would drop of these rows
if they saw all. Each process draws for all rows, so their generators go on alike. For networks on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_RECURRENT = (torch.gru, torch.lstm)


class Rows(TorchFunctionMode):
    """A block in which each batch is the rows `part` of `rows`.

    Args:
        part: first row, and the one after the last.
        rows: of the whole batch.
    """

    def __init__(self, part: slice, rows: int) -> None:
        super().__init__()
        self._start, self._rows = part.start, rows

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Do as `func` does, unless it drops something."""
        given = kwargs or {}
        if func is functional.dropout:
            return self._dropout(*args, **given)
        if func in _RECURRENT:
            return self._recurrent(func, *args, **given)
        if func is functional.multi_head_attention_forward:
            return self._attention(*args, **given)
        return func(*args, **given)

    def _kept(self, like: Float[Tensor, ...], p: float, batch: int = 0) -> Float[Tensor, ...]:
        """What `like` is multiplied by: numbers that are drawn for all rows, in the order of memory as torch does."""
        strides = like.stride()
        order = sorted(range(like.ndim), key=lambda dim: -strides[dim])
        shape = [self._rows if dim == batch else like.shape[dim] for dim in order]
        drawn = like.new_empty(shape).bernoulli_(1 - p).div_(1 - p)
        return drawn.permute([order.index(dim) for dim in range(like.ndim)]).narrow(
            batch, self._start, like.shape[batch]
        )

    def _dropout(
        self, values: Float[Tensor, ...], p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Float[Tensor, ...]:
        if not training or p == 0:
            return values
        return values.mul_(self._kept(values, p)) if inplace else values * self._kept(values, p)

    def _recurrent(
        self,
        func: Callable[..., Any],
        values: Float[Tensor, "row shot feature"],
        state: Any,
        weights: Sequence[Tensor],
        biases: bool,
        layers: int,
        dropout: float,
        training: bool,
        *how: bool,
    ) -> Any:
        """Layer by layer, since dropout between layers is within `func`."""
        each, of_lstm = len(weights) // layers, isinstance(state, tuple)
        begin = [part.chunk(layers) for part in (state if of_lstm else (state,))]
        ends = []
        for layer in range(layers):
            own = tuple(part[layer] for part in begin)
            of_layer = weights[layer * each : (layer + 1) * each]
            values, *end = func(values, own if of_lstm else own[0], of_layer, biases, 1, 0.0, training, *how)
            ends.append(end)
            if training and dropout and layer + 1 < layers:
                values = values * self._kept(values, dropout)
        return (values, *(torch.cat(parts) for parts in zip(*ends, strict=True)))

    def _attention(
        self,
        query: Float[Tensor, "shot row feature"],
        _key: Any,
        _value: Any,
        _width: int,
        heads: int,
        weight: Tensor,
        bias: Tensor,
        _bias_k: Any,
        _bias_v: Any,
        _zero: bool,
        dropout: float,
        out_weight: Tensor,
        out_bias: Tensor,
        training: bool = True,
        **_: Any,
    ) -> tuple[Float[Tensor, "shot row feature"], None]:
        """Attention of all shots to all, whose weights are dropped."""
        shots, rows, width = query.shape
        apart = functional.linear(query, weight, bias).reshape(shots, rows, 3, heads, width // heads)
        asks, offers, gives = apart.permute(2, 1, 3, 0, 4)
        attended = torch.softmax(asks @ offers.transpose(-1, -2) / math.sqrt(width // heads), dim=-1)
        if training and dropout:
            attended = attended * self._kept(attended, dropout)
        told = (attended @ gives).permute(2, 0, 1, 3).reshape(shots, rows, width)
        return functional.linear(told, out_weight, out_bias), None
