"""What a Kubernetes API server keeps: objects with versions, patches of three kinds, and schemas of custom resources.

The rules are those of the real server, as far as the controller and `kubectl` can tell the difference: conflicts of
resourceVersion, generations, subresources that change only their part, pruning, defaults and validation by a CRD's
schema, pods whose resources change through `resize` alone and whose quality-of-service class never does.
"""

from __future__ import annotations

import copy
import itertools
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jsonschema

Object = dict[str, Any]
Key = tuple[str, str, str]
"""Resource as `plural.group`, namespace, name."""


class Refusal(Exception):
    """An answer other than success."""

    def __init__(self, code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.headers = code, reason, message, headers or {}


@dataclass
class Resource:
    """A resource that is served."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    subresources: tuple[str, ...] = ()
    schema: Object | None = None
    columns: list[Object] = field(default_factory=list)
    short: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


def builtin() -> list[Resource]:
    rbac = "rbac.authorization.k8s.io"
    return [
        Resource("", "v1", "namespaces", "Namespace", namespaced=False),
        Resource("", "v1", "pods", "Pod", subresources=("status", "resize"), short=("po",)),
        Resource("", "v1", "events", "Event"),
        Resource("", "v1", "services", "Service"),
        Resource("", "v1", "serviceaccounts", "ServiceAccount"),
        Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
        Resource("apps", "v1", "deployments", "Deployment", subresources=("status", "scale"), short=("deploy",)),
        Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
        Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
        *(Resource(rbac, "v1", f"{kind.lower()}s", kind) for kind in ("Role", "RoleBinding")),
        *(Resource(rbac, "v1", f"{kind.lower()}s", kind, False) for kind in ("ClusterRole", "ClusterRoleBinding")),
        Resource(
            "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False, short=("crd",)
        ),
    ]


class Store:
    """Objects, and what became of them."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.resources = {one.name: one for one in builtin()}
        self.objects: dict[Key, Object] = {}
        self.history: list[tuple[int, str, Key, Object]] = []
        self.oldest = 0
        self.hooks: list[Callable[[str, Key, Object], None]] = []
        self._versions = itertools.count(1)
        self.version = 0

    def find(self, group: str, version: str, plural: str) -> Resource:
        name = f"{plural}.{group}" if group else plural
        found = self.resources.get(name)
        if found is None or found.version != version:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        return found

    def get(self, of: Resource, namespace: str, name: str) -> Object:
        found = self.objects.get((of.name, namespace, name))
        if found is None:
            raise Refusal(404, "NotFound", f'{of.name} "{name}" not found')
        return found

    def all(self, of: Resource, namespace: str = "") -> list[Object]:
        """Those of a namespace, or all, by name."""
        keys = sorted(key for key in self.objects if key[0] == of.name and namespace in ("", key[1]))
        return [self.objects[key] for key in keys]

    def create(self, of: Resource, namespace: str, body: Object) -> Object:
        with self.changed:
            body = copy.deepcopy(body)
            meta = body.setdefault("metadata", {})
            if "name" not in meta and meta.get("generateName"):
                meta["name"] = meta["generateName"] + uuid.uuid4().hex[:5]
            if of.namespaced:
                meta.setdefault("namespace", namespace)
            name = meta.get("name")
            if not name or (of.name, namespace, name) in self.objects:
                raise Refusal(409, "AlreadyExists", f'{of.name} "{name}" already exists')
            if "status" in of.subresources and of.schema is not None:
                body.pop("status", None)
            body = self._checked(of, body)
            body["metadata"] |= {"uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": now()}
            body |= {"kind": of.kind, "apiVersion": of.api_version}
            return self._keep("ADDED", (of.name, namespace, name), body)

    def change(self, of: Resource, namespace: str, name: str, sub: str, make: Callable[[Object], Object]) -> Object:
        """Replace an object, or the part that a subresource may change, by what `make` makes of it."""
        with self.changed:
            before = self.get(of, namespace, name)
            wanted = make(copy.deepcopy(before))
            asked = wanted["metadata"].get("resourceVersion")
            if asked and asked != before["metadata"]["resourceVersion"]:
                message = f'Operation cannot be fulfilled on {of.name} "{name}": the object has been modified; please'
                raise Refusal(409, "Conflict", f"{message} apply your changes to the latest version and try again")
            after = copy.deepcopy(before)
            if sub == "status":
                after["status"] = wanted.get("status", {})
            elif sub == "resize":
                after["spec"] = resized(before, wanted)
            else:
                after = {**wanted, "metadata": {**wanted["metadata"]}}
                if "status" in of.subresources:
                    after.pop("status", None)
                    after |= {"status": before["status"]} if "status" in before else {}
                if of.plural == "pods" and wanted["spec"] != before["spec"]:
                    raise Refusal(
                        422, "Invalid", f'Pod "{name}" is invalid: spec: Forbidden: pod updates may not change'
                    )
            after = self._checked(of, after)
            if after == before:
                return before
            spec = after.get("spec") != before.get("spec")
            after["metadata"]["generation"] = before["metadata"]["generation"] + spec
            return self._keep("MODIFIED", (of.name, namespace, name), after)

    def delete(self, of: Resource, namespace: str, name: str) -> Object:
        with self.changed:
            gone = copy.deepcopy(self.get(of, namespace, name))
            del self.objects[of.name, namespace, name]
            return self._keep("DELETED", (of.name, namespace, name), gone)

    def since(self, version: int, of: Resource, namespace: str) -> Iterator[tuple[int, str, Object]]:
        """Events after a version."""
        if version < self.oldest:
            raise Refusal(410, "Expired", f"too old resource version: {version} ({self.oldest})")
        for at, what, key, body in self.history:
            if at > version and key[0] == of.name and namespace in ("", key[1]):
                yield at, what, body

    def compact(self) -> None:
        """Forget what happened, as etcd does."""
        with self.changed:
            self.history, self.oldest = [], self.version
            self.changed.notify_all()

    def _keep(self, what: str, key: Key, body: Object) -> Object:
        self.version = next(self._versions)
        body["metadata"]["resourceVersion"] = str(self.version)
        if what != "DELETED":
            self.objects[key] = body
        self.history.append((self.version, what, key, copy.deepcopy(body)))
        if key[0] == "customresourcedefinitions.apiextensions.k8s.io" and what != "DELETED":
            self._serve(body)
        self.changed.notify_all()
        for hook in self.hooks:
            hook(what, key, body)
        return self.objects.get(key, body)

    def _serve(self, crd: Object) -> None:
        """Serve a custom resource."""
        spec, version = crd["spec"], next(one for one in crd["spec"]["versions"] if one["storage"])
        of = Resource(
            spec["group"],
            version["name"],
            spec["names"]["plural"],
            spec["names"]["kind"],
            spec["scope"] == "Namespaced",
            tuple(version.get("subresources", {})),
            version["schema"]["openAPIV3Schema"],
            version.get("additionalPrinterColumns", []),
            tuple(spec["names"].get("shortNames", ())),
        )
        self.resources[of.name] = of
        said = [{"type": of_, "status": "True", "reason": "Ok"} for of_ in ("NamesAccepted", "Established")]
        crd.setdefault("status", {"conditions": said, "acceptedNames": spec["names"], "storedVersions": [of.version]})

    def _checked(self, of: Resource, body: Object) -> Object:
        """As a schema lets it in."""
        if of.schema is None:
            return body
        schema = {**of.schema, "properties": {**of.schema["properties"], "metadata": {"type": "object"}}}
        for standard in ("apiVersion", "kind"):
            schema["properties"].setdefault(standard, {"type": "string"})
        body = pruned(body, schema)
        found = [
            f"{'.'.join(map(str, error.absolute_path))}: Invalid value: {error.message}"
            for error in jsonschema.Draft7Validator(schema).iter_errors(body)
        ]
        if found:
            name = body["metadata"].get("name")
            raise Refusal(422, "Invalid", f'{of.kind}.{of.group} "{name}" is invalid: {", ".join(found)}')
        return body


def pruned(value: Any, schema: Object) -> Any:
    """What a structural schema knows of a value, with defaults."""
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        value = {name: of for name, of in value.items() if name in known}
        value |= {
            name: copy.deepcopy(of["default"]) for name, of in known.items() if "default" in of and name not in value
        }
        return {name: pruned(of, known[name]) for name, of in value.items()}
    if isinstance(value, list) and "items" in schema:
        return [pruned(one, schema["items"]) for one in value]
    return value


def resized(before: Object, wanted: Object) -> Object:
    """A pod's spec after `resize`, which changes resources of containers and nothing else."""

    def bare(pod: Object) -> Object:
        spec = copy.deepcopy(pod["spec"])
        for one in spec["containers"]:
            one.pop("resources", None)
        return spec

    name = before["metadata"]["name"]
    if bare(before) != bare(wanted):
        raise invalid(name, "spec: Forbidden: only cpu and memory are mutable")
    if qos(before) != qos(wanted):
        raise Refusal(
            422,
            "Invalid",
            f'Pod "{name}" is invalid: spec: Invalid value: "{qos(wanted)}": Pod QOS Class may not change',
        )
    return wanted["spec"]


def invalid(pod: str, why: str) -> Refusal:
    """The refusal of a pod."""
    return Refusal(422, "Invalid", f'Pod "{pod}" is invalid: {why}')


def qos(pod: Object) -> str:
    """Quality-of-service class."""
    parts = [one.get("resources") or {} for one in pod["spec"]["containers"]]
    if not any(part.get("limits") or part.get("requests") for part in parts):
        return "BestEffort"
    whole = all(part.get("limits", {}).get(of) for part in parts for of in ("cpu", "memory"))
    same = all(part.get("requests", part.get("limits")) == part.get("limits") for part in parts)
    return "Guaranteed" if whole and same else "Burstable"


def merge(value: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    value = dict(value) if isinstance(value, dict) else {}
    for name, of in patch.items():
        if of is None:
            value.pop(name, None)
        else:
            value[name] = merge(value.get(name), of)
    return value


_MAPS = ("annotations", "labels", "limits", "requests")
"""Maps that are as good as absent where they are empty."""
_KEYS = {"containers": "name", "initContainers": "name", "env": "name", "volumes": "name", "conditions": "type"}


def strategic(value: Any, patch: Any) -> Any:
    """Strategic merge patch: lists whose elements have a key are merged by it."""
    value = dict(value) if isinstance(value, dict) else {}
    for name, of in patch.items():
        key = _KEYS.get(name)
        if of is None:
            value.pop(name, None)
        elif isinstance(of, dict):
            value[name] = strategic(value.get(name), of)
            if name in _MAPS and not value[name]:
                del value[name]
        elif isinstance(of, list) and key is not None:
            merged = {one[key]: one for one in value.get(name) or []}
            for one in of:
                if one.get("$patch") == "delete":
                    merged.pop(one[key], None)
                else:
                    merged[one[key]] = strategic(merged.get(one[key]), one)
            value[name] = list(merged.values())
        elif not name.startswith("$"):
            value[name] = of
    return value


def json_patch(value: Any, patch: list[Object]) -> Any:
    """JSON patch (RFC 6902): add, replace, remove and test."""
    for step in patch:
        *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:])
        at = value
        for part in parents:
            at = at[int(part)] if isinstance(at, list) else at[part]
        place: Any = (len(at) if last == "-" else int(last)) if isinstance(at, list) else last
        if step["op"] == "test":
            if at[place] != step["value"]:
                raise Refusal(422, "Invalid", f"testing value {step['path']} failed")
        elif step["op"] == "remove":
            del at[place]
        elif step["op"] == "add" and isinstance(at, list):
            at.insert(place, step["value"])
        else:
            at[place] = step["value"]
    return value


def selects(selector: str, labels: dict[str, str]) -> bool:
    """Whether a selector matches labels."""
    for part in filter(None, (one.strip() for one in re.split(r",(?![^(]*\))", selector))):
        if found := re.fullmatch(r"([^\s=!]+) (in|notin) \(([^)]*)\)", part):
            inside = labels.get(found[1]) in [one.strip() for one in found[3].split(",")]
            if inside != (found[2] == "in"):
                return False
        elif found := re.fullmatch(r"([^=!]+)(==?|!=)(.*)", part):
            if (labels.get(found[1]) == found[3]) != (found[2] != "!="):
                return False
        elif (part.lstrip("!") in labels) == part.startswith("!"):
            return False
    return True


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
