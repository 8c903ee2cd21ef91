"""The Kubernetes backend against a double of the API over real HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from kube_rig import BIGGER, Managing
from kube_store import qos

from flashfm.act.guardrails import Setting
from flashfm.controller.kube.amounts import Amount
from flashfm.controller.kube.backend import KubernetesConfig
from flashfm.controller.kube.managed import Mode
from flashfm.controller.kube.meant import ANNOTATION, ROLLED
from flashfm.errors import BackendError

# -- observing -------------------------------------------------------------------------------------------------------


def test_a_sample_has_what_the_server_knows_and_what_the_source_shows(one: Managing) -> None:
    sample = one.backend.observe(one.target)
    assert sample.setting() == Setting(0.5, 512.0, 2)
    assert (sample.ready, sample.killed, sample.arrived_per_s, sample.p99_s) == (2, 0, 50.001, 0.1)
    assert sample.image == one.cluster.digest
    assert one.source.asked == [{"namespace": "shop", "name": "web", "container": "app"}]
    assert one.written() == []


def test_kills_for_memory_count_once_and_only_from_the_first_look_on(one: Managing) -> None:
    first, second = one.cluster.pods()
    one.cluster.kill(first, 1)
    assert one.backend.observe(one.target).killed == 0, "long ago, for all we know"
    one.cluster.kill(second, 1)
    assert one.backend.observe(one.target).killed == 1
    assert one.backend.observe(one.target).killed == 0
    one.cluster.kill(first, 2)
    one.cluster.kill(second, 2)
    assert one.backend.observe(one.target).killed == 2


def test_the_image_is_that_of_the_newest_pods(one: Managing) -> None:
    one.cluster.digest = "registry.example/shop/web@sha256:" + "b" * 64
    one.kube.change("deployments.apps", "shop", "web", {"spec": {"replicas": 3}})
    assert one.backend.observe(one.target).image == one.cluster.digest


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"cpu": "1"}, "no limit for memory; give one, as resources.limits.memory: 512Mi"), ({}, "no limit for cpu")],
)
def test_limits_that_are_missing_are_said(start: Callable[..., Managing], limits: dict[str, str], said: str) -> None:
    one = start()
    one.cluster.deploy(limits=limits)
    with pytest.raises(BackendError, match=said):
        one.backend.observe(one.target)


def test_a_deployment_or_container_that_is_not_there_is_said(start: Callable[..., Managing]) -> None:
    one = start()
    with pytest.raises(BackendError, match=r"deployments/web: 404 Not Found: deployments.apps \"web\" not found"):
        one.backend.observe(one.target)
    one.cluster.deploy()
    one.mode(Mode.ACT, container="main")
    with pytest.raises(BackendError, match="no container 'main'; there are app, proxy"):
        one.backend.observe(one.target)


# -- acting in place -------------------------------------------------------------------------------------------------


def test_limits_are_set_in_place_and_the_template_is_left_alone(one: Managing) -> None:
    before = one.kube.get("deployments.apps", "shop", "web")
    one.backend.act(one.target, Setting(1.2345, 700.3, 2))
    after = one.kube.get("deployments.apps", "shop", "web")
    assert after["spec"] == before["spec"]
    assert [Amount.of(limits) for limits in one.cluster.limits()] == [Amount.meant(1.2345, 700.3)] * 2
    for pod in one.cluster.pods():
        app, proxy = pod["spec"]["containers"]
        assert app["resources"]["limits"] == app["resources"]["requests"], "still of the class Guaranteed"
        assert proxy["resources"]["limits"] == {"cpu": "100m", "memory": "64Mi"}
    assert one.backend.observe(one.target).setting() == Setting(1.2345, 700.3, 2), "to the last digit, as it was set"


def test_asking_again_sends_nothing(one: Managing) -> None:
    one.backend.act(one.target, Setting(0.5, 512.0, 2))
    assert one.written() == [], "in force from the start"
    setting = Setting(0.777, 333.33, 3)
    one.backend.act(one.target, setting)
    sent = one.written()
    assert sorted(set(sent)) == ["deployments", "deployments/scale", "pods/resize"]
    one.backend.act(one.target, setting)
    assert one.backend.settle(one.target) is None
    assert one.written() == sent


@pytest.mark.parametrize(("replicas", "first"), [(4, "deployments/scale"), (1, "pods/resize")])
def test_what_adds_goes_first(one: Managing, replicas: int, first: str) -> None:
    one.backend.act(one.target, Setting(1.0, 1024.0, replicas))
    sent = one.written()
    assert sent[0] == first
    assert set(sent) == {"deployments/scale", "pods/resize", "deployments"}
    assert len(one.cluster.pods()) == replicas


def test_requests_keep_their_share_of_limits(start: Callable[..., Managing]) -> None:
    one = start()
    one.cluster.deploy(requests={"cpu": "250m", "memory": "512Mi"})
    one.backend.act(one.target, BIGGER)
    requests = [pod["spec"]["containers"][0]["resources"]["requests"] for pod in one.cluster.pods()]
    assert requests == [{"cpu": "500m", "memory": "1024Mi"}] * 2
    assert {qos(pod) for pod in one.cluster.pods()} == {"Burstable"}


def test_pods_that_start_later_get_what_is_meant_one_step_after(one: Managing) -> None:
    one.backend.act(one.target, BIGGER)
    one.kube.change("deployments.apps", "shop", "web", {"spec": {"replicas": 4}})
    assert one.cluster.limits()[-1] == {"cpu": "500m", "memory": "512Mi"}
    assert one.backend.settle(one.target) == "2 pods that started since have got the limits that are meant"
    assert one.cluster.limits() == [{"cpu": "1000m", "memory": "1024Mi"}] * 4
    assert one.backend.settle(one.target) is None


def test_what_the_team_deploys_counts_more_than_what_was_meant(one: Managing) -> None:
    one.backend.act(one.target, BIGGER)
    deployed = list(one.kube.get("deployments.apps", "shop", "web")["spec"]["template"]["spec"]["containers"])
    other = {"cpu": "2", "memory": "2Gi"}
    deployed[0] = {**deployed[0], "resources": {"limits": other, "requests": other}}
    one.kube.change("deployments.apps", "shop", "web", {"spec": {"template": {"spec": {"containers": deployed}}}})
    assert one.backend.observe(one.target).setting() == Setting(2.0, 2048.0, 2)
    assert one.backend.settle(one.target) is None
    assert one.cluster.limits() == [other, other]


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "{}",
        "[" * 2000,
        '{"container":"app","cpu_cores":1e9,"memory_mib":512,"over":{"cpu":"500m","memory":"512Mi"},"before":null}',
        '{"container":"app","cpu_cores":NaN,"memory_mib":512,"over":{"cpu":"500m","memory":"512Mi"},"before":null}',
        '{"container":"app","cpu_cores":1,"memory_mib":512,"over":[],"before":null}',
    ],
)
def test_an_annotation_that_is_not_ours_is_as_good_as_none(one: Managing, text: str) -> None:
    one.kube.change("deployments.apps", "shop", "web", {"metadata": {"annotations": {ANNOTATION: text}}})
    assert one.backend.observe(one.target).setting() == Setting(0.5, 512.0, 2)
    assert one.backend.settle(one.target) is None


# -- where in place is impossible ------------------------------------------------------------------------------------


def test_an_older_server_gets_one_rolling_patch(start: Callable[..., Managing]) -> None:
    one = start(version="1.32")
    one.cluster.deploy(requests={"cpu": "250m", "memory": "256Mi"})
    names = {pod["metadata"]["name"] for pod in one.cluster.pods()}
    one.backend.act(one.target, BIGGER)
    assert one.written() == ["deployments"]
    template = one.kube.get("deployments.apps", "shop", "web")["spec"]["template"]
    app, proxy = template["spec"]["containers"]
    assert app["resources"] == {
        "limits": {"cpu": "1000m", "memory": "1024Mi"},
        "requests": {"cpu": "500m", "memory": "512Mi"},
    }
    assert app["image"] == "shop/web:1"
    assert proxy["resources"]["limits"] == {"cpu": "100m", "memory": "64Mi"}
    assert ROLLED in template["metadata"]["annotations"]
    assert names.isdisjoint(pod["metadata"]["name"] for pod in one.cluster.pods())
    assert one.backend.observe(one.target).setting() == BIGGER
    one.backend.act(one.target, BIGGER)
    assert one.backend.settle(one.target) is None
    one.backend.settle(one.target)
    assert one.written() == ["deployments"] * 2, "the second notes that the rollout came through"


def test_a_server_of_1_33_takes_no_memory_from_a_pod_that_runs(start: Callable[..., Managing]) -> None:
    one = start(version="1.33")
    one.cluster.deploy()
    one.backend.act(one.target, Setting(0.25, 512.0, 2))
    assert set(one.written()) == {"pods/resize", "deployments"}
    one.backend.act(one.target, Setting(0.25, 256.0, 2))
    assert one.written()[-1] == "deployments"
    template = one.kube.get("deployments.apps", "shop", "web")["spec"]["template"]
    assert template["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "250m", "memory": "256Mi"}


def test_a_server_without_the_subresource_gets_a_rolling_patch_whatever_its_version(one: Managing) -> None:
    of = one.kube.store.resources["pods"]
    of.subresources = ("status",)
    one.backend.act(one.target, BIGGER)
    assert one.cluster.limits() == [{"cpu": "1000m", "memory": "1024Mi"}] * 2
    assert one.written() == ["pods/resize", "deployments"]


def test_pods_that_cannot_grow_where_they_are_are_replaced(one: Managing) -> None:
    one.cluster.node = "Infeasible"
    one.backend.act(one.target, BIGGER)
    assert ROLLED not in json.dumps(one.kube.get("deployments.apps", "shop", "web")), "the node has not spoken yet"
    said = one.backend.settle(one.target)
    assert said == "a rolling patch: 2 pods cannot be resized where they are (Infeasible)"
    assert one.cluster.limits() == [{"cpu": "1000m", "memory": "1024Mi"}] * 2
    assert one.backend.settle(one.target) is None


def test_a_node_that_defers_is_waited_for_and_then_left(start: Callable[..., Managing]) -> None:
    one = start(config=KubernetesConfig(patience_s=0.3))
    one.cluster.deploy()
    one.cluster.node = "Deferred"
    one.backend.act(one.target, BIGGER)
    sent = one.written()
    assert one.backend.settle(one.target) is None
    assert one.written() == sent
    time.sleep(0.3)
    assert one.backend.settle(one.target) == "a rolling patch: 2 pods cannot be resized where they are (Deferred)"


@pytest.mark.parametrize("version", ["1.32", "1.35"])
def test_a_rollout_of_ours_that_does_not_come_through_is_taken_back(
    start: Callable[..., Managing], version: str
) -> None:
    one = start(version=version)
    one.cluster.deploy(requests={"cpu": "333m", "memory": "512Mi"})
    first = Setting(0.75, 700.0, 2)
    one.backend.act(one.target, first)
    one.backend.settle(one.target)
    before = one.kube.get("deployments.apps", "shop", "web")["spec"]
    names = [pod["metadata"]["name"] for pod in one.cluster.pods()]
    one.cluster.rollouts, one.cluster.node = False, "Infeasible"
    one.backend.act(one.target, BIGGER)
    if version == "1.35":
        assert str(one.backend.settle(one.target)).startswith("a rolling patch: 2 pods")
    assert one.backend.settle(one.target) is None
    if version == "1.32":
        with pytest.raises(BackendError, match="a rollout is under way: limits wait for its end"):
            one.backend.act(one.target, Setting(2.0, 2048.0, 2))
    one.cluster.stall()
    one.cluster.rollouts, one.cluster.node = True, "done"
    assert str(one.backend.settle(one.target)).startswith("the template is as before again")
    assert one.kube.get("deployments.apps", "shop", "web")["spec"] == before, "to the letter"
    assert [pod["metadata"]["name"] for pod in one.cluster.pods()] == names, "those that served all the while"
    one.backend.settle(one.target)
    assert one.cluster.limits() == [Amount.meant(0.75, 700.0).texts()] * 2
    assert one.backend.observe(one.target).setting() == first
    assert one.backend.settle(one.target) is None
    with pytest.raises(BackendError, match=r"limits stay: a rollout with as much passed its deadline"):
        one.backend.act(one.target, BIGGER)
    one.backend.act(one.target, Setting(0.9, 1024.0, 2))
    assert one.cluster.limits() == [{"cpu": "900m", "memory": "1024Mi"}] * 2


@pytest.mark.parametrize(
    ("spec", "said"),
    [({"strategy": {"type": "Recreate"}}, "its strategy is Recreate"), ({"paused": True}, "it is paused")],
)
def test_a_rollout_that_would_do_harm_is_refused(start: Callable[..., Managing], spec: dict, said: str) -> None:
    one = start(version="1.32")
    one.cluster.deploy(**spec)
    with pytest.raises(BackendError, match=f"{said}.*; replicas are set"):
        one.backend.act(one.target, Setting(1.0, 1024.0, 3))
    assert one.written() == ["deployments/scale"]


def test_a_deployment_that_was_stopped_is_not_started(start: Callable[..., Managing]) -> None:
    one = start()
    one.cluster.deploy(replicas=0)
    with pytest.raises(BackendError, match="somebody has stopped it"):
        one.backend.act(one.target, BIGGER)
    assert one.written() == []


# -- who else acts ---------------------------------------------------------------------------------------------------


def hpa(name: str) -> dict:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "mine", "namespace": "shop"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": name}, "maxReplicas": 3},
    }


def test_a_deployment_that_somebody_else_scales_is_left_alone(one: Managing) -> None:
    one.kube.put(hpa("web"))
    with pytest.raises(BackendError, match="the HorizontalPodAutoscaler 'mine' scales it too; delete that one"):
        one.backend.act(one.target, BIGGER)
    assert one.written() == []
    one.kube.store.delete(one.kube.store.resources["horizontalpodautoscalers.autoscaling"], "shop", "mine")
    one.backend.act(one.target, BIGGER)
    assert one.written()


def test_one_that_scales_another_deployment_does_not_matter(one: Managing) -> None:
    one.kube.put(hpa("other"))
    one.backend.act(one.target, BIGGER)
    assert one.written()


def test_in_shadow_nothing_is_set(one: Managing) -> None:
    one.mode(Mode.SHADOW)
    with pytest.raises(BackendError, match="its mode is Shadow"):
        one.backend.act(one.target, BIGGER)
    assert one.backend.settle(one.target) is None
    assert one.written() == []
