"""Where Deployments and pods are read from: the API server, or a copy that watches keep up to date.

Enters: names. Leaves: objects. A thousand deployments cost three watches in place of two thousand requests a step; what
is to be changed is never read from here but afresh.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol, runtime_checkable

from flashfm.controller.kube.amounts import deployment_of
from flashfm.controller.kube.api import DEPLOYMENTS, PODS, Api, Kind, Object
from flashfm.controller.kube.faults import RefusedError
from flashfm.controller.web import one_line
from flashfm.errors import BackendError

log = logging.getLogger("flashfm.controller")
GONE = 410
"""The status of a version that the server knows no more."""
LONGER = 30.0
"""How many times as long as the first a pause between two tries of a watch may get."""


@runtime_checkable
class Reader(Protocol):
    """Reads what is observed."""

    def deployment(self, namespace: str, name: str) -> Object:
        """A Deployment.

        Raises:
            BackendError: it is not there, or cannot be read.
        """

    def pods(self, deployment: Object) -> list[Object]:
        """The pods of its ReplicaSets, those that end too.

        Raises:
            BackendError: they cannot be read.
        """


class Direct:
    """Asks the API server each time.

    Args:
        api: of the cluster.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    def deployment(self, namespace: str, name: str) -> Object:
        """As `Reader`."""
        return self._api.get(DEPLOYMENTS, namespace, name)

    def pods(self, deployment: Object) -> list[Object]:
        """As `Reader`."""
        meta = deployment["metadata"]
        there, _ = self._api.list(PODS, meta["namespace"], _selector(deployment))
        return [pod for pod in there if deployment_of(pod) == meta["name"]]


class Watched:
    """The objects of one kind, kept up to date by a thread of its own.

    Args:
        api: of the cluster.
        kind: the resource.
        namespaces: whose objects; all if empty.
        key: under which an object is found; None for one that is not kept.
    """

    def __init__(
        self, api: Api, kind: Kind, namespaces: Sequence[str] = (), key: Callable[[Object], Hashable] | None = None
    ) -> None:
        self.kind, self._api = kind, api
        self._key = key or _name
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._scopes: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._known: dict[str | None, dict[str, Object]] = {}
        self._by_key: dict[Hashable, dict[str, Object]] = defaultdict(dict)
        self._heard_s: dict[str | None, float] = {}
        self._said: dict[str | None, str] = {}
        self._threads = [
            threading.Thread(target=self._keep, args=(scope,), daemon=True, name=f"watch-{kind.plural}-{scope}")
            for scope in self._scopes
        ]

    def start(self) -> None:
        """Begin to watch."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; what is open ends within the length of a watch."""
        self._stop.set()

    def trouble(self) -> str | None:
        """Why what is known may be old, in one phrase; None where it is up to date."""
        oldest_s = 3 * self._api.config.watch_s
        with self._lock:
            for scope in self._scopes:
                age_s = time.monotonic() - self._heard_s.get(scope, -oldest_s)
                if scope not in self._known or age_s > oldest_s:
                    known = "are not known yet" if scope not in self._known else f"were last heard of {age_s:.0f} s ago"
                    why = self._said.get(scope, "")
                    return f"{self.kind.plural} {known}" + (why and f": {why}")
        return None

    def of(self, key: Hashable) -> list[Object]:
        """The objects of a key; they must not be changed.

        Raises:
            BackendError: what is known may be old.
        """
        if (trouble := self.trouble()) is not None:
            raise BackendError(trouble)
        with self._lock:
            return list(self._by_key.get(key, {}).values())

    def all(self) -> list[Object]:
        """All objects, however old; they must not be changed."""
        with self._lock:
            return [one for scope in self._known.values() for one in scope.values()]

    def _keep(self, scope: str | None) -> None:
        """List, then watch, until told to stop."""
        version, pause_s = "", 0.0
        while not self._stop.wait(pause_s):
            try:
                if not version:
                    there, version = self._api.list(self.kind, scope)
                    self._replace(scope, there)
                for event in self._api.watch(self.kind, scope, version):
                    version = self._take(scope, event)
                    if self._stop.is_set():
                        return
                self._hear(scope)
                pause_s = 0.0
            except (RefusedError, LookupError, TypeError, AttributeError) as error:
                status, said = error.status if isinstance(error, RefusedError) else GONE, str(error)
                if not isinstance(error, RefusedError):
                    said = f"{self.kind.plural}: an object is not understood: {one_line(repr(error))}"
                version = "" if status == GONE else version
                first_s = self._api.config.pause_s
                pause_s = min(max(2 * pause_s, first_s), LONGER * first_s) if version or pause_s else first_s / 10
                with self._lock:
                    self._said[scope] = said
                log.warning("%s", said)

    def _hear(self, scope: str | None) -> None:
        with self._lock:
            self._heard_s[scope] = time.monotonic()
            self._said.pop(scope, None)

    def _replace(self, scope: str | None, there: list[Object]) -> None:
        with self._lock:
            for one in self._known.get(scope, {}).values():
                self._drop(one)
            self._known[scope] = {}
            for one in there:
                self._put(scope, one)
        self._hear(scope)

    def _take(self, scope: str | None, event: Object) -> str:
        """Note an event; gives the version that it brings.

        Raises:
            RefusedError: the event is an error.
        """
        what, one = event.get("type"), event.get("object") or {}
        if what == "ERROR":
            raise RefusedError(
                f"watch of {self.kind.plural}: {one.get('message', 'ended')!s:.200}", int(one.get("code") or 0)
            )
        if what != "BOOKMARK":
            with self._lock:
                before = self._known[scope].pop(_uid(one), None)
                if before is not None:
                    self._drop(before)
                if what in ("ADDED", "MODIFIED"):
                    self._put(scope, one)
        self._hear(scope)
        return str(one["metadata"]["resourceVersion"])

    def _put(self, scope: str | None, one: Object) -> None:
        key = self._key(one)
        if key is not None:
            one["metadata"].pop("managedFields", None)
            self._known[scope][_uid(one)] = one
            self._by_key[key][_uid(one)] = one

    def _drop(self, one: Object) -> None:
        key = self._key(one)
        self._by_key[key].pop(_uid(one), None)
        if not self._by_key[key]:
            del self._by_key[key]


