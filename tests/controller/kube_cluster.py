"""What controllers and nodes of a cluster do, on the double: a Deployment's pods, rollouts, and resizing in place."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

from kube_api import KubeApi
from kube_store import Key, Object, now

DIGEST = "registry.example/shop/web@sha256:" + "a" * 64


class Cluster:
    """Acts on every change of the double, at once.

    Args:
        api: the double.
        node: what is said of a resize: `done`, `Deferred` or `Infeasible`.
        rollouts: whether new pods become ready.
    """

    def __init__(self, api: KubeApi) -> None:
        self.api, self.node, self.rollouts = api, "done", True
        self.digest = DIGEST
        self._made = 0
        api.store.hooks.append(self._react)

    def deploy(
        self,
        name: str = "web",
        namespace: str = "shop",
        *,
        replicas: int = 2,
        limits: dict[str, str] | None = None,
        requests: dict[str, str] | None = None,
        **spec: Any,
    ) -> Object:
        """Make a Deployment with a side-car, and its pods."""
        limits = {"cpu": "500m", "memory": "512Mi"} if limits is None else limits
        resources = {"limits": limits, "requests": limits if requests is None else requests}
        side = {"limits": {"cpu": "100m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}}
        containers = [
            {"name": "app", "image": "shop/web:1", "resources": resources},
            {"name": "proxy", "image": "proxy:1", "resources": side},
        ]
        labels = {"app": name}
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
                **spec,
            },
        }
        return self.api.put(body)

    def pods(self, name: str = "web", namespace: str = "shop") -> list[Object]:
        """Of a Deployment, the oldest first."""
        there = self.api.store.all(self.api.store.resources["pods"], namespace)
        mine = [one for one in there if one["metadata"]["labels"].get("app") == name]
        return sorted(mine, key=lambda one: int(one["metadata"]["labels"]["n"]))

    def limits(self, name: str = "web") -> list[dict[str, str]]:
        """Of the first container of each pod."""
        return [one["spec"]["containers"][0]["resources"]["limits"] for one in self.pods(name)]

    def kill(self, pod: Object, restarts: int = 1) -> None:
        """Let the first container of a pod run out of memory."""
        ended = {"reason": "OOMKilled", "containerID": f"containerd://{pod['metadata']['uid']}-{restarts}"}
        found = copy.deepcopy(pod["status"])
        found["containerStatuses"][0] |= {"restartCount": restarts, "lastState": {"terminated": ended}}
        self.api.change("pods", "shop", pod["metadata"]["name"], {"status": found}, "status")

    def _react(self, what: str, key: Key, body: Object) -> None:
        if what == "DELETED":
            return
        if key[0] == "deployments.apps":
            self._deployment(body)
        elif key[0] == "pods":
            self._pod(body)

    def _deployment(self, deployment: Object) -> None:
        meta, spec = deployment["metadata"], deployment["spec"]
        before = deployment.get("status", {})
        if before.get("observedGeneration") == meta["generation"]:
            return
        mark = hashlib.sha256(json.dumps(spec["template"], sort_keys=True).encode()).hexdigest()[:8]
        there = self.pods(meta["name"], meta["namespace"])
        new = [one for one in there if one["metadata"]["labels"]["pod-template-hash"] == mark]
        old = [one for one in there if one not in new]
        count = spec.get("replicas", 1)
        for pod in new[count:]:
            self.api.store.delete(self.api.store.resources["pods"], meta["namespace"], pod["metadata"]["name"])
        for _ in range(count - len(new)):
            self._start(deployment, mark)
        if self.rollouts or not new:
            for pod in old if self.rollouts else []:
                self.api.store.delete(self.api.store.resources["pods"], meta["namespace"], pod["metadata"]["name"])
        kept = 0 if self.rollouts else len(old)
        ready = count if self.rollouts or not old else kept
        status = {
            "observedGeneration": meta["generation"],
            "replicas": count + kept,
            "updatedReplicas": count,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "conditions": [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}],
        }
        self.api.change("deployments.apps", meta["namespace"], meta["name"], {"status": status}, "status")

    def stall(self, name: str = "web") -> None:
        """Let a Deployment's rollout pass its deadline."""
        late = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
        self.api.change("deployments.apps", "shop", name, {"status": {"conditions": late}}, "status")

    def _start(self, deployment: Object, mark: str) -> None:
        """A pod of the template, which runs at once."""
        self._made += 1
        meta, template = deployment["metadata"], deployment["spec"]["template"]
        labels = {**template["metadata"]["labels"], "pod-template-hash": mark, "n": str(self._made)}
        owner = {"kind": "ReplicaSet", "name": f"{meta['name']}-{mark}", "controller": True}
        spec = copy.deepcopy(template["spec"])
        for one in spec["containers"]:  # as the server does
            part = one.setdefault("resources", {})
            part["requests"] = {**part.get("limits", {}), **part.get("requests", {})}
        statuses = [
            {"name": one["name"], "imageID": self.digest, "resources": one["resources"], "restartCount": 0}
            for one in spec["containers"]
        ]
        self.api.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{meta['name']}-{mark}-{self._made:05d}",
                    "namespace": meta["namespace"],
                    "labels": labels,
                    "ownerReferences": [owner],
                },
                "spec": spec,
                "status": {"phase": "Running", "containerStatuses": statuses, "startTime": now()},
            }
        )

    def _pod(self, pod: Object) -> None:
        """What the node makes of a resize."""
        status = copy.deepcopy(pod.get("status") or {})
        wanted = {one["name"]: one["resources"] for one in pod["spec"]["containers"]}
        actual = {one["name"]: one["resources"] for one in status.get("containerStatuses", [])}
        waits = [one for one in status.get("conditions", []) if one["type"] == "PodResizePending"]
        if wanted == actual and not waits:
            return
        others = [one for one in status.get("conditions", []) if one["type"] != "PodResizePending"]
        if wanted != actual and self.node != "done":
            said = {"type": "PodResizePending", "status": "True", "reason": self.node}
            status["conditions"] = [*others, said]
        else:
            status["conditions"] = others
            for one in status["containerStatuses"]:
                one["resources"] = wanted[one["name"]]
        meta = pod["metadata"]
        self.api.change("pods", meta["namespace"], meta["name"], {"status": status}, "status")
