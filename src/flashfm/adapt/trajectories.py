"""The finished episodes of one pair, and the embedding that the best of them give.

Enters: trajectories, as they end. Leaves: an embedding, or None before the first episode has ended. Nothing is read
from a file and nothing is drawn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from flashfm.adapt.agent import Trajectory
from flashfm.errors import ModelError

CAPACITY = 32
"""Source: FLASH, table 6."""
EXPIRY_STEPS = 300
"""Source: FLASH, table 6."""
TOP = 3
"""Trajectories that are read; pretraining reads 1 to as many. The paper's M, which it gives no number for."""

Embedding = Float[np.ndarray, "1 embed"]


class TrajectoryBuffer:
    """Trajectories of one pair, the oldest of which give way.

    Time is counted in control steps and passes with every trajectory; `elapse` tells of steps that belong to none. The
    embedding is kept until the buffer changes.

    Args:
        embed: makes an embedding of some trajectories; `FlashAgent.embed`.
        capacity: most trajectories; at least 1.
        expiry_steps: a trajectory that ended so many steps ago is forgotten; at least 1.
        top: trajectories of the highest mean reward that are embedded; at least 1.

    Raises:
        ModelError: a number below 1.

    Source: FLASH, appendix A.5. It says "the highest rewards"; the mean reward of a step is taken, and of equal ones
    the later trajectory.
    """

    def __init__(
        self,
        embed: Callable[..., Embedding],
        *,
        capacity: int = CAPACITY,
        expiry_steps: int = EXPIRY_STEPS,
        top: int = TOP,
    ) -> None:
        for name, value in (("capacity", capacity), ("expiry_steps", expiry_steps), ("top", top)):
            if value < 1:
                raise ModelError(f"trajectory buffer: {name} is {value}; expected at least 1")
        self._embed, self._expiry_steps, self._top = embed, expiry_steps, top
        self._kept: deque[tuple[int, Trajectory]] = deque(maxlen=capacity)
        self._now = 0
        self._embedding: Embedding | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, trajectory: Trajectory) -> None:
        """Keep an episode that has just ended.

        Raises:
            ModelError: it is of several pairs, or of another length than those that are kept.
        """
        steps, pairs = trajectory.reward.shape
        if pairs != 1:
            raise ModelError(
                f"trajectory buffer: a trajectory of {pairs} pairs; expected one pair: keep a buffer of each"
            )
        if self._kept and steps != (known := len(self._kept[0][1].reward)):
            raise ModelError(f"trajectory buffer: a trajectory of {steps} steps; expected {known}, as those before")
        self.elapse(steps)
        self._kept.append((self._now, trajectory))
        self._embedding = None

    def elapse(self, steps: int) -> None:
        """Let time pass, and forget what has expired.

        Args:
            steps: how many; at least 0.
        """
        self._now += steps
        while self._kept and self._now - self._kept[0][0] >= self._expiry_steps:
            self._kept.popleft()
            self._embedding = None

    @property
    def best(self) -> tuple[Trajectory, ...]:
        """The trajectories that are embedded, the best first; none before the first has ended."""
        newest_first = [trajectory for _, trajectory in reversed(self._kept)]
        return tuple(sorted(newest_first, key=lambda one: -float(one.reward.mean()))[: self._top])

    @property
    def embedding(self) -> Embedding | None:
        """Of the best trajectories; None where there is none."""
        if self._embedding is None and self._kept:
            self._embedding = self._embed(*self.best)
        return self._embedding
