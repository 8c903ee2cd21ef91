"""The operator against the double: objects in, controlled Deployments, statuses and events out."""

from __future__ import annotations

import copy
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kube_api import KubeApi
from kube_cluster import Cluster
from kube_rig import FAST, Recorded
from kube_store import Object

from flashfm.adapt.agent import FlashAgent
from flashfm.controller.kube.api import Api
from flashfm.controller.kube.managed import Mode
from flashfm.controller.kube.policy import Policy
from flashfm.controller.kube.resource import Metrics, Wanted, manifest, read
from flashfm.controller.operator import Operator, OperatorConfig, digest_of, run_operator
from flashfm.controller.store import Store
from flashfm.errors import ArtifactError, ControlError

OF = "flashautoscalers.flashfm.io"
EXAMPLE = manifest("example")[0]
DIGEST = "sha256:" + "0" * 64


def resource(name: str = "web", **spec: Any) -> Object:
    made = copy.deepcopy(EXAMPLE)
    made["metadata"]["name"] = name
    made["spec"] |= spec
    return made


FORCED = {"replicas": {"min": 4, "max": 12}, "cpuCores": {"min": 0.1, "max": 1}}
"""Bounds that what is deployed here is outside of, so that the first step sets something."""


class Running:
    """The double, and an operator whose periods a test runs one by one."""

    def __init__(self, kube: KubeApi, api: Api, operator: Operator) -> None:
        self.kube, self.cluster, self.operator, self.api = kube, Cluster(kube), operator, api

    def period(self) -> None:
        """One period of the loop."""
        for target in self.operator.targets():
            self.operator.on_step(self.operator.loop.step(target))

    def until(self, check: Callable[[], bool]) -> None:
        end_s = time.monotonic() + 5.0
        while not check():
            assert time.monotonic() < end_s, "not in time"
            time.sleep(0.01)

    def synced(self) -> None:
        """Wait until the operator has seen what there is."""

        def seen() -> bool:
            of = (self.operator.watched, self.operator.cluster.deployments, self.operator.cluster.all_pods)
            there = [one for watched in of for one in watched.all()]
            with self.kube.store.changed:
                objects = list(self.kube.store.objects.items())
            kept = [body for key, body in objects if key[0] in (OF, "deployments.apps", "pods")]
            mine, theirs = ({of["metadata"]["resourceVersion"] for of in bodies} for bodies in (there, kept))
            return mine == theirs

        self.until(seen)

    def status(self, name: str = "web") -> Object:
        return self.kube.get(OF, "shop", name).get("status", {})

    def condition(self, kind: str, name: str = "web") -> tuple[str, str]:
        found = {one["type"]: one for one in self.status(name)["conditions"]}
        return found[kind]["status"], found[kind]["message"]

    def events(self, reason: str = "") -> list[str]:
        there = self.kube.store.all(self.kube.store.resources["events"], "shop")
        return [one["message"] for one in there if reason in ("", one["reason"])]


