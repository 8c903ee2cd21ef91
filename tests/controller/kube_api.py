"""A double of the Kubernetes API over real HTTP, for the controller's client and for `kubectl`.

GET, LIST with pages, WATCH with bookmarks and 410, POST, PUT, PATCH of three kinds, DELETE, `status`, `scale` and
`resize`, discovery, tables, and faults that are injected. Every request is noted with its verb and resource, as RBAC
names them.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from kube_store import Object, Refusal, Resource, Store, json_patch, merge, selects, strategic

KUBECTL = "kubectl"


@dataclass
class Asked:
    """One request."""

    verb: str
    resource: str
    """`plural`, or `plural/subresource`; "" for what is no resource."""
    group: str
    namespace: str
    name: str
    agent: str
    authorization: str = ""
    body: Any = None
    status: int = 0


@dataclass
class Fault:
    """What goes wrong with requests."""

    verb: str
    resource: str
    status: int = 0
    """0 lets the request through, late."""
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    slow_s: float = 0.0
    before: Callable[[], None] | None = None
    """Called before the request is carried out."""
    message: str = "injected"


class KubeApi:
    """A server on loopback; a context manager."""

    def __init__(self, version: str = "1.35") -> None:
        self.store = Store()
        self.version = version
        self.asked: list[Asked] = []
        self.faults: list[Fault] = []
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"api": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> KubeApi:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        with self.store.changed:
            self.store.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def put(self, body: Object) -> Object:
        """Make an object, without a request."""
        group, _, version = body["apiVersion"].rpartition("/")
        of = next(
            one
            for one in self.store.resources.values()
            if (one.group, one.version, one.kind) == (group, version, body["kind"])
        )
        return self.store.create(of, body["metadata"].get("namespace", "") if of.namespaced else "", body)

    def get(self, name: str, namespace: str, of: str) -> Object:
        """An object, without a request."""
        return self.store.get(self.store.resources[name], namespace, of)

    def change(self, name: str, namespace: str, of: str, by: Object, sub: str = "") -> Object:
        """Merge a patch into an object, without a request."""
        return self.store.change(self.store.resources[name], namespace, of, sub, lambda now: merge(now, by))

    def fault(self, verb: str, resource: str, status: int = 0, **how: Any) -> None:
        """Let the next requests go wrong."""
        self.faults.append(Fault(verb, resource, status, **how))

    def sent(self, *verbs: str, agent: str = "flashfm/") -> list[Asked]:
        """What our client asked for, by verb."""
        return [one for one in self.asked if one.verb in verbs and one.agent.startswith(agent)]

    def kubeconfig(self, path: Path) -> Path:
        """Write one for this server."""
        named = {"name": "double", "cluster": {"server": self.url}}
        user = {"name": "tester", "user": {"token": "s3cret-token"}}
        context = {"name": "double", "context": {"cluster": "double", "user": "tester", "namespace": "default"}}
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [named],
                    "users": [user],
                    "contexts": [context],
                    "current-context": "double",
                }
            )
        )
        return path


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away; anything else is a bug of the double."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    api: KubeApi
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("get")

    def do_POST(self) -> None:
        self._answer("create")

    def do_PUT(self) -> None:
        self._answer("update")

    def do_PATCH(self) -> None:
        self._answer("patch")

    def do_DELETE(self) -> None:
        self._answer("delete")

    def _answer(self, verb: str) -> None:
        url = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        who = (self.headers.get(name, "") for name in ("User-Agent", "Authorization"))
        asked = Asked(verb, "", "", "", "", *who, body, 200)
        self.api.asked.append(asked)
        try:
            parts = [unquote(part) for part in url.path.strip("/").split("/")]
            found = self._discovered(parts)
            if found is None:
                found = self._served(parts, asked)
            if found is not None:
                self._send(201 if verb == "create" else 200, found)
        except Refusal as refusal:
            asked.status = refusal.code
            self._refuse(refusal)
        except ConnectionError:
            self.close_connection = True

    def _served(self, parts: list[str], asked: Asked) -> Object | None:
        """The answer about a resource; None where it has been sent."""
        group = "" if parts[0] == "api" else parts[1]
        version, *rest = parts[1:] if parts[0] == "api" else parts[2:]
        namespace = rest.pop(1) if rest[:1] == ["namespaces"] and len(rest) > 2 else ""
        if namespace:
            del rest[0]
        plural, name, sub = (*rest, "", "")[:3]
        asked.group, asked.namespace, asked.name = group, namespace, name
        asked.resource = f"{plural}/{sub}" if sub else plural
        if asked.verb == "get" and not name:
            asked.verb = "watch" if self.query.get("watch") in ("true", "1") else "list"
        self._fail(asked)
        of = self.api.store.find(group, version, plural)
        too_old = sub == "resize" and tuple(map(int, self.api.version.split("."))) < (1, 33)
        if sub and (sub not in of.subresources or too_old):
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        if asked.verb == "watch":
            self._watch(of, namespace)
            return None
        return self._done(of, asked, sub)

    def _done(self, of: Resource, asked: Asked, sub: str) -> Object:
        store, namespace, name = self.api.store, asked.namespace, asked.name
        if asked.verb == "list":
            return self._list(of, namespace)
        if asked.verb == "create":
            return store.create(of, namespace, asked.body)
        if asked.verb == "delete":
            return store.delete(of, namespace, name)
        if asked.verb == "get":
            with store.changed:
                found = store.get(of, namespace, name)
            return scale(found) if sub == "scale" else self._shown(of, [found]) or found
        patch = {
            "application/json-patch+json": json_patch,
            "application/merge-patch+json": merge,
            "application/strategic-merge-patch+json": strategic,
        }.get(self.headers.get("Content-Type", "").split(";")[0], lambda _, body: body)
        if patch is strategic and of.schema is not None:
            raise Refusal(415, "UnsupportedMediaType", "strategic merge patch is not supported for custom resources")

        def make(now: Object) -> Object:
            if sub != "scale":
                return patch(now, asked.body)
            wanted = patch(scale(now), asked.body)
            now["metadata"]["resourceVersion"] = wanted["metadata"].get("resourceVersion")
            now["spec"]["replicas"] = wanted["spec"].get("replicas", 0)
            return now

        after = store.change(of, namespace, name, sub, make)
        return scale(after) if sub == "scale" else after

    def _list(self, of: Resource, namespace: str) -> Object:
        store = self.api.store
        with store.changed:
            there = [one for one in store.all(of, namespace) if self._selected(one)]
            version = str(store.version)
        if (table := self._shown(of, there)) is not None:
            return table
        begin, limit = int(self.query.get("continue", 0)), int(self.query.get("limit", 0)) or len(there)
        meta = {"resourceVersion": version}
        if begin + limit < len(there):
            meta["continue"] = str(begin + limit)
        return {
            "kind": f"{of.kind}List",
            "apiVersion": of.api_version,
            "metadata": meta,
            "items": there[begin : begin + limit],
        }

    def _selected(self, one: Object) -> bool:
        field_ = self.query.get("fieldSelector", "")
        named = (
            not field_.startswith("metadata.name=") or field_.removeprefix("metadata.name=") == one["metadata"]["name"]
        )
        return named and selects(self.query.get("labelSelector", ""), one["metadata"].get("labels", {}))

    def _watch(self, of: Resource, namespace: str) -> None:
        store = self.api.store
        version = int(self.query.get("resourceVersion") or 0) or store.version
        end_s = time.monotonic() + float(self.query.get("timeoutSeconds", 60))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        while not self.api.closing.is_set() and time.monotonic() < end_s:
            with store.changed:
                try:
                    events = list(store.since(version, of, namespace))
                except Refusal as refusal:
                    self._chunk({"type": "ERROR", "object": _status(refusal)})
                    break
                if not events:
                    store.changed.wait(min(0.2, max(0.0, end_s - time.monotonic())))
            for version, what, body in events:  # noqa: B007 - the last one counts
                if self._selected(body):
                    self._chunk({"type": what, "object": body})
        else:
            meta = {"resourceVersion": str(version)}
            self._chunk(
                {"type": "BOOKMARK", "object": {"kind": of.kind, "apiVersion": of.api_version, "metadata": meta}}
            )
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _chunk(self, event: Object) -> None:
        data = json.dumps(event).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _fail(self, asked: Asked) -> None:
        """Carry out an injected fault, if one fits."""
        for fault in self.api.faults:
            if fault.times > 0 and fault.verb in (asked.verb, "*") and fault.resource in (asked.resource, "*"):
                fault.times -= 1
                if fault.before is not None:
                    fault.before()
                self.api.closing.wait(fault.slow_s)
                if fault.status:
                    raise Refusal(fault.status, "Injected", fault.message, fault.headers)
                return

    def _discovered(self, parts: list[str]) -> Object | None:
        """The answer about what there is; None for a question about a resource."""
        major, minor = self.api.version.split(".")
        served = self.api.store.resources.values()
        groups = sorted({(one.group, one.version) for one in served if one.group})
        if parts == ["version"]:
            return {"major": major, "minor": minor, "gitVersion": f"v{major}.{minor}.0", "platform": "linux/amd64"}
        if parts == ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        if parts == ["apis"]:
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*one) for one in groups]}
        if parts[0] == "apis" and len(parts) == 3:
            return _resources(f"{parts[1]}/{parts[2]}", [o for o in served if (o.group, o.version) == (*parts[1:],)])
        if parts == ["api", "v1"]:
            return _resources("v1", [one for one in served if not one.group])
        if parts[0] not in ("api", "apis"):
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        return None

    def _shown(self, of: Resource, there: list[Object]) -> Object | None:
        """A table, where one is asked for."""
        if not of.columns or "as=Table" not in self.headers.get("Accept", ""):
            return None
        columns = [{"name": "Name", "type": "string", "jsonPath": ".metadata.name"}, *of.columns]
        partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        rows = [
            {
                "cells": [_at(one, column["jsonPath"]) for column in columns],
                "object": {**partial, "metadata": one["metadata"]},
            }
            for one in there
        ]
        heads = [{k: v for k, v in column.items() if k != "jsonPath"} | {"format": ""} for column in columns]
        return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": heads, "rows": rows}

    def _refuse(self, refusal: Refusal) -> None:
        self._send(refusal.code, _status(refusal), refusal.headers)

    def _send(self, code: int, body: Object, headers: dict[str, str] | None = None) -> None:
        with self.api.store.changed:
            data = json.dumps(body).encode()
        self.send_response(code)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()


def scale(deployment: Object) -> Object:
    """Its `scale`."""
    meta = {name: deployment["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
    count = deployment.get("status", {}).get("replicas", 0)
    spec = {"replicas": deployment["spec"].get("replicas", 1)}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta,
        "spec": spec,
        "status": {"replicas": count},
    }


def _status(refusal: Refusal) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": refusal.code,
        "reason": refusal.reason,
        "message": refusal.message,
    }


def _group(group: str, version: str) -> Object:
    of = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [of], "preferredVersion": of}


def _resources(version: str, there: list[Resource]) -> Object:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    found = []
    for one in there:
        of = {"namespaced": one.namespaced, "kind": one.kind, "singularName": one.kind.lower(), "verbs": verbs}
        found.append({**of, "name": one.plural, "shortNames": list(one.short)})
        found += [{**of, "name": name} for name in (f"{one.plural}/{sub}" for sub in one.subresources)]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": found}


def _at(one: Object, path: str) -> Any:
    """The value at a path of names; None where there is none."""
    value: Any = one
    for part in path.strip(".").split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
