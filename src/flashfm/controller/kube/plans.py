"""What is to be said to the API server about a Deployment and its pods, and when nothing is. Pure.

Enters: objects and what is meant. Leaves: patches, or phrases that say why there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple

from flashfm.act.guardrails import Setting
from flashfm.controller.kube import amounts
from flashfm.controller.kube.amounts import MIB, Amount, Share
from flashfm.controller.kube.api import Object, Patch
from flashfm.controller.kube.managed import Managed, Mode
from flashfm.controller.kube.meant import ANNOTATION, ROLLED, Before, Meant
from flashfm.errors import BackendError


class Change(NamedTuple):
    """A patch of a Deployment."""

    body: Object
    how: Patch = Patch.MERGE
    sub: str | None = None
    """Its subresource."""


class Work(Enum):
    """What is left to do after an action."""

    ROLL_BACK = "a rollout of ours has passed its deadline"
    NOTE = "a rollout of ours has come through"
    RESIZE = "pods have not been asked to have what is meant"
    REPLACE = "pods do not get what is meant where they are"


class Unsettled(NamedTuple):
    """What is left to do, and for which pods."""

    what: Work
    meant: Meant
    pods: Sequence[Mapping[str, Any]] = ()
    why: tuple[str, ...] = ()
    """What their nodes say."""


def unsettled(of: Managed, deployment: Object, pods: Sequence[Mapping[str, Any]]) -> Unsettled | None:
    """What is left to do; None where all is as it is meant, or a rollout is on its way there."""
    meant = Meant.read(deployment, of.container)
    if meant is None:
        return None
    if meant.before is not None and stuck(deployment):
        return Unsettled(Work.ROLL_BACK, meant, pods)
    if rolling(deployment):
        return None
    late = behind(of, pods, meant.amount)
    if late:
        return Unsettled(Work.RESIZE, meant, late)
    waiting = [(pod, why) for pod in pods if (why := waits(of, pod, meant.amount))]
    if waiting:
        return Unsettled(Work.REPLACE, meant, [pod for pod, _ in waiting], tuple(sorted({why for _, why in waiting})))
    return None if meant.before is None else Unsettled(Work.NOTE, meant)


def in_force(of: Managed, deployment: Object, pods: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Limits of a replica that would start now, in cores and MiB.

    Where the controller acts, these are what it means, also while pods are still brought to it. Otherwise they are
    those of the newest pod, as others may change pods when they are made.

    Raises:
        BackendError: there is no such container, or it has no limits.
    """
    template = amounts.template(deployment)
    if amounts.resources_of(template, of.container) is None:
        there = ", ".join(str(one.get("name")) for one in (template.get("spec") or {}).get("containers") or [])
        raise BackendError(f"{of.words}: no container {of.container!r}; there are {there:.200}")
    meant = Meant.read(deployment, of.container) if of.mode is Mode.ACT else None
    if meant is not None:
        return meant.cpu_cores, meant.memory_mib
    limits = Amount.of(amounts.limits_of(pods[-1] if pods else template, of.container))
    if limits.millicores is not None and limits.bytes is not None:
        return limits.millicores / 1000, limits.bytes / MIB
    name, such = ("cpu", "500m") if limits.millicores is None else ("memory", "512Mi")
    raise BackendError(
        f"{of.words}: container {of.container!r} has no limit for {name}; give one, as resources.limits.{name}: {such}"
    )


def scaled(of: Managed, now: Object, replicas: int) -> Change | None:
    """Other replicas; None where they are there.

    Raises:
        BackendError: it has been scaled to zero.
    """
    there = replicas_of(now)
    if there == 0:
        raise BackendError(f"{of.words}: somebody has stopped it: it is not started here")
    return None if there == replicas else Change({"spec": {"replicas": replicas}}, sub="scale")


def declared(of: Managed, now: Object, setting: Setting) -> Change | None:
    """Note what is meant; None where the note says so, or there is none and the template does."""
    over = Amount.of(amounts.limits_of(amounts.template(now), of.container))
    meant = Meant(of.container, setting.cpu_cores, setting.memory_mib, over.texts())
    there = Meant.read(now, of.container)
    if there is not None:
        return None if there.same(setting) else noted(of, now, meant)
    exact = over == meant.amount and (over.millicores or 0) / 1000 == setting.cpu_cores
    return None if exact and (over.bytes or 0) / MIB == setting.memory_mib else noted(of, now, meant)


def noted(of: Managed, now: Object, meant: Meant) -> Change | None:
    """The note itself; None where it is there."""
    if Meant.read(now, of.container) == meant:
        return None
    return Change({"metadata": {"annotations": {ANNOTATION: meant.text()}}})