@pytest.fixture
def running(agent: FlashAgent, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    with ExitStack() as stack:

        def begin(*, watch: bool = True, **config: Any) -> Running:
            kube = stack.enter_context(KubeApi())
            kube.put(manifest("crd")[0])
            api = Api.connect(kube.kubeconfig(tmp_path / "kubeconfig"), config=FAST)
            stack.callback(api.close)
            store = Store(tmp_path / "state.db")
            stack.callback(store.close)
            source = Recorded()
            operator = Operator(api, agent, store, OperatorConfig(**config), sources=lambda _: source)
            if watch:
                stack.enter_context(operator.watching())
            return Running(kube, api, operator)

        yield begin


def test_an_object_in_shadow_is_told_of_and_nothing_is_touched(running: Callable[..., Running]) -> None:
    one = running()
    one.cluster.deploy()
    one.kube.put(resource())
    one.synced()
    one.period()
    status = one.status()
    assert status["phase"] == "shadow"
    assert status["decidedBy"] == "agent"
    assert status["recommendation"].keys() == {"replicas", "cpu", "memory"}
    assert "novelty" not in status
    assert status["lastReason"]
    assert {kind: one.condition(kind)[0] for kind in ("Accepted", "Observed", "Applied")} == {
        "Accepted": "True",
        "Observed": "True",
        "Applied": "True",
    }
    assert {asked.resource for asked in one.kube.sent("create", "patch")} == {"flashautoscalers/status"}


def test_an_object_that_may_act_is_acted_for_and_says_why(running: Callable[..., Running]) -> None:
    one = running()
    one.cluster.deploy(limits={"cpu": "2", "memory": "2Gi"})
    one.kube.put(resource(mode="Act", bounds=FORCED))
    one.synced()
    one.period()
    assert one.status()["phase"] == "bootstrap"
    assert one.status()["decidedBy"] == "rules"
    assert one.events("PhaseChanged") == ["bootstrap: the operator lets the controller act"]
    (applied,) = one.events("Applied")
    assert "HPA and VPA rules" in applied
    wanted = one.status()["recommendation"]
    assert wanted["replicas"] >= 4
    assert one.cluster.limits()[0] == {"cpu": wanted["cpu"], "memory": wanted["memory"]}
    assert len(one.cluster.pods()) == wanted["replicas"]
    one.cluster.digest = "other"
    one.kube.change("deployments.apps", "shop", "web", {"spec": {"replicas": wanted["replicas"] + 1}})
    one.synced()
    one.period()
    assert "pods that started since" in one.events("Settled")[0]
    assert len({(limits["cpu"], limits["memory"]) for limits in one.cluster.limits()}) == 1


def test_a_status_that_says_nothing_new_is_not_written_again(running: Callable[..., Running]) -> None:
    one = running()
    one.cluster.deploy()
    one.kube.put(resource())
    for _ in range(4):
        one.synced()
        one.period()
    assert len(one.kube.sent("patch")) == 1


def test_what_cannot_be_observed_or_set_is_said_once_and_mended(running: Callable[..., Running]) -> None:
    one = running()
    one.kube.put(resource(mode="Act", bounds=FORCED))
    for _ in range(3):
        one.synced()
        one.period()
    assert one.condition("Observed") == (
        "False",
        "nothing is changed, not observed: shop/web: no such Deployment; see spec.targetRef.name",
    )
    assert len(one.events("NotObserved")) == 1
    one.cluster.deploy(limits={"cpu": "2", "memory": "2Gi"})
    one.kube.fault("patch", "pods/resize", 500, message="etcd is away")
    one.synced()
    one.period()
    assert one.condition("Observed") == ("True", "")
    state, message = one.condition("Applied")
    assert state == "False"
    assert "etcd is away" in message
    assert "etcd is away" in one.events("Failed")[0]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"slo": {"p99Ms": 0}}, "spec.slo.p99Ms: 0 is less than the minimum of 1"),
        ({"alpha": 2}, "spec.alpha: 2 is greater than the maximum of 1"),
        ({"bounds": {"replicas": {"min": 9, "max": 3}}}, "spec: bounds: 9 to 3 replicas"),
        ({"bounds": {"replicas": {"min": 9}}}, "spec.bounds.replicas: 'max' is a required property"),
        ({"bounds": {"budgetCores": 0.1, "cpuCores": {"min": 1, "max": 2}}}, "a budget of 0.1 cores"),
        ({"mode": "act"}, "spec.mode: 'act' is not one of"),
        ({"container": "app\n"}, "spec.container: 'app\\n' does not match"),
        ({"targetRef": {"name": "../../secrets"}}, "spec.targetRef.name:"),
        ({"metrics": {"url": "file:///etc/shadow"}}, "spec.metrics.url:"),
        ({"metrics": {"url": "http://user:pw@host"}}, "spec.metrics.url:"),
        ({"metrics": {"queries": {"p99_s": "x" * 5000}}}, "spec.metrics.queries.p99_s:"),
        ({"model": {"digest": "sha256:abc"}}, "spec.model.digest:"),
        ({"slo": {"p99Ms": True}}, "True is not of type 'integer'"),
    ],
)
def test_what_is_wrong_with_an_object_is_one_line(spec: dict, said: str) -> None:
    made = resource(**spec)
    made["metadata"]["uid"] = "1"
    problems = read(made)
    assert isinstance(problems, list)
    (line,) = problems
    assert said in line
    assert line.isprintable()
    assert len(line) < 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SCHEMA = manifest("crd")[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]


@given(st.dictionaries(st.sampled_from(sorted(SCHEMA["spec"]["properties"])), json_values, max_size=3))
def test_hostile_objects_are_read_or_refused_and_nothing_else(spec: dict) -> None:
    found = read({"metadata": {"name": "web", "namespace": "shop"}, "spec": EXAMPLE["spec"] | spec})
    if isinstance(found, list):
        assert found
        assert all(line.isprintable() for line in found)
    else:
        assert 0 <= found.target.terms.alpha <= 1
        assert 0 < found.target.terms.slo_s <= 600
        assert 1 <= found.target.bounds.replicas[0] <= found.target.bounds.replicas[1] <= 32


