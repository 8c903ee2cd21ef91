"""The pretrained autoscaling agent: it acts on any pair at once, and knows a pair after one to three warm-up episodes.

Enters: observations and trajectories as the environments give them. Leaves: actions for the environments, or decisions
with reasons for operators. The pretrained agent never changes: `adapt` returns a new object that holds the embedding of
its pairs, their last actions and decisions. An observation that holds NaN is not acted on: what was last done is held.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float

from flashfm.act import autoscale
from flashfm.act.autoscale import ScalingDecision, Shown, Terms
from flashfm.artifact import checkpoint, registry
from flashfm.errors import ModelError
from flashfm.models import agent_state
from flashfm.models.agent import AgentModel
from flashfm.models.device import device_of
from flashfm.models.novelty import LEVEL
from flashfm.models.replay import tokens
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION, Actions

ALPHA = OBSERVATION.index("alpha")
ROUNDED = 1e-6
"""By how much an alpha may leave its bounds: observations are rounded."""


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
    def from_pretrained(cls, name_or_path: str | os.PathLike[str], *, device: str = "cpu") -> FlashAgent:
        """Load an agent: a name that ships with the package, such as `autoscaling`, or a folder.

        Args:
            name_or_path: which.
            device: what it computes on: `cpu`, `cuda`, or `auto` for the GPU where there is one. Arrays come and go as
                on the CPU; `model` takes and gives tensors that are there.

        Raises:
            ArtifactError: no such model, of another task, damaged, foreign or of a later version.
            ModelError: no such device.
        """
        there = device_of(device)
        saved = checkpoint.load(registry.resolve(name_or_path), kind=agent_state.KIND)
        return cls(agent_state.from_state(saved.config, saved.tensors).to(there), saved.card)

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

    @cached_property
    def digest(self) -> str:
        """What tells it from another pretrained agent."""
        return agent_state.digest(self._model)

    @property
    def actions(self) -> Actions:
        """What the agent's actions mean: `actions` of the environments."""
        return self._model.actions

    def act(self, observation: Float[np.ndarray, "env feature"]) -> Float[np.ndarray, "env action"]:
        """Actions in [-1, 1] for pairs of which nothing is known yet.

        Args:
            observation: of each pair, as the environments give it.

        Raises:
            ModelError: another width, values that are not finite, or alpha outside [0, 1].
        """
        return self.begin().act(observation)

    def begin(self, *, gate: bool = False) -> AdaptedAgent:
        """An agent for pairs of which nothing is known yet, which remembers what it did last.

        Args:
            gate: as of `adapt`, once it is told of an embedding.
        """
        return AdaptedAgent(self._model, None, gate=gate)

    def adapt(self, *trajectories: Trajectory, gate: bool = False) -> AdaptedAgent:
        """Get to know pairs by some of their episodes, one to three of which are enough.

        Args:
            trajectories: of the same pairs in the same order and of the same length.
            gate: serve pairs that are `novel` as if they had no embedding.

        Raises:
            ModelError: no trajectory, or trajectories that differ in pairs or length.
        """
        return AdaptedAgent(self._model, self.embed(*trajectories), len(trajectories), gate=gate)

    def embed(self, *trajectories: Trajectory) -> Float[np.ndarray, "env embed"]:
        """The embedding of pairs by some of their episodes; arguments and errors as of `adapt`."""
        if not trajectories:
            raise ModelError("adapt: no trajectory; without one use the agent itself")
        shapes = {one.reward.shape for one in trajectories}
        if len(shapes) > 1:
            raise ModelError(f"adapt: trajectories of different [step, pair] {sorted(shapes)}; expected the same")
        read = [tokens(*(torch.from_numpy(np.asarray(part, np.float32)) for part in _of(one))) for one in trajectories]
        return self._model.embed(torch.stack(read, dim=1).to(self._model.device)).cpu().numpy()

    def __repr__(self) -> str:
        return f"FlashAgent(actions {self.actions!r})"


