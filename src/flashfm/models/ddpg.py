"""DDPG, FIRM's base-learner: actor and critic networks for one agent or for many side by side, and one update.

Enters: batches of transitions, with the embedding of their pair where there is one. Leaves: changed weights. Many
agents, one for each application, are trained as one batch of matrices: each sees its own transitions only. Nothing is
copied between devices, and nothing here waits for one.

Source: DDPG: Lillicrap et al. 2016; FIRM's setting: FLASH, tables 4 and 5.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from flashfm.models.device import CPU


@dataclass(frozen=True)
class DdpgConfig:
    """One agent; the defaults are what is stable over hundreds of applications."""

    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers of both networks; the paper does not give any."""
    actor_rate: float = 1e-3
    critic_rate: float = 1e-3
    discount: float = 0.97
    """A step; replicas that are ordered may take twenty steps to start."""
    returns: int = 10
    """Steps whose rewards are added up before the critic is asked for the rest: what an order does shows late."""
    soft_update: float = 5e-3
    """How far the target networks move towards the trained ones at each update."""
    average: float = 2e-3
    """How far the actor that is kept moves towards the trained one at each update."""
    reward_scale: float = 1.0
    """Of the weighted mean of the rewards of `returns` steps."""
    reward_centre: float = 0.6
    """Deducted from rewards before they are scaled, so that values begin near what they will be."""
    embed_scale: float = 0.3
    """Scale of the first weights of the embedding, so that the state is learned first."""
    normalise: bool = True
    """Layer normalisation after the first layer."""


PAPER = DdpgConfig(
    hidden=(64, 64),
    critic_rate=3e-3,
    actor_rate=3e-4,
    discount=0.99,
    returns=1,
    soft_update=3e-3,
    reward_centre=0.0,
    embed_scale=1.0,
    normalise=False,
)
"""Source: FLASH, table 5; the widths are ours."""


Exchange = Callable[[Sequence[Tensor]], object]
"""Puts what several workers agree on in place of each gradient of one of them."""


class Batch(NamedTuple):
    """Transitions of each agent."""

    state: Float[Tensor, "agent transition state"]
    action: Float[Tensor, "agent transition action"]
    reward: Float[Tensor, "agent transition"]
    """Weighted mean of `returns` steps."""
    after: Float[Tensor, "agent transition state"]
    """State after these steps."""
    embedding: Float[Tensor, "agent transition embed"]
    """Of the pair; of width 0 without one."""


class Network(nn.Module):
    """A multi-layer perceptron for each agent.

    Args:
        agents: how many there are.
        inputs: width of what is read.
        outputs: width of what is given.
        config: widths and normalisation.
        bounded: end with tanh.
    """

    def __init__(self, agents: int, inputs: int, outputs: int, config: DdpgConfig, *, bounded: bool) -> None:
        super().__init__()
        self.bounded, self.normalise = bounded, config.normalise
        sizes = (inputs, *config.hidden, outputs)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for n_in, n_out in itertools.pairwise(sizes):
            self.weights.append(nn.Parameter((2 * torch.rand(agents, n_in, n_out) - 1) / math.sqrt(n_in)))
            self.biases.append(nn.Parameter(torch.zeros(agents, 1, n_out)))
        with torch.no_grad():
            self.weights[-1].mul_(0.1)

    def forward(self, x: Float[Tensor, "agent transition input"]) -> Float[Tensor, "agent transition output"]:
        """Apply each agent's own weights."""
        last, one = len(self.weights) - 1, len(self.weights[0]) == 1
        # of one agent plain matrices, as views: taken by an index, each would have its gradient filled up with zeros
        x = x.squeeze(0) if one else x
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.addmm(bias.flatten(), x, weight.squeeze(0)) if one else torch.baddbmm(bias, x, weight)
            if i < last:
                x = torch.relu(torch.layer_norm(x, x.shape[-1:]) if self.normalise and i == 0 else x)
        x = x.unsqueeze(0) if one else x
        return torch.tanh(x) if self.bounded else x

    def take(self, agents: Int[np.ndarray, " taken"]) -> Network:
        """A network of copies of these agents' weights, in that order; one may be taken several times."""
        taken, at = copy.deepcopy(self), torch.from_numpy(agents)
        for group in (taken.weights, taken.biases):
            for i, values in enumerate(group):
                group[i] = nn.Parameter(values.detach()[at])
        return taken


