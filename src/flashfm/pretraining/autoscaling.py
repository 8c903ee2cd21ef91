"""Pretrains the autoscaling agent over many pairs: a shared policy, an encoder of what it met, and a policy on that.

Enters: a scenario. Leaves: an `AgentModel`. The encoder learns by itself what tells pairs apart (`identification.py`)
from episodes of the shared policy; its embeddings are computed once, and the second policy is trained on them as on any
other observation. Trained through the critic, as in the paper, the encoder finds less and costs far more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from flashfm.models.agent import AgentModel, policy
from flashfm.models.ddpg import Network
from flashfm.models.replay import tokens
from flashfm.pretraining import identification
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.pretraining.reinforcement import AgentConfig, train
from flashfm.tasks.autoscaling.interface import Actions
from flashfm.tasks.autoscaling.scenario import Scenario
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS, Simulator


@dataclass(frozen=True)
class AutoscalingConfig:
    """How an agent is pretrained."""

    agent: AgentConfig = field(default_factory=lambda: AgentConfig(episodes=60, without=0.0))
    """Of both policies."""
    identification: IdentificationConfig = field(default_factory=IdentificationConfig)
    actions: Actions = "targets"
    episodes: int = 5
    """Episodes of each pair that the encoder learns from."""
    noise: float = 0.1
    """On the actions of these episodes: a pair shows more of itself when it is pushed a little."""


def pretrain(
    scenario: Scenario,
    config: AutoscalingConfig | None = None,
    *,
    seed: int = 0,
    on_step: Callable[[int, int], object] = lambda *_: None,
) -> AgentModel:
    """Pretrain on all pairs of a scenario.

    Args:
        scenario: the pairs.
        config: settings.
        seed: of everything that chance decides.
        on_step: told of progress, in episodes.
    """
    config = config or AutoscalingConfig()
    trained = config.agent.episodes
    total = 2 * trained + config.episodes

    def simulator(part: int) -> Simulator:
        return scenario.simulator(actions=config.actions, seed=3 * seed + part)

    shared = policy(train(simulator(0), config.agent, seed=seed, on_step=lambda i, _: on_step(i, total)))
    lived = collect(simulator(1), shared, config.episodes, config.noise, seed, config.agent.alpha)
    on_step(trained + config.episodes, total)
    encoder = identification.fit(lived, config.identification, seed=seed)
    conditioned = train(
        simulator(2),
        replace(config.agent, without=0.0),
        seed=seed,
        variants=identification.variants(encoder, lived),
        on_step=lambda i, _: on_step(trained + config.episodes + i, total),
    )
    return AgentModel(shared, policy(conditioned), encoder, config.actions)


@torch.no_grad()
def collect(
    simulator: Simulator, shared: Network, episodes: int, noise: float, seed: int, alpha: tuple[float, float]
) -> Float[Tensor, "env trajectory step token"]:
    """Episodes of a policy in every pair, as tokens.

    Args:
        simulator: of the pairs.
        shared: the policy; it is shown no embedding.
        episodes: how many.
        noise: standard deviation of the noise on actions.
        seed: of the noise and of alpha.
        alpha: range that each pair's trade-off is drawn from, anew for each episode.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(episodes):
        simulator.alpha = alpha[0] + (alpha[1] - alpha[0]) * torch.rand(len(simulator), generator=generator)
        states, actions, rewards = [simulator.reset()], [], []
        for _ in range(EPISODE_STEPS):
            action = shared(states[-1][None])[0]
            action = (action + noise * torch.randn(action.shape, generator=generator)).clamp(-1.0, 1.0)
            stepped = simulator.step(action)
            states.append(stepped.observation)
            actions.append(action)
            rewards.append(stepped.reward)
        found.append(tokens(torch.stack(states), torch.stack(actions), torch.stack(rewards)))
    return torch.stack(found, dim=1)
