"""The loop: observe, decide, guard, act, record; the same for every backend.

Enters: deployments, a backend, the agent and a store. Leaves: changed deployments, and a record of every step. What a
backend cannot do in one step is tried anew in the next one, from what is then in force; nothing is done twice blindly.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from flashfm.act.guardrails import Setting
from flashfm.adapt.agent import FlashAgent
from flashfm.controller.keeper import Decision, Keeper, KeeperConfig, Target
from flashfm.controller.kept import DONE, FAILED, NOTHING
from flashfm.controller.sample import Sample
from flashfm.controller.store import Store
from flashfm.errors import BackendError
from flashfm.tasks.autoscaling.parameters import STEP_S

log = logging.getLogger("flashfm.controller")


@runtime_checkable
class Backend(Protocol):
    """Where deployments run: it observes and acts, and decides nothing."""

    def observe(self, target: Target) -> Sample:
        """What monitoring shows of the control step that has just ended.

        Raises:
            BackendError: it cannot be asked; figures that are missing are None in the sample.
        """

    def act(self, target: Target, setting: Setting) -> None:
        """Set a deployment; asking again for what is in force changes nothing.

        Raises:
            BackendError: it was not done, or not wholly.
        """


@dataclass(frozen=True)
class Stepped:
    """One step of one deployment."""

    target: str
    decision: Decision
    status: str
    """As in `store`."""
    detail: str
    seconds: float
    """That deciding took, without the backend."""


class Loop:
    """Controls deployments.

    Args:
        backend: where they run.
        agent: the pretrained agent.
        store: what is kept.
        config: of every deployment.
        clock: gives Unix time.
    """

    def __init__(
        self,
        backend: Backend,
        agent: FlashAgent,
        store: Store,
        config: KeeperConfig | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.backend, self.store, self.config = backend, store, config or KeeperConfig()
        self._agent, self._clock = agent, clock
        self._keepers: dict[str, Keeper] = {}

    def keeper(self, target: Target) -> Keeper:
        """What is remembered of a deployment, from the store where this process has not met it yet."""
        known = self._keepers.get(target.name)
        if known is None:
            known, said = self.store.restored(target, self._agent, self.config)
            if said is not None:
                log.warning("%s: %s", target.name, said, extra={"target": target.name, "phase": known.life.phase})
            self._keepers[target.name] = known
        known.target = target
        return known

    def step(self, target: Target) -> Stepped:
        """One control step of one deployment.

        Raises:
            ControlError: what was decided cannot be kept; then nothing is set.
        """
        keeper, got = self.keeper(target), self._observe(target)
        now_s, begun_s = self._clock(), time.perf_counter()
        decision, finished = keeper.decide(got, now_s)
        sample = None if isinstance(got, str) or decision.by == "nobody" else got
        n = self.store.begin(keeper, now_s, sample, decision, finished)
        seconds = time.perf_counter() - begun_s
        fields = {"target": target.name, "phase": decision.phase}
        if decision.turned is not None:
            log.info("%s: %s: %s", target.name, decision.phase, decision.turned, extra=fields)
        if not decision.change or decision.setting is None:
            return Stepped(target.name, decision, NOTHING, "", seconds)
        status, detail = DONE, ""
        try:
            self.backend.act(target, decision.setting)
        except BackendError as error:
            status, detail = FAILED, str(error)
            log.warning("%s: %s", target.name, error, extra=fields)
        self.store.end(target.name, n, status, detail)
        return Stepped(target.name, decision, status, detail, seconds)

    def run(
        self,
        targets: Callable[[], Sequence[Target]],
        *,
        period_s: float = STEP_S,
        stop: threading.Event | None = None,
        on_step: Callable[[Stepped], object] = lambda _: None,
    ) -> None:
        """Step all deployments once a period, until told to stop.

        Args:
            targets: those that there are now.
            period_s: length of a control step.
            stop: ends the loop after the deployment in hand.
            on_step: told of every step.
        """
        stop = stop or threading.Event()
        due_s = time.monotonic()
        while not stop.is_set():
            there = targets()
            for gone in self._keepers.keys() - {target.name for target in there}:
                del self._keepers[gone]
            for target in there:
                if stop.is_set():
                    return
                on_step(self.step(target))
            due_s = max(due_s + period_s, time.monotonic() - period_s)
            stop.wait(max(0.0, due_s - time.monotonic()))

    def _observe(self, target: Target) -> Sample | str:
        try:
            return self.backend.observe(target)
        except BackendError as error:
            return f"not observed: {error}"
