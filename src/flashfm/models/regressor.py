"""The base-learner of configuration search, Sizeless's network, alone and conditioned on an embedding.

Enters: standardised features of what is asked, and shots for the embedding. Leaves: one number for each query.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flashfm.errors import ModelError
from flashfm.models.meta_learner import MetaLearner, MetaLearnerConfig


@dataclass(frozen=True)
class RegressorConfig:
    """Shape of the base-learner; the defaults are Table 3 of FLASH."""

    neurons: int = 256
    """Width of each layer."""
    layers: int = 4
    """Layers of that width. The linear output comes on top; Sizeless's published code counts it as the fourth, the
    paper speaks of four layers of 256 neurons, and the output has one."""

    def __post_init__(self) -> None:
        if self.neurons < 1 or self.layers < 1:
            raise ModelError(f"regressor of {self.layers} layers x {self.neurons}: expected at least 1 of each")


class SizelessRegressor(nn.Module):
    """Fully connected network with ReLU and a linear output, initialised as Keras does (Glorot uniform, bias 0).

    Source: FLASH, appendix A.3 and Table 3; the embedding is concatenated to the features as in Figure 3.
    """

    def __init__(self, features: int, config: RegressorConfig, *, embed: int = 0) -> None:
        """Build for so many features, and an embedding of so many numbers."""
        super().__init__()
        widths = [features + embed] + [config.neurons] * config.layers
        self.hidden = nn.ModuleList(_dense(*pair) for pair in pairwise(widths))
        self.output = _dense(config.neurons, 1)

    def forward(
        self, features: Float[Tensor, "*rows feature"], embedding: Float[Tensor, "*rows embed"] | None = None
    ) -> Float[Tensor, "*rows"]:
        """The number that answers each row of features, and of embeddings where it was built for them."""
        hidden = features if embedding is None else torch.cat([features, embedding], dim=-1)
        for layer in self.hidden:
            hidden = torch.relu(layer(hidden))
        answer: Tensor = self.output(hidden).squeeze(-1)
        return answer

    def kernel_penalty(self) -> Float[Tensor, ""]:
        """Sum of the squared weights of the hidden layers, without biases and output: Sizeless's L2 term."""
        kernels = [layer.weight for layer in self.hidden if isinstance(layer, nn.Linear)]
        return torch.stack([kernel.square().sum() for kernel in kernels]).sum()


class FlashSizeless(nn.Module):
    """Sizeless's regressor on its features and the meta-learner's embedding of X_t = [x_t, y_t].

    Source: FLASH, Figure 3 and appendix A.5.
    """

    def __init__(self, features: int, shot_features: int, base: RegressorConfig, meta: MetaLearnerConfig) -> None:
        """Build for queries of `features` numbers and shots of `shot_features`, label included."""
        super().__init__()
        self.meta_learner = MetaLearner(shot_features, meta)
        self.base_learner = SizelessRegressor(features, base, embed=meta.embed)

    def forward(
        self,
        features: Float[Tensor, "task query feature"],
        shots: Float[Tensor, "task shot shot_feature"],
        seen: Bool[Tensor, "task shot"],
    ) -> Float[Tensor, "task query"]:
        """Answer the queries of each task; its shots are embedded once.

        Raises:
            ModelError: a task has no seen shot.
        """
        embedding = self.meta_learner(shots, seen)
        answer: Tensor = self.base_learner(features, embedding[:, None].expand(-1, features.shape[1], -1))
        return answer

    def kernel_penalty(self) -> Float[Tensor, ""]:
        """That of the base-learner; Table 6 regularises the meta-learner by dropout alone."""
        return self.base_learner.kernel_penalty()


def _dense(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
