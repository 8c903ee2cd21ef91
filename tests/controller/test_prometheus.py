"""Prometheus: samples of a real server, of what dies, freezes, comes back, is there twice or not at all."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from prometheus_server import PrometheusServer, job, needs_prometheus, pages, prometheus, until

from flashfm.applications.catalogue import real_application
from flashfm.applications.server_metrics import ServerMetrics
from flashfm.controller.prometheus import PrometheusSource
from flashfm.controller.queries import KUBE, LOCAL, SOURCES, Queries
from flashfm.controller.sample import Sample, trouble
from flashfm.controller.scrape import Scrape, rates, scrape_all
from flashfm.errors import BackendError

WINDOW_S = 2.5
SHOP = {"name": "shop"}
WEB = {"namespace": "prod", "name": "web", "container": "app"}
ONLY = Queries(time_s="", arrived_per_s="", served_per_s="", p99_s="", used_cores="", used_mib="")


class Exposed:
    """Figures of a page that grow with time, by hand."""

    def __init__(self, namespace: str = "prod") -> None:
        self.begun_s, self.namespace = time.time(), namespace
        self.broken = False

    def grown(self, per_s: float) -> float:
        return per_s * (time.time() - self.begun_s)

    def __call__(self) -> tuple[int, bytes]:
        if self.broken:
            return 500, b""
        return 200, "".join(f"{line}\n" for line in self.lines()).replace("prod", self.namespace).encode()

    def lines(self) -> Iterator[str]:
        yield f"process_cpu_seconds_total {self.grown(0.25)}"
        yield f"process_resident_memory_bytes {100 * 2**20}"
        yield f'http_requests_total{{code="200"}} {self.grown(20)}'
        for le in ("0.1", "+Inf"):
            yield f'http_request_duration_seconds_bucket{{le="{le}"}} {self.grown(20)}'


class Frozen(Exposed):
    """Figures with a time of their own, which does not pass, as from an agent that hangs."""

    def lines(self) -> Iterator[str]:
        for name, value in (("process_cpu_seconds_total", 5), ("process_resident_memory_bytes", 100 * 2**20)):
            yield f"{name} {value} {round(1e3 * self.begun_s)}"


class Cluster(Exposed):
    """What kube-state-metrics, cAdvisor, an application and Istio say of the deployment `web`, and of others."""

    def lines(self) -> Iterator[str]:
        web, other = 'namespace="prod",deployment="web"', 'namespace="prod",deployment="web-api"'
        yield f"kube_deployment_status_replicas{{{web}}} 3"
        yield f"kube_deployment_status_replicas{{{other}}} 7"
        yield f"kube_deployment_status_replicas_ready{{{web}}} 2"
        for pod, cores, mib, ready in (
            ("web-5d4f8c9b7d-abcde", 0.5, 100, 1),
            ("web-5d4f8c9b7d-fghij", 0.25, 300, 1),
            ("web-5d4f8c9b7d-klmno", 0.05, 20, 0),
            ("web-api-5d4f8c9b7d-abcde", 4.0, 900, 1),
        ):
            of = f'namespace="prod",pod="{pod}"'
            app, car = f'{of},container="app"', f'{of},container="istio-proxy"'
            yield f'kube_pod_status_ready{{{of},condition="true"}} {ready}'
            yield f'kube_pod_status_ready{{{of},condition="false"}} {1 - ready}'
            yield f'kube_pod_container_resource_limits{{{app},resource="cpu",unit="core"}} 1.5'
            yield f'kube_pod_container_resource_limits{{{app},resource="memory",unit="byte"}} {512 * 2**20}'
            yield f'kube_pod_container_resource_limits{{{car},resource="cpu",unit="core"}} 2'
            yield f'kube_pod_container_info{{{app},image_id="shop@sha256:0{pod[-1]}"}} 1'
            for scraper in ("a", "b"):
                yield f'container_cpu_usage_seconds_total{{{app},id="{scraper}"}} {self.grown(cores)}'
                yield f'container_memory_working_set_bytes{{{app},id="{scraper}"}} {mib * 2**20}'
            restarts = math.floor(self.grown(2)) if pod.endswith(("fghij", "klmno")) else 0
            yield f"kube_pod_container_status_restarts_total{{{app}}} {restarts}"
            reason = "OOMKilled" if pod.endswith("fghij") else "Error"
            yield f'kube_pod_container_status_last_terminated_reason{{{app},reason="{reason}"}} 1'
            for code, share in (("200", 0.9), ("503", 0.1)):
                yield f'http_request_duration_seconds_count{{{of},code="{code}"}} {self.grown(10 * share)}'
            for le, share in (("0.1", 0.5), ("0.5", 1), ("+Inf", 1)):
                yield f'http_request_duration_seconds_bucket{{{of},le="{le}"}} {self.grown(10 * share)}'
        to = 'reporter="destination",destination_workload="web",destination_workload_namespace="prod"'
        for code, per_s in (("200", 40), ("503", 5), ("0", 5)):
            yield f'istio_requests_total{{{to},response_code="{code}"}} {self.grown(per_s)}'
        for le, share in (("100", 0.5), ("500", 1), ("+Inf", 1)):
            yield f'istio_request_duration_milliseconds_bucket{{{to},le="{le}"}} {self.grown(50 * share)}'
        broken = 'reporter="destination",destination_workload="broken",destination_workload_namespace="prod"'
        yield f'istio_requests_total{{{broken},response_code="503"}} {self.grown(5)}'
        for name, value in (("nan", "NaN"), ("inf", "+Inf"), ("many", "1e300")):
            yield f'odd{{kind="{name}"}} {value}'


@dataclass
class World:
    """A server, and what it scrapes."""

    server: PrometheusServer
    fragile: PrometheusServer
    """Another one, with the job `mortal` alone."""
    shop_urls: dict[str, str]
    mortal: Exposed
    frozen: Frozen
    begun: tuple[float, dict[str, Scrape]]
    """When the first was served, and scrapes of then."""

    def source(self, queries: Queries, **more: Any) -> PrometheusSource:
        return PrometheusSource(self.server.url, queries, window_s=WINDOW_S, **more)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One server for all tests of this file: two processes under load, a cluster, and a process that dies."""
    shop = [ServerMetrics(real_application("airline-booking")) for _ in range(2)]
    mortal, frozen, ended = Exposed(), Frozen(), threading.Event()
    by_path: dict[str, Callable[[], tuple[int, bytes]]] = {
        "/shop/0": lambda: (200, shop[0].exposition()),
        "/shop/1": lambda: (200, shop[1].exposition()),
        "/idle": lambda: (200, ServerMetrics(real_application("event-processing")).exposition()),
        "/prod": Cluster(),
        "/both": Cluster("both"),
        "/frozen": frozen,
        "/mortal": mortal,
    }

    def serve() -> None:
        while not ended.wait(0.02):
            for metrics in shop:
                metrics.requests.labels("200").inc()
                metrics.duration.observe(0.2)
            shop[1].requests.labels("503").inc()

    serving = threading.Thread(target=serve)
    with pages(by_path) as address:
        jobs = [
            job("shop", address, ["/shop/0", "/shop/1"]),
            job("idle", address, ["/idle"]),
            job("frozen", address, ["/frozen"]),
            job("one", address, ["/prod"]),
            job("two", address, ["/both"], cluster="eu"),
            job("three", address, ["/both"], cluster="us"),
            job("mortal", address, ["/mortal"]),
        ]
        folders = [tmp_path_factory.mktemp("prometheus") for _ in range(2)]
        with prometheus(folders[0], jobs) as server, prometheus(folders[1], jobs[-1:]) as fragile:
            serving.start()
            try:
                urls = {path: f"http://{address}{path}" for path in ("/shop/0", "/shop/1")}
                begun = (time.time(), scrape_all(urls)[0])
                until(lambda: server.scrapes('up{job=~".+"}') >= 6, "all was scraped for the window")
                yield World(server, fragile, urls, mortal, frozen, begun)
            finally:
                ended.set()
                serving.join()


