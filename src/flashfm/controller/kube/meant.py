"""What the controller notes on a Deployment: the limits that are meant, and how its template was before. Pure.

Enters: Deployments, whose annotations anybody may have written. Leaves: notes that are sound, or none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from flashfm.act.guardrails import Setting
from flashfm.controller.kube.amounts import Amount, limits_of, resources_of, template
from flashfm.tasks.autoscaling.dynamics import CPU_CORES, MEMORY_MIB

ANNOTATION = "flashfm.io/limits"
"""On a Deployment: `Meant`."""
ROLLED = "flashfm.io/rolled-at"
"""On a pod template: when it was last changed here, so that each rolling patch is one."""
LONGEST = 1024
"""Characters of an annotation that is read."""

Texts = Mapping[str, str | None]
"""Quantities of `cpu` and `memory`; None where there is none."""


@dataclass(frozen=True)
class Before:
    """A template before a rolling patch, to the letter: given back, it is the one of the pods that are still there."""

    limits: Texts
    requests: Texts
    rolled: str | None
    """The template's own annotation."""

    @classmethod
    def of(cls, deployment: Mapping[str, Any], container: str) -> Before:
        """As it is."""
        pod = template(deployment)
        resources = resources_of(pod, container) or {}
        annotations = (pod.get("metadata") or {}).get("annotations") or {}
        return cls(_texts(resources.get("limits")), _texts(resources.get("requests")), annotations.get(ROLLED))

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Before:
        """As it was noted.

        Raises:
            KeyError: not noted by this class; TypeError and AttributeError likewise.
        """
        rolled = kept["rolled"]
        return cls(_texts(kept["limits"]), _texts(kept["requests"]), None if rolled is None else str(rolled))


@dataclass(frozen=True)
class Meant:
    """What is meant to be in force, as the annotation of a Deployment keeps it.

    A template is the team's: limits that were set in place are not in it, and are written here, with the template's
    own. Once the template has others, somebody has deployed, and what was meant before counts no more.
    """

    container: str
    cpu_cores: float
    memory_mib: float
    over: Texts
    """Limits of the template when this was written."""
    before: Before | None = None
    """The template before a rolling patch that has not come through yet; None where there is none."""

    @property
    def amount(self) -> Amount:
        """In whole units."""
        return Amount.meant(self.cpu_cores, self.memory_mib)

    def same(self, setting: Setting) -> bool:
        """Whether a setting asks for these limits."""
        return setting._replace(replicas=1).same(Setting(self.cpu_cores, self.memory_mib, 1))

    def text(self) -> str:
        """Value of the annotation."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def read(cls, deployment: Mapping[str, Any], container: str) -> Meant | None:
        """What a Deployment's annotation says; None without one that is sound and still of its template."""
        text = ((deployment.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION)
        if not isinstance(text, str) or len(text) > LONGEST:
            return None
        try:
            kept = json.loads(text)
            found = cls(
                str(kept["container"]),
                float(kept["cpu_cores"]),
                float(kept["memory_mib"]),
                _texts(kept["over"]),
                None if kept["before"] is None else Before.read(kept["before"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        sound = CPU_CORES[0] <= found.cpu_cores <= CPU_CORES[1] and MEMORY_MIB[0] <= found.memory_mib <= MEMORY_MIB[1]
        of_now = Amount.of(found.over) == Amount.of(limits_of(template(deployment), container))
        return found if sound and of_now and found.container == container else None

    def rolled(self, before: Before) -> Meant:
        """The same once the template has these limits itself."""
        return replace(self, over=_texts(self.amount.texts()), before=before)


def _texts(of: Mapping[str, Any] | None) -> Texts:
    found = of or {}
    return {name: None if found.get(name) is None else str(found[name]) for name in ("cpu", "memory")}
