"""Which policy serves a pair's next episode while others are being tried: never much worse than a safe one.

Enters: the mean reward of each episode, and which policy served it. Leaves: who serves the next one. A policy that is
tried spends what was earned above the safe one's reward, and a small allowance beside; where that does not cover what
it may cost, the safe policy serves.

Source: conservative bandits, Wu et al., ICML 2016; here for a few episodes and with plain means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from flashfm.errors import ModelError

SAFE = 0
"""The policy that is never barred, such as HPA and VPA."""


@dataclass(frozen=True)
class GateConfig:
    """How much may be risked."""

    allowance: float = 0.05
    """Share of the safe policy's reward that may be missing at any time, at least 0 and below 1."""
    worst: float = 0.3
    """What an episode of a policy without any episode yet may fall short of the safe one's, as a share of it."""
    spread: float = 1.0
    """Standard errors that are deducted from a policy's mean before it is compared."""
    window: int = 8
    """Episodes of each policy that count, the latest; applications change."""
    noise: float = 0.04
    """Standard deviation of an episode's reward where there are too few to tell."""


class Gate:
    """Chooses a policy for each pair.

    Args:
        pairs: how many there are, at least 1.
        policies: how many there are, the safe one included, at least 2; later ones are preferred where all else is
            equal and none has been tried.
        config: settings.

    Raises:
        ModelError: too few pairs or policies, or an allowance outside [0, 1).
    """

    def __init__(self, pairs: int, policies: int, config: GateConfig | None = None) -> None:
        self.config = config or GateConfig()
        if pairs < 1 or policies < 2 or not 0 <= self.config.allowance < 1:
            raise ModelError(
                f"gate: {pairs} pairs, {policies} policies, allowance {self.config.allowance:g};"
                " expected at least 1, at least 2, and a share in [0, 1)"
            )
        self._rewards = np.full((pairs, policies, self.config.window), np.nan)
        self._served = np.zeros((pairs, policies), np.int64)
        self._earned, self._episodes = np.zeros(pairs), 0

    def choose(self) -> Int[np.ndarray, " pair"]:
        """The policy of each pair's next episode; the first episode is the safe one's, which sets the level."""
        config, tried = self.config, self._served > 0
        mean, error = self._told()
        safe = mean[:, SAFE]
        known = tried[:, SAFE]
        usual = np.where(known, safe, 0.0)
        least = np.where(tried, mean - config.spread * error, (1 - config.worst) * usual[:, None])
        most = np.where(tried, mean + config.spread * error, np.inf)
        due = (1 - config.allowance) * usual * (self._episodes + 1)
        may = self._earned[:, None] + least >= due[:, None]
        may[:, SAFE] = True
        # the safe policy is never tried for what it might be
        most[:, SAFE] = usual
        preferred = np.where(may, most, -np.inf)
        last = preferred.shape[1] - 1 - np.argmax(preferred[:, ::-1], axis=1)
        return np.where(known, last, SAFE)

    def tell(self, policy: Int[np.ndarray, " _"], reward: Float[np.ndarray, " _"]) -> None:
        """Note the mean reward of an episode of each pair.

        Args:
            policy: that served it.
            reward: in [0, 1].

        Raises:
            ModelError: a policy that there is not, or a reward that is not finite.
        """
        pairs, policies, window = self._rewards.shape
        if policy.shape != (pairs,) or reward.shape != (pairs,):
            raise ModelError(f"gate: {policy.shape} policies, {reward.shape} rewards; expected one for each of {pairs}")
        if not np.isfinite(reward).all() or policy.min() < 0 or policy.max() >= policies:
            raise ModelError(f"gate: rewards must be finite and policies in 0 to {policies - 1}")
        rows = np.arange(pairs)
        self._rewards[rows, policy, self._served[rows, policy] % window] = reward
        self._served[rows, policy] += 1
        self._earned += reward
        self._episodes += 1

    def forget(self, policy: int) -> None:
        """A policy became another one, as a learner's does: what is known of it no longer counts."""
        self._rewards[:, policy] = np.nan
        self._served[:, policy] = 0

    def _told(self) -> tuple[Float[np.ndarray, "pair policy"], Float[np.ndarray, "pair policy"]]:
        """Mean and standard error of the mean of each policy; 0 where it has not served."""
        there = ~np.isnan(self._rewards)
        n = there.sum(axis=2)
        values = np.where(there, self._rewards, 0.0)
        mean = values.sum(axis=2) / np.maximum(n, 1)
        off = np.where(there, (self._rewards - mean[..., None]) ** 2, 0.0)
        # two episodes' worth of the usual noise stands beside what was seen
        sd = np.sqrt((off.sum(axis=2) + 2 * self.config.noise**2) / (n + 1))
        return mean, sd / np.sqrt(np.maximum(n, 1))
