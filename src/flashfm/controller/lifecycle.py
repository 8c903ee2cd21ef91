"""Who acts on a deployment, and when that changes: a state machine without clocks, files or networks.

Enters: what became of each step. Leaves: the next state, and one phrase where the phase changed. Rules (HPA and VPA)
act until the agent knows the application, and whenever it does worse than it did.

::

    SHADOW     the agent decides, nothing is touched; until an operator lets it act
    BOOTSTRAP  rules act, the agent watches, until it has an episode and an embedding; each time longer
    ADAPTING   the agent acts on probation
    SERVING    the agent acts, until its reward falls or scatters, the objective stays broken, the embedding drifts to
               what pretraining never saw, or something else runs: then BOOTSTRAP again

An application that is novel from the start is served too, by the policy that reads no embedding. Another pretrained
agent goes on probation first, held against what the one before earned.

Source: the states are those of AWARE (Qiu et al., ATC 2023), FLASH's sister system; thresholds are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.parameters import LONGEST_START
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS


class Phase(StrEnum):
    """Who acts."""

    SHADOW = "shadow"
    BOOTSTRAP = "bootstrap"
    ADAPTING = "adapting"
    SERVING = "serving"

    @property
    def by_agent(self) -> bool:
        """Whether what the agent decides is done."""
        return self in (Phase.ADAPTING, Phase.SERVING)


@dataclass(frozen=True)
class LifecycleConfig:
    """When phases change; all in control steps that could be read.

    Raises:
        ModelError: a number out of its range.
    """

    bootstrap_steps: int = EPISODE_STEPS
    """Least length of the first BOOTSTRAP; at least 2. An embedding takes a whole episode."""
    longest_wait: int = 16
    """Each BOOTSTRAP after the agent had to hand back is twice as long, up to so many times the first; at least 1."""
    probation_steps: int = 40
    """Length of ADAPTING; at least 2."""
    window_steps: int = 40
    """Steps over which the reward is looked at; at least 2."""
    reward_fall: float = 0.10
    """Reward below that of the phase before, from which the agent hands back; above 0."""
    deviation_growth: float = 2.5
    """Growth of its standard deviation from which it does, above 1; …"""
    least_deviation: float = 0.05
    """… which counts as so much at least."""
    broken_steps: int = LONGEST_START + 5
    """Steps in a row that break the objective, after which rules take over; at least 1. Replicas that are ordered at
    once may take `LONGEST_START` to answer."""

    def __post_init__(self) -> None:
        good = {
            "bootstrap_steps": self.bootstrap_steps >= 2,
            "longest_wait": self.longest_wait >= 1,
            "probation_steps": self.probation_steps >= 2,
            "window_steps": self.window_steps >= 2,
            "reward_fall": self.reward_fall > 0,
            "deviation_growth": self.deviation_growth > 1,
            "least_deviation": self.least_deviation > 0,
            "broken_steps": self.broken_steps >= 1,
        }
        wrong = [name for name, fine in good.items() if not fine]
        if wrong:
            raise ModelError(f"lifecycle: {wrong[0]} is {getattr(self, wrong[0])!r}; see its range in LifecycleConfig")


@dataclass(frozen=True)
class Step:
    """What became of one control step."""

    reward: float
    """In [0, 1]."""
    violated: bool
    known: bool
    """Whether the agent has an embedding of the application."""
    novel: bool
    """Whether that is unlike those of pretraining."""
    image: str = ""
    """What runs; "" where nobody says."""
    agent: str = ""
    """Digest of the pretrained agent; "" where nobody says."""


@dataclass(frozen=True)
class Life:
    """Where a deployment is in its life; JSON-able by `to_dict`."""

    phase: Phase = Phase.SHADOW
    steps: int = 0
    """In this phase."""
    rewards: tuple[float, ...] = ()
    """The last of this phase."""
    reference: tuple[float, float] | None = None
    """Mean and standard deviation of the reward that the phase is held against."""
    broken: int = 0
    """Steps in a row that broke the objective."""
    image: str = ""
    """What ran when the phase began, or was first said since."""
    novel: bool = False
    """Whether the application was novel when the phase began."""
    returns: int = 0
    """How often the agent has handed back."""
    agent: str = ""
    """Digest of the pretrained agent that decided last."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**vars(self), "phase": self.phase.value}

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Life:
        """Inverse of `to_dict`."""
        reference = kept["reference"]
        return cls(
            Phase(kept["phase"]),
            int(kept["steps"]),
            tuple(map(float, kept["rewards"])),
            None if reference is None else (float(reference[0]), float(reference[1])),
            int(kept["broken"]),
            str(kept["image"]),
            bool(kept["novel"]),
            int(kept["returns"]),
            str(kept.get("agent", "")),
        )


