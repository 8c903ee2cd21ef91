"""An application of this machine as the simulator would have it: what its requests cost, and episodes of that twin.

Enters: a running service, and what room there is. Leaves: costs of a request, parameters, and trajectories by which
the agent gets to know the application before it acts. An episode takes 50 minutes live and a second here.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from flashfm.act.autoscale import Nodes
from flashfm.act.guardrails import Bounds, Setting
from flashfm.adapt.agent import FlashAgent, Trajectory
from flashfm.baselines.scaling import HpaVpaConfig
from flashfm.controller.keeper import Keeper, KeeperConfig, Target
from flashfm.controller.lifecycle import LifecycleConfig
from flashfm.controller.replica import HOST
from flashfm.controller.replicas import ServedReplicas
from flashfm.controller.simulated import SimulatedBackend
from flashfm.datasets.rate_trace import RateTrace
from flashfm.errors import ControlError
from flashfm.tasks.autoscaling import loads, pairs
from flashfm.tasks.autoscaling.calibration import LEAST_REQUEST_MIB, LEAST_TAIL, MOST_TAIL, ApplicationCosts
from flashfm.tasks.autoscaling.dynamics import CPU_CORES, MEMORY_MIB, REPLICAS
from flashfm.tasks.autoscaling.parameters import LONGEST_START, STEP_S, Params
from flashfm.tasks.autoscaling.scenario import Scenario
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS

CALLS = (5, 200)
"""Calls that costs are measured by, at least and at most; …"""
CALLS_S = 5.0
"""… beyond the least only until so many seconds have passed."""
ANSWER_S = 60.0
"""Longest call."""
MEMORY_SHARE = 0.5
"""Of the memory that the machine has free, what replicas may have."""
MEMORY_NOISE = 0.02
NEVER_STEPS = 1_000_000_000
"""Length of a BOOTSTRAP in which rules act for good."""
MOST_CONCURRENCY = 64
EPISODES = 3
"""Of the twin, by which the agent gets to know it: as many as it reads at most."""


CLIENT_CORES = 0.25
"""Of this machine, kept for the client and the controller where replicas may run on all of them."""


@dataclass(frozen=True)
class Room:
    """What replicas may have of this machine.

    The client has a core of its own where there are two or more, unless cores are slow: then all share all cores, and
    replicas leave some of them to others.
    """

    replica_cpus: frozenset[int]
    client_cpus: frozenset[int]
    memory_mib: float
    core: float = 1.0
    """Share of one of this machine's cores that counts as one: less makes many slow cores of few."""

    @classmethod
    def here(cls, core: float = 1.0) -> Room:
        """Of this process's cores and the memory that is free now.

        Args:
            core: share of one of this machine's cores that counts as one, above 0 and at most 1.

        Raises:
            ControlError: there is too little memory for two small replicas.
        """
        cpus = sorted(os.sched_getaffinity(0))
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        memory = math.floor(MEMORY_SHARE * int(lines["MemAvailable"].split()[0]) / 1024)
        if memory < 2 * MEMORY_MIB[0]:
            raise ControlError(
                f"{memory} MiB are left for replicas; expected at least {2 * MEMORY_MIB[0]:g}: end other programs"
            )
        if core < 1:
            return cls(frozenset(cpus), frozenset(cpus), float(memory), core)
        return cls(frozenset(cpus[1:] or cpus), frozenset(cpus[:1]), float(memory))

    @property
    def cores(self) -> float:
        """That replicas share."""
        kept = CLIENT_CORES if self.core < 1 else 0.0
        return (len(self.replica_cpus) - kept) / self.core

    @property
    def nodes(self) -> Nodes:
        """The same as a node of a cluster."""
        return Nodes(1, self.cores, self.memory_mib)

    @property
    def bounds(self) -> Bounds:
        """Bounds within which all replicas together fit."""
        cores = self.cores
        return Bounds(
            cpu_cores=(CPU_CORES[0], min(CPU_CORES[1], cores)),
            memory_mib=(MEMORY_MIB[0], min(MEMORY_MIB[1], self.memory_mib)),
            replicas=(1, min(int(REPLICAS[1]), int(cores / CPU_CORES[0] + 1e-6))),
            budget_cores=cores,
            budget_mib=self.memory_mib,
        )

    def describe(self) -> str:
        """What it is, in words."""
        apart = self.replica_cpus.isdisjoint(self.client_cpus)
        client = "the client has another" if apart else "the client has the same, so latencies include its work"
        low, high = self.bounds.replicas
        each = f", each 1/{1 / self.core:g} of one of this machine," if self.core < 1 else ""
        return (
            f"replicas share {self.cores:g} core{'s' * (self.cores != 1)}{each} and {self.memory_mib / 1024:.1f} GiB"
            f" ({low} to {high} of at least {CPU_CORES[0]:g} cores); {client}"
        )


