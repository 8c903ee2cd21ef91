"""An application as a service of this machine under load, in the hands of the agent and then of HPA and VPA rules.

Enters: an application, the agent, perhaps a trace. Leaves: what happened in each step of each arm, as the client that
sent the requests saw it. Both arms get the same requests, one after the other, since at once they would fight for the
cores; both are one `Loop` over one `LocalBackend`, the second with a lifecycle in which the rules act for good.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from flashfm.act.guardrails import Setting
from flashfm.adapt.agent import FlashAgent, Trajectory
from flashfm.applications.deployment import deployed
from flashfm.applications.runtime import Application
from flashfm.applications.services import EmbeddedAws
from flashfm.applications.spec import ApplicationSpec
from flashfm.controller import twin
from flashfm.controller.arms import FLASH, HPA, Arm, Compared, missed
from flashfm.controller.kept import Kept
from flashfm.controller.live_config import LEAST_CONCURRENCY, LiveConfig
from flashfm.controller.load import Client, Heard, Load
from flashfm.controller.local import LocalBackend
from flashfm.controller.loop import Loop, Stepped
from flashfm.controller.plan import Plan, timeout_s
from flashfm.controller.replicas import ServedReplicas, Usage
from flashfm.controller.store import Store
from flashfm.datasets.rate_trace import RateTrace
from flashfm.measurements.limits import HIGHEST_SHARES, Backend, Group, Limits
from flashfm.measurements.replica import Place, Serving, place
from flashfm.tasks.autoscaling.calibration import ApplicationCosts

log = logging.getLogger("flashfm.controller")

DRAIN_S = 5.0


def compare(
    spec: ApplicationSpec,
    agent: FlashAgent,
    backend: Backend,
    config: LiveConfig | None = None,
    *,
    trace: RateTrace | None = None,
    state: Path | None = None,
    on_step: Callable[[int, int], object] = lambda *_: None,
) -> Compared:
    """Serve the application here, in the hands of one arm after the other.

    Args:
        spec: the application; S3 and DynamoDB are embedded where it calls them.
        agent: the pretrained agent.
        backend: how limits are set.
        config: what is tried.
        trace: whose shape the load has, one of its steps of `STEP_S` a control step, from its first gapless window on;
            None generates one.
        state: file that keeps the steps, one target an arm, which begin anew; None keeps none.
        on_step: told of the steps that are done and of all.

    Raises:
        FlashError: the application cannot be served or asked, the trace is too short, or the state cannot be kept.
    """
    config = config or LiveConfig()
    room = twin.Room.here(config.core)
    arms = [FLASH, HPA] if config.against else [FLASH]
    total = len(arms) * (config.warm_steps + config.steps)
    with ExitStack() as stack:
        where = stack.enter_context(place(backend))
        store = Store(where.work / "state.db" if state is None else state)
        stack.callback(store.close)
        if store.set_aside is not None:
            log.warning("%s was damaged and is now %s", state, store.set_aside)
        client = where.root.child("client")
        client.apply(Limits(cpu_shares=HIGHEST_SHARES))
        on_step(0, total)
        serving = stack.enter_context(_served(where, spec, client, room, config))
        steps = itertools.count(1)
        trial = _Trial(where, client, spec, agent, room, serving, config, store, lambda: on_step(next(steps), total))
        trial.prepare(trace)
        done = {arm: trial.run(arm) for arm in arms}
        told = {arm: trial.predicted(arm) for arm in arms}
        plan = trial.plan
        return Compared(spec.name, plan.terms, room.describe(), plan.load, plan.alone_s, done, told, trial.p_value)


@contextmanager
def _served(
    where: Place, spec: ApplicationSpec, client: Group, room: twin.Room, config: LiveConfig
) -> Iterator[Serving]:
    """How each process serves: with the buckets and tables that all of them share, where the application needs some."""
    serving = Serving(config.concurrency or LEAST_CONCURRENCY, DRAIN_S)
    if not Application.services(spec):
        yield serving
        return
    with EmbeddedAws(launcher=client.launcher) as aws:
        os.sched_setaffinity(aws.pid, room.client_cpus)
        with deployed(spec, endpoint_url=aws.endpoint_url) as there:
            where.dog.register("tree", str(there.workdir))
            yield replace(serving, endpoint_url=aws.endpoint_url, deployment=there.name)


class _Trial:
    """What both arms share."""

    def __init__(
        self,
        where: Place,
        client: Group,
        spec: ApplicationSpec,
        agent: FlashAgent,
        room: twin.Room,
        serving: Serving,
        config: LiveConfig,
        store: Store,
        on_step: Callable[[], object],
    ) -> None:
        self._where, self._client, self._spec, self._agent = where, client, spec, agent
        self._room, self._serving, self._config, self._store = room, serving, config, store
        self._on_step = on_step
        self.p_value: float | None = None
        self._known: tuple[Trajectory, ...] = ()
        self.plan: Plan

    def prepare(self, trace: RateTrace | None) -> None:
        """Measure the application, scale the load to what can be served here, and let the agent get to know it."""
        config, bounds = self._config, self._room.bounds
        whole = Setting(min(1.0, bounds.cpu_cores[1]), bounds.memory_mib[1], 1)
        costs, started_s = self._alone(whole)
        if config.concurrency is None:
            found = twin.concurrency(costs, LEAST_CONCURRENCY)
            if found != self._serving.concurrency:
                self._serving = replace(self._serving, concurrency=found)
                costs, started_s = self._alone(whole)
        start_steps, concurrency = math.ceil(started_s / config.period_s), self._serving.concurrency
        self.plan = Plan.of(costs, self._room, config, concurrency=concurrency, start_steps=start_steps, trace=trace)
        self._known = self.plan.known(self._agent)

    def _alone(self, whole: Setting) -> tuple[ApplicationCosts, float]:
        """What a request costs that nobody else asks, and seconds until the service answered."""
        begun_s = time.monotonic()
        with self._service("alone", whole) as service:
            started_s = time.monotonic() - begun_s
            return twin.measure(service), started_s

    def run(self, arm: str) -> Arm:
        """One arm from the first request to the last answer."""
        config, plan, target = self._config, self.plan, self.plan.target(arm)
        steps = len(plan.rates)
        self._store.forget(target.name)
        with (
            self._service("flash" if arm == FLASH else "hpa", plan.setting) as service,
            self._sender(service) as sender,
        ):
            backend = LocalBackend({target.name: service})
            loop = Loop(backend, self._agent, self._store, plan.keeper_config(arm))
            plan.introduce(arm, loop.keeper(target), self._known)
            rows, stop, usages = list[tuple[float, ...]](), threading.Event(), [service.usage()]

            def stepped(_: Stepped) -> None:
                rows.append(_row(backend, target.name, plan.setting))
                if len(rows) == config.warm_steps:
                    usages[0] = service.usage()
                self._on_step()
                if len(rows) == steps:
                    usages.append(service.usage())
                    stop.set()

            sender.go()
            time.sleep(config.period_s)
            loop.run(lambda: [target], period_s=config.period_s, stop=stop, on_step=stepped)
            heard = sender.heard()
            if arm == FLASH:
                self.p_value = loop.keeper(target).p_value
        kept = self._store.steps(target.name, steps)
        counted = slice(config.warm_steps, None)
        return self._arm(np.array(rows)[counted], heard[counted], kept[counted], usages)

    def predicted(self, arm: str) -> Arm:
        """One arm in the simulator."""
        return self.plan.predicted(arm, self._agent, self._known)

    def _arm(self, rows: Float[np.ndarray, "step 3"], heard: list[Heard], kept: list[Kept], usages: list[Usage]) -> Arm:
        before, after = usages
        sent, failed = (np.array([getattr(step, of) for step in heard], np.float64) for of in ("sent", "failed"))
        p99_s = np.array([math.nan if step.p99_s is None else step.p99_s for step in heard])
        answered = np.concatenate([np.array(step.latency_s, np.float64) for step in heard])
        replicas, cores, memory = rows.T
        return Arm(
            rate_per_s=self.plan.rates[self._config.warm_steps :],
            replicas=replicas,
            cores=replicas * cores,
            memory_gib=replicas * memory / 1024,
            p99_s=p99_s,
            sent=sent,
            failed=failed,
            violated=missed(p99_s, sent, failed, self.plan.terms.slo_s),
            decisions=tuple(kept),
            period_s=self._config.period_s,
            all_p99_s=float(np.quantile(answered, 0.99)) if answered.size else math.nan,
            late_s=max(step.late_s for step in heard),
            core_s=after.core_s - before.core_s,
            gib_s=after.gib_s - before.gib_s,
            kills=after.kills - before.kills,
            restarts=after.restarts - before.restarts,
        )

    def _service(self, name: str, setting: Setting) -> ServedReplicas:
        return ServedReplicas(
            self._where,
            self._spec,
            setting,
            name=name,
            serving=self._serving,
            cpus=self._room.replica_cpus,
            core=self._room.core,
        )

    def _sender(self, service: ServedReplicas) -> Client:
        load = Load(
            service.port,
            tuple(self.plan.rates.tolist()),
            self._config.period_s,
            seed=self._config.seed,
            timeout_s=timeout_s(self.plan.terms.slo_s),
        )
        return Client(load, self._client, self._room.client_cpus)


def _row(backend: LocalBackend, name: str, first: Setting) -> tuple[float, float, float]:
    """Replicas, and cores and MiB of each, in the step that has just ended."""
    last = backend.last.get(name)
    now = first if last is None else last.setting()
    return float(now.replicas), now.cpu_cores, now.memory_mib
