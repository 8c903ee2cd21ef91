"""Deployments of the simulator as a backend: what the loop would do with an application that exists in figures only.

Enters: a scenario. Leaves: samples like those of a cluster. Time is that of the simulation: a step passes with every
observation, so the loop may run as fast as it can.
"""

from __future__ import annotations

import numpy as np

from flashfm.act.guardrails import Setting
from flashfm.controller.keeper import Target
from flashfm.controller.sample import Sample
from flashfm.errors import BackendError
from flashfm.tasks.autoscaling.dynamics import Limits
from flashfm.tasks.autoscaling.parameters import STEP_S
from flashfm.tasks.autoscaling.scenario import Scenario
from flashfm.tasks.autoscaling.simulator import Simulator, Stepped

EPOCH_S = 1_700_000_000.0
"""Unix time at which simulations begin."""


class SimulatedBackend:
    """One deployment for each pair of a scenario, named as its application.

    Args:
        scenario: the pairs.
        steps: after which a deployment cannot be observed any more.
        seed: of loads and chance.
    """

    def __init__(self, scenario: Scenario, *, steps: int, seed: int = 0) -> None:
        self._simulators: dict[str, Simulator] = {}
        self._wanted: dict[str, Limits] = {}
        self.last: dict[str, Stepped] = {}
        """What the last step of each deployment came to."""
        for i, app in enumerate(scenario.apps):
            pair = scenario.take(np.array([i]))
            simulator = pair.simulator(actions="targets", seed=seed + i, kind="numpy", steps=steps)
            simulator.reset()
            self._simulators[app] = simulator
            self._wanted[app] = self._in_force(app)

    def now_s(self, name: str) -> float:
        """Time of a deployment."""
        return EPOCH_S + STEP_S * self._simulator(name).t

    def observe(self, target: Target) -> Sample:
        """Let a step pass, and tell of it.

        Raises:
            BackendError: no such deployment, or its load has ended.
        """
        simulator = self._simulator(target.name)
        if simulator.done:
            raise BackendError(f"{target.name}: the load has ended")
        self.last[target.name] = simulator.apply(self._wanted[target.name])
        self._wanted[target.name] = self._in_force(target.name)
        state, outcome, row = simulator.state, simulator.outcome, simulator.t
        service = outcome.service
        return Sample(
            time_s=self.now_s(target.name),
            replicas=round(float(outcome.replicas[0])),
            ready=round(float(outcome.ready[0])),
            cpu_cores=float(state.cpu_cores[0]),
            memory_mib=float(state.memory_mib[0]),
            used_cores=float(outcome.cpu_use[0] * outcome.cpu_cores[0]),
            used_mib=float(service.memory_mib[0]),
            arrived_per_s=float(simulator.load.rate_per_s[row][0]),
            served_per_s=float(service.served_per_s[0]),
            p99_s=float(service.p99_s[0]),
            killed=round(float(service.killed[0] * outcome.ready[0])),
            image=target.name,
        )

    def act(self, target: Target, setting: Setting) -> None:
        """Set limits and replicas from the next step on.

        Raises:
            BackendError: no such deployment.
        """
        self._simulator(target.name)
        self._wanted[target.name] = Limits(*(np.array([value], np.float32) for value in setting))

    def _in_force(self, name: str) -> Limits:
        simulator = self._simulator(name)
        return Limits(simulator.state.cpu_cores, simulator.state.memory_mib, simulator.outcome.replicas)

    def _simulator(self, name: str) -> Simulator:
        if name not in self._simulators:
            raise BackendError(f"no deployment {name!r:.60}; there are {', '.join(list(self._simulators)[:3])} …")
        return self._simulators[name]