def measure(service: ServedReplicas) -> ApplicationCosts:
    """What a request costs, by calls one after the other to a service of one replica that nobody else asks.

    Each call has a connection of its own, as those of `load` have.

    Args:
        service: running.

    Raises:
        ControlError: a call failed.
    """
    name, times = service.spec.name, list[float]()
    _call(service.port, name)
    before, begun_s = service.usage(), time.perf_counter()
    while len(times) < CALLS[0] or (len(times) < CALLS[1] and time.perf_counter() - begun_s < CALLS_S):
        times.append(_call(service.port, name))
    after = service.usage()
    cpu_s = max((after.cpu_s - before.cpu_s) / len(times), 1e-4)
    median, high = (float(np.quantile(times, q)) for q in (0.5, 0.99))
    resident = max(after.resident_mib or 0.0, before.resident_mib or 0.0, 1.0)
    return ApplicationCosts(
        name,
        cpu_s=cpu_s,
        wait_s=max(median - cpu_s / min(before.setting.cpu_cores, 1.0), 0.0),
        tail=min(max(high / median, LEAST_TAIL), MOST_TAIL),
        memory_base_mib=resident,
        memory_request_mib=LEAST_REQUEST_MIB,
    )


def _call(port: int, name: str) -> float:
    """Seconds of one call."""
    begun_s, web = time.perf_counter(), http.client.HTTPConnection(HOST, port, timeout=ANSWER_S)
    try:
        web.request("POST", "/", headers={"Connection": "close"})
        answer = web.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ControlError(f"{name}: no answer to a single request: {error}; try `flashfm apps run {name}`") from None
    finally:
        web.close()
    if answer.status != 200:
        said = json.loads(body).get("error", "") if body.startswith(b"{") else ""
        raise ControlError(f"{name}: answered {answer.status} to a single request: {said!s:.200}")
    return time.perf_counter() - begun_s


def parameters(
    costs: ApplicationCosts, room: Room, *, slo_s: float, timeout_s: float, concurrency: int, start_steps: int
) -> Params:
    """Parameters of the dynamics for replicas of one process each, on this machine.

    Args:
        costs: of a request.
        room: for replicas.
        slo_s: objective for the p99.
        timeout_s: after which a request is given up.
        concurrency: requests that a replica works on at a time.
        start_steps: steps until a replica that is ordered answers; cut to 1 to `LONGEST_START`.
    """
    values = {
        "cpu_s": costs.cpu_s,
        "wait_s": costs.wait_s,
        "tail": costs.tail,
        "workers": 1.0,
        "concurrency": float(concurrency),
        "memory_base_mib": costs.memory_base_mib,
        "memory_request_mib": costs.memory_request_mib,
        "memory_noise": MEMORY_NOISE,
        "start_steps": float(min(max(start_steps, 1), LONGEST_START)),
        "restarts": 0.0,
        "slo_s": slo_s,
        "timeout_s": max(timeout_s, 2 * slo_s),
        "nodes": 1.0,
        "node_cores": room.cores,
        "node_memory_mib": room.memory_mib,
        "node_speed": 1.0,
        "neighbours": 0.0,
    }
    return Params(**{name: np.array([value], np.float64) for name, value in values.items()})


def twin(name: str, params: Params, mean_per_s: float, seed: int) -> Scenario:
    """The application in the simulator, under loads that are drawn and have this mean.

    Args:
        name: of the application.
        params: as of `parameters`.
        mean_per_s: requests a second.
        seed: of the loads.
    """
    drawn = replace(loads.draw(np.random.default_rng([seed, 1]), 1), mean_per_s=np.array([mean_per_s]))
    return Scenario((name,), params, drawn, np.asarray(pairs.capacity_per_s(params)))


