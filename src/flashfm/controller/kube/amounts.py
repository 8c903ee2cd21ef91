"""CPU and memory of containers as Kubernetes writes them, and what of pods and Deployments the controller reads. Pure.

Enters: objects of the API, which may be anything that passed its validation. Leaves: whole millicores and bytes, and
resources to be set. Nothing is evaluated, and a text that is no quantity is as good as none.

Requests follow limits in the proportion that the team has chosen, so a pod's quality-of-service class never changes:
what was equal stays equal, and what was less stays less.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flashfm.controller.web import one_line

MIB = 1 << 20
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{0,9})?)(m|k|M|G|T|Ki|Mi|Gi|Ti|e[0-9])?")
_POWERS = {"m": 1e-3, "": 1.0, **{of: 10.0 ** (3 * i + 3) for i, of in enumerate("kMGT")}}
_POWERS |= {f"{of}i": float(1 << (10 * i + 10)) for i, of in enumerate("KMGT")}


def quantity(text: object) -> float | None:
    """A quantity of Kubernetes; None where it is none, or none of a size that is met in practice."""
    found = _QUANTITY.fullmatch(str(text)[:40])
    if found is None:
        return None
    number, unit = found[1], found[2] or ""
    return float(number) * (10.0 ** int(unit[1:]) if unit.startswith("e") else _POWERS[unit])


class Amount(NamedTuple):
    """CPU and memory of one replica; None where nobody says."""

    millicores: int | None
    bytes: int | None

    @classmethod
    def of(cls, resources: Mapping[str, Any] | None) -> Amount:
        """Of `limits` or `requests` of a container."""
        cpu, memory = (quantity((resources or {}).get(name)) for name in ("cpu", "memory"))
        return cls(None if cpu is None else round(1000 * cpu), None if memory is None else round(memory))

    @classmethod
    def meant(cls, cpu_cores: float, memory_mib: float) -> Amount:
        """As a setting asks: at least as much, in whole units."""
        return cls(math.ceil(1000 * cpu_cores - 1e-6), math.ceil(memory_mib * MIB - 1e-3))

    def holds(self, other: Amount) -> bool:
        """Whether it is at least as much of both as another one; what nobody says is nothing."""
        return all((mine or 0) >= (its or 0) for mine, its in zip(self, other, strict=True))

    def texts(self) -> dict[str, str]:
        """As Kubernetes reads it; what nobody says is left out."""
        found = {} if self.millicores is None else {"cpu": f"{self.millicores}m"}
        if self.bytes is None:
            return found
        whole = f"{self.bytes // MIB}Mi" if self.bytes % MIB == 0 else str(self.bytes)
        return {**found, "memory": whole}


class Share(NamedTuple):
    """Requests as a share of limits, in (0, 1]."""

    cpu: float
    memory: float

    @classmethod
    def of(cls, resources: Mapping[str, Any] | None) -> Share:
        """Of a container's resources; where no request is said, it is the limit, as for Kubernetes."""
        limits, requests = (Amount.of((resources or {}).get(name)) for name in ("limits", "requests"))
        return cls(*(_share(part, whole) for part, whole in zip(requests, limits, strict=True)))

    def resources(self, limits: Amount) -> dict[str, dict[str, str]]:
        """Limits and requests to be set."""
        parts = [_part(whole, share) for whole, share in zip(limits, self, strict=True)]
        return {"limits": limits.texts(), "requests": Amount(*parts).texts()}


def _share(part: int | None, whole: int | None) -> float:
    return 1.0 if part is None or not whole or part >= whole else max(part / whole, 1e-3)


def _part(whole: int | None, share: float) -> int | None:
    return whole if whole is None or share == 1.0 else min(max(1, round(whole * share)), whole - 1)


def template(deployment: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its pod template."""
    found = (deployment.get("spec") or {}).get("template")
    return found if isinstance(found, dict) else {}


def resources_of(pod: Mapping[str, Any], container: str) -> Mapping[str, Any] | None:
    """Resources of a container of a pod or template; None where it has no such container."""
    for one in (pod.get("spec") or {}).get("containers") or []:
        if one.get("name") == container:
            return one.get("resources") or {}
    return None


def limits_of(pod: Mapping[str, Any], container: str) -> Mapping[str, Any]:
    """Its limits; empty where it has none."""
    return (resources_of(pod, container) or {}).get("limits") or {}


def status_of(pod: Mapping[str, Any], container: str) -> Mapping[str, Any]:
    """What the node says of a container; empty where it says nothing yet."""
    for one in (pod.get("status") or {}).get("containerStatuses") or []:
        if one.get("name") == container:
            return one if isinstance(one, dict) else {}
    return {}


def actual(pod: Mapping[str, Any], container: str) -> Amount:
    """Limits that a container really has; those that it is to have where the node does not say."""
    said = (status_of(pod, container).get("resources") or {}).get("limits")
    return Amount.of(limits_of(pod, container) if said is None else said)


def deployment_of(pod: Mapping[str, Any]) -> str | None:
    """Name of the Deployment that a pod belongs to, from its ReplicaSet's; None where it belongs to none."""
    meta = pod.get("metadata") or {}
    mark = (meta.get("labels") or {}).get("pod-template-hash")
    for owner in meta.get("ownerReferences") or []:
        name = str(owner.get("name", ""))
        if owner.get("kind") == "ReplicaSet" and owner.get("controller") and mark and name.endswith(f"-{mark}"):
            return name.removesuffix(f"-{mark}")
    return None


def living(pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that serve or start, the oldest first."""
    there = [
        pod
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp")
        and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    ]
    return sorted(there, key=lambda pod: (str(pod["metadata"].get("creationTimestamp")), str(pod["metadata"]["name"])))


def image(pods: Sequence[Mapping[str, Any]], container: str) -> str:
    """Digest of what the newest pod that has begun runs; "" where none has."""
    found = (str(status_of(pod, container).get("imageID") or "") for pod in reversed(pods))
    return one_line(next(filter(None, found), ""))


def kills(pods: Sequence[Mapping[str, Any]], container: str) -> Iterator[tuple[str, str]]:
    """Containers that ended for memory, each known by its pod and itself, whatever clocks say."""
    for pod in pods:
        status = status_of(pod, container)
        for when in ("state", "lastState"):
            ended = (status.get(when) or {}).get("terminated") or {}
            if ended.get("reason") == "OOMKilled":
                yield str(pod["metadata"].get("uid")), str(ended.get("containerID") or ended.get("finishedAt"))
