"""One deployment of the simulator under the loop, with a virtual clock and faults that can be switched on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from flashfm.act.autoscale import Nodes, Terms
from flashfm.act.guardrails import Setting
from flashfm.adapt.agent import FlashAgent
from flashfm.controller.keeper import KeeperConfig, Target
from flashfm.controller.lifecycle import LifecycleConfig
from flashfm.controller.loop import Loop, Stepped
from flashfm.controller.sample import Sample
from flashfm.controller.simulated import SimulatedBackend
from flashfm.controller.store import Store
from flashfm.tasks.autoscaling.scenario import Scenario

STEPS = 700
SHORT = LifecycleConfig(probation_steps=20, window_steps=20)


class Rig:
    """One deployment, the loop, and what can be made to go wrong."""

    def __init__(self, agent: FlashAgent, unseen: Scenario, path: Path, pair: int) -> None:
        self.scenario = unseen.take(np.array([pair]))
        self.backend = SimulatedBackend(self.scenario, steps=STEPS)
        app = self.scenario.apps[0]
        p = self.scenario.params
        nodes = Nodes(int(p.nodes[0]), float(p.node_cores[0]), float(p.node_memory_mib[0]))
        self.target = Target(app, Terms(float(p.slo_s[0]), 0.7, nodes), acting=True)
        self.agent, self.path, self.skew_s = agent, path, 0.0
        self.samples: list[Sample] = []
        self.observing: Callable[[Sample], Sample] = lambda sample: sample
        self.acting: Callable[[Setting], None] = lambda _: None
        self.config = KeeperConfig(lifecycle=SHORT)
        self.begin()

    def begin(self) -> None:
        """Start a controller on what another one left."""
        self.store = Store(self.path)
        self.loop = Loop(self, self.agent, self.store, self.config, clock=self.now_s)

    def now_s(self) -> float:
        return self.backend.now_s(self.target.name) + self.skew_s

    def observe(self, target: Target) -> Sample:
        sample = self.backend.observe(target)
        self.samples.append(sample)
        return self.observing(replace(sample, time_s=self.now_s()))

    def act(self, target: Target, setting: Setting) -> None:
        self.acting(setting)
        self.backend.act(target, setting)

    def steps(self, n: int) -> list[Stepped]:
        return [self.loop.step(self.target) for _ in range(n)]
