"""The engine of a cluster, on real nodes of Ray: nodes and heads that go, full stores, and doors that are shut."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import engine_items
import numpy as np
import pytest
from doors import listening
from processes import Command, command
from ray_cluster import ADDRESS, STORE, RayCluster, needs_ray

from flashfm.engine.base import Engine
from flashfm.engine.ray import Ray
from flashfm.engine.ray_driver import _perform
from flashfm.errors import EngineError

pytestmark = needs_ray


def test_ray_is_in_no_process_of_ours(ray: Engine) -> None:
    assert dict(ray.run(engine_items.square, {"a": 2})) == {"a": 4}
    assert "ray" not in sys.modules


def test_all_cores_of_the_cluster_work(ray: Engine, tmp_path: Path) -> None:
    assert ray.workers == 2
    items = {str(i): tmp_path for i in range(2)}
    assert len(set(dict(ray.run(engine_items.meets_another, items)).values())) == 2


def test_no_more_items_than_workers_are_at_work(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _may_join(cluster, monkeypatch)
    with Ray(cluster.address, 1) as engine:
        assert engine.workers == 1
        found = dict(engine.run(engine_items.counts_others, {str(i): tmp_path for i in range(4)}))
    assert set(found.values()) == {0}


def test_results_that_the_stores_could_not_hold_together_all_come(ray: Engine) -> None:
    mib = STORE // 2**20 // 4
    total = 0
    for _, values in ray.run(engine_items.large, {str(i): mib for i in range(16)}):
        assert np.all(values == mib)
        total += values.nbytes
    assert total == 16 * mib * 2**20 > 2 * STORE


def test_what_items_share_is_stored_once(ray: Engine) -> None:
    shared = np.ones(STORE // 8 // 2)  # half of a store; twice would be all of it
    found = dict(ray.run(partial(engine_items.scaled, shared), {str(i): i for i in range(6)}))
    assert found == {str(i): float(i * shared.size) for i in range(6)}


def test_items_of_a_node_that_goes_are_worked_on_elsewhere(
    cluster: RayCluster, ray: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def lose_a_node() -> None:
        engine_items.wait_until(lambda: len(list(tmp_path.glob("started-*"))) == 2)
        cluster.remove("node-0")
        (tmp_path / "go").touch()

    with caplog.at_level(logging.WARNING, "flashfm.engine"), ThreadPoolExecutor(1) as beside:
        lost = beside.submit(lose_a_node)
        found = dict(ray.run(engine_items.waits_for_go, {"a": tmp_path, "b": tmp_path}))
        lost.result()
    assert found == {"a": "went", "b": "went"}
    (again,) = (record.getMessage() for record in caplog.records if record.name == "flashfm.engine")
    assert again.startswith("item ")
    assert again.endswith("trying again, 2 of 3 times")


def test_a_node_that_comes_works_too(cluster: RayCluster, ray: Engine, tmp_path: Path) -> None:
    cluster.add("node-1")
    items = {str(i): tmp_path for i in range(2)}
    assert len(set(dict(ray.run(engine_items.meets_another, items)).values())) == 2


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL], ids=lambda by: by.name)
def test_a_command_that_is_stopped_leaves_nothing_at_work_on_the_cluster(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by: signal.Signals
) -> None:
    _may_join(cluster, monkeypatch)
    with command("ray", tmp_path, cluster.address) as running:
        at_work = [int(path.name.split("-")[1]) for path in tmp_path.glob("started-*")]
        assert running.end(by) == (130 if by == signal.SIGINT else -by)
        engine_items.wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in at_work))


# -- doors that are shut -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "0" * 64], ids=["no token", "another token"])
def test_a_cluster_is_not_joined_without_its_token(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled" if token is None else "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", token or "")
    monkeypatch.setenv("RAY_NUM_REDIS_GET_RETRIES", "1")  # of as many seconds
    with pytest.raises(EngineError) as caught, Ray(cluster.address):
        pass
    assert str(caught.value).startswith(f"the cluster of Ray at {cluster.address} cannot be joined: ")
    assert "RAY_AUTH_TOKEN" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_address_where_nothing_is_is_one_line() -> None:
    with pytest.raises(EngineError) as caught, Ray(f"{ADDRESS}:9"):
        pass
    assert str(caught.value).startswith(f"the cluster of Ray at {ADDRESS}:9 cannot be joined: nothing answers there (")
    assert "\n" not in str(caught.value)


def test_without_ray_one_line_says_how_to_get_it() -> None:
    script = (
        "import sys; sys.modules['ray'] = None\n"
        "from flashfm.engine.choose import engine_of\n"
        "try:\n"
        "    with engine_of('ray'): pass\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == (
        "EngineError --engine ray needs Ray, which is not installed; run: pip install 'flashfm[ray]'\n"
    )


def test_a_node_with_another_version_is_refused() -> None:
    with pytest.raises(EngineError, match="it has flashfm "):
        _perform("0.0.0", b"", b"")


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL], ids=lambda by: by.name)
def test_a_cluster_of_our_own_is_on_loopback_and_leaves_nothing(tmp_path: Path, by: signal.Signals) -> None:
    with command("ray", tmp_path) as running:
        assert open_doors(running) == []
        assert running.end(by) == (130 if by == signal.SIGINT else -by)


def test_when_the_head_goes_one_line_says_so_and_what_was_done_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = RayCluster(nodes=0, gcs_rpc_server_reconnect_timeout_s=3)
    _may_join(cluster, monkeypatch)
    done: dict[str, str] = {}

    def kept(run: Iterator[tuple[str, str]]) -> None:
        for name, made in run:
            done[name] = made
            cluster.remove("head")

    try:
        with Ray(cluster.address) as engine, pytest.raises(EngineError) as caught:
            kept(engine.run(engine_items.quick_or_endless, {"quick": True, "endless": False}))
    finally:
        cluster.close()
    assert done == {"quick": "done"}
    assert str(caught.value).startswith(f"the cluster of Ray at {cluster.address} is gone: ")
    assert "\n" not in str(caught.value)


def _may_join(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.token)


def open_doors(running: Command) -> list[str]:
    """Addresses other than loopback on which a process of a command listens."""
    found = listening(running.pids())
    assert found, "expected processes of Ray to listen"
    return [str(host) for host in found if not (getattr(host, "ipv4_mapped", None) or host).is_loopback]
