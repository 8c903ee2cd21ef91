"""What the status and the events of a `FlashAutoscaler` say. Pure.

Enters: steps of the loop, problems and times. Leaves: JSON that fits the schema of the CRD, bounded in every text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from flashfm.controller.keeper import Decision
from flashfm.controller.kube.amounts import Amount
from flashfm.controller.kube.api import Object

LONGEST = 1024
"""Characters of a message."""
SHORT_NAME = 200
"""Characters of a resource's name in that of an event."""


class Said(NamedTuple):
    """A condition, before it is compared with the one that is there."""

    kind: str
    """`Accepted`, `Observed` or `Applied`."""
    holds: bool
    reason: str
    """One word in CamelCase."""
    message: str


ACCEPTED = Said("Accepted", True, "Valid", "")


def stamp(now_s: float) -> str:
    """A time as the API writes it."""
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def refused(problems: Sequence[str]) -> Said:
    """The resource is not accepted."""
    return Said("Accepted", False, "Invalid", cut("; ".join(problems)))


def of_step(decision: Decision, status: str, detail: str, trouble: str | None) -> list[Said]:
    """What a step says.

    Args:
        decision: what it came to.
        status: what came of carrying it out, as in `store`.
        detail: why that failed.
        trouble: why pods could not be brought to what was set before; None where they could.
    """
    seen = decision.by != "nobody"
    observed = Said("Observed", seen, "MetricsRead" if seen else "NoMetrics", cut("" if seen else decision.why))
    failed = detail if status == "failed" else trouble
    if failed:
        return [observed, Said("Applied", False, "Failed", cut(failed))]
    said = {"done": ("Done", "set as decided"), "nothing": ("InForce", "what is decided is in force, or not to be set")}
    return [observed, Said("Applied", True, *said.get(status, ("Unknown", "")))]


def conditions(
    said: Sequence[Said], before: Sequence[Mapping[str, Any]], generation: int, now_s: float
) -> list[Object]:
    """Conditions of a status: the time of one is that of its last change.

    Args:
        said: what is known.
        before: those that are there.
        generation: of the resource.
        now_s: Unix time.
    """
    there = {str(one.get("type")): one for one in before}
    found = []
    for one in said:
        status = "True" if one.holds else "False"
        last = there.get(one.kind, {})
        since = last.get("lastTransitionTime") if last.get("status") == status else None
        found.append(
            {
                "type": one.kind,
                "status": status,
                "reason": one.reason,
                "message": one.message,
                "lastTransitionTime": since or stamp(now_s),
                "observedGeneration": generation,
            }
        )
    return found


def status(decision: Decision, p_value: float | None, said: list[Object], generation: int, now_s: float) -> Object:
    """The whole status after a step.

    Args:
        decision: what it came to.
        p_value: share of the pairs of pretraining that lie farther out; None where the application is not known.
        said: conditions.
        generation: of the resource.
        now_s: Unix time.
    """
    setting = decision.setting
    recommendation = None
    if setting is not None:
        recommendation = {"replicas": setting.replicas, **Amount.meant(setting.cpu_cores, setting.memory_mib).texts()}
    return {
        "observedGeneration": generation,
        "phase": decision.phase.value,
        "decidedBy": decision.by,
        "recommendation": recommendation,
        "novelty": p_value,
        "lastReason": cut("; ".join([decision.why, *decision.clipped])),
        "lastStep": stamp(now_s),
        "conditions": said,
    }


def event(resource: Object, reason: str, message: str, now_s: float, mark: str, *, warning: bool) -> Object:
    """An event about a resource.

    Args:
        resource: what it is about: `namespace`, `name` and `uid`.
        reason: one word in CamelCase.
        message: what happened.
        now_s: Unix time.
        mark: makes its name one of its own.
        warning: whether somebody should look.
    """
    about = {"apiVersion": "flashfm.io/v1alpha1", "kind": "FlashAutoscaler", **resource}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{resource['name'][:SHORT_NAME]}.{mark}", "namespace": resource["namespace"]},
        "involvedObject": about,
        "reason": reason,
        "message": cut(message),
        "type": "Warning" if warning else "Normal",
        "firstTimestamp": stamp(now_s),
        "lastTimestamp": stamp(now_s),
        "count": 1,
        "source": {"component": "flashfm"},
        "reportingComponent": "flashfm.io/operator",
        "reportingInstance": "flashfm",
    }


def cut(text: str) -> str:
    """One line of at most `LONGEST` characters."""
    line = text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 2]} …"
