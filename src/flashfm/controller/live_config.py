"""What is tried live, and how: the settings of `live.compare`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from flashfm.act.guardrails import GuardConfig
from flashfm.baselines.scaling import HpaVpaConfig
from flashfm.controller.keeper import KeeperConfig
from flashfm.controller.kept import KEPT_STEPS
from flashfm.controller.rules import SAFE
from flashfm.controller.sample import SampleConfig
from flashfm.errors import ControlError
from flashfm.tasks.autoscaling import loads
from flashfm.tasks.autoscaling.dynamics import CPU_CORES
from flashfm.tasks.autoscaling.parameters import STEP_S
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS

SLACK = 5.0
"""Objective for the p99 where none is given, over the median of a replica that nobody else asks."""
LEAST_CONCURRENCY = 4
LEAST_CORE = 1 / 32
MOST_STEPS = KEPT_STEPS - EPISODE_STEPS - 1
PAUSE_STEPS = 2
"""Between changes of limits, which are in place here and restart nothing."""


@dataclass(frozen=True)
class LiveConfig:
    """What is tried, and how.

    Raises:
        ControlError: one of them is out of its range.
    """

    steps: int = 20
    """That count; 2 to `MOST_STEPS`."""
    period_s: float = STEP_S
    """Length of a control step, at least 1. The agent was pretrained on steps of 30 s: pauses are counted in steps, and
    a trace runs so much faster where steps are shorter."""
    alpha: float = 0.7
    """Weight of the SLO against utilisation, in [0, 1]."""
    least_cores: float = CPU_CORES[0]
    """Least limit of a replica in the hands of the agent, in the range of `CPU_CORES`. Many small replicas serve as
    many requests as few large ones, but each request takes longer."""
    slo_s: float | None = None
    """Objective for the p99; None takes `slack` times the median of a request alone."""
    slack: float = SLACK
    """At least 1."""
    mean_per_s: float | None = None
    """Mean rate of requests; None takes `mean_share` of what this machine can serve within the objective."""
    mean_share: float = loads.MEAN_SHARE
    """At most that share, in (0, `loads.MEAN_SHARE`]; a peak may ask for more, but what can be served."""
    warm_up: Literal["simulated", "live", "none"] = "simulated"
    """How the agent gets to know the application before: by episodes of a simulated twin whose costs are measured here
    first; by an episode under the rules, `EPISODE_STEPS` steps before those that count, in both arms; or not at all, so
    that rules act until there was an episode."""
    against: bool = True
    """Whether there is the second arm."""
    rules: HpaVpaConfig = SAFE
    """Of the second arm, and of the first while the agent does not act."""
    concurrency: int | None = None
    """Requests that a replica works on at a time; None takes as many as keep its core busy, at least
    `LEAST_CONCURRENCY`."""
    core: float = 1.0
    """Share of one of this machine's cores that counts as one, in [`LEAST_CORE`, 1]. Less makes many slow cores of few:
    replicas have room to be many, and everything that computes takes longer."""
    seed: int = 0
    """Of the load."""

    def __post_init__(self) -> None:
        wrong = [
            words
            for fine, words in (
                (
                    2 <= self.steps <= MOST_STEPS,
                    f"{self.steps} steps; expected 2 to {MOST_STEPS}: change their length or that of the load",
                ),
                (
                    1 <= self.slack <= 1000,
                    f"an objective of {self.slack} times a request alone; expected 1 to 1000",
                ),
                (1 <= self.period_s <= 3600, f"steps of {self.period_s:g} s; expected 1 to 3600"),
                (
                    self.mean_per_s is None or (math.isfinite(self.mean_per_s) and self.mean_per_s > 0),
                    f"{self.mean_per_s} requests/s in the mean; expected more than 0",
                ),
                (
                    0 < self.mean_share <= loads.MEAN_SHARE,
                    f"a load of {self.mean_share} of what can be served; expected above 0, at most {loads.MEAN_SHARE}",
                ),
                (
                    self.concurrency is None or self.concurrency >= 1,
                    f"concurrency {self.concurrency}; expected at least 1",
                ),
                (
                    LEAST_CORE <= self.core <= 1,
                    f"{self.core} of a core counted as one; expected {LEAST_CORE} to 1",
                ),
                (
                    CPU_CORES[0] <= self.least_cores <= CPU_CORES[1],
                    f"replicas of at least {self.least_cores} cores; expected {CPU_CORES[0]:g} to {CPU_CORES[1]:g}",
                ),
                (self.warm_up in ("simulated", "live", "none"), f"warm-up {self.warm_up!r:.40}"),
            )
            if not fine
        ]
        if wrong:
            raise ControlError(f"live: {wrong[0]}")

    @property
    def warm_steps(self) -> int:
        """Steps before those that count."""
        return EPISODE_STEPS + 1 if self.warm_up == "live" else 0

    @property
    def keeper(self) -> KeeperConfig:
        """Of the first arm; what is counted in seconds is as many steps as for steps of `STEP_S`."""
        shorter = self.period_s / STEP_S
        return KeeperConfig(
            guard=GuardConfig(pause_s=PAUSE_STEPS * self.period_s, reversal_s=GuardConfig().reversal_s * shorter),
            sample=SampleConfig(oldest_s=max(3 * self.period_s, 10.0)),
            rules=self.rules,
            longest_gap_s=max(3 * self.period_s, 10.0),
        )
