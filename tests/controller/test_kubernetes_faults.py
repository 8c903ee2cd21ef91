"""What goes wrong between the Kubernetes backend and its API server: refusals, silence, and watches that break."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kube_rig import BIGGER, Managing

from flashfm.act.guardrails import Setting
from flashfm.controller.kube import api as api_module
from flashfm.controller.kube.api import Api, ApiConfig
from flashfm.controller.kube.backend import KubernetesConfig
from flashfm.controller.kube.meant import Meant
from flashfm.controller.kube.reader import Cluster as Watching
from flashfm.errors import BackendError, ControlError

# -- faults ----------------------------------------------------------------------------------------------------------


def test_a_conflict_is_tried_again_on_the_object_as_it_is_then(one: Managing) -> None:
    def meddle() -> None:
        one.kube.change("deployments.apps", "shop", "web", {"metadata": {"labels": {"by": "another"}}})

    one.kube.fault("patch", "deployments/scale", before=meddle)
    one.backend.act(one.target, Setting(0.5, 512.0, 5))
    assert [asked.status for asked in one.kube.sent("patch")] == [409, 200]
    after = one.kube.get("deployments.apps", "shop", "web")
    assert (after["spec"]["replicas"], after["metadata"]["labels"]) == (5, {"by": "another"})


def test_conflicts_without_end_are_given_up(one: Managing) -> None:
    one.kube.fault("patch", "deployments/scale", 409, times=99)
    with pytest.raises(BackendError, match="409 Conflict: injected; it has changed meanwhile"):
        one.backend.act(one.target, Setting(0.5, 512.0, 5))
    assert len(one.kube.sent("patch")) == 3


@pytest.mark.parametrize(
    ("status", "said"), [(422, "422"), (500, "the server failed"), (503, "503"), (403, "rbac.yaml")]
)
def test_what_the_server_refuses_is_one_line_and_what_was_done_is_said(one: Managing, status: int, said: str) -> None:
    one.kube.fault("patch", "pods/resize", status, message="line one\nline two \x1b[31m" + "x" * 9999)
    with pytest.raises(BackendError) as caught:
        one.backend.act(one.target, Setting(1.0, 1024.0, 3))
    text = str(caught.value)
    assert said in text
    assert text.isprintable()
    assert len(text) < 600
    assert text.endswith("; replicas are set")
    assert "1 of 1 pods are not resized" in text
    assert one.backend.observe(one.target).setting() == Setting(0.5, 512.0, 3), "what was refused is not meant"
    one.backend.act(one.target, Setting(1.0, 1024.0, 3))
    assert one.cluster.limits() == [{"cpu": "1000m", "memory": "1024Mi"}] * 3


def test_a_refusal_half_way_is_made_up_for_in_the_next_step(start: Callable[..., Managing]) -> None:
    one = start()
    one.cluster.deploy(replicas=4)
    one.kube.fault("patch", "deployments", before=lambda: one.kube.fault("patch", "pods/resize", 500))
    with pytest.raises(BackendError, match=r"3 of 3 pods are not resized: .*500"):
        one.backend.act(one.target, Setting(1.0, 1024.0, 4))
    assert one.backend.observe(one.target).setting() == Setting(1.0, 1024.0, 4)
    assert one.backend.settle(one.target) == "3 pods that started since have got the limits that are meant"
    assert one.cluster.limits() == [{"cpu": "1000m", "memory": "1024Mi"}] * 4


def test_a_server_that_asks_for_a_second_gets_it(one: Managing) -> None:
    one.kube.fault("patch", "deployments/scale", 429, headers={"Retry-After": "1"})
    begun_s = time.monotonic()
    one.backend.act(one.target, Setting(0.5, 512.0, 3))
    assert time.monotonic() - begun_s >= 1.0
    assert len(one.cluster.pods()) == 3


@pytest.mark.parametrize("verb", ["get", "patch"])
def test_a_server_that_asks_for_more_is_left_alone_for_a_while(one: Managing, verb: str) -> None:
    one.backend.observe(one.target)
    one.kube.fault(verb, "*", 429, headers={"Retry-After": "3600"})
    begun_s, asked = time.monotonic(), len(one.kube.asked)
    with pytest.raises(BackendError, match="429 Too Many Requests"):
        one.backend.act(one.target, Setting(0.5, 512.0, 3))
    sent = len(one.kube.asked)
    assert sent > asked
    with pytest.raises(BackendError, match=r"not sent: the API server asked for [56]. s more of quiet"):
        one.backend.observe(one.target)
    assert len(one.kube.asked) == sent
    assert time.monotonic() - begun_s < 1.0


def test_a_server_that_does_not_answer_is_not_waited_for_long(one: Managing) -> None:
    one.kube.fault("get", "deployments", slow_s=3.0)
    begun_s = time.monotonic()
    with pytest.raises(BackendError, match="no answer in time"):
        one.backend.observe(one.target)
    assert time.monotonic() - begun_s < 2.0


def test_a_server_that_is_not_there_is_one_line(start: Callable[..., Managing]) -> None:
    one = start()
    one.kube.__exit__(None, None, None)
    with pytest.raises(BackendError, match="is the API server reachable"):
        one.backend.observe(one.target)


def test_many_slow_pods_end_with_the_time_of_the_action(start: Callable[..., Managing]) -> None:
    one = start(config=KubernetesConfig(act_s=0.4))
    one.cluster.deploy(replicas=9)
    one.kube.fault("patch", "pods/resize", slow_s=0.2, times=99)
    with pytest.raises(BackendError, match=r"of 8 pods are not resized: it took longer than 0.4 s"):
        one.backend.act(one.target, Setting(1.0, 1024.0, 9))
    one.kube.faults.clear()
    one.backend.act(one.target, Setting(1.0, 1024.0, 9))
    assert one.cluster.limits() == [{"cpu": "1000m", "memory": "1024Mi"}] * 9


def test_lists_come_in_pages_and_selectors_of_all_kinds_are_asked_for(
    start: Callable[..., Managing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "PAGE", 2)
    one = start()
    among = {"key": "app", "operator": "In", "values": ["web", "shop"]}
    others = [{"key": "n", "operator": "Exists"}, {"key": "legacy", "operator": "DoesNotExist"}]
    not_in = {"key": "tier", "operator": "NotIn", "values": ["batch"]}
    one.cluster.deploy(replicas=5, selector={"matchExpressions": [among, *others, not_in]})
    one.backend.act(one.target, Setting(1.0, 1024.0, 5))
    assert one.cluster.limits() == [{"cpu": "1000m", "memory": "1024Mi"}] * 5
    assert len([asked for asked in one.kube.sent("list") if asked.resource == "pods"]) == 3


# -- connecting ------------------------------------------------------------------------------------------------------


def test_a_cluster_that_cannot_be_connected_to_is_said(tmp_path: Path) -> None:
    for text in (None, "", "- no: config", "apiVersion: v1\nkind: Config\nclusters: []\ncontexts: []\nusers: []\n"):
        path = tmp_path / "config"
        if text is not None:
            path.write_text(text)
        with pytest.raises(ControlError, match="no cluster to connect to"):
            Api.connect(path)
    with pytest.raises(ControlError, match="at least 1 try"):
        ApiConfig(tries=0)
    with pytest.raises(ControlError, match="times above 0"):
        KubernetesConfig(act_s=0.0)


def test_the_token_is_sent_and_never_said(one: Managing) -> None:
    one.kube.fault("get", "deployments", 401, message="token s3cret is bad")
    with pytest.raises(BackendError, match="is the token still good") as caught:
        one.backend.observe(one.target)
    assert "s3cret-token" not in str(caught.value)
    assert {asked.authorization for asked in one.kube.asked} == {"Bearer s3cret-token"}


# -- watching --------------------------------------------------------------------------------------------------------


def eventually(check: Callable[[], bool], within_s: float = 5.0) -> None:
    end_s = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < end_s, "not in time"
        time.sleep(0.01)


@pytest.fixture
def watching(one: Managing) -> Iterator[Watching]:
    made = Watching(one.api, ["shop"])
    one.backend.reader = made
    with pytest.raises(BackendError, match="deployments are not known yet"):
        one.backend.observe(one.target)
    made.start()
    eventually(lambda: made.trouble() is None)
    yield made
    made.stop()


def test_what_is_watched_needs_no_request(one: Managing, watching: Watching) -> None:
    asked = len(one.kube.sent("get", "list"))
    for _ in range(5):
        assert one.backend.observe(one.target).setting() == Setting(0.5, 512.0, 2)
    one.kube.change("deployments.apps", "shop", "web", {"spec": {"replicas": 3}})
    eventually(lambda: one.backend.observe(one.target).ready == 3)
    one.cluster.kill(one.cluster.pods()[0])
    eventually(lambda: one.backend.observe(one.target).killed == 1)
    assert len(one.kube.sent("get", "list")) == asked


def test_a_watch_goes_on_after_it_ends_breaks_and_is_too_old(one: Managing, watching: Watching) -> None:
    of = one.kube.store.resources["deployments.apps"]
    time.sleep(1.1)  # the length of a watch
    one.kube.fault("watch", "deployments", 500)
    one.kube.fault("watch", "deployments", 410)
    one.kube.change("deployments.apps", "shop", "web", {"spec": {"replicas": 4}})
    one.kube.store.compact()
    eventually(lambda: one.backend.observe(one.target).replicas == 4)
    eventually(lambda: all(fault.times == 0 for fault in one.kube.faults))
    one.kube.store.delete(of, "shop", "web")
    one.kube.store.compact()

    def gone() -> bool:
        try:
            one.backend.observe(one.target)
        except BackendError as error:
            return "no such Deployment" in str(error)
        return False

    eventually(gone)
    with pytest.raises(BackendError, match="no such Deployment"):
        one.backend.observe(one.target)


def test_an_event_that_is_not_understood_is_no_end(one: Managing, watching: Watching) -> None:
    store = one.kube.store
    with store.changed:
        key = ("deployments.apps", "shop", "odd")
        store.history.append((store.version + 1, "ADDED", key, {"metadata": {"name": "odd"}}))
        store.changed.notify_all()
    for n in range(3):
        one.kube.change("deployments.apps", "shop", "web", {"metadata": {"labels": {"n": str(n)}}})
    one.kube.change("deployments.apps", "shop", "web", {"spec": {"replicas": 4}})
    eventually(lambda: one.backend.observe(one.target).replicas == 4)
    assert watching.trouble() is None


def test_what_is_old_is_not_believed(one: Managing, watching: Watching) -> None:
    one.kube.fault("watch", "*", 500, times=999)
    one.kube.fault("list", "*", 500, times=999)
    eventually(lambda: watching.trouble() is not None)
    with pytest.raises(BackendError, match=r"(deployments|pods) were last heard of . s ago: GET .*500"):
        one.backend.observe(one.target)
    one.kube.faults.clear()
    eventually(lambda: watching.trouble() is None, 10.0)


def test_what_is_watched_late_does_not_undo_what_was_set(one: Managing, watching: Watching) -> None:
    one.backend.act(one.target, BIGGER)
    stale = one.backend.reader.deployment("shop", "web")

    class Late:
        def deployment(self, namespace: str, name: str) -> dict:
            return stale

        def pods(self, deployment: dict) -> list[dict]:
            return one.cluster.pods()

    eventually(lambda: Meant.read(one.backend.reader.deployment("shop", "web"), "app") is not None)
    stale = one.backend.reader.deployment("shop", "web")
    one.backend.act(one.target, Setting(2.0, 2048.0, 2))
    one.backend.reader = Late()
    sent = one.written()
    assert one.backend.settle(one.target) is None
    assert one.written() == sent
