"""Replicas by HPA and limits by VPA, without the conflict that both on one metric have.

When VPA fits the CPU limits to the use of a replica, HPA sees a utilisation near 1 whatever the load and adds replicas,
each of which then uses less, and so on. Kubernetes advises against that. The rule taken here: memory limits are VPA's
alone and HPA looks at CPU alone; where CPU limits are VPA's as well, they aim at HPA's own utilisation (percentile of
use over the target) and move only in steps in which HPA leaves the replicas alone. Then neither undoes the other:
replicas follow the load, limits follow what a replica can use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from array_api_compat import array_namespace

from flashfm.baselines.scaling.controller import Begun, bounded, usage
from flashfm.baselines.scaling.hpa import Hpa, HpaConfig
from flashfm.baselines.scaling.vpa import Recommender, Updater, VpaConfig
from flashfm.tasks.autoscaling.dynamics import Limits, State, StepOutcome


@dataclass(frozen=True)
class HpaVpaConfig:
    """Of both together."""

    target: float = 0.7
    """Utilisation of CPU that is aimed at, in (0, 1)."""
    vertical: Literal["memory", "both"] = "both"
    """Limits that VPA sets."""
    day_s: float = 86_400.0
    """As of `VpaConfig`."""
    memory_margin: float = 0.15
    """As of `VpaConfig`."""
    least_cpu_cores: float = 0.025
    """As of `VpaConfig`."""
    least_memory_mib: float = 250.0
    """As of `VpaConfig`."""
    old_s: float = 43_200.0
    """As of `VpaConfig`."""
    remembers: bool = True
    """As of `VpaConfig`."""

    @property
    def hpa(self) -> HpaConfig:
        """Of the horizontal part."""
        return HpaConfig(target=self.target)

    @property
    def vpa(self) -> VpaConfig:
        """Of the vertical part: its margin on CPU leaves the utilisation that is aimed at."""
        return VpaConfig(
            day_s=self.day_s,
            cpu_margin=1 / self.target - 1,
            memory_margin=self.memory_margin,
            least_cpu_cores=self.least_cpu_cores,
            least_memory_mib=self.least_memory_mib,
            old_s=self.old_s,
            remembers=self.remembers,
        )


class HpaVpa:
    """Sets replicas and limits.

    Args:
        config: settings.
    """

    def __init__(self, config: HpaVpaConfig | None = None) -> None:
        self.config = config or HpaVpaConfig()
        self._hpa = Hpa(self.config.hpa)
        self._of: Begun | None = None
        self._recommender: Recommender
        self._updater: Updater

    def reset(self, simulator: Begun) -> None:
        """Begin an episode."""
        like, vpa = simulator.outcome.ready, self.config.vpa
        if not (vpa.remembers and simulator is self._of):
            self._recommender = Recommender(vpa, like)
        self._updater = Updater(vpa.old_s, like)
        self._of = simulator
        self._hpa.reset(simulator)

    def decide(self, state: State, outcome: StepOutcome, rate_per_s: Any) -> Limits:  # noqa: ARG002
        """Limits for the next step."""
        xp, seen = array_namespace(outcome.ready), usage(state, outcome)
        replicas = self._hpa.replicas(state, outcome)
        self._recommender.record(seen)
        cpu, memory = self._recommender.recommend()
        free = (replicas == seen.replicas) & (self.config.vertical == "both")
        kept = cpu._replace(
            lower=xp.where(free, cpu.lower, 0.0),
            target=xp.where(free, cpu.target, state.cpu_cores),
            upper=xp.where(free, cpu.upper, state.cpu_cores),
        )
        due = self._updater.due((state.cpu_cores, state.memory_mib), kept, memory, seen.oom)
        self._updater.updated(due)
        return bounded(
            Limits(
                xp.where(due, kept.target, state.cpu_cores), xp.where(due, memory.target, state.memory_mib), replicas
            )
        )


def in_use() -> dict[str, HpaVpa]:
    """What many clusters run: both together at some targets, by name."""
    return {f"HPA + VPA at {target:g}": HpaVpa(HpaVpaConfig(target=target, day_s=3600.0)) for target in (0.2, 0.4, 0.7)}
