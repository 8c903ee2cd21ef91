"""The pretrained autoscaling agent: it acts on any pair at once, and knows a pair after one to three warm-up episodes.

Enters: observations and trajectories as the environments give them. Leaves: actions for the environments. The
pretrained agent never changes: `adapt` returns a new object that holds the embedding of its pairs and their last
actions. An observation that holds NaN is not acted on: the adapted agent holds the last action of that pair.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from flashfm.artifact import checkpoint, registry
from flashfm.errors import ModelError
from flashfm.models import agent_state
from flashfm.models.agent import AgentModel
from flashfm.models.replay import tokens
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION, Actions


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One episode of some pairs.

    Raises:
        ModelError: shapes that do not fit, fewer than two steps, or values that are not finite.
    """

    observation: Float[np.ndarray, "_ _ _"]
    """[step + 1, env, feature]: the first, and that after each step."""
    action: Float[np.ndarray, "_ _ _"]
    """[step, env, 3], in [-1, 1]."""
    reward: Float[np.ndarray, "_ _"]
    """[step, env], in [0, 1]."""

    def __post_init__(self) -> None:
        steps, envs = self.reward.shape
        wanted = {
            "observation": (steps + 1, envs, len(OBSERVATION)),
            "action": (steps, envs, len(ACTION)),
            "reward": (steps, envs),
        }
        for name, shape in wanted.items():
            got = getattr(self, name)
            if got.shape != shape:
                raise ModelError(f"trajectory: {name} of shape {got.shape}, expected {shape}, after the reward's")
            if not np.isfinite(got).all():
                raise ModelError(f"trajectory: {name} holds NaN or infinite values; leave out the steps that have them")
        if steps < 2:
            raise ModelError(f"trajectory: {steps} steps, expected at least 2")


class FlashAgent:
    """A pretrained agent for workload autoscaling."""

    def __init__(self, model: AgentModel, card: str = "") -> None:
        """Wrap a pretrained model; `from_pretrained` and `flashfm.pretraining.autoscaling` make one."""
        self._model, self.card = model, card

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str]) -> FlashAgent:
        """Load an agent: a name that ships with the package, such as `autoscaling`, or a folder.

        Raises:
            ArtifactError: no such model, of another task, damaged, foreign or of a later version.
        """
        saved = checkpoint.load(registry.resolve(name_or_path), kind=agent_state.KIND)
        return cls(agent_state.from_state(saved.config, saved.tensors), saved.card)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the agent and its card to a folder, whole or not at all.

        Raises:
            ArtifactError: the folder holds something else or cannot be written.
        """
        config, tensors = agent_state.to_state(self._model)
        card = self.card or "# Agent\n"
        checkpoint.save(os.fspath(folder), kind=agent_state.KIND, config=config, tensors=tensors, card=card)

    @property
    def model(self) -> AgentModel:
        """The tensors; free to change between versions."""
        return self._model

    @property
    def actions(self) -> Actions:
        """What the agent's actions mean: `actions` of the environments."""
        return self._model.actions

    def act(self, observation: Float[np.ndarray, "env feature"]) -> Float[np.ndarray, "env action"]:
        """Actions in [-1, 1] for pairs of which nothing is known yet.

        Args:
            observation: of each pair, as the environments give it.

        Raises:
            ModelError: another width, or values that are not finite.
        """
        return AdaptedAgent(self._model, None).act(observation)

    def adapt(self, *trajectories: Trajectory) -> AdaptedAgent:
        """Get to know pairs by some of their episodes, one to three of which are enough.

        Args:
            trajectories: of the same pairs in the same order and of the same length.

        Raises:
            ModelError: no trajectory, or trajectories that differ in pairs or length.
        """
        if not trajectories:
            raise ModelError("adapt: no trajectory; without one use the agent itself")
        shapes = {one.reward.shape for one in trajectories}
        if len(shapes) > 1:
            raise ModelError(f"adapt: trajectories of different [step, pair] {sorted(shapes)}; expected the same")
        read = [tokens(*(torch.from_numpy(np.asarray(part, np.float32)) for part in _of(one))) for one in trajectories]
        return AdaptedAgent(self._model, self._model.embed(torch.stack(read, dim=1)).numpy())

    def __repr__(self) -> str:
        return f"FlashAgent(actions {self.actions!r})"


class AdaptedAgent:
    """An agent that knows its pairs."""

    def __init__(self, model: AgentModel, embedding: Float[np.ndarray, "env embed"] | None) -> None:
        self._model, self.embedding = model, embedding
        self._last: Float[np.ndarray, "env action"] | None = None

    def act(self, observation: Float[np.ndarray, "env feature"]) -> Float[np.ndarray, "env action"]:
        """Actions in [-1, 1]; where an observation is not finite, the last action of that pair.

        Args:
            observation: of each pair, in the order of its trajectories.

        Raises:
            ModelError: another shape, or an observation that is not finite before the first action.
        """
        known = None if self.embedding is None else len(self.embedding)
        if observation.shape[1] != len(OBSERVATION) or known not in (None, len(observation)):
            pairs = "any number of pairs" if known is None else f"{known} pairs"
            got = f"shape {observation.shape}"
            raise ModelError(f"act: expected {pairs} and {len(OBSERVATION)} features, got {got}")
        whole = np.isfinite(observation).all(axis=1)
        if not whole.all() and (self._last is None or len(self._last) != len(observation)):
            at = int(np.flatnonzero(~whole)[0])
            raise ModelError(f"act: the observation of pair {at} is not finite, and there is no last action to hold")
        read = torch.from_numpy(np.where(whole[:, None], observation, 0.0).astype(np.float32))
        shown = None if self.embedding is None else torch.from_numpy(self.embedding)
        action = self._model.act(read, shown).numpy()
        if self._last is not None and not whole.all():
            action = np.where(whole[:, None], action, self._last)
        self._last = action
        return action


def _of(one: Trajectory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return one.observation, one.action, one.reward
