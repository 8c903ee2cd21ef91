"""Requests to a Kubernetes API server: plain JSON in and out, bounded in time, and every fault is one line.

Enters: kinds, names and patches. Leaves: objects as the server gives them, or `RefusedError`. The official client
brings addresses, TLS and tokens from a kubeconfig or from inside the cluster, and carries the requests; nothing is
kept here but how long the server wants to be left alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from flashfm import __version__
from flashfm.controller.kube.faults import RefusedError, TooManyError, faults
from flashfm.controller.web import one_line
from flashfm.errors import ControlError

if TYPE_CHECKING:
    from kubernetes import client  # type: ignore[import-untyped]

Object = dict[str, Any]
"""An object of the API, as its JSON."""
PAGE = 500
"""Objects that are listed in one request."""
MOST_BYTES = 8 << 20
"""Of one event; etcd takes objects of 1.5 MiB."""


class Kind(NamedTuple):
    """A resource of the API."""

    group: str
    """"" for the core."""
    version: str
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None, sub: str | None = None) -> str:
        """Where its objects are, in all namespaces where none is given."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        within = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        rest = "".join(f"/{quote(part, safe='')}" for part in (name, sub) if part)
        return f"{root}{within}/{self.plural}{rest}"


DEPLOYMENTS = Kind("apps", "v1", "deployments")
PODS = Kind("", "v1", "pods")
EVENTS = Kind("", "v1", "events")
HPAS = Kind("autoscaling", "v2", "horizontalpodautoscalers")
VPAS = Kind("autoscaling.k8s.io", "v1", "verticalpodautoscalers")
AUTOSCALERS = Kind("flashfm.io", "v1alpha1", "flashautoscalers")


class Patch(StrEnum):
    """How a patch is merged."""

    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"


@dataclass(frozen=True)
class ApiConfig:
    """How long a server may take.

    Raises:
        ControlError: one of them is out of its range.
    """

    timeout_s: float = 5.0
    """For one request; above 0."""
    longest_wait_s: float = 2.0
    """That is waited where the server asks for it, before the request is sent again; at least 0."""
    longest_quiet_s: float = 60.0
    """For which nothing is sent at most where the server asks for a longer wait; at least 0."""
    tries: int = 3
    """Of one request, and of one change that another one came before; at least 1."""
    watch_s: float = 30.0
    """Length of one watch: a connection that died unseen is found after it; above 0."""
    pause_s: float = 1.0
    """Before a watch that failed is begun again, longer each time up to 30 times as long; above 0."""

    def __post_init__(self) -> None:
        fine = (
            min(self.timeout_s, self.watch_s, self.pause_s) > 0 and min(self.longest_wait_s, self.longest_quiet_s) >= 0
        )
        if not fine or self.tries < 1:
            raise ControlError(f"kubernetes: {self}; expected times above 0 and at least 1 try")


