"""The paper's way to train the meta-learner of an agent: by the gradient of the critic's loss, along with the agent.

Enters: the episodes that an agent lives through while it is trained. Leaves: an encoder that has been trained with it.
It is an arm of `ablation-rl`, beside encoders that learn by themselves (`identification.py`).

Source: FLASH, section 3.4 and appendix A.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flashfm.models.agent_state import TOKEN
from flashfm.models.ddpg import Batch, Ddpg
from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.replay import Replay, tokens
from flashfm.models.trajectories import TrajectoryEncoder
from flashfm.pretraining.identification import READ_AT_ONCE
from flashfm.pretraining.reinforcement import Embeddings


@dataclass(frozen=True)
class EndToEndConfig:
    """How an encoder is trained through the critic."""

    meta: MetaLearnerConfig = MetaLearnerConfig(hidden=32, layers=1, dropout=0.0)  # noqa: RUF009
    """A bidirectional GRU; narrower than the paper's, whose update takes a hundred times that of the agent."""
    pairs: int = 32
    """Pairs that the transitions of an update come from."""
    every: int = 8
    """Updates of the agent to one of the encoder."""
    recent: int = 3
    """Episodes of a pair of which the best is read: the paper's trajectories expire after 300 steps."""
    learning_rate: float = 1e-3


class ThroughCritic(Embeddings):
    """An encoder that learns by what its embeddings are worth to the critic.

    Args:
        config: settings.
        seed: of its weights.
    """

    def __init__(self, config: EndToEndConfig, *, seed: int) -> None:
        self.config, self.width = config, config.meta.embed + 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = TrajectoryEncoder(TOKEN, config.meta)
        self._optimiser = torch.optim.Adam(self.encoder.parameters(), config.learning_rate, foreach=True)
        self._updates = 0
        self._best: Int[Tensor, " env"] | None = None

    def shown(self, replay: Replay, generator: torch.Generator) -> Float[Tensor, "env shown"]:  # noqa: ARG002
        """The embedding of each pair's best recent episode, and a 1; zeros before the first."""
        envs = replay.state.shape[2]
        self._best = replay.best(self.config.recent)
        if self._best is None:
            return torch.zeros(envs, self.width)
        with torch.no_grad():
            return torch.cat([self._embed(env, replay) for env in torch.split(torch.arange(envs), READ_AT_ONCE)])

    def pairs(self, each: int, generator: torch.Generator) -> Int[Tensor, " chosen"]:
        """Some pairs where the encoder is to learn, all of them where the agent learns alone."""
        self._updates += 1
        if self._best is None or self._updates % self.config.every:
            return torch.arange(each)
        return torch.randperm(each, generator=generator)[: self.config.pairs]

    def learn(self, agent: Ddpg, batch: Batch, env: Int[Tensor, "agent transition"], replay: Replay) -> None:
        """One update of the agent, and of the encoder when its turn has come."""
        if self._best is None or self._updates % self.config.every:
            agent.learn(batch)
            return
        of, place = torch.unique(env, return_inverse=True)
        there = batch.embedding[..., -1:]
        batch = batch._replace(embedding=self._embed(of, replay)[place] * there)
        loss = agent.critic_loss(batch)
        self._optimiser.zero_grad(set_to_none=True)
        agent.learn(batch, loss)
        self._optimiser.step()

    def _embed(self, env: Int[Tensor, " chosen"], replay: Replay) -> Float[Tensor, "chosen shown"]:
        assert self._best is not None
        read = tokens(*replay.episode(self._best[env], env))
        return torch.cat([self.encoder(read[:, None]), torch.ones(len(env), 1)], dim=-1)