@dataclass(frozen=True)
class Turned:
    """A state after a step, and why the phase changed."""

    life: Life
    why: str | None = None
    """None where the phase stays."""
    forget: bool = False
    """Whether what was learned of the application is of another one."""


def advance(life: Life, step: Step, *, acting: bool, config: LifecycleConfig | None = None) -> Turned:
    """The state after one more step.

    Args:
        life: before it.
        step: what became of it; one that could not be read does not come here.
        acting: whether the operator lets anybody act.
        config: thresholds.
    """
    config = config or LifecycleConfig()
    if step.image and life.image and step.image != life.image:
        phase = Phase.BOOTSTRAP if acting else Phase.SHADOW
        return Turned(
            Life(phase, image=step.image, agent=step.agent),
            f"something else runs: {step.image} in place of {life.image}",
            True,
        )
    kept, before = max(config.window_steps, config.probation_steps), life.agent
    life = replace(
        life,
        steps=life.steps + 1,
        rewards=(*life.rewards, step.reward)[-kept:],
        broken=life.broken + 1 if step.violated else 0,
        image=life.image or step.image,
        agent=step.agent or life.agent,
    )
    if not acting:
        if life.phase is Phase.SHADOW:
            return Turned(life)
        return _turn(life, Phase.SHADOW, "the operator lets nobody act", step, config)
    if life.phase is Phase.SHADOW:
        return _turn(life, Phase.BOOTSTRAP, "the operator lets the controller act", step, config)
    if life.phase is Phase.BOOTSTRAP:
        if life.steps < config.bootstrap_steps * min(2**life.returns, config.longest_wait) or not step.known:
            return Turned(life)
        known = "the agent knows the application by an episode"
        return _turn(life, Phase.ADAPTING, f"{known}, and that it is novel" if step.novel else known, step, config)
    if before and life.agent != before:
        other = f"another agent decides: {life.agent} in place of {before}"
        return _turn(life, Phase.ADAPTING, other, step, config)
    worse = _worse(life, step, config)
    if worse is not None:
        return _turn(replace(life, returns=life.returns + 1), Phase.BOOTSTRAP, worse, step, config)
    if life.phase is Phase.ADAPTING and life.steps >= config.probation_steps:
        return _turn(life, Phase.SERVING, "the agent did no worse than the rules on probation", step, config)
    return Turned(life)


def _turn(life: Life, phase: Phase, why: str, step: Step, config: LifecycleConfig) -> Turned:
    """Another phase. What the agent is held against is what the phase before earned, of late."""
    rewards = life.rewards[-config.window_steps :]
    enough = len(rewards) >= 2 and life.phase is not Phase.SHADOW
    reference = _spread(rewards) if enough and phase.by_agent else None
    begun = Life(phase, reference=reference, image=life.image, novel=step.novel, returns=life.returns, agent=life.agent)
    return Turned(begun, why)


def _spread(rewards: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of two or more; `statistics.stdev` is exact, and as slow as the rest of a step."""
    mean = math.fsum(rewards) / len(rewards)
    return mean, math.sqrt(math.fsum((one - mean) ** 2 for one in rewards) / (len(rewards) - 1))


def _worse(life: Life, step: Step, config: LifecycleConfig) -> str | None:
    """Why the agent should hand back; None where it need not."""
    if life.broken >= config.broken_steps:
        return f"the objective was broken in {life.broken} steps in a row"
    if not step.known:
        return "the agent does not know the application any more"
    if step.novel and not life.novel:
        return "the application has become unlike those of pretraining"
    due = config.probation_steps if life.phase is Phase.ADAPTING else config.window_steps
    if life.reference is None or life.steps < due:
        return None
    rewards = life.rewards[-due:]
    mean, deviation = _spread(rewards)
    usual, scatter = life.reference[0], max(life.reference[1], config.least_deviation)
    if mean < usual - config.reward_fall:
        return f"the mean reward fell from {usual:.3f} to {mean:.3f}"
    if deviation > config.deviation_growth * scatter and mean < usual and math.isfinite(deviation):
        return f"the reward scatters by {deviation:.3f}, before by {scatter:.3f}, and its mean is lower"
    return None
