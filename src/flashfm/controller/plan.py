"""What is tried with an application, and what the simulator says of it: the pure half of `live`.

Enters: costs of a request, room, settings. Leaves: terms, load, first setting, a keeper for each arm, and what becomes
of an arm in the simulator. `live` does the same with processes, `experiments.live` tunes rules by it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flashfm.act.autoscale import Terms
from flashfm.act.guardrails import Past, Setting
from flashfm.adapt.agent import FlashAgent, Trajectory
from flashfm.controller import twin
from flashfm.controller.arms import FLASH, Arm, Steps
from flashfm.controller.keeper import Keeper, KeeperConfig, Target
from flashfm.controller.lifecycle import Life, LifecycleConfig, Phase
from flashfm.controller.live_config import LiveConfig
from flashfm.controller.predicted import predict
from flashfm.controller.twin import Room
from flashfm.datasets.rate_trace import RateTrace
from flashfm.tasks.autoscaling.calibration import ApplicationCosts
from flashfm.tasks.autoscaling.parameters import Params
from flashfm.tasks.autoscaling.scenario import Scenario
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS

LEAST_TIMEOUT_S = 10.0
"""Of a request; twice the objective where that is longer."""


@dataclass(frozen=True, eq=False)
class Plan:
    """One application under one load, for either arm."""

    name: str
    terms: Terms
    room: Room
    config: LiveConfig
    params: Params
    """Of the twin."""
    rates: Steps
    """Requests a second of each step, those before what counts included."""
    load: str
    """Where it comes from, in words."""
    setting: Setting
    """At first."""
    alone_s: float
    """Median of a request that nobody else asks beside, under a core."""

    @classmethod
    def of(
        cls,
        costs: ApplicationCosts,
        room: Room,
        config: LiveConfig,
        *,
        concurrency: int,
        start_steps: int,
        trace: RateTrace | None = None,
    ) -> Plan:
        """What is tried where requests cost so much.

        Args:
            costs: of a request, under cores as `room` counts them.
            room: for replicas.
            config: settings.
            concurrency: requests that a replica works on at a time.
            start_steps: steps until a replica that is ordered answers.
            trace: whose shape the load has; None generates one.

        Raises:
            DataError: the trace is too short.
        """
        alone_s = costs.wait_s + costs.cpu_s / min(1.0, room.bounds.cpu_cores[1])
        slo_s = config.slack * alone_s if config.slo_s is None else config.slo_s
        params = twin.parameters(
            costs,
            room,
            slo_s=slo_s,
            timeout_s=timeout_s(slo_s),
            concurrency=concurrency,
            start_steps=start_steps,
        )
        rates, load = twin.scaled(
            trace,
            params,
            steps=config.steps,
            period_s=config.period_s,
            mean_per_s=config.mean_per_s,
            seed=config.seed,
            mean_share=config.mean_share,
        )
        if config.warm_up == "live":
            scenario = twin.twin(costs.name, params, float(rates.mean()), config.seed)
            warm, _ = scenario.load(np.random.default_rng([config.seed, 2]), EPISODE_STEPS)
            rates = np.concatenate([warm[:, 0], rates])
        first = twin.first(costs, room, float(rates[0]))
        return cls(
            costs.name, Terms(slo_s, config.alpha, room.nodes), room, config, params, rates, load, first, alone_s
        )

    @property
    def scenario(self) -> Scenario:
        """The twin, under loads with the same mean."""
        counted = self.rates[self.config.warm_steps :]
        return twin.twin(self.name, self.params, float(counted.mean()), self.config.seed)

    def target(self, arm: str) -> Target:
        """Of an arm, by its name; the agent's has its least limit of a replica, where the room has as much."""
        bounds = self.room.bounds
        if arm == FLASH:
            low, high = bounds.cpu_cores
            bounds = replace(bounds, cpu_cores=(min(max(low, self.config.least_cores), high), high))
        return Target(f"{self.name}/{arm}", self.terms, bounds, acting=True)

    def keeper_config(self, arm: str) -> KeeperConfig:
        """Of an arm; in that of the rules they act for good."""
        keeper = self.config.keeper
        return keeper if arm == FLASH else replace(keeper, lifecycle=LifecycleConfig(bootstrap_steps=twin.NEVER_STEPS))

    def known(self, agent: FlashAgent) -> tuple[Trajectory, ...]:
        """Episodes by which the agent gets to know the application before; none where it does so live or not."""
        if self.config.warm_up != "simulated":
            return ()
        scenario, rules, seed = self.scenario, self.config.rules, self.config.seed
        return tuple(twin.lived(scenario, agent, self.target(FLASH), rules, seed + i) for i in range(twin.EPISODES))

    def introduce(self, arm: str, keeper: Keeper, known: tuple[Trajectory, ...]) -> None:
        """Let the agent act from the first step on where it knows the application.

        Args:
            arm: its name; rules need not know anything.
            keeper: as it is before the first step.
            known: as of `known`.
        """
        if arm == FLASH and known:
            begun = Life(Phase.BOOTSTRAP, steps=keeper.config.lifecycle.bootstrap_steps)
            keeper.restore(begun, Past(), known, [], 0)

    def predicted(self, arm: str, agent: FlashAgent, known: tuple[Trajectory, ...] = ()) -> Arm:
        """What becomes of an arm in the simulator.

        Args:
            arm: its name.
            agent: that decides, or only watches.
            known: as of `known`.
        """
        keeper = Keeper(self.target(arm), agent, self.keeper_config(arm))
        self.introduce(arm, keeper, known)
        return predict(
            keeper,
            self.params,
            self.setting,
            self.rates,
            period_s=self.config.period_s,
            warm_steps=self.config.warm_steps,
            seed=self.config.seed,
        )


def timeout_s(slo_s: float) -> float:
    """After which a request is given up."""
    return max(LEAST_TIMEOUT_S, 2 * slo_s)