@needs_prometheus
def test_served_applications_are_seen_as_direct_scrapes_see_them(world: World) -> None:
    begun_s, before = world.begun
    with world.source(SOURCES["local"]) as source:
        sample = source.sample(SHOP, time.time())
    direct = rates(before, scrape_all(world.shop_urls)[0], time.time() - begun_s)
    assert (sample.replicas, sample.ready, sample.killed, sample.cpu_cores) == (2, 2, None, None)
    assert sample.image == real_application("airline-booking").digest[:12]
    assert sample.time_s == pytest.approx(time.time(), abs=2.0)
    assert sample.served_per_s == pytest.approx(sample.arrived_per_s * 2 / 3, rel=0.05)
    assert sample.p99_s == pytest.approx(0.2485, rel=1e-6), "linear from 0.1 to 0.25"
    assert direct.p99_s == pytest.approx(sample.p99_s)
    assert direct.arrived_per_s == pytest.approx(sample.arrived_per_s, rel=0.2)
    assert direct.served_per_s == pytest.approx(direct.arrived_per_s * 2 / 3, rel=0.05)
    assert direct.resident_mib == pytest.approx(sample.used_mib, rel=0.2)
    assert direct.cores > 0
    assert sample.used_cores > 0


@needs_prometheus
def test_a_deployment_is_seen_without_its_neighbours(world: World) -> None:
    with world.source(SOURCES["kube"]) as source:
        sample = source.sample(WEB, time.time())
    assert trouble(sample, [], time.time()) is None
    assert (sample.replicas, sample.ready, sample.killed) == (3, 2, 1), "an error is no lack of memory"
    assert (sample.cpu_cores, sample.memory_mib) == (1.5, 512)
    assert sample.used_cores == pytest.approx(0.75, rel=0.05), "two scrapers count once, and one that starts not at all"
    assert sample.used_mib == pytest.approx(200), "mean of those that are ready"
    assert sample.arrived_per_s == pytest.approx(30, rel=0.05)
    assert sample.served_per_s == pytest.approx(27, rel=0.05)
    assert sample.p99_s == pytest.approx(0.1 + 0.4 * 0.98)
    assert sample.image.startswith("shop@sha256:0")


