"""The `FlashAutoscaler` resource, read as if nobody had checked it before: what it asks for, or what is wrong with it.

Enters: an object of the API, which may be hostile. Leaves: `Wanted`, or one line for each problem. The schema is that
of the CRD that ships in `controller/manifests`; what a schema cannot say is left to `Terms` and `Bounds`. Nothing of
it is ever evaluated: texts are names of known things, or go where they can do no harm.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from flashfm.act.autoscale import Terms
from flashfm.act.guardrails import Bounds
from flashfm.controller.keeper import Target
from flashfm.controller.kube.api import Object
from flashfm.controller.kube.managed import Mode
from flashfm.controller.web import one_line
from flashfm.errors import ModelError

MOST = 8
"""Problems that are told of one resource."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_DEFAULT_ALPHA = 0.7


@dataclass(frozen=True)
class Metrics:
    """Where a resource wants its figures from."""

    source: str = "kube"
    """Name of the queries."""
    url: str | None = None
    """Of Prometheus; None for the operator's own."""
    queries: tuple[tuple[str, str], ...] = ()
    """Figures and their queries, in place of the source's."""


@dataclass(frozen=True)
class Wanted:
    """What a resource asks for."""

    target: Target
    name: str
    """Of the resource."""
    namespace: str
    uid: str
    generation: int
    created: str
    """When it was made, as the API writes it."""
    deployment: str
    container: str
    mode: Mode
    vpa: str
    metrics: Metrics
    model: str | None
    """Name of the model that must be loaded; None for whichever is."""
    digest: str | None
    """SHA-256 of its tensors, as `sha256:…`; None for whichever it is."""


def manifest(name: str) -> list[Object]:
    """The documents of a manifest that ships with the package, such as `crd`; they are the caller's own."""
    return copy.deepcopy(_documents(name))


@cache
def _documents(name: str) -> list[Object]:
    import yaml

    path = resources.files("flashfm.controller") / "manifests" / f"{name}.yaml"
    return [one for one in yaml.safe_load_all(path.read_text("utf-8")) if one]


def read(resource: Object) -> Wanted | list[str]:
    """What a resource asks for, or what is wrong with it, one line each.

    Args:
        resource: as the API server gives it.
    """
    meta = resource.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    names = [str(meta.get(part, "")) for part in ("namespace", "name")]
    problems = [f"metadata: {one_line(name)!r} is no name of Kubernetes" for name in names if not _NAME.fullmatch(name)]
    problems += _of_schema(resource)
    if problems:
        return problems[:MOST]
    spec, (namespace, name) = resource["spec"], names
    deployment, mode = spec["targetRef"]["name"], Mode(spec.get("mode", "Shadow"))
    try:
        bounds = _bounds(spec.get("bounds") or {})
        terms = Terms(spec["slo"]["p99Ms"] / 1000, float(spec.get("alpha", _DEFAULT_ALPHA)))
    except ModelError as error:
        return [f"spec: {error}"]
    metrics, model = spec.get("metrics") or {}, spec.get("model") or {}
    return Wanted(
        Target(f"{namespace}/{deployment}", terms, bounds, acting=mode is not Mode.SHADOW),
        name,
        namespace,
        str(meta.get("uid", "")),
        int(meta.get("generation") or 0),
        str(meta.get("creationTimestamp", "")),
        deployment,
        spec["container"],
        mode,
        spec.get("verticalPodAutoscaler", deployment),
        Metrics(
            metrics.get("source", "kube"), metrics.get("url"), tuple(sorted((metrics.get("queries") or {}).items()))
        ),
        model.get("name"),
        model.get("digest"),
    )


def _bounds(of: Mapping[str, Any]) -> Bounds:
    """Bounds of the operator.

    Raises:
        ModelError: in the wrong order, or a budget without room.
    """
    found: dict[str, Any] = {}
    for name, to in (("replicas", "replicas"), ("cpuCores", "cpu_cores"), ("memoryMib", "memory_mib")):
        if name in of:
            kind = int if name == "replicas" else float
            found[to] = (kind(of[name]["min"]), kind(of[name]["max"]))
    for name, to in (("budgetCores", "budget_cores"), ("budgetMemoryMib", "budget_mib")):
        if name in of:
            found[to] = float(of[name])
    return Bounds(**found)


def _of_schema(resource: Object) -> list[str]:
    """What the CRD's schema has against a resource."""
    errors = sorted(_validator().iter_errors({"spec": resource.get("spec")}), key=lambda error: str(error.json_path))
    return [f"{'.'.join(map(str, error.absolute_path))}: {one_line(error.message)}" for error in errors[:MOST]]


@cache
def _validator() -> Any:
    """Of a resource's `spec`."""
    import jsonschema  # type: ignore[import-untyped]

    def pattern(_validator: Any, wanted: str, text: Any, _schema: Any) -> Iterator[Any]:
        # `$` of Python lets a newline follow; that of the API server does not
        if isinstance(text, str) and not re.search(wanted.removesuffix("$") + r"\Z", text):
            yield jsonschema.ValidationError(f"{text[:80]!r} does not match {wanted}")

    (crd,) = manifest("crd")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = {"type": "object", "required": ["spec"], "properties": {"spec": schema["properties"]["spec"]}}
    return jsonschema.validators.extend(jsonschema.Draft7Validator, {"pattern": pattern})(spec)
