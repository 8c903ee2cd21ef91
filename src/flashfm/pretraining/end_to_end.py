"""The paper's way to train the meta-learner of an agent: by the gradient of the critic's loss, along with the agent.

Enters: the episodes that an agent lives through while it is trained. Leaves: an encoder that has been trained with it.
It is an arm of `ablation-rl`, beside encoders that learn by themselves (`identification.py`). Nothing is copied to or
from the device within an episode.

Source: FLASH, section 3.4 and appendix A.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flashfm.models.agent_state import TOKEN
from flashfm.models.ddpg import Batch, Ddpg
from flashfm.models.device import CPU
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
        device: that is trained on.
    """

    def __init__(self, config: EndToEndConfig, *, seed: int, device: torch.device = CPU) -> None:
        self.config, self.width = config, config.meta.embed + 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = TrajectoryEncoder(TOKEN, config.meta).to(device)
        self._optimiser = torch.optim.Adam(self.encoder.parameters(), config.learning_rate, foreach=True)
        self._updates = 0
        self._best: Int[Tensor, " env"] | None = None
        self._pairs: Int[Tensor, " chosen"]
        """Of each agent, that the next update is on, in order."""

    def shown(self, replay: Replay, generator: torch.Generator) -> Float[Tensor, "env shown"]:  # noqa: ARG002
        """The embedding of each pair's best recent episode, and a 1; zeros before the first."""
        envs, device = replay.state.shape[2], replay.state.device
        self._best = replay.best(self.config.recent)
        if self._best is None:
            return torch.zeros(envs, self.width, device=device)
        every = self._pairs = torch.arange(envs, device=device)
        with torch.no_grad():
            return torch.cat([self._embed(env, replay) for env in torch.split(every, READ_AT_ONCE)])

    def pairs(self, each: int, generator: torch.Generator) -> Int[Tensor, " chosen"]:
        """Some pairs where the encoder is to learn, all of them where the agent learns alone."""
        self._updates += 1
        if self._best is None or self._updates % self.config.every:
            return torch.arange(each, device=generator.device)
        chosen = torch.randperm(each, generator=generator, device=generator.device)[: self.config.pairs]
        self._pairs = chosen.sort().values
        return chosen

    def learn(self, agent: Ddpg, batch: Batch, env: Int[Tensor, "agent transition"], replay: Replay) -> None:
        """One update of the agent, and of the encoder when its turn has come.

        All pairs that transitions were drawn from are embedded, whether any came of them or not: to ask which did would
        be to wait for the device.
        """
        if self._best is None or self._updates % self.config.every:
            agent.learn(batch)
            return
        agents, envs = len(env), replay.state.shape[2]
        of = (envs // agents * torch.arange(agents, device=env.device)[:, None] + self._pairs).flatten()
        place = torch.searchsorted(of, env)
        there = batch.embedding[..., -1:]
        batch = batch._replace(embedding=self._embed(of, replay)[place] * there)
        loss = agent.critic_loss(batch)
        self._optimiser.zero_grad(set_to_none=True)
        agent.learn(batch, loss)
        if agent.exchange is not None:
            agent.exchange([weight.grad for weight in self.encoder.parameters() if weight.grad is not None])
        self._optimiser.step()

    def _embed(self, env: Int[Tensor, " chosen"], replay: Replay) -> Float[Tensor, "chosen shown"]:
        assert self._best is not None
        read = tokens(*replay.episode(self._best[env], env))
        return torch.cat([self.encoder(read[:, None]), torch.ones(len(env), 1, device=env.device)], dim=-1)
