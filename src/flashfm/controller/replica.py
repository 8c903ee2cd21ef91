"""One process of a service: its group, its limits, and what it has used.

Enters: a `Setting`, of which it takes the limits. Leaves: a process that is limited so from its start on. One that
starts has more cores, as clusters boost those that start; a core may be a slow one, a share of one of this machine's.
"""

from __future__ import annotations

import math
import socket
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from flashfm.act.guardrails import Setting
from flashfm.applications.spec import ApplicationSpec
from flashfm.measurements.limits import Group, Limits
from flashfm.measurements.replica import START_TIMEOUT_S, Process, Serving, cpu_seconds

PERIOD_US = 100_000
"""Of CPU quotas: Linux's and Kubernetes' default."""
LEAST_QUOTA_US = 1000
"""That the kernel takes."""
START_CORES = 2.0
"""Least limit of a process until it answers: imports take long under a tenth of a core."""
HOST = "127.0.0.1"


class Replica:
    """A process in a group of its own, started by the constructor.

    Args:
        name: of the process in its service.
        group: made for it; removed where the process cannot be started.
        spec: the application.
        work: folder of its files.
        serving: how it serves; its port for metrics is set here.
        cpus: cores that it may use; None for all.
        setting: whose limits it gets.
        core: share of one of this machine's cores that counts as one.

    Raises:
        FlashError: limits cannot be set.
        OSError: it cannot be started.
    """

    def __init__(
        self,
        name: str,
        group: Group,
        spec: ApplicationSpec,
        work: Path,
        serving: Serving,
        cpus: frozenset[int] | None,
        setting: Setting,
        core: float,
    ) -> None:
        port = free_port()
        self.name, self.group, self._core = name, group, core
        self.metrics = f"http://{HOST}:{port}/metrics"
        self.ready, self._cpu_s, self._start_s = False, 0.0, 0.0
        self.until_s = time.monotonic() + START_TIMEOUT_S
        """When it is given up: while it starts, and once it has been asked to end."""
        self.setting: Setting
        """Whose limits it has."""
        try:
            self.limit(setting)
            self.process = Process(group, spec, work, replace(serving, metrics_port=port), cpus)
        except BaseException:
            group.remove()
            raise

    def limit(self, setting: Setting) -> None:
        """Change its limits; one that starts has at least `START_CORES`."""
        boosted = setting._replace(cpu_cores=max(setting.cpu_cores, START_CORES))
        wanted = setting if self.ready else boosted
        self.group.apply(limits(wanted, self._core))
        self.setting = wanted

    @property
    def cpu_s(self) -> float:
        """CPU time since it first answered, of this machine's cores: starting is no demand, and HPA leaves it out."""
        return self._cpu_s - self._start_s if self.ready else 0.0

    def answers(self) -> None:
        """Note that it answers for the first time; `limit` takes away what it had more while it started."""
        self.look()
        self.ready, self._start_s = True, self._cpu_s

    def look(self) -> None:
        """Note what it has used; it may just have ended."""
        with suppress(OSError, ValueError, IndexError):
            self._cpu_s = max(self._cpu_s, cpu_seconds(self.process.pid))


class Reserved:
    """A port that nobody else takes while there is none of our processes on it: bound, never listened on."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((HOST, 0))
        self.number = int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Let others take it."""
        self._socket.close()


def free_port() -> int:
    """A port of the loopback device that nobody listens on just now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


def limits(setting: Setting, core: float) -> Limits:
    """What the kernel is told.

    Slow cores have shorter periods, so that one is slow rather than fast at first and then stopped.

    Args:
        setting: of a replica.
        core: share of one of this machine's cores that counts as one.
    """
    quota = setting.cpu_cores * core
    period_us = max(math.ceil(PERIOD_US * core), math.ceil(LEAST_QUOTA_US / quota))
    return Limits(cpu_quota=quota, memory_mb=math.ceil(setting.memory_mib), period_us=period_us)
