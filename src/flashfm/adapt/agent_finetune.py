"""Fine-tunes the autoscaling agent on single pairs, from the episodes that it serves there.

Enters: a pretrained model, the embeddings of some pairs, and their episodes. Leaves: one policy for each pair. A good
policy loses reward while it explores, so whoever runs this keeps a safe policy beside it and lets `gate.Gate` choose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flashfm.adapt.agent import Trajectory
from flashfm.models.agent import AgentModel
from flashfm.models.ddpg import Batch, Ddpg, DdpgConfig
from flashfm.models.device import CPU
from flashfm.models.replay import Replay
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION


@dataclass(frozen=True)
class FineTuneConfig:
    """How pairs are fine-tuned."""

    updates: int = 50
    """After each episode."""
    batch: int = 128
    """Transitions an update, of each pair."""
    actor_rate: float = 3e-5
    critic_rate: float = 3e-4
    critic_first: int = 3
    """Episodes of which the critic alone learns, before the policy is changed."""
    kept_episodes: int = 32
    noise: float = 0.05
    """Standard deviation of the noise on actions while exploring."""
    hold: float = 0.97
    """Chance that the noise stays as it was from one step to the next."""


class FineTuner:
    """Policies of some pairs, side by side; each learns from its own episodes alone.

    Args:
        model: pretrained; its policies are tuned on the CPU.
        embedding: of each pair.
        steps: of an episode.
        config: settings.
        seed: of exploration and draws.
    """

    def __init__(
        self,
        model: AgentModel,
        embedding: Float[np.ndarray, "pair embed"],
        steps: int,
        *,
        config: FineTuneConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.config = config or FineTuneConfig()
        pairs = len(embedding)
        shown = torch.from_numpy(np.asarray(embedding, np.float32))
        self._shown = torch.cat([shown, torch.ones(pairs, 1)], dim=1)[:, None]
        self._generator = torch.Generator().manual_seed(seed)
        settings = replace(DdpgConfig(), actor_rate=self.config.actor_rate, critic_rate=self.config.critic_rate)
        shared, home = np.zeros(pairs, np.int64), model.to(CPU)
        actor, critic = (one.take(shared).requires_grad_(True) for one in (home.conditioned, home.critic))
        self._agent = Ddpg.of(actor, critic, self._shown.shape[-1], settings)
        self._replay = Replay(self.config.kept_episodes, steps, pairs, len(OBSERVATION), len(ACTION))
        self._episodes = 0
        self._off: Tensor | None = None

    def act(self, observation: Float[np.ndarray, "pair feature"], *, explore: bool) -> Float[np.ndarray, "pair action"]:
        """Actions in [-1, 1]: of the policies as they are, or with noise that is held for some steps."""
        seen = torch.from_numpy(np.asarray(observation, np.float32))
        action = self._agent.act(seen[:, None], self._shown, kept=True)[:, 0]
        if explore:
            fresh = torch.randn(action.shape, generator=self._generator)
            stays = torch.rand(len(action), 1, generator=self._generator) < self.config.hold
            self._off = fresh if self._off is None else torch.where(stays, self._off, fresh)
            action = (action + self.config.noise * self._off).clamp(-1.0, 1.0)
        return action.numpy()

    def learn(self, episode: Trajectory) -> None:
        """Learn from an episode of the pairs, whoever served it."""
        seen, acted, rewarded = (
            torch.from_numpy(np.asarray(part, np.float32))
            for part in (episode.observation, episode.action, episode.reward)
        )
        self._replay.begin(seen[0])
        for t in range(len(rewarded)):
            self._replay.add(acted[t], rewarded[t], seen[t + 1])
        self._episodes += 1
        config, ddpg = self.config, self._agent.config
        env = torch.arange(len(self._shown))[:, None].expand(-1, config.batch)
        shown = self._shown.expand(-1, config.batch, -1)
        for _ in range(config.updates):
            batch = Batch(*self._replay.draw(env, self._generator, ddpg.returns, ddpg.discount), shown)
            self._agent.learn(batch, actor_too=self._episodes > config.critic_first)
