"""What is seen of a sample is what the simulator shows of the same step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from rig import Rig

from flashfm.act.guardrails import InUse
from flashfm.controller.sample import Sample
from flashfm.controller.seen import Seen, see
from flashfm.tasks.autoscaling.interface import OBSERVATION, decode


def test_an_observation_is_that_of_the_simulator(rig: Callable[[int], Rig]) -> None:
    one, seen = rig(3), None
    of = {name: i for i, name in enumerate(OBSERVATION)}
    clock = [of["clock_sin"], of["clock_cos"]]
    for _ in range(30):
        one.steps(1)
        first, seen = seen is None, see(one.samples[-1], seen, one.target.terms)
        stepped = one.backend.last[one.target.name]
        simulator = one.backend._simulators[one.target.name]
        shown = np.array(stepped.observation[0], np.float64)
        shown[of["alpha"]] = 2 * one.target.terms.alpha - 1
        told = [i for i in range(len(OBSERVATION)) if i not in clock]
        served = simulator.outcome.service.backlog[0] == 0
        if first:  # what came before it is not known
            told.remove(of["load_change"])
        if served:  # a backlog is hidden from monitoring, and with it what was asked for in all
            np.testing.assert_allclose(seen.observation[0, told], shown[told], atol=2e-2)
        assert np.hypot(*seen.observation[0, clock]) == pytest.approx(1.0, abs=1e-5)
        for ours, theirs in zip(seen.recent, simulator.recent, strict=True):
            # peaks before the controller came are not known, and fade
            assert 0.5 * theirs[0] <= ours[0] <= theirs[0] * 1.001


def test_the_action_of_a_setting_asks_for_it(rig: Callable[[int], Rig]) -> None:
    one = rig(3)
    one.steps(5)
    seen = see(one.samples[-1], None, one.target.terms)
    wanted = seen.setting._replace(cpu_cores=2.5, memory_mib=3.0 * seen.used.memory_mib, replicas=7)
    asked = decode(seen.action(wanted).astype(np.float64), "targets", seen.state, seen.outcome, seen.recent)
    assert float(asked.cpu_cores[0]) == pytest.approx(2.5, rel=1e-4)
    assert float(asked.memory_mib[0]) == pytest.approx(wanted.memory_mib, rel=1e-4)
    assert round(float(asked.replicas[0]) - 0.5) == 7


def test_without_requests_the_objective_is_kept(rig: Callable[[int], Rig]) -> None:
    one = rig(3)
    one.steps(1)
    idle = {"arrived_per_s": 0.0, "served_per_s": 0.0, "p99_s": None, "used_cores": 0.0}
    seen: Seen = see(Sample(**{**one.samples[0].to_dict(), **idle}), None, one.target.terms)
    assert not seen.violated
    assert np.isfinite(seen.observation).all()
    assert seen.used == InUse(0.0, one.samples[0].used_mib or 0.0, False)


def test_with_no_replica_ready_the_objective_is_broken(rig: Callable[[int], Rig]) -> None:
    one = rig(3)
    one.steps(1)
    gone = {"ready": 0, "arrived_per_s": 0.0, "served_per_s": 0.0, "p99_s": None, "used_cores": 0.0}
    seen = see(Sample(**{**one.samples[0].to_dict(), **gone}), None, one.target.terms)
    assert seen.violated
    assert seen.reward < 0.5