class Api:
    """One API server.

    Args:
        server: the official client.
        config: how long it may take.
    """

    def __init__(self, server: client.ApiClient, config: ApiConfig | None = None) -> None:
        self.config = config or ApiConfig()
        self._server = server
        self._server.user_agent = f"flashfm/{__version__}"
        self._quiet_until_s = 0.0

    @classmethod
    def connect(
        cls, kubeconfig: Path | None = None, context: str | None = None, config: ApiConfig | None = None
    ) -> Api:
        """The server that a kubeconfig names, or the one of the cluster that this process runs in.

        Args:
            kubeconfig: None for the usual one, where this process does not run in a cluster.
            context: of the kubeconfig; None for its current one.
            config: how long it may take.

        Raises:
            ControlError: no such file or context, or the client is not installed.
        """
        try:
            from kubernetes import client
            from kubernetes import config as sources
        except ImportError:
            raise ControlError(
                "kubernetes: its client is not installed; install it with: pip install 'flashfm[kubernetes]'"
            ) from None
        made = client.Configuration()
        made.retries = False  # what may be sent again is decided here
        made.connection_pool_maxsize = 8
        try:
            if kubeconfig is None and context is None:
                try:
                    sources.load_incluster_config(client_configuration=made)
                    return cls(client.ApiClient(made), config)
                except sources.ConfigException:
                    pass
            path = None if kubeconfig is None else str(kubeconfig)
            sources.load_kube_config(path, context, client_configuration=made, persist_config=False)
        except (sources.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
            raise ControlError(
                f"kubernetes: no cluster to connect to: {one_line(str(error))}; give --kubeconfig and --context"
            ) from None
        return cls(client.ApiClient(made), config)

    def close(self) -> None:
        """Close all connections."""
        self._server.rest_client.pool_manager.clear()

    def version(self) -> tuple[int, int]:
        """Major and minor version of the server.

        Raises:
            RefusedError: it does not tell.
        """
        told = self._json("GET", "/version")
        try:
            return int(str(told["major"])[:4]), int(str(told["minor"])[:4].rstrip("+"))
        except (KeyError, ValueError):
            raise RefusedError(f"GET /version: {one_line(str(told))} is no version of Kubernetes", 200) from None

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """One object.

        Raises:
            RefusedError: it is not there, or may not be read.
        """
        return self._json("GET", kind.path(namespace, name))

    def list(self, kind: Kind, namespace: str | None = None, selector: str = "") -> tuple[list[Object], str]:
        """All objects of a kind, and the version of the whole that they are of.

        Args:
            kind: the resource.
            namespace: None for all.
            selector: of labels.

        Raises:
            RefusedError: they may not be read.
        """
        found: list[Object] = []
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = self._json("GET", kind.path(namespace), query=query)
            found += [one for one in page.get("items") or [] if isinstance(one, dict)]
            meta = page.get("metadata") or {}
            if not meta.get("continue"):
                return found, str(meta.get("resourceVersion", ""))
            query["continue"] = str(meta["continue"])

    def patch(
        self, kind: Kind, namespace: str, name: str, body: Object, how: Patch = Patch.MERGE, sub: str | None = None
    ) -> Object:
        """Change an object, or one of its subresources.

        Raises:
            RefusedError: it was not done; `status` is 409 where it has changed since `body`'s resourceVersion.
        """
        return self._json("PATCH", kind.path(namespace, name, sub), body=body, content=how.value)

    def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        """Make an object.

        Raises:
            RefusedError: it was not done.
        """
        return self._json("POST", kind.path(namespace), body=body, content="application/json")

    def watch(self, kind: Kind, namespace: str | None, version: str) -> Iterator[Object]:
        """Events since a version, until the server ends the watch after `watch_s`.

        Raises:
            RefusedError: it may not be watched, the connection broke, or 410 where the version is too old.
        """
        seconds = self.config.watch_s
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": f"{max(1, round(seconds))}",
        }
        path = kind.path(namespace)
        response = self._send("GET", path, query=query, read_s=seconds + self.config.timeout_s)
        with faults("GET", path):
            try:
                for line in _lines(response.stream(1 << 16)):
                    yield _parsed(line)
            finally:
                response.close()

    def _json(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None, content: str = ""
    ) -> Object:
        for left in reversed(range(self.config.tries)):
            try:
                response = self._send(method, path, query=query, body=body, content=content)
                break
            except TooManyError as error:
                if left and error.wait_s <= self.config.longest_wait_s:
                    time.sleep(error.wait_s)
                    continue
                self._quiet_until_s = time.monotonic() + min(error.wait_s, self.config.longest_quiet_s)
                raise
        with faults(method, path):
            found = _parsed(response.data)
        if not isinstance(found, dict):
            raise RefusedError(f"{method} {path}: {one_line(str(found))!r} is no object", 200)
        return found

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = "",
        read_s: float | None = None,
    ) -> Any:
        """The answer, its body not yet read."""
        quiet_s = self._quiet_until_s - time.monotonic()
        if quiet_s > 0:
            raise RefusedError(
                f"{method} {path}: not sent: the API server asked for {quiet_s:.0f} s more of quiet", 429
            )
        headers = {"Accept": "application/json"} | ({"Content-Type": content} if content else {})
        with faults(method, path):
            return self._server.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=(self.config.timeout_s, read_s or self.config.timeout_s),
            )


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines of a stream.

    Raises:
        ValueError: one is longer than `MOST_BYTES`.
    """
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from filter(None, lines)
        if len(rest) > MOST_BYTES:
            raise ValueError(f"an event of more than {MOST_BYTES} bytes")


def _parsed(data: bytes) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(data, parse_constant=refuse)