def test_the_example_is_read_as_it_says() -> None:
    found = read(EXAMPLE)
    assert isinstance(found, Wanted)
    assert (found.target.name, found.target.acting, found.mode) == ("shop/web", False, Mode.SHADOW)
    assert (found.target.terms.slo_s, found.target.terms.alpha) == (0.25, 0.7)
    assert found.target.bounds.replicas == (2, 12)
    assert found.target.bounds.budget_cores == 12.0
    assert (found.vpa, found.metrics, found.model) == ("web", Metrics(), "autoscaling")


@pytest.mark.parametrize(
    ("spec", "policy", "said"),
    [
        ({"model": {"name": "mine"}}, {}, "spec.model.name: 'mine' is not loaded; this operator has 'autoscaling'"),
        ({"model": {"digest": DIGEST}}, {"digest": "sha256:" + "1" * 64}, f"spec.model.digest: {DIGEST} is not loaded"),
        ({"metrics": {"url": "http://169.254.169.254/latest"}}, {"urls": ("http://a",)}, "not one that this operator"),
        ({"metrics": {"queries": {"p99_s": "1"}}}, {}, "spec.metrics.queries: this operator allows none"),
    ],
)
def test_what_the_operator_does_not_allow_is_refused(
    running: Callable[..., Running], spec: dict, policy: dict, said: str
) -> None:
    one = running(policy=Policy(**policy))
    one.cluster.deploy()
    one.kube.put(resource(**spec))
    for _ in range(2):
        one.synced()
        one.period()
    assert one.operator.managed == {}
    state, message = one.condition("Accepted")
    assert state == "False"
    assert said in message
    assert one.events() == [message]


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (Metrics(source="nagios"), "no source 'nagios'; there are kube, istio, local"),
        (Metrics(queries=(("p100", "1"),)), "no figure 'p100'"),
    ],
)
def test_sources_that_there_are_not_are_said(metrics: Metrics, said: str) -> None:
    with pytest.raises(ControlError, match=said):
        Policy(prometheus="http://127.0.0.1:9").source(metrics)
    with pytest.raises(ControlError, match=r"no server of its own; give spec.metrics.url"):
        Policy().source(replace(metrics, queries=()))


def test_a_deployment_has_one_object_the_older(running: Callable[..., Running]) -> None:
    one = running()
    one.cluster.deploy()
    one.kube.put(resource("first"))
    one.kube.put(resource("second"))
    one.synced()
    one.period()
    assert one.condition("Accepted", "first")[0] == "True"
    assert "'first' has this Deployment already" in one.condition("Accepted", "second")[1]
    one.kube.store.delete(one.kube.store.resources[OF], "shop", "first")
    one.synced()
    one.period()
    assert one.condition("Accepted", "second")[0] == "True"


def test_an_object_that_is_mended_or_deleted_is_taken_up_or_let_go(running: Callable[..., Running]) -> None:
    one = running()
    one.cluster.deploy()
    made = one.kube.put(resource())
    made["spec"]["bounds"]["replicas"] = {"min": 9, "max": 3}  # as an older schema may have let in
    one.kube.change(OF, "shop", "web", {"metadata": {"labels": {"seen": "now"}}})
    one.until(lambda: one.operator.watched.all() != [] and one.operator.targets() == [])
    assert one.condition("Accepted")[0] == "False"
    one.kube.change(OF, "shop", "web", {"spec": {"bounds": {"replicas": {"min": 1}}}})
    one.synced()
    one.period()
    assert one.condition("Accepted")[0] == "True"
    one.kube.store.delete(one.kube.store.resources[OF], "shop", "web")
    one.synced()
    before = len(one.kube.sent("patch", "create"))
    one.period()
    assert one.operator.managed == {}
    assert len(one.kube.sent("patch", "create")) == before