class Ddpg:
    """Actor and critic of some agents, their targets, and how they learn.

    Args:
        agents: how many there are; each reads its own row of a batch.
        state: width of a state.
        action: width of an action.
        embed: width of an embedding; 0 for none.
        config: settings.
        device: where they learn; their first weights are drawn on the CPU, the same for every device.
    """

    def __init__(
        self, agents: int, state: int, action: int, embed: int, config: DdpgConfig, device: torch.device = CPU
    ) -> None:
        actor = Network(agents, state + embed, action, config, bounded=True)
        critic = Network(agents, state + embed + action, 1, config, bounded=False)
        with torch.no_grad():
            for network in (actor, critic):
                network.weights[0][:, state : state + embed] *= config.embed_scale
        self._begin(actor.to(device), critic.to(device), embed, config)

    @classmethod
    def of(cls, actor: Network, critic: Network, embed: int, config: DdpgConfig) -> Ddpg:
        """Go on from networks that came from elsewhere, which are changed.

        Args:
            actor: of some agents.
            critic: of the same.
            embed: width of the embedding that both read, between state and action.
            config: settings; of the widths, those of the networks count.
        """
        agents = cls.__new__(cls)
        agents._begin(actor, critic, embed, config)
        return agents

    def take(self, agents: Int[np.ndarray, " taken"]) -> Ddpg:
        """Copies of these agents, in that order, with fresh optimisers; what acts is what the originals kept."""
        return Ddpg.of(self.kept.take(agents), self.critic.take(agents), self.embed, self.config)

    def _begin(self, actor: Network, critic: Network, embed: int, config: DdpgConfig) -> None:
        self.config, self.embed, self.actor, self.critic = config, embed, actor, critic
        self.target_actor, self.target_critic = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.kept = copy.deepcopy(self.actor)
        """Moving average of the actor: what acts once training is over."""
        self._weights = {
            name: list(getattr(self, name).parameters())
            for name in ("actor", "critic", "target_actor", "target_critic", "kept")
        }
        self.exchange: Exchange | None = None
        """What is done to gradients before each step, where several workers learn together."""
        self.restart_optimisers()

    def restart_optimisers(self) -> None:
        """Begin with fresh optimisers, as for weights that came from elsewhere."""
        rates = (self.config.actor_rate, self.config.critic_rate)
        self._optimisers = [
            torch.optim.Adam(network.parameters(), rate)
            for network, rate in zip((self.actor, self.critic), rates, strict=True)
        ]

    def slow_down(self, share: float) -> None:
        """Set the learning rates to a share of the configured ones."""
        rates = (self.config.actor_rate, self.config.critic_rate)
        for optimiser, rate in zip(self._optimisers, rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = share * rate

    def act(
        self,
        state: Float[Tensor, "agent transition state"],
        embedding: Float[Tensor, "agent transition embed"],
        *,
        kept: bool = False,
    ) -> Float[Tensor, "agent transition action"]:
        """Actions without noise, in [-1, 1], of the actor in training or of the one that is kept."""
        with torch.no_grad():
            actions: Tensor = (self.kept if kept else self.actor)(torch.cat([state, embedding], dim=-1))
        return actions

    def critic_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Mean squared temporal-difference error, summed over agents; its gradient reaches the embedding."""
        c = self.config
        with torch.no_grad():
            embedding = batch.embedding.detach()
            next_action = self.target_actor(torch.cat([batch.after, embedding], dim=-1))
            value = self.target_critic(torch.cat([batch.after, embedding, next_action], dim=-1))[..., 0]
            wanted = c.reward_scale * (batch.reward - c.reward_centre) + c.discount**c.returns * value
        told = self.critic(torch.cat([batch.state, batch.embedding, batch.action], dim=-1))[..., 0]
        loss: Tensor = (told - wanted).pow(2).mean(dim=1).sum()
        return loss

    def learn(self, batch: Batch, loss: Float[Tensor, ""] | None = None, *, actor_too: bool = True) -> None:
        """One step of critic and actor, and of the targets towards them.

        Args:
            batch: transitions of each agent.
            loss: of the critic, where the caller adds to it; else `critic_loss` of the batch. The caller clears and
                steps what else it trains.
            actor_too: false leaves the actors as they are, while the critic gets to know what they are worth.
        """
        actor, critic = self._optimisers
        critic.zero_grad(set_to_none=True)
        (self.critic_loss(batch) if loss is None else loss).backward()  # type: ignore[no-untyped-call]
        self._step(critic, self.critic)
        if not actor_too:
            with torch.no_grad():
                self._follow("target_critic", "critic", self.config.soft_update)
            return
        embedding = batch.embedding.detach()
        read = torch.cat([batch.state, embedding], dim=-1)
        self._critic_learns(False)
        value = self.critic(torch.cat([read, self.actor(read)], dim=-1))
        actor.zero_grad(set_to_none=True)
        (-value.mean(dim=1).sum()).backward()
        self._step(actor, self.actor)
        self._critic_learns(True)
        with torch.no_grad():
            self._follow("kept", "actor", self.config.average)
            self._follow("target_actor", "actor", self.config.soft_update)
            self._follow("target_critic", "critic", self.config.soft_update)

    def _follow(self, name: str, trained: str, share: float) -> None:
        torch._foreach_lerp_(self._weights[name], self._weights[trained], share)

    def _critic_learns(self, learns: bool) -> None:
        for weight in self._weights["critic"]:
            weight.requires_grad_(learns)

    def _step(self, optimiser: torch.optim.Optimizer, network: Network) -> None:
        if self.exchange is not None:
            self.exchange([weight.grad for weight in network.parameters() if weight.grad is not None])
        optimiser.step()
