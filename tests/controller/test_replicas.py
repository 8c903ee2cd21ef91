"""Replicas under real limits: they share a port, change in place, come back after death, and nothing of them stays."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import gettempdir

import pytest
from services import BUSY, backend_or_skip, call
from traces_of import groups_of

from flashfm.act.guardrails import Setting
from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.controller.load import Client, Load
from flashfm.controller.replica import START_CORES, limits
from flashfm.controller.replicas import ServedReplicas, Usage
from flashfm.errors import ControlError, LimitsError
from flashfm.measurements.limits import CgroupGroup
from flashfm.measurements.replica import Place, Serving, place

pytestmark = pytest.mark.limits
LARGE = ApplicationSpec("large", (SegmentSpec("matrix-multiplication", {"side": 1800, "repeats": 1}),))
"""Holds 150 MiB, and takes 75 more in a call."""


@pytest.fixture(scope="module")
def where() -> Iterator[Place]:
    with place(backend_or_skip()) as made:
        yield made


def until(service: ServedReplicas, holds: Callable[[Usage], bool], within_s: float = 20.0) -> Usage:
    deadline = time.monotonic() + within_s
    while not holds(usage := service.usage()):
        assert time.monotonic() < deadline, usage
        time.sleep(0.05)
    return usage


def answered(usage: Usage) -> list[float]:
    counts = []
    for url in usage.metrics.values():
        lines = urllib.request.urlopen(url, timeout=5).read().decode().splitlines()
        counts += [float(line.split()[1]) for line in lines if line.startswith('http_requests_total{code="200"}')]
    return counts


def test_requests_are_spread_and_everything_changes_while_they_come(where: Place) -> None:
    with (
        ServedReplicas(where, BUSY, Setting(0.3, 128.0, 2), name="many") as service,
        Client(Load(service.port, (30.0, 30.0, 30.0), 1.0, seed=0), where.root.child("client")) as client,
    ):
        assert service.usage().ready == 2
        client.go()
        time.sleep(1.0)
        spread = answered(service.usage())
        service.scale(Setting(0.4, 100.0, 3))
        groups = [one.group for one in service._replicas]
        until(service, lambda usage: usage.ready == 3)
        service.scale(Setting(0.4, 100.0, 1))
        usage = until(service, lambda _: len(service._replicas) == 1)
        heard = client.heard()
    assert len(spread) == 2
    assert min(spread) > 0
    assert usage.setting == Setting(0.4, 100.0, 1)
    assert sum(step.sent for step in heard) > 50
    assert sum(step.failed for step in heard) == 0, "one that starts or is taken away costs no request"
    assert all(isinstance(group, CgroupGroup) is False or not group.directories["cpu"].exists() for group in groups)


def test_limits_are_those_of_the_kernel_and_what_is_reserved_adds_up(where: Place) -> None:
    with ServedReplicas(where, BUSY, Setting(0.5, 128.0, 1), name="limits") as service:
        (replica,) = service._replicas
        before, begun_s = service.usage(), time.monotonic()
        service.scale(Setting(0.25, 200.0, 1))
        time.sleep(0.6)
        after, seconds = service.usage(), time.monotonic() - begun_s
        assert after.core_s - before.core_s == pytest.approx(0.25 * seconds, rel=0.35)
        assert after.gib_s - before.gib_s == pytest.approx(200 / 1024 * seconds, rel=0.35)
        group = replica.group
        if isinstance(group, CgroupGroup) and not group._v2:
            cpu, memory = group.directories["cpu"], group.directories["memory"]
            assert int((cpu / "cpu.cfs_quota_us").read_text()) == 25_000
            assert int((memory / "memory.limit_in_bytes").read_text()) == 200 << 20
            with pytest.raises(LimitsError, match="memory stays at 200 MiB, 8 are too few") as caught:
                service.scale(Setting(0.3, 8.0, 2))
            assert "\n" not in str(caught.value)
            assert service.usage().setting == Setting(0.3, 200.0, 2), "all else is done"
            assert int((cpu / "cpu.cfs_quota_us").read_text()) == 30_000
            assert int((memory / "memory.limit_in_bytes").read_text()) == 200 << 20


@pytest.mark.parametrize(
    ("cores", "core", "quota_us", "period_us"),
    [(0.5, 1.0, 50_000, 100_000), (1.0, 0.125, 1563, 12_500), (0.5, 0.0625, 1000, 32_000)],
)
def test_slow_cores_have_short_periods_that_the_kernel_takes(
    cores: float, core: float, quota_us: int, period_us: int
) -> None:
    found = limits(Setting(cores, 128.0, 1), core)
    assert found.period_us == period_us
    assert found.cpu_quota is not None
    assert found.cpu_quota * period_us == pytest.approx(quota_us, abs=1)


def test_one_that_starts_has_more_cores_and_use_counts_slow_ones(where: Place) -> None:
    with ServedReplicas(where, BUSY, Setting(0.5, 128.0, 1), name="slow", core=0.25) as service:
        (first,) = service._replicas
        service.scale(Setting(0.5, 128.0, 2))
        until(service, lambda usage: usage.replicas == 2 and len(service._replicas) == 2)
        starts = service._replicas[1]
        assert (first.setting.cpu_cores, starts.setting.cpu_cores) == (0.5, START_CORES)
        service.scale(Setting(0.25, 128.0, 2))
        assert (first.setting.cpu_cores, starts.setting.cpu_cores) == (0.25, START_CORES), "still"
        usage = until(service, lambda usage: usage.ready == 2)
        assert starts.setting == Setting(0.25, 128.0, 2)
        assert usage.cpu_s < 0.5, "starting is not counted"
        for _ in range(40):
            assert call(service.port) == 200
        busy = service.usage()
        assert busy.cpu_s - usage.cpu_s > 0.05
        assert busy.cpu_s == pytest.approx(4 * (first.cpu_s + starts.cpu_s), rel=0.2)


def test_one_that_runs_out_of_memory_is_counted_and_comes_back(where: Place) -> None:
    with ServedReplicas(where, LARGE, Setting(1.0, 1024.0, 1), name="large", serving=Serving(1)) as service:
        begun = service.usage()
        resident = begun.resident_mib
        assert resident is not None
        assert resident > 140
        service.scale(Setting(1.0, resident + 4, 1))
        with pytest.raises((OSError, http.client.HTTPException)):
            call(service.port)
        usage = until(service, lambda usage: usage.restarts == 1)
        assert (usage.kills, usage.replicas) == (1, 1), "it counts as one that starts"
        service.scale(Setting(1.0, 1024.0, 1))
        usage = until(service, lambda usage: usage.ready == 1)
        assert usage.cpu_s > begun.cpu_s >= 0, "what the first has used in its call stays counted"
        assert call(service.port) == 200


@pytest.mark.parametrize(
    ("spec", "memory_mib", "said"),
    [
        (BUSY, 16.0, "busy: a replica was killed at its limit of 16 MiB; give it more"),
        (ApplicationSpec("bad", (SegmentSpec("s3-read", {"file_kb": 128, "objects": 0}),)), 128.0, "objects is 0"),
    ],
)
def test_one_that_cannot_start_says_why(where: Place, spec: ApplicationSpec, memory_mib: float, said: str) -> None:
    begun = set(where.work.iterdir())
    with (
        pytest.raises(ControlError, match=said) as caught,
        ServedReplicas(where, spec, Setting(1.0, memory_mib, 1), name="x"),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert {path.suffix for path in set(where.work.iterdir()) - begun} <= {".json"}


def test_nothing_is_left_after_kill_9() -> None:
    backend_or_skip()
    before = set(Path(gettempdir()).glob("flashfm-*"))
    code = """
import sys, time
sys.path[:0] = [sys.argv[1]]
from services import BUSY
from flashfm.act.guardrails import Setting
from flashfm.controller.replica import START_CORES, limits
from flashfm.controller.replicas import ServedReplicas
from flashfm.measurements.limits import detect
from flashfm.measurements.replica import place
with place(detect()) as where, ServedReplicas(where, BUSY, Setting(0.5, 128.0, 2)) as service:
    print(*(one.process.pid for one in service._replicas), flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pids = owner.stdout.readline().split()
    assert len(pids) == 2
    assert groups_of(owner.pid)
    owner.kill()
    owner.wait()
    owner.stdout.close()

    def left() -> list[object]:
        files = set(Path(gettempdir()).glob("flashfm-*")) - before
        return [*groups_of(owner.pid), *files, *(pid for pid in pids if Path(f"/proc/{pid}").exists())]

    deadline = time.monotonic() + 10
    while left() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left()
