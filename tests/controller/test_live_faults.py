"""Faults on real processes under the loop: twenty times the load in a step, a process that dies, monitoring that stops.

What the matrix of `test_loop` asks of the simulator holds here too: bounds and budget hold, the service recovers, the
direction changes seldom, and no step is lost.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from services import BUSY, backend_or_skip

from flashfm.act.autoscale import Terms
from flashfm.act.guardrails import Setting
from flashfm.adapt.agent import FlashAgent
from flashfm.controller.keeper import Target
from flashfm.controller.lifecycle import Phase
from flashfm.controller.live_config import LiveConfig
from flashfm.controller.load import Client, Load
from flashfm.controller.local import LocalBackend
from flashfm.controller.loop import Loop, Stepped
from flashfm.controller.replicas import ServedReplicas
from flashfm.controller.store import Store
from flashfm.controller.twin import Room
from flashfm.measurements.replica import Place, place

pytestmark = [pytest.mark.limits, pytest.mark.slow]
PERIOD_S, CORE = 1.0, 1 / 16
FIRST = Setting(1.0, 128.0, 2)
TERMS = Terms(1.0, 0.7)


@pytest.fixture
def where() -> Iterator[Place]:
    with place(backend_or_skip()) as made:
        yield made


def lived(
    where: Place,
    agent: FlashAgent,
    path: Path,
    rates: list[float],
    fault: Callable[[ServedReplicas, int], object] = lambda *_: None,
) -> tuple[list[Stepped], list[float]]:
    """Steps of a service under the loop, and the p99 of each as the client saw it; a fault is told of each step."""
    room, steps = Room.here(CORE), list[Stepped]()
    config = LiveConfig(steps=len(rates), period_s=PERIOD_S, core=CORE).keeper
    target = Target("busy", TERMS, room.bounds, acting=True)
    with ServedReplicas(where, BUSY, FIRST, name="faults", core=CORE) as service:
        load = Load(service.port, tuple(rates), PERIOD_S, seed=1)
        store = Store(path)
        with Client(load, where.root.child("client"), room.client_cpus) as client:
            loop, stop = Loop(LocalBackend({"busy": service}, timeout_s=0.5), agent, store, config), threading.Event()

            def stepped(one: Stepped) -> None:
                steps.append(one)
                fault(service, len(steps))
                if len(steps) == len(rates):
                    stop.set()

            client.go()
            time.sleep(PERIOD_S)
            loop.run(lambda: [target], period_s=PERIOD_S, stop=stop, on_step=stepped)
            heard = client.heard()
        kept = store.steps("busy", len(rates) + 1)
        store.close()
    assert [step.n for step in kept] == list(range(len(rates))), "nothing is lost"
    for one in steps:
        wanted = one.decision.setting
        if wanted is None or not one.decision.change:
            continue
        for value, (low, high) in zip(
            wanted, (room.bounds.cpu_cores, room.bounds.memory_mib, room.bounds.replicas), strict=True
        ):
            assert low <= value <= high
        assert wanted.replicas * wanted.cpu_cores <= room.cores * (1 + 1e-6)
        assert wanted.replicas * wanted.memory_mib <= room.memory_mib * (1 + 1e-6)
    changed = [one.decision.setting.replicas for one in steps if one.decision.change and one.decision.setting]
    up = [b > a for a, b in itertools.pairwise(changed) if a != b]
    most = 2 * len(rates) * PERIOD_S / config.guard.reversal_s + 2
    assert sum(a != b for a, b in itertools.pairwise(up)) <= most
    return steps, [np.inf if step.p99_s is None else step.p99_s for step in heard]


def test_a_load_of_twenty_times_as_much_is_met(where: Place, agent: FlashAgent, tmp_path: Path) -> None:
    rates = [8.0] * 5 + [160.0] * 18
    steps, p99_s = lived(where, agent, tmp_path / "state.db", rates)
    assert {one.decision.phase for one in steps[1:]} == {Phase.BOOTSTRAP}
    assert max(p99_s[5:12]) > TERMS.slo_s, "two replicas do not hold it"
    assert np.median(p99_s[-5:]) < TERMS.slo_s
    assert steps[-1].decision.setting is not None
    assert steps[-1].decision.setting.replicas > 2 * FIRST.replicas


def test_a_process_that_dies_and_monitoring_that_stops_are_got_over(
    where: Place, agent: FlashAgent, tmp_path: Path
) -> None:
    stopped: list[int] = []

    def fault(service: ServedReplicas, step: int) -> None:
        if step == 4:
            os.kill(service._replicas[0].process.pid, signal.SIGKILL)
        if step == 10:
            stopped.extend(one.process.pid for one in service._replicas)
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if step < 13 else signal.SIGCONT)

    steps, p99_s = lived(where, agent, tmp_path / "state.db", [10.0] * 20, fault)
    held = [one for one in steps if one.decision.by == "nobody"]
    assert held
    assert all("not observed" in one.decision.why and not one.decision.change for one in held)
    assert steps[-1].decision.by == "rules"
    assert np.median(p99_s[-5:]) < TERMS.slo_s
