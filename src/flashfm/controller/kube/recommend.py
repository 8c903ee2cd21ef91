"""The VPA recommender: what the controller decides, as the status of a VerticalPodAutoscaler, and nothing else.

Enters: a setting. Leaves: `status.recommendation` and its conditions, of version 1.0 of VPA or later. Whether pods
change is the business of VPA's own updater and admission controller, as the object's `updateMode` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flashfm.act.guardrails import Setting
from flashfm.controller.kube import amounts
from flashfm.controller.kube.amounts import Amount, Share
from flashfm.controller.kube.api import VPAS, Api, Object, Patch
from flashfm.controller.kube.faults import RefusedError
from flashfm.controller.kube.managed import Managed
from flashfm.controller.web import one_line
from flashfm.errors import BackendError

NAME = "flashfm"
"""Of this recommender, as `spec.recommenders` names it."""
TOLERANCE = 0.1
"""Share by which requests may differ from the target before VPA's updater replaces a pod. Source: HPA's tolerance."""


def recommend(api: Api, of: Managed, deployment: Object, setting: Setting, *, confident: bool) -> None:
    """Write a recommendation; one that is there already is not written again.

    VPA recommends requests, and moves limits in proportion: so requests are recommended that bring limits to the
    setting, as far as the object's `resourcePolicy` lets them.

    Args:
        api: of the cluster.
        of: the Deployment, and the name of the VerticalPodAutoscaler.
        deployment: as it is.
        setting: what is decided; replicas are not VPA's.
        confident: whether the controller knows the application well.

    Raises:
        BackendError: there is no such object, it is not for this Deployment or this recommender, or it was not written.
    """
    for left in reversed(range(api.config.tries)):
        try:
            vpa = api.get(VPAS, of.namespace, of.vpa)
        except RefusedError as error:
            if error.status != 404:
                raise
            raise BackendError(
                f"{of.words}: no VerticalPodAutoscaler {of.vpa!r}; make one of VPA 1.0 or later with spec.recommenders:"
                f" [{{name: {NAME}}}]"
            ) from None
        _refuse_foreign(of, vpa)
        status = _status(of, deployment, vpa, setting, confident=confident)
        if status is None:
            return
        body = {"metadata": {"resourceVersion": vpa["metadata"]["resourceVersion"]}, "status": status}
        try:
            api.patch(VPAS, of.namespace, of.vpa, body, Patch.MERGE, "status")
            return
        except RefusedError as error:
            if error.status != 409 or not left:
                raise


def _refuse_foreign(of: Managed, vpa: Object) -> None:
    """Raise where an object is not for us to write to."""
    spec = vpa.get("spec") or {}
    ref = spec.get("targetRef") or {}
    if (ref.get("kind"), ref.get("name")) != ("Deployment", of.deployment):
        raise BackendError(
            f"{of.words}: the VerticalPodAutoscaler {of.vpa!r} is for {one_line(str(ref.get('kind')))}"
            f" {one_line(str(ref.get('name')))}; name one for this Deployment in spec.verticalPodAutoscaler"
        )
    if [one.get("name") for one in spec.get("recommenders") or []] != [NAME]:
        raise BackendError(
            f"{of.words}: the VerticalPodAutoscaler {of.vpa!r} has another recommender; give it spec.recommenders:"
            f" [{{name: {NAME}}}]"
        )


def _status(of: Managed, deployment: Object, vpa: Object, setting: Setting, *, confident: bool) -> Object | None:
    """The status to write; None where it is there."""
    share = Share.of(amounts.resources_of(amounts.template(deployment), of.container))
    limits = Amount.meant(setting.cpu_cores, setting.memory_mib)
    wanted = Amount(*(max(1, round(whole * part)) for whole, part in zip(limits, share, strict=True) if whole))
    target = _capped(wanted, vpa, of.container)
    recommended = {
        "containerName": of.container,
        "target": target.texts(),
        "lowerBound": _capped(_times(target, 1 - TOLERANCE), vpa, of.container).texts(),
        "upperBound": _capped(_times(target, 1 + TOLERANCE), vpa, of.container).texts(),
        "uncappedTarget": wanted.texts(),
    }
    now = vpa.get("status") or {}
    said = {"RecommendationProvided": True, "LowConfidence": not confident}
    there = {one.get("type"): one for one in now.get("conditions") or []}
    conditions = [_condition(name, value, there.get(name)) for name, value in said.items()]
    conditions += [one for name, one in there.items() if name not in said]
    status = {"recommendation": {"containerRecommendations": [recommended]}, "conditions": conditions}
    return None if all(now.get(name) == value for name, value in status.items()) else status


def _condition(name: str, value: bool, before: Mapping[str, Any] | None) -> Object:
    """A condition; the time is that of its last change."""
    text = str(value)
    if before is not None and before.get("status") == text:
        return dict(before)
    return {
        "type": name,
        "status": text,
        "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _times(amount: Amount, factor: float) -> Amount:
    return Amount(*(None if of is None else max(1, round(of * factor)) for of in amount))


def _capped(amount: Amount, vpa: Object, container: str) -> Amount:
    """Within what the object allows for a container."""
    policies = ((vpa.get("spec") or {}).get("resourcePolicy") or {}).get("containerPolicies") or []
    named = [one for one in policies if one.get("containerName") == container]
    policy: Mapping[str, Any] = next(iter(named or [one for one in policies if one.get("containerName") == "*"]), {})
    least, most = Amount.of(policy.get("minAllowed")), Amount.of(policy.get("maxAllowed"))
    return Amount(*(_between(*of) for of in zip(amount, least, most, strict=True)))


def _between(value: int | None, least: int | None, most: int | None) -> int | None:
    if value is None:
        return None
    value = value if most is None else min(value, most)
    return value if least is None else max(value, least)