class AdaptedAgent:
    """An agent that serves certain pairs: it remembers what it did last, and knows them where it has an embedding."""

    def __init__(
        self,
        model: AgentModel,
        embedding: Float[np.ndarray, "env embed"] | None,
        episodes: int = 1,
        *,
        gate: bool = False,
    ) -> None:
        self._model, self.embedding, self.gate = model, embedding, gate
        self.p_value: Float[np.ndarray, " env"] | None = None
        """Share of pairs like those of pretraining that lie at least as far out; None without an embedding."""
        if embedding is not None:
            self.p_value = model.p_value(torch.from_numpy(embedding), episodes)
        self._last: Float[np.ndarray, "env action"] | None = None
        self._shown: Shown | None = None
        self._decided: tuple[ScalingDecision, ...] = ()

    @property
    def last_action(self) -> Float[np.ndarray, "env action"] | None:
        """What `act` gave last, or what `decide` rested on; None before the first."""
        return self._last

    @property
    def novel(self) -> Bool[np.ndarray, " env"]:
        """Pairs unlike those of pretraining; with `gate` they are served as if they had no embedding."""
        return np.zeros(0, bool) if self.p_value is None else self.p_value < LEVEL

    def knowing(self, embedding: Float[np.ndarray, "env embed"] | None, episodes: int = 1) -> AdaptedAgent:
        """The same agent with another embedding of its pairs; it remembers what this one did last.

        Args:
            embedding: of the pairs; None for none.
            episodes: that it was made of.
        """
        other = AdaptedAgent(self._model, embedding, episodes, gate=self.gate)
        other._last, other._shown, other._decided = self._last, self._shown, self._decided
        return other

    def act(self, observation: Float[np.ndarray, "env feature"]) -> Float[np.ndarray, "env action"]:
        """Actions in [-1, 1]; where an observation is not finite, the last action of that pair.

        Args:
            observation: of each pair, in the order of its trajectories.

        Raises:
            ModelError: another shape, alpha outside [0, 1], or an observation that is not finite before the first
                action.
        """
        self._check(observation)
        alpha = (observation[:, ALPHA] + 1) / 2
        wrong = np.flatnonzero((alpha < -ROUNDED) | (alpha > 1 + ROUNDED))
        if wrong.size:
            at = int(wrong[0])
            raise ModelError(
                f"act: the alpha of pair {at} is {alpha[at]:.3g}; expected the weight of the SLO in [0, 1]"
            )
        whole = np.isfinite(observation).all(axis=1)
        if not whole.all() and (self._last is None or len(self._last) != len(observation)):
            at = int(np.flatnonzero(~whole)[0])
            raise ModelError(f"act: the observation of pair {at} is not finite, and there is no last action to hold")
        read = torch.from_numpy(np.where(whole[:, None], observation, 0.0).astype(np.float32))
        read = read.to(self._model.device)
        shown = None if self.embedding is None else torch.from_numpy(self.embedding).to(self._model.device)
        action = self._model.act(read, shown).cpu().numpy()
        if self.gate and shown is not None and self.novel.any():
            action = np.where(self.novel[:, None], self._model.act(read).cpu().numpy(), action)
        if self._last is not None and not whole.all():
            action = np.where(whole[:, None], action, self._last)
        self._last = action
        return action

    def decide(
        self, observation: Float[np.ndarray, "env feature"], terms: Sequence[Terms] = ()
    ) -> list[ScalingDecision]:
        """Act, and say in units and with reasons what that comes to; call it once a step.

        Args:
            observation: of each pair, as for `act`.
            terms: what operators say of each pair: the objective for the reason, the nodes as a bound, and alpha in
                place of the one in the observation. None where nobody says.

        Returns:
            A decision for each pair. Where an observation is not finite it is the last one, which is `held`.

        Raises:
            ModelError: as `act` and `autoscale.decide`.
        """
        self._check(observation)
        autoscale.check_terms(terms, len(observation))
        if terms:
            observation = observation.copy()
            observation[:, ALPHA] = [2 * one.alpha - 1 for one in terms]
        whole = np.isfinite(observation).all(axis=1)
        remembered = len(self._decided) == len(observation)
        if not whole.all() and not remembered:
            at = int(np.flatnonzero(~whole)[0])
            raise ModelError(f"decide: the observation of pair {at} is not finite, and there is no decision to hold")
        action = self.act(observation)
        seen = self._shown is not None and len(self._shown.killed) == len(observation)
        self._shown = autoscale.see(observation, self._shown if seen else None)
        decided = autoscale.decide(action, self._model.actions, self._shown, terms)
        self._decided = tuple(
            new if fine else autoscale.hold(self._decided[i], observation[i])
            for i, (new, fine) in enumerate(zip(decided, whole.tolist(), strict=True))
        )
        return list(self._decided)

    def watch(self, observation: Float[np.ndarray, "env feature"]) -> None:
        """See a step without deciding, so that later decisions know its peaks; arguments and errors as of `act`."""
        self._check(observation)
        self._shown = autoscale.see(observation, self._shown)

    def _check(self, observation: Float[np.ndarray, "env feature"]) -> None:
        """Raise a ModelError where observations are of another width, or of other pairs than are known."""
        known = None if self.embedding is None else len(self.embedding)
        wide = observation.ndim == 2 and observation.shape[1] == len(OBSERVATION)
        if not wide or known not in (None, len(observation)):
            pairs = "any number of pairs" if known is None else f"{known} pairs"
            got = f"shape {observation.shape}"
            raise ModelError(f"act: expected {pairs} and {len(OBSERVATION)} features, got {got}")


def _of(one: Trajectory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return one.observation, one.action, one.reward
