"""The meta-learner: the measurements of one <application, environment> pair become one embedding.

Enters: shots, padded to the same number, and a mask of which are real. Leaves: an embedding for each task. Padding
changes nothing, and a transformer or set encoder reads shots in any order alike. Nothing here knows what is predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from flashfm.errors import ModelError

Kind = Literal["gru", "lstm", "transformer", "set"]
"""What reads the shots: the paper's network, and the three that it leaves to future research."""


@dataclass(frozen=True)
class MetaLearnerConfig:
    """Shape of the meta-learner; the defaults are Table 6 of FLASH."""

    kind: Kind = "gru"
    """What reads the shots."""
    hidden: int = 256
    """Width of the input layer and of each (directed) hidden layer; Table 6 has 256 for both."""
    layers: int = 2
    """Hidden layers."""
    dropout: float = 0.05
    """Share of hidden values dropped between layers in training, in [0, 1)."""
    embed: int = 32
    """Numbers in an embedding."""
    heads: int = 4
    """Attention heads of the transformer, a divisor of `hidden`; the others have none."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ModelError(f"meta-learner kind {self.kind!r}: expected one of {', '.join(get_args(Kind))}")
        for name in ("hidden", "layers", "embed", "heads"):
            if getattr(self, name) < 1:
                raise ModelError(f"meta-learner {name} {getattr(self, name)}: expected at least 1")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"meta-learner dropout {self.dropout}: expected a number in [0, 1)")
        if self.kind == "transformer" and self.hidden % self.heads:
            raise ModelError(f"meta-learner hidden {self.hidden}: expected a multiple of the {self.heads} heads")


class MetaLearner(nn.Module):
    """Embeds the shots of each task.

    The paper (A.5) runs a bidirectional GRU over the sequence X_1 ... X_T, takes the concatenated outputs of both
    directions, averages, and maps that by one fully connected layer with ReLU to the embedding. What it leaves open is
    decided here:

    - The RNN's input size of 256 (Table 6) is reached by a linear layer from the features of a shot; the features are
      far fewer.
    - O_M averages over M trajectories, one sequence each. Supervised shots are one sequence, so the average runs over
      its outputs, one a shot: every shot counts alike, and the last state does not stand for all.
    - Both directions are concatenated, so the fully connected layer reads 2 x 256; the text says "the size of the
      hidden RNN layer".
    - Dropout acts between the hidden layers, where PyTorch's GRU has it.

    Of the other kinds, the `transformer` has no positional encoding, since shots are a set, and its outputs are
    averaged alike; `set` applies one perceptron to each shot and pools by mean and standard deviation.

    Source: FLASH, appendix A.5, Figure 7 and Table 6.
    """

    def __init__(self, features: int, config: MetaLearnerConfig) -> None:
        """Build for shots of so many features, label included."""
        super().__init__()
        self.config = config
        hidden, dropout = config.hidden, config.dropout
        self.input = nn.Linear(features, hidden)
        self.body: nn.Module
        width = 2 * hidden
        if config.kind in ("gru", "lstm"):
            recurrent = nn.GRU if config.kind == "gru" else nn.LSTM
            between = dropout if config.layers > 1 else 0.0
            self.body = recurrent(hidden, hidden, config.layers, batch_first=True, dropout=between, bidirectional=True)
        elif config.kind == "transformer":
            layer = nn.TransformerEncoderLayer(hidden, config.heads, 2 * hidden, dropout, batch_first=True)
            self.body = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
            width = hidden
        else:
            parts = [(nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden)) for _ in range(config.layers)]
            self.body = nn.Sequential(*[module for part in parts for module in part], nn.ReLU())
        self.output = nn.Linear(width, config.embed)

    def forward(
        self, shots: Float[Tensor, "task shot feature"], seen: Bool[Tensor, "task shot"] | None = None
    ) -> Float[Tensor, "task embed"]:
        """Summarise each task by what was measured of it.

        Args:
            shots: standardised features and label of each measurement; rows that are not `seen` may hold anything.
            seen: True where `shots` is a real measurement; None where all are, which asks nothing of a device.

        Returns:
            Embeddings, in [0, inf) after the ReLU.

        Raises:
            ModelError: a task has no measurement.

        Source: FLASH, appendix A.5, equation of O_M; the mean runs over seen shots only.
        """
        whole = seen is None
        if seen is None:
            if not shots.shape[1]:
                raise ModelError("the tasks of the batch have no measured shot; an embedding needs at least one")
            seen = torch.ones(shots.shape[:2], dtype=torch.bool, device=shots.device)
        elif not bool(seen.any(dim=1).all()):
            task = int((~seen.any(dim=1)).nonzero()[0, 0])
            raise ModelError(f"task {task} of the batch has no measured shot; an embedding needs at least one")
        else:
            whole = bool(seen.all())
        if not whole:
            shots = shots.masked_fill(~seen[..., None], 0.0)
        hidden = self.input(shots)
        if isinstance(self.body, nn.GRU | nn.LSTM):
            pooled = _mean(*self._read(self.body, hidden, seen, whole))
        elif self.config.kind == "transformer":
            pooled = _mean(self.body(hidden, src_key_padding_mask=None if whole else ~seen), seen)
        else:
            outputs = self.body(hidden)
            mean = _mean(outputs, seen)
            variance = _mean((outputs - mean[:, None]) ** 2, seen)
            pooled = torch.cat([mean, (variance + 1e-6).sqrt()], dim=1)
        return torch.relu(self.output(pooled))

    @staticmethod
    def _read(
        body: nn.GRU | nn.LSTM, hidden: Float[Tensor, "task shot hidden"], seen: Bool[Tensor, "task shot"], whole: bool
    ) -> tuple[Float[Tensor, "task longest output"], Bool[Tensor, "task longest"]]:
        """Outputs of both directions over the seen shots alone, moved to the front, and where they are."""
        if whole:
            outputs: Tensor = body(hidden)[0]
            return outputs, seen
        order = torch.argsort(~seen, dim=1, stable=True)
        hidden = hidden.gather(1, order[..., None].expand_as(hidden))
        packed: PackedSequence = pack_padded_sequence(
            hidden, seen.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False
        )
        outputs, lengths = pad_packed_sequence(body(packed)[0], batch_first=True)
        return outputs, (torch.arange(outputs.shape[1]) < lengths[:, None]).to(outputs.device)


def _mean(outputs: Float[Tensor, "task shot output"], seen: Bool[Tensor, "task shot"]) -> Float[Tensor, "task output"]:
    """Mean over the seen shots of each task."""
    weights = seen.to(outputs.dtype)
    return (outputs * weights[..., None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)
