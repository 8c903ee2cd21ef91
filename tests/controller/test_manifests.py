"""Manifests and chart: rights that are used and no others, and what the real `kubectl` makes of them on the double."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from kube_api import KubeApi
from kube_cluster import Cluster
from kube_rig import FAST, Recorded, managing
from kube_store import Object, Resource

import flashfm
from flashfm.act.guardrails import Setting
from flashfm.adapt.agent import FlashAgent
from flashfm.controller.kube.api import Api
from flashfm.controller.kube.managed import Mode
from flashfm.controller.kube.resource import manifest
from flashfm.controller.operator import Operator
from flashfm.controller.store import Store

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "src/flashfm/controller/manifests"
CHART = ROOT / "deploy/helm/flashfm"
Right = tuple[str, str, str]
"""Group, resource and verb."""


def of_kind(kind: str, documents: list[Object]) -> Object:
    (found,) = [one for one in documents if one["kind"] == kind]
    return found


def rights(rules: list[Object]) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(kube: KubeApi) -> set[Right]:
    ours = [one for one in kube.asked if one.agent.startswith("flashfm/")]
    return {(one.group, one.resource, one.verb) for one in ours if one.resource}


def vpas(kube: KubeApi) -> None:
    of = Resource("autoscaling.k8s.io", "v1", "verticalpodautoscalers", "VerticalPodAutoscaler", True, ("status",))
    kube.store.resources[of.name] = of
    spec = {"targetRef": {"kind": "Deployment", "name": "web"}, "recommenders": [{"name": "flashfm"}]}
    meta = {"name": "web", "namespace": "shop"}
    kube.put({"apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler", "metadata": meta, "spec": spec})


def test_the_role_has_the_rights_that_are_used_and_no_others(agent: FlashAgent, tmp_path: Path) -> None:
    asked: set[Right] = set()
    with KubeApi() as kube:
        kube.put(manifest("crd")[0])
        Cluster(kube).deploy(limits={"cpu": "2", "memory": "2Gi"})
        act = manifest("example")[0]
        act["spec"] |= {"mode": "Act", "bounds": {"replicas": {"min": 4, "max": 8}, "cpuCores": {"min": 0.1, "max": 1}}}
        kube.put(act)
        api, store = Api.connect(kube.kubeconfig(tmp_path / "config"), config=FAST), Store(tmp_path / "state.db")
        operator = Operator(api, agent, store, sources=lambda _: Recorded())
        with operator.watching():
            (target,) = operator.targets()
            operator.on_step(operator.loop.step(target))
        store.close()
        api.close()
        asked |= used(kube)
    with managing(tmp_path) as one:  # what the operator's first step had no reason for
        one.cluster.deploy()
        vpas(one.kube)
        one.backend.observe(one.target)
        one.mode(Mode.RECOMMEND, vpa="web")
        one.backend.act(one.target, Setting(1.0, 1024.0, 2))
        one.mode(Mode.ACT)
        one.kube.change(
            "verticalpodautoscalers.autoscaling.k8s.io", "shop", "web", {"spec": {"targetRef": {"name": "x"}}}
        )
        one.kube.fault("patch", "pods/resize", 404)
        one.backend.act(one.target, Setting(1.0, 1024.0, 2))
        asked |= used(one.kube)
    assert asked == rights(of_kind("ClusterRole", manifest("rbac"))["rules"])


def test_nothing_runs_with_more_than_it_needs() -> None:
    deployment = of_kind("Deployment", manifest("operator"))
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert set(container["resources"]) == {"requests", "limits"}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"]: f"/{volume['name']}" for volume in pod["volumes"]}
    binding = of_kind("ClusterRoleBinding", manifest("rbac"))
    assert binding["roleRef"]["name"] == of_kind("ClusterRole", manifest("rbac"))["metadata"]["name"]
    account = of_kind("ServiceAccount", manifest("rbac"))["metadata"]
    assert pod["serviceAccountName"] == account["name"]
    assert [(one["name"], one["namespace"]) for one in binding["subjects"]] == [(account["name"], account["namespace"])]


def test_options_in_manifests_are_those_of_the_command() -> None:
    from flashfm.cli import autoscale

    command = typer.main.get_command(autoscale.app).commands.get("kubernetes")  # type: ignore[attr-defined]
    if command is None:
        pytest.skip("`flashfm autoscale kubernetes` is not wired")
    known = {option for parameter in command.params for option in parameter.opts}
    (container,) = of_kind("Deployment", manifest("operator"))["spec"]["template"]["spec"]["containers"]
    chart = (CHART / "templates/operator.yaml").read_text()
    words = [*container["args"], *(part.split('"')[-1].split("- ")[-1].strip() for part in chart.split("\n"))]
    asked = {word.split("=")[0] for word in words if word.startswith("--") and word != "---"}
    assert {"--state", "--allow-queries"} <= asked
    assert asked <= known


# -- the schema ------------------------------------------------------------------------------------------------------


def walk(schema: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    yield path, schema
    for name, of in schema.get("properties", {}).items():
        yield from walk(of, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from walk(schema[name], f"{path}[]")


def test_the_schema_is_structural_and_bounds_whatever_it_lets_in() -> None:
    (crd,) = manifest("crd")
    (version,) = crd["spec"]["versions"]
    for path, of in walk(version["schema"]["openAPIV3Schema"]):
        assert "type" in of, path
        assert of.get("additionalProperties") is not True, path
        assert not ("properties" in of and "additionalProperties" in of), path
        assert not of.keys() & {"oneOf", "anyOf", "allOf", "not", "$ref"}, path
        if path.startswith((".spec", ".status")):
            bounded = {
                "string": {"maxLength", "enum", "format", "pattern"},
                "integer": {"maximum", "minimum"},
                "number": {"maximum"},
                "array": {"maxItems"},
            }.get(of["type"])
            assert bounded is None or bounded & of.keys(), path
            if "pattern" in of:
                assert of["pattern"].startswith("^"), path
                assert of["pattern"].endswith("$"), path


# -- the chart -------------------------------------------------------------------------------------------------------


def test_the_chart_has_the_same_resource_rights_and_version() -> None:
    assert (CHART / "crds/crd.yaml").read_text() == (MANIFESTS / "crd.yaml").read_text()
    rules = yaml.safe_load((CHART / "files/rules.yaml").read_text())
    assert rules == of_kind("ClusterRole", manifest("rbac"))["rules"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (flashfm.__version__, flashfm.__version__)


def rendered(values: Object | None = None) -> list[Object]:
    helm = pytest.importorskip("helm_python.chart", reason="rendering takes Helm: pip install helm-python-sdk")
    with helm.Chart.load(CHART) as chart:
        texts = chart.render(values=values, name="flashfm", namespace="flashfm").values()
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def test_the_chart_renders_what_the_manifests_say() -> None:
    there = {(one["kind"], one["metadata"]["name"]): one for one in rendered()}
    for one in [*manifest("rbac"), *manifest("operator")]:
        twin = there.pop((one["kind"], one["metadata"]["name"]))
        if one["kind"] != "Deployment":
            kept = {name: of for name, of in twin.items() if name != "spec" or one["kind"] != "Service"}
            assert kept == {name: of for name, of in one.items() if name in kept}
            continue
        mine, its = (of["spec"]["template"]["spec"] for of in (one, twin))
        for name in ("securityContext", "serviceAccountName", "terminationGracePeriodSeconds", "volumes"):
            assert its[name] == mine[name]
        for name in ("securityContext", "livenessProbe", "readinessProbe", "resources", "volumeMounts", "env"):
            assert its["containers"][0][name] == mine["containers"][0][name]
        assert set(mine["containers"][0]["args"]) <= set(its["containers"][0]["args"])
        assert twin["spec"]["strategy"] == one["spec"]["strategy"]
    assert there == {}


def test_the_chart_makes_a_role_for_each_namespace_where_some_are_named() -> None:
    values = {"namespaces": ["shop", "pay"], "allowQueries": True, "persistence": {"enabled": False}}
    there = rendered(values)
    assert "ClusterRole" not in {one["kind"] for one in there}
    assert [one["metadata"]["namespace"] for one in there if one["kind"] == "RoleBinding"] == ["shop", "pay"]
    roles = [one for one in there if one["kind"] == "Role"]
    assert all(rights(one["rules"]) == rights(of_kind("ClusterRole", manifest("rbac"))["rules"]) for one in roles)
    (container,) = of_kind("Deployment", there)["spec"]["template"]["spec"]["containers"]
    assert {"--namespace=shop", "--namespace=pay", "--allow-queries"} <= set(container["args"])


# -- kubectl ---------------------------------------------------------------------------------------------------------

Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def kube() -> Iterator[KubeApi]:
    with KubeApi("1.33") as made:
        yield made


@pytest.fixture
def kubectl(kube: KubeApi, tmp_path: Path) -> Kubectl:
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("there is no kubectl on this machine")
    env = {**os.environ, "HOME": str(tmp_path), "KUBECONFIG": str(kube.kubeconfig(tmp_path / "config"))}

    def run(*words: str, given: str | None = None, fails: bool = False) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([program, *words], env=env, input=given, capture_output=True, text=True, timeout=60)
        assert (done.returncode != 0) == fails, done.stderr
        return done

    return run


def apply(kubectl: Kubectl, *names: str, **how: Any) -> str:
    files = [word for name in names for word in ("-f", str(MANIFESTS / f"{name}.yaml"))]
    done = kubectl("apply", "--validate=false", *(files or ["-f", "-"]), **how)
    return done.stdout + done.stderr


def test_kubectl_applies_all_manifests_and_finds_nothing_to_change_after(kube: KubeApi, kubectl: Kubectl) -> None:
    first = apply(kubectl, "crd", "rbac", "operator")
    assert first.count(" created") == 7
    kubectl("wait", "--for=condition=Established", "crd/flashautoscalers.flashfm.io", "--timeout=5s")
    apply(kubectl, "example")
    assert apply(kubectl, "crd", "rbac", "operator", "example").count(" unchanged") == 8


def test_kubectl_is_refused_what_the_schema_does_not_let_in(kube: KubeApi, kubectl: Kubectl) -> None:
    apply(kubectl, "crd")
    example = (MANIFESTS / "example.yaml").read_text()
    for old, new, said in (
        ("max: 12}", "max: 99}", "spec.bounds.replicas.max: Invalid value: 99 is greater than the maximum of 32"),
        ("mode: Shadow", "mode: Live", "spec.mode: Invalid value: 'Live' is not one of"),
        ("container: app", "container: '$(id)'", "spec.container: Invalid value"),
        ("  slo: {p99Ms: 250}\n", "", "'slo' is a required property"),
    ):
        assert said in apply(kubectl, given=example.replace(old, new), fails=True)
    apply(kubectl, "example")
    (made,) = kube.store.all(kube.store.resources["flashautoscalers.flashfm.io"])
    assert made["spec"]["targetRef"] == {"name": "web", "apiVersion": "apps/v1", "kind": "Deployment"}


def test_kubectl_shows_what_the_operator_did(
    kube: KubeApi, kubectl: Kubectl, agent: FlashAgent, tmp_path: Path
) -> None:
    Cluster(kube).deploy(limits={"cpu": "2", "memory": "2Gi"})
    apply(kubectl, "crd")
    text = (MANIFESTS / "example.yaml").read_text().replace("mode: Shadow", "mode: Act")
    apply(kubectl, given=text.replace("replicas: {min: 2,", "replicas: {min: 4,"))
    api, store = Api.connect(tmp_path / "config", config=FAST), Store(tmp_path / "state.db")
    operator = Operator(api, agent, store, sources=lambda _: Recorded())
    with operator.watching():
        (target,) = operator.targets()
        operator.on_step(operator.loop.step(target))
    store.close()
    api.close()
    heads, row = kubectl("get", "fas", "-n", "shop", "-o", "wide").stdout.splitlines()
    assert heads.split() == ["NAME", "DEPLOYMENT", "MODE", "PHASE", "REPLICAS", "CPU", "MEMORY", "REASON"]
    assert row.split()[:5] == ["web", "web", "Act", "bootstrap", "4"]
    assert "HPA and VPA rules" in row
    assert kubectl("get", "deploy", "web", "-n", "shop", "-o", "jsonpath={.spec.replicas}").stdout == "4"
    said = kubectl("get", "fas", "web", "-n", "shop", "-o", "jsonpath={.status.conditions[*].type}").stdout
    assert said.split() == ["Accepted", "Observed", "Applied"]
    kubectl("scale", "deploy/web", "-n", "shop", "--replicas=5")
    limits = (
        '{"spec":{"containers":[{"name":"proxy","resources":{"limits":{"cpu":"200m"},"requests":{"cpu":"200m"}}}]}}'
    )
    pod = Cluster(kube).pods()[0]["metadata"]["name"]
    kubectl("patch", "pod", pod, "-n", "shop", "--subresource=resize", "-p", limits)
    kubectl("delete", "fas", "web", "-n", "shop", "--wait=false")
    assert kube.store.all(kube.store.resources["flashautoscalers.flashfm.io"]) == []
