"""A service: some processes of one application on one port, each in a control group of its own.

Enters: an application and a `Setting`. Leaves: processes that are as many and as limited as that says, and what they
use. The kernel spreads connections over them (SO_REUSEPORT); one that starts listens only once its instances are
prepared, one that is taken away finishes what it has. Limits are changed in place. One that ends by itself is started
anew, later each time, as Kubernetes does. A thread sees to all that; nothing outlives the process, even after kill -9.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from flashfm.act.guardrails import Setting
from flashfm.applications.spec import ApplicationSpec
from flashfm.controller.replica import Replica, Reserved
from flashfm.errors import ControlError, FlashError, LimitsError, MeasureError
from flashfm.measurements.replica import START_TIMEOUT_S, Place, Serving, resident_mib

log = logging.getLogger("flashfm.controller")

TICK_S = 0.1
"""Between two looks at the processes."""
WAITS_S = (1.0, 30.0)
"""Before a process that has ended is replaced: at first and at most; doubled each time."""


@dataclass(frozen=True)
class Usage:
    """What a service is and has used since it began."""

    setting: Setting
    """In force for a replica that would start now, and how many are wanted."""
    replicas: int
    """That serve or start."""
    ready: int
    """That serve."""
    resident_mib: float | None
    """Of one that serves, mean over them; None where none does."""
    cpu_s: float
    """CPU time of all processes since each first answered, those that have ended included, of cores as limits count
    them."""
    kills: int
    """Processes that the kernel killed at their memory limit."""
    restarts: int
    """Processes that ended by themselves or were killed."""
    core_s: float
    """CPU limits of the processes times how long they were there."""
    gib_s: float
    """Their memory limits in GiB times how long they were there."""
    metrics: Mapping[str, str]
    """Where each of those that serve or finish shows its metrics, by its name."""


class ServedReplicas:
    """The processes. Use it as a context manager: the end of the block ends them.

    Args:
        where: groups and files.
        spec: the application.
        setting: at first.
        name: of the service's group, unique there.
        serving: how each process serves; ports are set here.
        cpus: cores that the processes may use; None for all.
        core: share of one of this machine's cores that counts as one in limits and use.

    Raises:
        ControlError: a process ended before it answered, or did not answer in time.
        LimitsError: groups or limits cannot be made.
    """

    def __init__(
        self,
        where: Place,
        spec: ApplicationSpec,
        setting: Setting,
        *,
        name: str = "service",
        serving: Serving | None = None,
        cpus: frozenset[int] | None = None,
        core: float = 1.0,
    ) -> None:
        self.spec, self._group = spec, where.root.child(name)
        self._port = Reserved()
        self._serving = replace(serving or Serving(drain_s=5.0), port=self._port.number, share_port=True)
        self._where, self._cpus, self._setting, self._core = where, cpus, setting, core
        self._replicas: list[Replica] = []
        self._leaving: list[Replica] = []
        self._made = self._kills = self._restarts = 0
        self._cpu_s = self._core_s = self._gib_s = 0.0
        self._wait_s, self._next_s = WAITS_S[0], 0.0
        self._problem: str | None = None
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._begun = self._ending = False
        self._thread = threading.Thread(target=self._tend, name=f"flashfm {name}", daemon=True)

    @property
    def port(self) -> int:
        """That requests go to."""
        return self._port.number

    def __enter__(self) -> ServedReplicas:
        self._thread.start()
        try:
            self._await_all()
        except BaseException:
            self.close(drain=False)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(drain=kind is None)

    def close(self, *, drain: bool = True) -> None:
        """End all processes and remove their groups.

        Args:
            drain: let them finish what they have.
        """
        with self._lock:
            self._ending = True
            for one in self._replicas:
                self._leave(one, self._serving.drain_s + 1 if drain else 0.0)
            for one in self._leaving:
                one.until_s = one.until_s if drain else 0.0
            self._replicas = []
        self._wake.set()
        self._thread.join()
        self._group.remove()
        self._port.close()

    def scale(self, setting: Setting) -> None:
        """Change limits at once, and replicas as fast as they start and finish.

        Args:
            setting: what is wanted.

        Raises:
            LimitsError: the kernel does not lower the memory limit; it stays, everything else is done.
        """
        with self._lock:
            kept = setting._replace(memory_mib=self._setting.memory_mib)
            grows = setting.memory_mib > self._setting.memory_mib
            try:
                for one in self._replicas:
                    one.limit(setting)
                self._setting = setting
            except LimitsError as error:
                for one in self._replicas:
                    with suppress(LimitsError):
                        one.limit(kept)
                self._setting = kept
                raise LimitsError(
                    f"{self.spec.name}: memory stays at {kept.memory_mib:.0f} MiB, {setting.memory_mib:.0f} are too"
                    f" few: {error}"
                ) from None
            finally:
                if grows:
                    self._wait_s, self._next_s = WAITS_S[0], 0.0
        self._wake.set()

    def usage(self) -> Usage:
        """What there is and was used."""
        with self._lock:
            there = [*self._replicas, *self._leaving]
            for one in there:
                one.look()
            serving = [one for one in self._replicas if one.ready]
            resident = []
            for one in serving:
                with suppress(OSError):
                    resident.append(resident_mib(one.process.pid))
            return Usage(
                setting=self._setting,
                replicas=max(len(self._replicas), self._setting.replicas),
                ready=len(serving),
                resident_mib=sum(resident) / len(resident) if resident else None,
                cpu_s=(self._cpu_s + sum(one.cpu_s for one in there)) / self._core,
                kills=self._kills,
                restarts=self._restarts,
                core_s=self._core_s,
                gib_s=self._gib_s,
                metrics={one.name: one.metrics for one in (*serving, *self._leaving) if one.ready},
            )

    def _await_all(self) -> None:
        """Wait until all replicas answer for the first time."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            with self._lock:
                if self._problem is not None:
                    raise ControlError(self._problem)
                self._begun = sum(one.ready for one in self._replicas) >= self._setting.replicas
                if self._begun:
                    return
            self._wake.set()
            time.sleep(TICK_S / 2)
        raise ControlError(f"{self.spec.name}: not all replicas answer within {START_TIMEOUT_S:g} s; give more cores")

    def _tend(self) -> None:
        """See to the processes until all have ended; they end with this thread, which therefore starts them."""
        last_s = time.monotonic()
        while True:
            self._wake.wait(TICK_S)
            self._wake.clear()
            with self._lock:
                now_s = time.monotonic()
                self._account(now_s - last_s)
                gone = self._sort_out(now_s)
                done = self._ending and not self._leaving
            last_s = now_s
            for one in gone:
                one.process.close(0.0)
                with suppress(FlashError, OSError):
                    one.group.remove()
            if done:
                return

    def _account(self, seconds: float) -> None:
        for one in (*self._replicas, *self._leaving):
            one.look()
            self._core_s += seconds * one.setting.cpu_cores
            self._gib_s += seconds * one.setting.memory_mib / 1024

    def _sort_out(self, now_s: float) -> list[Replica]:
        """One round over all processes; gives those that are gone and have to be removed."""
        gone = [one for one in self._leaving if one.process.ended or now_s >= one.until_s]
        self._leaving = [one for one in self._leaving if one not in gone]
        for one in [*self._replicas]:
            if self._alive(one, now_s):
                continue
            self._replicas.remove(one)
            gone.append(one)
            self._next_s = now_s + self._wait_s
            self._wait_s = min(2 * self._wait_s, WAITS_S[1])
        for one in gone:
            self._cpu_s += one.cpu_s
        if self._ending:
            return gone
        while len(self._replicas) > self._setting.replicas:
            # one that starts has nothing to finish
            one = min(reversed(self._replicas), key=lambda of: of.ready)
            self._replicas.remove(one)
            self._leave(one, self._serving.drain_s + 1 if one.ready else 0.0)
        while len(self._replicas) < self._setting.replicas and now_s >= self._next_s:
            try:
                self._replicas.append(self._start())
            except (FlashError, OSError) as error:
                self._trouble(f"{self.spec.name}: a replica cannot be started: {error}")
                self._next_s = now_s + self._wait_s
                break
        return gone

    def _alive(self, one: Replica, now_s: float) -> bool:
        """Whether a process goes on; where it has just begun to answer, that is noted."""
        why = f"did not answer within {START_TIMEOUT_S:g} s"
        try:
            if not one.process.ended and (one.ready or one.process.answers() or now_s < one.until_s):
                if not one.ready and one.process.port is not None:
                    one.answers()
                    self._wait_s, self._problem = WAITS_S[0], None
                    with suppress(LimitsError):
                        one.limit(self._setting)
                return True
            if one.process.ended:
                why = f"ended: {one.process.last_words()}"
        except MeasureError as error:
            why = str(error)
        killed = one.group.oom_kills() > 0
        self._kills += killed
        self._restarts += 1
        self._trouble(
            f"{self.spec.name}: a replica was killed at its limit of {self._setting.memory_mib:.0f} MiB; give it more"
            if killed
            else f"{self.spec.name}: a replica {why}"
        )
        return False

    def _trouble(self, what: str) -> None:
        if self._begun and what != self._problem:
            log.warning("%s", what)
        self._problem = what

    def _start(self) -> Replica:
        self._made += 1
        name = f"replica-{self._made}"
        group = self._group.child(name)
        return Replica(name, group, self.spec, self._where.work, self._serving, self._cpus, self._setting, self._core)

    def _leave(self, one: Replica, within_s: float) -> None:
        """Have a process end."""
        one.until_s = time.monotonic() + within_s
        with suppress(OSError):
            one.process.terminate()
        self._leaving.append(one)
