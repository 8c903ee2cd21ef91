"""Recommendations to VPA, and amounts as Kubernetes writes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kube_rig import BIGGER, Managing
from kube_store import qos

from flashfm.act.guardrails import Setting
from flashfm.controller.kube.amounts import Amount, Share, deployment_of, quantity
from flashfm.controller.kube.managed import Mode
from flashfm.errors import BackendError

# -- recommending ----------------------------------------------------------------------------------------------------


def vpa(one: Managing, **spec: object) -> None:
    """Make a VerticalPodAutoscaler of the version that has a `status` subresource."""
    from kube_store import Resource

    of = Resource("autoscaling.k8s.io", "v1", "verticalpodautoscalers", "VerticalPodAutoscaler", True, ("status",))
    one.kube.store.resources[of.name] = of
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    body = {"targetRef": ref, "recommenders": [{"name": "flashfm"}], "updatePolicy": {"updateMode": "Recreate"}, **spec}
    meta = {"name": "web-vpa", "namespace": "shop"}
    one.kube.put(
        {"apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler", "metadata": meta, "spec": body}
    )
    one.mode(Mode.RECOMMEND, vpa="web-vpa")


def test_a_recommendation_is_written_and_nothing_else(start: Callable[..., Managing]) -> None:
    one = start()
    one.cluster.deploy(requests={"cpu": "250m", "memory": "512Mi"})
    policies = [{"containerName": "*", "maxAllowed": {"memory": "900Mi"}}]
    vpa(one, resourcePolicy={"containerPolicies": policies})
    one.backend.act(one.target, Setting(1.0, 1024.0, 5))
    assert one.written() == ["verticalpodautoscalers/status"]
    status = one.kube.get("verticalpodautoscalers.autoscaling.k8s.io", "shop", "web-vpa")["status"]
    (said,) = status["recommendation"]["containerRecommendations"]
    assert said["containerName"] == "app"
    assert said["target"] == {"cpu": "500m", "memory": "900Mi"}, "requests that bring limits to the setting, capped"
    assert said["uncappedTarget"] == {"cpu": "500m", "memory": "1024Mi"}
    assert quantity(said["lowerBound"]["cpu"]) == 0.45
    assert said["upperBound"] == {"cpu": "550m", "memory": "900Mi"}
    conditions = {of["type"]: of["status"] for of in status["conditions"]}
    assert conditions == {"RecommendationProvided": "True", "LowConfidence": "True"}
    one.backend.act(one.target, Setting(1.0, 1024.0, 7))
    assert one.written() == ["verticalpodautoscalers/status"], "the same is not written again"
    assert one.backend.settle(one.target) is None


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"recommenders": []}, "has another recommender; give it spec.recommenders"),
        ({"targetRef": {"kind": "Deployment", "name": "other"}}, "is for Deployment other"),
    ],
)
def test_an_object_of_another_recommender_is_not_written_to(one: Managing, spec: dict, said: str) -> None:
    vpa(one, **spec)
    with pytest.raises(BackendError, match=said):
        one.backend.act(one.target, BIGGER)
    one.mode(Mode.RECOMMEND, vpa="none")
    with pytest.raises(BackendError, match="no VerticalPodAutoscaler 'none'; make one"):
        one.backend.act(one.target, BIGGER)
    assert one.written() == []


def test_in_act_mode_a_vpa_that_changes_pods_is_a_rival_and_one_that_is_off_is_not(one: Managing) -> None:
    vpa(one)
    one.mode(Mode.ACT)
    with pytest.raises(BackendError, match="the VerticalPodAutoscaler 'web-vpa' scales it too"):
        one.backend.act(one.target, BIGGER)
    of = "verticalpodautoscalers.autoscaling.k8s.io"
    one.kube.change(of, "shop", "web-vpa", {"spec": {"updatePolicy": {"updateMode": "Off"}}})
    one.backend.act(one.target, BIGGER)
    assert "pods/resize" in one.written()


# -- amounts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100m", 0.1),
        ("2", 2.0),
        ("0.5", 0.5),
        ("512Mi", 512 * 2**20),
        ("1G", 1e9),
        ("1e3", 1000.0),
        ("1.5Gi", 1.5 * 2**30),
    ],
)
def test_quantities_are_read(text: str, value: float) -> None:
    assert quantity(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "1e999999999", "-1", "NaN", "inf", "9" * 400, "1Xi", None, {}, "٣", "1\n"])
def test_what_is_no_quantity_is_none(text: object) -> None:
    assert quantity(text) is None


@given(
    st.integers(1, 4000), st.integers(1, 4000), st.integers(2, 1 << 34), st.integers(2, 1 << 34), st.floats(0.1, 4.0),
    st.floats(64.0, 15_360.0),
)  # fmt: skip
def test_the_quality_of_service_class_never_changes(
    cpu: int, cpu_part: int, memory: int, memory_part: int, cores: float, mebibytes: float
) -> None:
    limits, requests = Amount(cpu, memory), Amount(min(cpu, cpu_part), min(memory, memory_part))
    before = {"limits": limits.texts(), "requests": requests.texts()}
    after = Share.of(before).resources(Amount.meant(cores, mebibytes))

    def pod(resources: dict) -> dict:
        return {"spec": {"containers": [{"name": "app", "resources": resources}]}}

    assert qos(pod(before)) == qos(pod(after))
    set_ = Amount.of(after["limits"])
    assert set_.millicores is not None
    assert set_.bytes is not None
    assert cores <= set_.millicores / 1000 + 1e-9 <= cores + 0.001 + 1e-8
    assert mebibytes - 1e-8 <= set_.bytes / 2**20 <= mebibytes + 1e-5


@pytest.mark.parametrize("forged", ["web-abc-x", "web", "other-abc"])
def test_a_pod_belongs_to_the_deployment_whose_replica_set_made_it(forged: str) -> None:
    def pod(owner: str, mark: str = "abc") -> dict:
        labels = {"pod-template-hash": mark, "app": "web"}
        owners = [{"kind": "ReplicaSet", "name": owner, "controller": True}]
        return {"metadata": {"name": "p", "labels": labels, "ownerReferences": owners}}

    assert deployment_of(pod("web-abc")) == "web"
    assert deployment_of(pod(forged)) != "web"
