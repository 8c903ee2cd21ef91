"""Items that have a node of a cluster to themselves, and campaigns of measurements on such nodes."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import engine_items
import pytest
from engine_items import wait_until
from ray_cluster import TESTS, RayCluster, needs_ray
from traces_of import MARK, processes_marked
from unlimited import Unlimited, naps

from flashfm.datasets.table import MeasurementTable
from flashfm.engine.node import tidy
from flashfm.engine.ray import Ray
from flashfm.errors import LimitsError
from flashfm.measurements.cluster import Plan, Spread
from flashfm.measurements.journal import Journal
from flashfm.measurements.limits import detect

pytestmark = needs_ray

HOST = tidy(socket.gethostname())
CAMPAIGN = """
import sys
from pathlib import Path
from unlimited import Unlimited, naps
from flashfm.engine.ray import Ray
from flashfm.measurements.cluster import Plan, Spread
from flashfm.measurements.journal import Journal

campaign = naps(5, ms=50_000)
try:
    with Ray(sys.argv[1], whole_nodes=True) as engine, Journal(Path(sys.argv[2]), campaign.settings()) as journal:
        Spread(Plan(campaign, backend=Unlimited()), journal, engine).run()
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for temporary files on the nodes."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def nodes(scratch: Path) -> Iterator[RayCluster]:
    """Two nodes of two cores with names, and a head without cores; all that runs there is marked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, str(scratch))
        patch.setenv("TMPDIR", str(scratch))
        running = RayCluster(nodes=0, head_cores=0, health_check_period_ms=500, health_check_failure_threshold=3)
    try:
        for name in ("a", "b"):
            running.add(name, num_cpus=2, node_name=f"machine {name}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_AUTH_MODE", "token")
            patch.setenv("RAY_AUTH_TOKEN", running.token)
            yield running
    finally:
        running.close()


def test_a_node_has_one_item_at_a_time_and_what_it_had_goes_to_another(
    nodes: RayCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def lose_a_node_and_get_another() -> None:
        wait_until(lambda: len(list(tmp_path.glob("started-*"))) == 2)
        nodes.remove("a")
        nodes.add("c", num_cpus=2)  # which has no name of its own
        (tmp_path / "go").touch()

    with Ray(nodes.address, whole_nodes=True) as engine:
        assert engine.workers == 2
        busy = tmp_path / "busy"
        busy.mkdir()
        seen = dict(engine.run(engine_items.others_on_its_node, {str(i): busy for i in range(6)}))
        assert {name for name, _ in seen.values()} == {"machine-a", "machine-b"}
        assert {others for _, others in seen.values()} == {0}
        with caplog.at_level(logging.WARNING, "flashfm.engine"), ThreadPoolExecutor(1) as beside:
            changed = beside.submit(lose_a_node_and_get_another)
            items = {str(i): tmp_path for i in range(4)}
            found = list(dict(engine.run(engine_items.waits_for_go_somewhere, items)).values())
            changed.result()
        both = dict(engine.run(engine_items.meets_another_somewhere, {str(i): busy for i in range(2)}))
        assert set(both.values()) == {"machine-b", HOST}
    assert len(found) == 4
    assert set(found) <= {"machine-b", HOST}
    (again,) = (record.getMessage() for record in caplog.records if record.name == "flashfm.engine")
    assert "its node: machine-a; trying again, 2 of 3 times" in again


def test_nodes_measure_a_campaign_together(nodes: RayCluster, tmp_path: Path) -> None:
    campaign = naps(5)
    with Ray(nodes.address, whole_nodes=True) as engine, Journal(tmp_path / "j", campaign.settings()) as journal:
        spread = Spread(Plan(campaign, backend=Unlimited()), journal, engine)
        spread.run()
        measured = spread.measurements()
    assert len(measured) == 10
    assert {m.outcome for m in measured} == {"ok"}, [m.detail for m in measured]
    pairs = {(m.app, m.platform) for m in measured}
    assert len(pairs) == 5
    assert {platform for _, platform in pairs} == {"lambda@machine-b", f"lambda@{HOST}"}


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL], ids=lambda by: by.name)
def test_a_campaign_that_is_stopped_leaves_nothing_on_the_nodes(
    nodes: RayCluster, scratch: Path, tmp_path: Path, by: signal.Signals
) -> None:
    def at_work() -> int:
        return sum("flashfm.measurements.worker" in line for line in processes_marked(str(scratch)))

    words = [sys.executable, "-c", CAMPAIGN, nodes.address, str(tmp_path / "j")]
    running = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": os.pathsep.join(TESTS)})
    try:
        wait_until(lambda: at_work() >= 5 and len(list(scratch.glob("flashfm-*"))) == 2, 60)
        running.send_signal(by)
        assert running.wait(30) == (130 if by == signal.SIGINT else -by)
        wait_until(lambda: at_work() == 0)
        wait_until(lambda: not any("watchdog.py" in line for line in processes_marked(str(scratch))))
        assert list(scratch.glob("flashfm-*")) == []
    finally:
        running.kill()
        running.wait()


@pytest.mark.limits
def test_a_campaign_under_limits_by_command(nodes: RayCluster, tmp_path: Path) -> None:
    try:
        detect()
    except LimitsError as error:
        pytest.skip(str(error))
    words = ["--apps", "seed:5/0-4", "--memory", "512,2048", "--invocations", "2", "--least-ms", "0", "--passes", "1"]
    command = [sys.executable, "-m", "flashfm", "measure", *words, "--out", "all.parquet", "--json"]
    done = subprocess.run(
        [*command, "--engine", "ray", "--address", nodes.address], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert sum(said["nodes"].values()) == said["rows"] == 10
    frame = MeasurementTable.read(tmp_path / "all.parquet").frame
    assert set(frame.platform) == {f"lambda@{name}" for name in said["nodes"]} == {"lambda@machine-b", f"lambda@{HOST}"}
    assert list(tmp_path.iterdir()) == [tmp_path / "all.parquet"]