@needs_prometheus
def test_istio_counts_milliseconds_and_its_own_requests(world: World) -> None:
    with world.source(SOURCES["istio"]) as source:
        sample = source.sample(WEB, time.time())
        broken = source.sample({**WEB, "name": "broken"}, time.time())
    assert trouble(sample, [], time.time()) is None
    assert sample.p99_s == pytest.approx(0.1 + 0.4 * 0.98)
    assert sample.arrived_per_s == pytest.approx(50, rel=0.05)
    assert sample.served_per_s == pytest.approx(40, rel=0.05)
    assert broken.arrived_per_s == pytest.approx(5, rel=0.05)
    assert broken.served_per_s == 0, "none was answered well, and that is known"


@needs_prometheus
def test_what_is_not_there_is_missing_and_what_is_twice_is_too(world: World) -> None:
    with world.source(SOURCES["kube"]) as source:
        nobody = source.sample({**WEB, "name": "nobody"}, time.time())
    assert trouble(nobody, [], time.time()).startswith("missing: time_s, replicas")
    odd = replace(
        ONLY,
        replicas='odd{kind="many"}',
        ready='kube_deployment_status_replicas{namespace="prod"}',
        used_mib='odd{kind="nan"}',
        used_cores='max(odd{kind="inf"})',
        p99_s=LOCAL.p99_s,
        arrived_per_s=LOCAL.arrived_per_s,
        cpu_cores="max(kube_deployment_status_replicas)  # of all",
        memory_mib='max by (cluster) (odd{kind="nan"} > 0 or vector(5))',
        image="kube_deployment_status_replicas",
    )
    with world.source(odd) as source:
        sample = source.sample({"name": "idle"}, time.time())
    assert sample == Sample(
        None, None, None, cpu_cores=7.0, memory_mib=5.0, used_cores=None, used_mib=None, arrived_per_s=0.0,
        served_per_s=None, p99_s=None, killed=None,
    )  # fmt: skip


