"""Embeds a pair by its trajectories: some episodes of states, actions and rewards become one vector.

Enters: trajectories as `replay.tokens`. Leaves: standardised embeddings. How the networks are trained is not known
here: by themselves (`pretraining/identification.py`) or through the critic, as in the paper.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flashfm.models.meta_learner import MetaLearner, MetaLearnerConfig

SET = MetaLearnerConfig(kind="set", hidden=128, layers=1, dropout=0.0)
"""Steps as a set: what an application is like shows in single steps, and a set is read far faster than a sequence."""


class TrajectoryEncoder(nn.Module):
    """Meta-learner over trajectories.

    A set reads the steps of all trajectories alike. A sequence is read trajectory by trajectory, and what they give is
    averaged: O_M = mean of H(I_m) (FLASH, appendix A.5), here after the embedding layer.

    Args:
        token: width of a step.
        config: of the meta-learner.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, token: int, config: MetaLearnerConfig = SET) -> None:
        super().__init__()
        self.meta = MetaLearner(token, config)
        self.register_buffer("mean", torch.zeros(config.embed))
        self.register_buffer("scale", torch.ones(config.embed))

    def forward(self, trajectories: Float[Tensor, "env trajectory step token"]) -> Float[Tensor, "env embed"]:
        """Embed, and standardise by what `standardise` was shown."""
        envs, several, steps, token = trajectories.shape
        if self.meta.config.kind == "set":
            read = trajectories.reshape(envs, several * steps, token)
            embedding = self.meta(read)
        else:
            read = trajectories.reshape(envs * several, steps, token)
            embedding = self.meta(read).reshape(envs, several, -1).mean(1)
        standardised: Tensor = (embedding - self.mean) / self.scale
        return standardised

    def standardise(self, embeddings: Float[Tensor, "env embed"]) -> None:
        """Set mean and scale so that these embeddings, given before any, come out standardised."""
        self.mean.copy_(embeddings.mean(dim=0))
        self.scale.copy_(embeddings.std(dim=0) + 0.1)
