"""The pretrained autoscaling agent: an encoder of trajectories, and two policies, one of them shown embeddings.

Enters: observations, and trajectories of a pair. Leaves: actions. A pair that has no trajectory yet is served by
the policy that was trained without embeddings; a wrong embedding would be worse than none. How far an embedding lies
from those of pretraining is told.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flashfm.models.ddpg import Ddpg, Network
from flashfm.models.novelty import NoveltyModel
from flashfm.models.trajectories import TrajectoryEncoder
from flashfm.tasks.autoscaling.interface import Actions

NETWORKS = ("shared", "conditioned", "critic", "encoder")
"""Names of the networks of a model."""


@dataclass(frozen=True, eq=False)
class AgentModel:
    """What pretraining for autoscaling leaves."""

    shared: Network
    """Policy of pairs without an embedding."""
    conditioned: Network
    """Policy of pairs with one, which is appended to the observation, with a 1."""
    critic: Network
    """What the actions of `conditioned` are worth; fine-tuning goes on from it."""
    encoder: TrajectoryEncoder
    novelty: NoveltyModel
    """Embeddings of the pretraining pairs, and how far from them pairs of their kind lie."""
    actions: Actions
    """What the policies' actions mean."""

    @property
    def device(self) -> torch.device:
        """Where its networks compute, and what enters them has to be."""
        return next(self.shared.parameters()).device

    def to(self, device: torch.device) -> AgentModel:
        """The same model, whose networks compute there; this one stays where it is."""
        if device == self.device:
            return self
        parts = {name: copy.deepcopy(getattr(self, name)).to(device) for name in NETWORKS}
        return replace(self, **parts)

    @torch.no_grad()
    def embed(self, trajectories: Float[Tensor, "env trajectory step token"]) -> Float[Tensor, "env embed"]:
        """Embed pairs by some of their episodes, as `replay.tokens`."""
        embedding: Tensor = self.encoder(trajectories)
        return embedding

    def p_value(self, embedding: Float[Tensor, "env embed"], several: int) -> Float[np.ndarray, " env"]:
        """Share of pairs like those of pretraining whose embeddings lie at least as far out; in (0, 1].

        Args:
            embedding: of pairs.
            several: episodes that each was made of, at least 1.
        """
        return self.novelty.p_value(self.novelty.distance(embedding.double().cpu().numpy()), several)

    @torch.no_grad()
    def act(
        self, observation: Float[Tensor, "env feature"], embedding: Float[Tensor, "env embed"] | None = None
    ) -> Float[Tensor, "env action"]:
        """Actions in [-1, 1]."""
        if embedding is None:
            alone: Tensor = self.shared(observation[None])[0]
            return alone
        there = torch.ones(len(observation), 1, device=observation.device)
        read = torch.cat([observation, embedding, there], dim=-1)
        conditioned: Tensor = self.conditioned(read[None])[0]
        return conditioned


def policy(agent: Ddpg) -> Network:
    """The part of a trained agent that acts."""
    return agent.kept.eval().requires_grad_(False)
