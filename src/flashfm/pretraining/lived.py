"""Episodes that encoders learn from: played by a policy, or by autoscalers of today.

Enters: simulators, and what acts in them. Leaves: trajectories as tokens. What is read of a trajectory does not depend
on who acted: of autoscalers, the action is the one that asks for what came to be in force. All is on the device of the
simulator, and nothing is copied to or from it within an episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from flashfm.models.replay import tokens
from flashfm.tasks.autoscaling.dynamics import Limits, State, StepOutcome
from flashfm.tasks.autoscaling.interface import as_targets
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS, Simulator

Policy = Callable[[Float[Tensor, "one env feature"]], Float[Tensor, "one env action"]]
"""Such as a `Network` of one agent."""


@runtime_checkable
class Rules(Protocol):
    """An autoscaler of today; see `baselines.scaling`."""

    def reset(self, simulator: Simulator) -> None:
        """Begin an episode."""

    def decide(self, state: State, outcome: StepOutcome, rate_per_s: Any) -> Limits:
        """Limits for the next step."""


@torch.no_grad()
def collect(
    simulator: Simulator, policy: Policy, episodes: int, noise: float, seed: int, alpha: tuple[float, float]
) -> Float[Tensor, "env trajectory step token"]:
    """Episodes of a policy in every pair, as tokens.

    Args:
        simulator: of the pairs.
        policy: it is shown no embedding.
        episodes: how many.
        noise: standard deviation of the noise on actions.
        seed: of the noise and of alpha.
        alpha: range that each pair's trade-off is drawn from, anew for each episode.
    """
    chance = _chance(simulator, seed)
    found = []
    for _ in range(episodes):
        simulator.alpha = alpha[0] + (alpha[1] - alpha[0]) * torch.rand(len(simulator), **chance)
        states, actions, rewards = [simulator.reset()], [], []
        for _ in range(EPISODE_STEPS):
            action = policy(states[-1][None])[0]
            action = (action + noise * torch.randn(action.shape, **chance)).clamp(-1.0, 1.0)
            stepped = simulator.step(action)
            states.append(stepped.observation)
            actions.append(action)
            rewards.append(stepped.reward)
        found.append(tokens(torch.stack(states), torch.stack(actions), torch.stack(rewards)))
    return torch.stack(found, dim=1)


@torch.no_grad()
def collect_rules(
    simulator: Simulator, rules: Sequence[Rules], seed: int, alpha: tuple[float, float]
) -> Float[Tensor, "env trajectory step token"]:
    """One episode of each of some autoscalers in every pair, as tokens; their actions are `targets`.

    Args:
        simulator: of the pairs.
        rules: the autoscalers.
        seed: of alpha.
        alpha: range that each pair's trade-off is drawn from, anew for each episode.
    """
    chance = _chance(simulator, seed)
    found = []
    for rule in rules:
        simulator.alpha = alpha[0] + (alpha[1] - alpha[0]) * torch.rand(len(simulator), **chance)
        states, actions, rewards = [simulator.reset()], [], []
        rule.reset(simulator)
        for _ in range(EPISODE_STEPS):
            recent = simulator.recent
            stepped = simulator.apply(
                rule.decide(simulator.state, simulator.outcome, simulator.load.rate_per_s[simulator.t])
            )
            state = simulator.state
            actions.append(as_targets(Limits(state.cpu_cores, state.memory_mib, stepped.outcome.replicas), recent))
            states.append(stepped.observation)
            rewards.append(stepped.reward)
        found.append(tokens(torch.stack(states), torch.stack(actions), torch.stack(rewards)))
    return torch.stack(found, dim=1)


def shuffled(
    trajectories: Float[Tensor, "env trajectory step token"], seed: int
) -> Float[Tensor, "env trajectory step token"]:
    """The trajectories of each pair in an order of its own, so that any run of them is of everybody."""
    envs, several = trajectories.shape[:2]
    order = torch.rand(envs, several, generator=torch.Generator().manual_seed(seed)).argsort(dim=1)
    return trajectories[torch.arange(envs)[:, None], order]


def _chance(simulator: Simulator, seed: int) -> dict[str, Any]:
    """How random numbers are drawn on the device of a simulator."""
    device = simulator.params.cpu_s.device
    return {"generator": torch.Generator(device).manual_seed(seed), "device": device}
