"""Services of this machine as a backend: what they count is scraped from each process, what they use is read of them.

Enters: services by name. Leaves: a sample a step, as a cluster's monitoring would give it; settings that are in force
at once. A process that does not answer the scrape in time is left out of the step and counted in the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flashfm.act.guardrails import Setting
from flashfm.controller.keeper import Target
from flashfm.controller.replicas import ServedReplicas, Usage
from flashfm.controller.sample import Sample
from flashfm.controller.scrape import Scrape, rates, scrape_all
from flashfm.errors import BackendError, LimitsError

TIMEOUT_S = 2.0
"""For the scrapes of a step; a process that waits for its quota answers late."""


@dataclass
class _Mark:
    """Where the step began."""

    at_s: float
    """By the monotonic clock."""
    usage: Usage
    scrapes: dict[str, Scrape]


class LocalBackend:
    """Deployments that are services of this machine.

    Args:
        services: by the name of their target; running.
        timeout_s: longest wait for all scrapes of a step.
        clock: gives Unix time.
    """

    def __init__(
        self,
        services: Mapping[str, ServedReplicas],
        *,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._services, self._timeout_s, self._clock = services, timeout_s, clock
        self.last: dict[str, Sample] = {}
        """What was last observed of each."""
        self._marks = {name: self._mark(service) for name, service in services.items()}

    def observe(self, target: Target) -> Sample:
        """What the processes did since the last call, or since this backend was made.

        Raises:
            BackendError: no such service, or none of its processes answers the scrape.
        """
        service = self._service(target)
        before, usage = self._marks[target.name], service.usage()
        now, failed = scrape_all(usage.metrics, self._timeout_s) if usage.metrics else ({}, {})
        at_s, time_s = time.monotonic(), self._clock()
        if usage.ready and not now:
            raise BackendError(next(iter(failed.values())))
        seconds = at_s - before.at_s
        # one that is met for the first time has counted from 0, one that was not reached goes on from where it was
        found = rates({**{name: Scrape(time_s - seconds) for name in now}, **before.scrapes}, now, seconds)
        kept = {name: one for name, one in before.scrapes.items() if name in failed}
        self._marks[target.name] = _Mark(at_s, usage, {**kept, **now})
        killed = usage.kills - before.usage.kills
        hidden = usage.setting.memory_mib if killed else 0.0
        self.last[target.name] = Sample(
            time_s=time_s,
            replicas=usage.replicas,
            ready=usage.ready,
            cpu_cores=float(usage.setting.cpu_cores),
            memory_mib=float(usage.setting.memory_mib),
            used_cores=max(usage.cpu_s - before.usage.cpu_s, 0.0) / seconds,
            # one that was killed had all that it was given
            used_mib=max(usage.resident_mib or 0.0, hidden),
            arrived_per_s=found.arrived_per_s or 0.0,
            served_per_s=found.served_per_s or 0.0,
            p99_s=found.p99_s,
            killed=killed,
            image=service.spec.digest,
        )
        return self.last[target.name]

    def act(self, target: Target, setting: Setting) -> None:
        """Set limits at once and replicas as fast as they start and finish.

        Raises:
            BackendError: no such service, or the kernel does not lower the memory limit; all else is done.
        """
        try:
            self._service(target).scale(setting)
        except LimitsError as error:
            raise BackendError(str(error)) from None

    def _service(self, target: Target) -> ServedReplicas:
        if target.name not in self._services:
            raise BackendError(f"no service {target.name!r:.60}; there are {', '.join(list(self._services)[:3])} …")
        return self._services[target.name]

    def _mark(self, service: ServedReplicas) -> _Mark:
        usage = service.usage()
        now, _ = scrape_all(usage.metrics, self._timeout_s) if usage.metrics else ({}, {})
        return _Mark(time.monotonic(), usage, now)