@needs_prometheus
def test_deployments_of_the_same_name_in_two_clusters_are_not_mixed(world: World) -> None:
    with world.source(SOURCES["istio"]) as source:
        both = source.sample({**WEB, "namespace": "both"}, time.time())
    assert replace(both, image="") == Sample(*[None] * 11)
    eu = KUBE.replaced({"replicas": 'max(kube_deployment_status_replicas{cluster="eu", deployment="$name"})'})
    with world.source(eu) as source:
        assert source.sample({**WEB, "namespace": "both"}, time.time()).replicas == 3


@needs_prometheus
def test_a_process_that_died_is_stale_and_one_that_came_back_has_not_counted_backwards(world: World) -> None:
    mortal = {"name": "mortal"}
    with world.source(SOURCES["local"]) as source:
        alive = source.sample(mortal, time.time())
        assert alive.arrived_per_s == pytest.approx(20, rel=0.05)
        world.mortal.broken = True
        until(lambda: source.sample(mortal, time.time()).ready == 0, "the server sees it dead")
        dead = source.sample(mortal, time.time())
        assert (dead.replicas, dead.used_mib, dead.time_s) == (1, None, None)
        world.mortal.begun_s, world.mortal.broken = time.time(), False
        until(lambda: source.sample(mortal, time.time()).ready == 1, "the server sees it alive")
        back: list[Sample] = []
        while len(back) < 3 or back[-1].arrived_per_s is None:
            back.append(source.sample(mortal, time.time()))
            time.sleep(0.2)
        assert all(0 <= one.arrived_per_s <= 40 for one in back if one.arrived_per_s is not None)
        assert all(one.time_s > alive.time_s for one in back if one.time_s is not None)


@needs_prometheus
def test_frozen_figures_are_as_old_as_they_are(world: World) -> None:
    with world.source(SOURCES["local"]) as source:
        sample = source.sample({"name": "frozen"}, time.time())
    assert (sample.ready, sample.used_mib) == (1, 100), "for the server they are of now"
    assert sample.time_s == pytest.approx(world.frozen.begun_s, abs=0.002)


@needs_prometheus
def test_a_refused_query_is_named(world: World) -> None:
    wrong = KUBE.replaced({"used_cores": "sum(rate(container_cpu_usage_seconds_total[$window])"})
    with (
        world.source(wrong) as source,
        pytest.raises(BackendError, match=r"the query for used_cores is refused: .*parse"),
    ):
        source.sample(WEB, time.time())
    doubled = replace(ONLY, ready="kube_deployment_status_replicas * on() up")
    with world.source(doubled) as source, pytest.raises(BackendError, match="the query for ready is refused") as told:
        source.sample(WEB, time.time())
    assert "\n" not in str(told.value)


@needs_prometheus
def test_dots_of_a_name_are_no_wildcards(world: World) -> None:
    with world.source(SOURCES["kube"]) as source:
        assert source.sample({**WEB, "name": "w.b"}, time.time()).used_cores is None
        assert source.sample({**WEB, "name": "web"}, time.time()).used_cores is not None


@needs_prometheus
def test_many_are_asked_at_once_from_any_thread(world: World) -> None:
    with world.source(SOURCES["kube"]) as source:
        of = {f"{i}": WEB for i in range(20)} | {"bad": {**WEB, "name": 'x"} or up or {a="'}}
        got: list[tuple[dict[str, Sample], dict[str, str]]] = []
        threads = [threading.Thread(target=lambda: got.append(source.samples(of, time.time()))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for samples, failed in got:
        assert len(samples) == 20
        assert all(sample.replicas == 3 for sample in samples.values())
        assert list(failed) == ["bad"]


@needs_prometheus
def test_a_server_that_was_restarted_is_found_again_with_its_data(world: World) -> None:
    server, mortal = world.fragile, {"name": "mortal"}
    with PrometheusSource(server.url, LOCAL, window_s=20.0) as source:
        before = source.sample(mortal, time.time())
        server.stop()
        with pytest.raises(BackendError, match="no answer"):
            source.sample(mortal, time.time())
        server.start()
        again = source.sample(mortal, time.time())
    assert again.arrived_per_s > 0, "a rate of what it kept"
    assert again.time_s >= before.time_s