def rules_only(rules: HpaVpaConfig) -> KeeperConfig:
    """Settings with which rules act for good and the agent only watches."""
    return KeeperConfig(lifecycle=LifecycleConfig(bootstrap_steps=NEVER_STEPS), rules=rules)


def lived(scenario: Scenario, agent: FlashAgent, target: Target, rules: HpaVpaConfig, seed: int) -> Trajectory:
    """One episode of a twin under the rules, seen as monitoring would show it.

    Args:
        scenario: of one pair.
        agent: that is to get to know it.
        target: whose terms and bounds are taken.
        rules: that act.
        seed: of load and chance.
    """
    (name,) = scenario.apps
    backend = SimulatedBackend(scenario, steps=EPISODE_STEPS + 1, seed=seed)
    twin_of = Target(name, target.terms, target.bounds, acting=True)
    keeper = Keeper(twin_of, agent, rules_only(rules))
    while True:
        decision, finished = keeper.decide(backend.observe(twin_of), backend.now_s(name))
        if finished is not None:
            return finished
        if decision.change and decision.setting is not None:
            backend.act(twin_of, decision.setting)


def concurrency(costs: ApplicationCosts, least: int) -> int:
    """Requests that a replica works on at a time so that cores run out before places do.

    They are twice those that keep a core busy, as pools of threads are sized.

    Args:
        costs: of a request.
        least: that it is.
    """
    return min(max(math.ceil(2 * (costs.wait_s + costs.cpu_s) / costs.cpu_s), least), MOST_CONCURRENCY)


def first(costs: ApplicationCosts, room: Room, rate_per_s: float) -> Setting:
    """A setting to begin with: half a core and twice the memory in use each, for twice the first load.

    Args:
        costs: of a request.
        room: for replicas.
        rate_per_s: of the first step.
    """
    bounds = room.bounds
    cpu = min(0.5, bounds.cpu_cores[1])
    memory = min(max(2 * costs.memory_base_mib, bounds.memory_mib[0]), bounds.memory_mib[1])
    fits = min(room.cores / cpu, room.memory_mib / memory, bounds.replicas[1])
    return Setting(cpu, memory, max(1, min(math.ceil(2 * rate_per_s * costs.cpu_s / cpu), math.floor(fits + 1e-6))))


def scaled(
    trace: RateTrace | None,
    params: Params,
    *,
    steps: int,
    period_s: float,
    mean_per_s: float | None,
    seed: int,
    mean_share: float = loads.MEAN_SHARE,
) -> tuple[Float[np.ndarray, " step"], str]:
    """Requests a second of each control step, and in words where they come from.

    Args:
        trace: whose shape the load has, a step of `STEP_S` for each control step, from its first window without gaps
            on; None generates one.
        params: of the twin, which say what can be served within the objective.
        steps: that the load lasts.
        period_s: length of a control step.
        mean_per_s: of the load; None takes a share of what can be served within the objective.
        seed: of a generated load.
        mean_share: that share, at most.

    Raises:
        DataError: the trace is too short, or has no window without gaps and with requests.
    """
    rng = np.random.default_rng([seed, 3])
    if trace is None:
        start = rng.integers(loads.CLOCK_STEPS, size=1).astype(np.float64)
        shape, words = loads.generate(loads.draw(rng, 1), steps - 1, rng, start)[:, 0], "generated"
    else:
        binned = loads.at_step(trace, rng)
        begin = int(loads.window_starts(binned, steps)[0])
        shape, faster = binned.counts[begin : begin + steps].astype(np.float64), STEP_S / period_s
        words = f"trace {trace.name} from {begin * STEP_S / 3600:.3g} h on"
        words += "" if faster == 1 else f", {faster:.3g} times as fast"
    share, capacity = shape / shape.mean(), float(pairs.capacity_per_s(params)[0])
    rates = share * (mean_share * capacity if mean_per_s is None else mean_per_s)
    if mean_per_s is None:
        rates = loads.clamp(rates[:, None], np.array([capacity]), mean_share)[:, 0]
    mean = float(rates.mean())
    return rates, (
        f"{words}, scaled to a mean of {mean:.3g} requests/s, {mean / capacity:.0%} of the {capacity:.3g} that this"
        " machine can serve within the objective"
    )
