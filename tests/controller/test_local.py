"""Services of this machine as a backend: samples that can be acted on, and actions that are done or said to be not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from services import BUSY, backend_or_skip, call

from flashfm.act.autoscale import Terms
from flashfm.act.guardrails import Setting
from flashfm.controller.keeper import Target
from flashfm.controller.local import LocalBackend
from flashfm.controller.loop import Backend
from flashfm.controller.replicas import ServedReplicas
from flashfm.controller.sample import trouble
from flashfm.errors import BackendError
from flashfm.measurements.limits import CgroupGroup
from flashfm.measurements.replica import Place, place

pytestmark = pytest.mark.limits
TARGET = Target("busy", Terms(0.1), acting=True)


@pytest.fixture(scope="module")
def where() -> Iterator[Place]:
    with place(backend_or_skip()) as made:
        yield made


@pytest.fixture
def service(where: Place) -> Iterator[ServedReplicas]:
    with ServedReplicas(where, BUSY, Setting(0.5, 128.0, 2)) as made:
        yield made


def test_what_was_done_since_the_last_look_is_a_sound_sample(service: ServedReplicas) -> None:
    call(service.port)
    backend = LocalBackend({"busy": service})
    assert isinstance(backend, Backend)
    begun_s, n = time.monotonic(), 40
    for _ in range(n):
        assert call(service.port) == 200
    sample = backend.observe(TARGET)
    seconds = time.monotonic() - begun_s
    assert trouble(sample, [], time.time()) is None
    assert sample.setting() == Setting(0.5, 128.0, 2)
    assert (sample.ready, sample.killed, sample.image) == (2, 0, BUSY.digest)
    assert sample.arrived_per_s == sample.served_per_s == pytest.approx(n / seconds, rel=0.2)
    assert sample.p99_s is not None
    assert 0.002 < sample.p99_s < 1.0
    assert sample.used_cores is not None
    assert 0 < sample.used_cores < 1.3
    assert sample.used_mib is not None
    assert 10 < sample.used_mib < 128
    idle = backend.observe(TARGET)
    assert (idle.arrived_per_s, idle.served_per_s, idle.p99_s) == (0.0, 0.0, None), "what was told is not told again"
    assert trouble(idle, [sample], time.time()) is None


def test_what_is_acted_is_observed_and_a_death_is_seen(service: ServedReplicas) -> None:
    backend = LocalBackend({"busy": service})
    backend.act(TARGET, Setting(0.7, 160.0, 3))
    sample = backend.observe(TARGET)
    assert sample.setting() == Setting(0.7, 160.0, 3)
    assert sample.ready == 2, "the third has just been ordered"
    os.kill(service._replicas[0].process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while service.usage().ready < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    call(service.port)
    again = backend.observe(TARGET)
    assert (again.ready, again.killed) == (3, 0)
    assert again.arrived_per_s is not None
    assert again.arrived_per_s > 0, "what new processes count is counted from 0"
    backend.act(TARGET, again.setting())
    assert backend.observe(TARGET).setting() == again.setting()


def test_what_cannot_be_done_or_seen_is_one_line(service: ServedReplicas) -> None:
    backend = LocalBackend({"busy": service}, timeout_s=0.5)
    if isinstance(service._group, CgroupGroup) and not service._group._v2:
        with pytest.raises(BackendError, match="memory stays at 128 MiB"):
            backend.act(TARGET, Setting(0.5, 8.0, 2))
    other = replace(TARGET, name="other")
    for call_it in (lambda: backend.observe(other), lambda: backend.act(other, Setting(0.5, 128.0, 1))):
        with pytest.raises(BackendError, match="no service 'other'; there are busy"):
            call_it()
    pids = [one.process.pid for one in service._replicas]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(BackendError, match=r"no whole answer within 0\.5 s"):
        backend.observe(TARGET)
    os.kill(pids[0], signal.SIGCONT)
    half = backend.observe(TARGET)
    assert trouble(half, [], time.time()) is None, "what answers is believed"
    os.kill(pids[1], signal.SIGCONT)
