"""Episodes of many pairs, kept for learning: transitions to draw from, and what an encoder reads of an episode.

Enters: observations, actions and rewards as they happen. Leaves: tensors. The oldest episode gives way to the newest.
All stay on one device.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flashfm.models.device import CPU


class Replay:
    """Ring of the last episodes of all pairs.

    Args:
        episodes: how many are kept.
        steps: of each.
        envs: pairs.
        state: width of an observation.
        action: width of an action.
        device: where they are kept.
    """

    def __init__(
        self, episodes: int, steps: int, envs: int, state: int, action: int, device: torch.device = CPU
    ) -> None:
        self.state = torch.zeros(episodes, steps + 1, envs, state, device=device)
        self.action = torch.zeros(episodes, steps, envs, action, device=device)
        self.reward = torch.zeros(episodes, steps, envs, device=device)
        self._begun, self._step = 0, 0

    def begin(self, state: Float[Tensor, "env state"]) -> None:
        """Begin an episode."""
        self._begun, self._step = self._begun + 1, 0
        self.state[self._slot, 0] = state

    def add(
        self, action: Float[Tensor, "env action"], reward: Float[Tensor, " env"], after: Float[Tensor, "env state"]
    ) -> None:
        """Add a step to the episode that was begun last."""
        self.action[self._slot, self._step], self.reward[self._slot, self._step] = action, reward
        self._step += 1
        self.state[self._slot, self._step] = after

    def newest(self) -> dict[str, Tensor]:
        """The tensors of the episode that was begun last."""
        return {"state": self.state[self._slot], "action": self.action[self._slot], "reward": self.reward[self._slot]}

    def put(self, episode: Mapping[str, Tensor]) -> None:
        """Add a whole episode that `newest` gave."""
        self._begun, self._step = self._begun + 1, self.action.shape[1]
        for name, kept in self.newest().items():
            kept.copy_(episode[name])

    def draw(
        self, env: Int[Tensor, "agent transition"], generator: torch.Generator, steps: int = 1, discount: float = 1.0
    ) -> tuple[
        Float[Tensor, "agent transition state"],
        Float[Tensor, "agent transition action"],
        Float[Tensor, "agent transition"],
        Float[Tensor, "agent transition state"],
    ]:
        """A random run of steps of each of these pairs: its first state and action, its rewards, the state after it.

        Args:
            env: the pairs.
            generator: what decides, on the device of the buffer.
            steps: of a run, all of one episode; there must be one.
            discount: weight of a reward over that of the one before; the weighted mean of the rewards is given.
        """
        starts, kept = self.action.shape[1] - steps + 1, min(self._begun, len(self.state))
        known = (kept - 1) * starts + max(self._step - steps + 1, 0)
        device = self.state.device
        at = (torch.rand(env.shape, generator=generator, device=device) * known).long()
        # counted from the oldest episode, whose slot follows that of the newest one
        slot = (self._begun - kept + at // starts) % len(self.state)
        step = at % starts
        following = torch.arange(steps, device=device)
        weight = discount**following
        envs = self.reward.shape[2]
        acted = (slot * self.action.shape[1] + step) * envs + env
        stood = (slot * self.state.shape[1] + step) * envs + env
        rewards = self.reward.flatten()[acted[..., None] + envs * following]
        return (
            _rows(self.state, stood),
            _rows(self.action, acted),
            rewards @ (weight / weight.sum()),
            _rows(self.state, stood + envs * steps),
        )

    def best(self, recent: int) -> Int[Tensor, " env"] | None:
        """Which of the last episodes was the best of each pair, as `episode` takes it; None before the first.

        Args:
            recent: episodes to choose from, all of them whole.
        """
        kept = min(recent, self._begun, len(self.state))
        if not kept:
            return None
        slots = torch.arange(self._begun - kept, self._begun, device=self.state.device) % len(self.state)
        return slots[self.reward[slots].mean(dim=1).argmax(dim=0)]

    def episode(
        self, slot: Int[Tensor, " chosen"], env: Int[Tensor, " chosen"]
    ) -> tuple[
        Float[Tensor, "following chosen state"], Float[Tensor, "step chosen action"], Float[Tensor, "step chosen"]
    ]:
        """States, actions and rewards of an episode of each of these pairs."""
        state, action, reward = self.state[slot, :, env], self.action[slot, :, env], self.reward[slot, :, env]
        return state.transpose(0, 1), action.transpose(0, 1), reward.transpose(0, 1)

    @property
    def _slot(self) -> int:
        return (self._begun - 1) % len(self.state)


def _rows(
    kept: Float[Tensor, "episode step env feature"], at: Int[Tensor, "agent transition"]
) -> Float[Tensor, "agent transition feature"]:
    """Rows of a buffer by their number in memory, which is faster than by three indices."""
    return kept.flatten(0, 2).index_select(0, at.flatten()).view(*at.shape, kept.shape[-1])


def tokens(
    state: Float[Tensor, "following env state"],
    action: Float[Tensor, "step env action"],
    reward: Float[Tensor, "step env"],
) -> Float[Tensor, "env step token"]:
    """X_t = [s_t, a_t, r_t] and the state that came of it, for each step of a trajectory.

    Source: FLASH, figure 7. The next state is added: a set of steps has no order to tell it by.
    """
    parts = [state[:-1], action, 3 * reward[..., None] - 2, state[1:]]
    return torch.cat(parts, dim=-1).transpose(0, 1)