def rolled_out(of: Managed, now: Object, setting: Setting, now_s: float, *, again: bool) -> Change | None:
    """The template with limits and requests; `again` also where it has them.

    Raises:
        BackendError: a rollout would do harm, or there is one already.
    """
    there = Amount.of(amounts.limits_of(amounts.template(now), of.container))
    meant = Meant(of.container, setting.cpu_cores, setting.memory_mib, {})
    if there == meant.amount and not again:
        return declared(of, now, setting)
    spec = now.get("spec") or {}
    if spec.get("paused"):
        raise BackendError(f"{of.words}: it is paused, so its limits cannot be rolled out; resume it")
    if (spec.get("strategy") or {}).get("type") == "Recreate":
        raise BackendError(
            f"{of.words}: its strategy is Recreate: rolling out limits would stop it; use RollingUpdate, or Kubernetes"
            " 1.33 or later, which resizes in place"
        )
    if rolling(now) and not stuck(now):
        raise BackendError(f"{of.words}: a rollout is under way: limits wait for its end")
    last = Meant.read(now, of.container)
    before = Before.of(now, of.container) if last is None or last.before is None else last.before
    resources = Share.of(amounts.resources_of(amounts.template(now), of.container)).resources(meant.amount)
    stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _template(of, meant.rolled(before), resources, stamp)


def rolled_back(of: Managed, now: Object, pods: Sequence[Mapping[str, Any]]) -> Change | None:
    """The template as it was before a rollout of ours; None where there was none.

    What is meant from then on is what the pods really have that the rollout did not reach.
    """
    meant = Meant.read(now, of.container)
    if meant is None or meant.before is None:
        return None
    before = meant.before
    there = (amounts.actual(pod, of.container) for pod in pods)
    left = next((amount for amount in there if amount != meant.amount), Amount.of(before.limits))
    old = replace(
        meant,
        cpu_cores=meant.cpu_cores if left.millicores is None else left.millicores / 1000,
        memory_mib=meant.memory_mib if left.bytes is None else left.bytes / MIB,
        over=before.limits,
        before=None,
    )
    return _template(of, old, {"limits": before.limits, "requests": before.requests}, before.rolled)


def _template(of: Managed, meant: Meant, resources: Mapping[str, Any], stamp: str | None) -> Change:
    """A rolling patch; what is None is taken out."""
    template = {
        "metadata": {"annotations": {ROLLED: stamp}},
        "spec": {"containers": [{"name": of.container, "resources": resources}]},
    }
    note = {"annotations": {ANNOTATION: meant.text()}}
    return Change({"metadata": note, "spec": {"template": template}}, Patch.STRATEGIC)


def resized(of: Managed, pod: Mapping[str, Any], amount: Amount) -> Object:
    """The body that resizes a pod."""
    resources = Share.of(amounts.resources_of(pod, of.container)).resources(amount)
    return {"spec": {"containers": [{"name": of.container, "resources": resources}]}}


def behind(of: Managed, pods: Sequence[Mapping[str, Any]], amount: Amount) -> list[Mapping[str, Any]]:
    """Pods that have not been asked to have an amount yet."""
    return [pod for pod in pods if Amount.of(amounts.limits_of(pod, of.container)) != amount]


def shrinks(of: Managed, pod: Mapping[str, Any], amount: Amount) -> bool:
    """Whether a pod would have to give memory back while it runs."""
    there = Amount.of(amounts.limits_of(pod, of.container)).bytes
    policies = [
        policy
        for one in pod["spec"]["containers"]
        if one.get("name") == of.container
        for policy in one.get("resizePolicy") or []
    ]
    restarts = any(p.get("resourceName") == "memory" and p.get("restartPolicy") == "RestartContainer" for p in policies)
    return there is not None and amount.bytes is not None and amount.bytes < there and not restarts


def waits(of: Managed, pod: Mapping[str, Any], amount: Amount) -> str:
    """Why a pod that was asked to have an amount has not; "" where it has, or has not begun."""
    for one in (pod.get("status") or {}).get("conditions") or []:
        if one.get("type") == "PodResizePending" and one.get("status") == "True":
            return str(one.get("reason") or "Deferred")[:40]
    return "" if amounts.actual(pod, of.container) == amount else "InProgress"


def replicas_of(deployment: Object) -> int:
    """Replicas that are wanted."""
    found = (deployment.get("spec") or {}).get("replicas")
    return 1 if found is None else int(found)


def count(deployment: Object, name: str) -> int:
    """A number of its status; 0 where it is not there."""
    return int((deployment.get("status") or {}).get(name) or 0)


def rolling(deployment: Object) -> bool:
    """Whether pods of another template are there, or are to come."""
    if _unseen(deployment):
        return True
    updated = count(deployment, "updatedReplicas")
    return updated < replicas_of(deployment) or count(deployment, "replicas") > updated


def stuck(deployment: Object) -> bool:
    """Whether a rollout has passed the Deployment's own deadline."""
    said = (deployment.get("status") or {}).get("conditions") or []
    return not _unseen(deployment) and any(
        one.get("type") == "Progressing" and one.get("reason") == "ProgressDeadlineExceeded" for one in said
    )


def _unseen(deployment: Object) -> bool:
    """Whether its controller has not looked at its newest specification yet."""
    return count(deployment, "observedGeneration") < int(deployment["metadata"].get("generation") or 0)
