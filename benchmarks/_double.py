"""A cluster for benchmarks: the double of the Kubernetes API that the tests have, in a process of its own.

Enters: settings as one argument, then one question a line, both JSON. Leaves: one answer a line. It ends with its
standard input, so also where the benchmark was killed, and then removes the folder that it was given. It scrapes the
operator's `/metrics` once a period, as Prometheus does. `operator_scale.py` starts it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "controller"))

from kube_api import KubeApi
from kube_cluster import Cluster
from kube_store import Key, Object, Resource, Store

from flashfm.controller.kube.resource import manifest

PODS = 2
"""Of each Deployment at the beginning."""


def pin(cpu: int) -> None:
    """Keep this process on one core, with the threads that libraries have begun."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), {cpu})


class Filed(Store):
    """The same store, in which thousands of objects and events are found without a look at all of them."""

    def __init__(self) -> None:
        super().__init__()
        self._there: dict[tuple[str, str], dict[str, Object]] = defaultdict(dict)
        self._events: dict[str, list[tuple[int, str, Key, Object]]] = defaultdict(list)
        self.hooks.append(self._file)

    def all(self, of: Resource, namespace: str = "") -> list[Object]:
        if namespace:
            return [one for _, one in sorted(self._there[of.name, namespace].items())]
        keys = sorted(key for key in self._there if key[0] == of.name)
        return [one for key in keys for _, one in sorted(self._there[key].items())]

    def since(self, version: int, of: Resource, namespace: str) -> Iterator[tuple[int, str, Object]]:
        yield from super().since(version, of, namespace)  # which refuses what is too old, and has no events itself
        events = self._events[of.name]
        for at, what, key, body in events[bisect_right(events, version, key=lambda event: event[0]) :]:
            if namespace in ("", key[1]):
                yield at, what, body

    def compact(self) -> None:
        with self.changed:
            self._events.clear()
            super().compact()

    def _file(self, what: str, key: Key, body: Object) -> None:
        kind, namespace, name = key
        self._events[kind].append(self.history.pop())
        if what == "DELETED":
            del self._there[kind, namespace][name]
        else:
            self._there[kind, namespace][name] = body


class Bench:
    """What the benchmark asks for.

    Args:
        kube: the double.
        image: that pods run.
    """

    def __init__(self, kube: KubeApi, image: str) -> None:
        kube.store = Filed()
        self._kube, self._cluster = kube, Cluster(kube)
        self._cluster.digest = image
        self._scrapes: list[tuple[float, int]] = []
        kube.put(manifest("crd")[0])

    def deploy(self, targets: list[dict[str, Any]]) -> dict[str, Any]:
        """Make Deployments of two pods, and an object for each.

        Args:
            targets: `namespace`, `name`, `limits`, and `spec` of the object.
        """
        (example,) = manifest("example")
        for one in targets:
            self._cluster.deploy(one["name"], one["namespace"], replicas=PODS, limits=one["limits"])
            meta = {"name": one["name"], "namespace": one["namespace"]}
            spec = {**one["spec"], "targetRef": {"name": one["name"]}, "container": "app"}
            self._kube.put({**example, "metadata": meta, "spec": spec})
        self._kube.store.compact()
        return self.counted()

    def counted(self) -> dict[str, Any]:
        """Requests of the operator since the last time, by verb and resource, and what else there is to count."""
        asked, self._kube.asked = self._kube.asked, []
        scrapes, self._scrapes = self._scrapes, []
        requests = Counter(f"{one.verb} {one.resource}" for one in asked if one.agent.startswith("flashfm/"))
        refused = Counter(f"{one.verb} {one.resource} {one.status}" for one in asked if one.status >= 400)
        with self._kube.store.changed:
            pods = len(self._kube.store.all(self._kube.store.resources["pods"]))
        return {
            "requests": requests,
            "refused": refused,
            "pods": pods,
            "scrapes": scrapes,
            "cpu_s": time.process_time(),
        }

    def scrape(self, url: str, period_s: float) -> dict[str, Any]:
        """Read the operator's metrics once a period from then on."""

        def again() -> None:
            while not self._kube.closing.wait(period_s):
                begun_s = time.perf_counter()
                with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=period_s) as answer:
                    length = len(answer.read())
                    self._scrapes.append((time.perf_counter() - begun_s, length))

        threading.Thread(target=again, daemon=True).start()
        return {}


class Double:
    """The cluster, a process that ends with this one; a context manager.

    Args:
        folder: where it puts its kubeconfig; it removes the folder in the end.
        image: that pods run.
        cpu: that it runs on.
    """

    def __init__(self, folder: Path, image: str, cpu: int) -> None:
        settings = json.dumps({"folder": str(folder), "image": image, "cpu": cpu})
        # a session of its own: Ctrl-C is for the benchmark, which closes its input
        self._process = subprocess.Popen(
            [sys.executable, __file__, settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Double:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def ask(self, what: str, **more: Any) -> dict[str, Any]:
        """Let `Bench` do something, by name, and give what it answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"what": what, **more}) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the double ended when it was asked for {what!r}; what it says of that is above")
        return dict(json.loads(answer))


def main() -> None:
    settings = json.loads(sys.argv[1])
    pin(settings["cpu"])
    folder = Path(settings["folder"])
    try:
        with KubeApi() as kube:
            bench = Bench(kube, settings["image"])
            kube.kubeconfig(folder / "kubeconfig")
            for line in sys.stdin:
                asked = json.loads(line)
                print(json.dumps(getattr(bench, asked.pop("what"))(**asked)), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
