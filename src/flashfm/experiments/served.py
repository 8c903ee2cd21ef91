"""A bench of replicas: the application server as a process in a group of its own, limited as soon as it answers.

What is asked of it comes from `open_load`, again a process apart. Everything is registered with the watchdog of
`measurements.limits`, so that neither processes nor groups outlive the experiment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from flashfm.applications.spec import ApplicationSpec
from flashfm.errors import MeasureError
from flashfm.experiments.open_load import Heard, Load
from flashfm.measurements.limits import HIGHEST_SHARES, Backend, Limits
from flashfm.measurements.replica import START_TIMEOUT_S, Place, Process, Serving, place


@dataclass(frozen=True)
class Replica:
    """A server that answers."""

    port: int
    pid: int


class Bench:
    """Where replicas are served: groups that outweigh the rest of the machine, on a core that the client leaves alone.

    Args:
        where: groups and files.
    """

    def __init__(self, where: Place) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self._where, self._served = where, 0
        self._replica_cpus, self._client_cpus = frozenset({cores[-1]}), set(cores[:-1]) or set(cores)
        self._client = where.root.child("client")
        self._client.apply(Limits(cpu_shares=HIGHEST_SHARES))

    @contextmanager
    def replica(self, spec: ApplicationSpec, limits: Limits, *, concurrency: int) -> Iterator[Replica]:
        """Serve an application for the length of a block.

        Args:
            spec: the application; one that calls no services.
            limits: set when the server answers; it starts and prepares its instances without any.
            concurrency: its instances.

        Raises:
            MeasureError: the server did not start.
            LimitsError: the limits could not be set.
        """
        self._served += 1
        group = self._where.root.child(f"replica-{self._served}")
        try:
            process = Process(group, spec, self._where.work, Serving(concurrency), self._replica_cpus)
            try:
                if not process.answers(START_TIMEOUT_S):
                    raise MeasureError(f"application {spec.name}: no answer within {START_TIMEOUT_S:g} s; try again")
                assert process.port is not None
                group.apply(limits)
                yield Replica(process.port, process.pid)
            finally:
                group.apply(Limits())
                process.close()
        finally:
            group.remove()

    def send(self, load: Load) -> Heard:
        """Send a load from a process of its own.

        Raises:
            MeasureError: that process failed.
        """
        command = [*self._client.launcher, sys.executable, "-P", "-m", "flashfm.experiments.open_load"]
        client = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            os.sched_setaffinity(client.pid, self._client_cpus)
            out, error = client.communicate(json.dumps(asdict(load)))
        finally:
            client.kill()
            client.wait()
        if client.returncode != 0:
            last = (error.strip().splitlines() or ["no message"])[-1]
            raise MeasureError(f"sending {load.rate_per_s:.3g} requests/s failed: {last}; is the server still there?")
        return Heard(**json.loads(out))


@contextmanager
def bench(backend: Backend) -> Iterator[Bench]:
    """A bench for the length of a block.

    Args:
        backend: how limits are set.

    Raises:
        LimitsError: groups cannot be made.
    """
    with place(backend) as where:
        yield Bench(where)
