"""HPA and VPA rules over a live deployment: what acts while the agent does not, and what it is held against.

Enters: what was seen of each step. Leaves: a setting. The rules are those of `baselines.scaling`, for one deployment.
"""

from __future__ import annotations

from flashfm.act.guardrails import Setting
from flashfm.baselines.scaling import HpaVpa, HpaVpaConfig
from flashfm.controller.seen import Seen

SAFE = HpaVpaConfig(target=0.5, vertical="both", day_s=3600.0, least_cpu_cores=0.25, least_memory_mib=64.0)
"""Half of the cores in use, and histograms that forget in hours: what works for many without being tuned for any."""


class Rules:
    """The rules with what they remember of one deployment.

    Args:
        config: settings.
    """

    def __init__(self, config: HpaVpaConfig = SAFE) -> None:
        self._rules, self._begun = HpaVpa(config), False

    def decide(self, seen: Seen) -> Setting:
        """What they would set; call it once a step, whoever acts, since they remember what was in use."""
        if not self._begun:
            self._rules.reset(seen)
            self._begun = True
        limits = self._rules.decide(seen.state, seen.outcome, None)
        cpu, memory, replicas = (float(value[0]) for value in limits)
        return Setting(cpu, memory, round(replicas))