class Cluster:
    """Deployments and pods that are watched.

    Args:
        api: of the cluster.
        namespaces: whose; all if empty.
    """

    def __init__(self, api: Api, namespaces: Sequence[str] = ()) -> None:
        self.deployments = Watched(api, DEPLOYMENTS, namespaces)
        self.all_pods = Watched(api, PODS, namespaces, _owner)

    def start(self) -> None:
        """Begin to watch."""
        for one in (self.deployments, self.all_pods):
            one.start()

    def stop(self) -> None:
        """End; what is open ends within the length of a watch."""
        for one in (self.deployments, self.all_pods):
            one.stop()

    def trouble(self) -> str | None:
        """As `Watched`."""
        return self.deployments.trouble() or self.all_pods.trouble()

    def deployment(self, namespace: str, name: str) -> Object:
        """As `Reader`."""
        found = self.deployments.of((namespace, name))
        if not found:
            raise BackendError(f"{namespace}/{name}: no such Deployment; see spec.targetRef.name")
        return found[0]

    def pods(self, deployment: Object) -> list[Object]:
        """As `Reader`."""
        meta = deployment["metadata"]
        return self.all_pods.of((meta["namespace"], meta["name"]))


def _name(one: Object) -> Hashable:
    return one["metadata"].get("namespace"), one["metadata"]["name"]


def _owner(pod: Object) -> Hashable:
    """The Deployment that a pod belongs to; None for other pods."""
    name = deployment_of(pod)
    return None if name is None else (pod["metadata"]["namespace"], name)


def _uid(one: Object) -> str:
    return str(one["metadata"]["uid"])


def _selector(deployment: Object) -> str:
    """A Deployment's selector, as a query."""
    selector = (deployment.get("spec") or {}).get("selector") or {}
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or []:
        key, how, values = one["key"], one["operator"], ",".join(one.get("values") or [])
        parts.append(
            {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}.get(how, f"!{key}")
        )
    return ",".join(parts)