def test_a_restarted_operator_goes_on_where_it_was(
    running: Callable[..., Running], agent: FlashAgent, tmp_path: Path
) -> None:
    one = running()
    one.cluster.deploy(limits={"cpu": "2", "memory": "2Gi"})
    one.kube.put(resource(mode="Act"))
    for _ in range(3):
        one.synced()
        one.period()
    before, events = one.operator.loop.store.steps("shop/web", 9), len(one.events("PhaseChanged"))
    store = Store(tmp_path / "state.db")
    one.operator = Operator(one.api, agent, store, sources=lambda _: Recorded())
    with one.operator.watching():
        one.synced()
        one.period()
    after = store.steps("shop/web", 9)
    store.close()
    assert [step.n for step in after] == [*(step.n for step in before), len(before)]
    assert after[-1].decision["phase"] == "bootstrap"
    assert len(one.events("PhaseChanged")) == events


def test_what_is_written_fits_the_schema(running: Callable[..., Running]) -> None:
    schema = SCHEMA["status"]
    one = running()
    one.cluster.deploy()
    one.kube.put(resource(mode="Act"))
    one.kube.put(resource("bad", model={"name": "none"}))
    one.synced()
    one.period()
    for name in ("web", "bad"):
        jsonschema.validate(one.status(name), schema)
    for asked in one.kube.sent("patch"):
        if asked.resource == "flashautoscalers/status":
            assert asked.body["status"].keys() <= schema["properties"].keys()


# -- the process -----------------------------------------------------------------------------------------------------


def page(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_running_operator_shows_health_readiness_and_metrics_and_only_that(running: Callable[..., Running]) -> None:
    port = free_port()
    one = running(watch=False, port=port, period_s=1.0)
    one.cluster.deploy()
    one.kube.put(resource())
    stop = threading.Event()

    def look() -> None:
        try:
            one.until(lambda: "lastStep" in one.status())
            assert page(port, "/healthz") == (200, "ok\n")
            assert page(port, "/readyz") == (200, "ok\n")
            status, text = page(port, "/metrics")
            assert status == 200
            assert 'flashfm_autoscalers{accepted="true"} 1.0' in text
            assert 'flashfm_phase{phase="shadow",target="shop/web"} 1.0' in text
            assert page(port, "/state.db")[0] == 404
            with pytest.raises(ControlError, match="cannot be listened on"):
                one.operator.run(stop)
            one.kube.fault("watch", "*", 500, times=999)
            one.until(lambda: page(port, "/readyz")[0] == 503)
            assert page(port, "/healthz")[0] == 200, "a cluster that is away is no reason to start anew"
            one.kube.faults.clear()
        finally:
            stop.set()

    with ThreadPoolExecutor(1) as pool:
        looked = pool.submit(look)
        one.operator.run(stop)
        looked.result()


def test_a_loop_that_does_not_move_is_dead(running: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> None:
    one = running(watch=False)
    assert one.operator.alive() is None
    monkeypatch.setattr(one.operator, "_beat_s", time.monotonic() - 1000.0)
    assert one.operator.alive() == "the loop has not moved for 1000 s"
    one.operator.targets()
    assert one.operator.alive() is None


def test_the_process_runs_and_ends_when_told_to(tmp_path: Path) -> None:
    with KubeApi() as kube:
        kube.put(manifest("crd")[0])
        Cluster(kube).deploy()
        kube.put(resource(model={"name": "autoscaling", "digest": digest_of("autoscaling")}))
        policy = Policy(digest=digest_of("autoscaling"), prometheus="http://127.0.0.1:9")
        config = OperatorConfig(("shop",), policy, tmp_path / "state.db", 1.0, port=0)
        stop = threading.Event()
        path = kube.kubeconfig(tmp_path / "kubeconfig")
        thread = threading.Thread(target=run_operator, args=(config,), kwargs={"kubeconfig": path, "stop": stop})
        thread.start()
        end_s = time.monotonic() + 20.0
        while "conditions" not in (status := kube.get(OF, "shop", "web").get("status", {})):
            assert time.monotonic() < end_s, "not in time"
            time.sleep(0.02)
        stop.set()
        thread.join(10)
        assert not thread.is_alive()
    said = {one["type"]: one for one in status["conditions"]}
    assert said["Accepted"]["status"] == "True"
    assert "127.0.0.1:9" in said["Observed"]["message"]


def test_a_process_that_cannot_begin_says_why(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"expected {DIGEST}"):
        run_operator(OperatorConfig(policy=Policy(digest=DIGEST)))
    with pytest.raises(ControlError, match="no cluster to connect to"):
        run_operator(OperatorConfig(), kubeconfig=tmp_path / "none")
    with pytest.raises(ControlError, match="expected 1 to 3600"):
        OperatorConfig(period_s=0.1)
