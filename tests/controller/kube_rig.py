"""A Deployment on the double, managed by the backend, with metrics that are recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from kube_api import KubeApi
from kube_cluster import Cluster

from flashfm.act.autoscale import Terms
from flashfm.act.guardrails import Setting
from flashfm.controller.keeper import Target
from flashfm.controller.kube.api import Api, ApiConfig
from flashfm.controller.kube.backend import KubernetesBackend, KubernetesConfig
from flashfm.controller.kube.managed import Managed, Mode
from flashfm.controller.sample import Sample

FAST = ApiConfig(timeout_s=1.0, longest_wait_s=1.0, watch_s=1.0, pause_s=0.1)

BIGGER = Setting(1.0, 1024.0, 2)
"""Twice as much as is deployed."""


class Recorded:
    """A source that shows a service at work; each sample differs a little, as real ones do."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []

    def sample(self, labels: Mapping[str, str], now_s: float) -> Sample:
        self.asked.append(dict(labels))
        more = 0.001 * len(self.asked)
        return Sample(now_s, None, None, None, None, 0.4 + more, 200.0, 50.0 + more, 50.0 + more, 0.1, None)


@dataclass
class Managing:
    """What a test holds."""

    kube: KubeApi
    cluster: Cluster
    api: Api
    backend: KubernetesBackend
    target: Target
    source: Recorded

    def written(self) -> list[str]:
        """What our client has asked to change, in order."""
        return [asked.resource for asked in self.kube.sent("create", "update", "patch", "delete")]

    def mode(self, mode: Mode, **other: str) -> None:
        one = self.backend.managed[self.target.name]
        self.backend.managed[self.target.name] = replace(one, mode=mode, **other)  # type: ignore[index]


@contextmanager
def managing(folder: Path, *, version: str = "1.35", config: KubernetesConfig | None = None) -> Iterator[Managing]:
    """The double with nothing on it, and a backend for `shop/web`."""
    with KubeApi(version) as kube:
        api = Api.connect(kube.kubeconfig(folder / "kubeconfig"), config=FAST)
        source, target = Recorded(), Target("shop/web", Terms(0.2), acting=True)
        managed = {target.name: Managed(target, "shop", "web", "app", Mode.ACT, source)}
        backend = KubernetesBackend(api, managed, config=config)
        yield Managing(kube, Cluster(kube), api, backend, target, source)
        api.close()
