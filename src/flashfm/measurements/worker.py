"""The process under limits: prepares an application at full speed, then forks a fresh child for each configuration.

Runs as `python -m flashfm.measurements.worker` and talks JSON lines with `sandbox.py` in lock-step: one command in on
standard input, its replies out on what was standard output; whatever the application itself prints goes to standard
error. Commands:

===========  =====================================================  ===========================================
``load``     spec, workdir, endpoint, deployment                    ``{"ok"}``
``provision``, ``remove``, ``prepare``                              ``{"ok"}``
``begin``    (forks)                                                ``{"ok", "pid"}`` from the child
``invoke``   warmup, count, at_least, at_most, least_ms, budget_ms  ``{"i": [...]}`` per invocation, then ``{"ok"}``
``end``      (the child leaves)                                     ``{"ended": 0}`` from the parent
===========  =====================================================  ===========================================

A call that raises is answered by ``{"error": text}``. When a child dies the parent says ``{"ended": -signal}``
whatever was asked. The parent leaves at the end of input, and the kernel kills it if the measuring process dies.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


class Channel:
    """JSON lines over raw descriptors, read byte-exact so that parent and child can take turns on one pipe."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer, self._pending = reader, writer, b""

    def commands(self) -> Iterator[dict[str, Any]]:
        """Commands until the end of input."""
        while True:
            while b"\n" not in self._pending:
                more = os.read(self._reader, 65536)
                if not more:
                    return
                self._pending += more
            line, self._pending = self._pending.split(b"\n", 1)
            yield json.loads(line)

    def reply(self, **fields: object) -> None:
        """Send one line; short ones are atomic."""
        os.write(self._writer, json.dumps(fields).encode() + b"\n")


def _die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prefer_as_victim(score: int) -> None:
    """Set the out-of-memory score; lowering it needs privileges, and without them all processes stay equal."""
    try:
        Path("/proc/self/oom_score_adj").write_text(str(score))
    except OSError:
        return


def main() -> None:
    """Serve commands until the end of input."""
    _die_with_parent()
    channel = Channel(os.dup(0), os.dup(1))
    quiet = os.open(os.devnull, os.O_RDONLY)
    os.dup2(quiet, 0)
    os.dup2(2, 1)
    from flashfm.applications.runtime import Application
    from flashfm.applications.spec import ApplicationSpec

    application: Application | None = None
    for command in channel.commands():
        op = command["op"]
        try:
            if op == "load":
                application = Application(
                    ApplicationSpec.from_dict(command["spec"], allow_functions=True),
                    Path(command["workdir"]),
                    endpoint_url=command["endpoint"],
                    deployment=command["deployment"],
                )
            elif application is None:
                raise RuntimeError("load comes first")
            elif op == "begin":
                _fork(application, channel)
                continue
            else:
                {"provision": application.provision, "prepare": application.prepare, "remove": application.remove}[op]()
            channel.reply(ok=op)
        except Exception as error:  # noqa: BLE001  whatever an application raises is a result for the harness
            channel.reply(error=_one_line(error))


def _fork(application: Any, channel: Channel) -> None:
    gc.collect()
    gc.freeze()
    _prefer_as_victim(-900)
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            _child(application, channel)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    channel.reply(ended=os.waitstatus_to_exitcode(status))


def _child(application: Any, channel: Channel) -> None:
    from flashfm.measurements.probe import Probe

    _die_with_parent()
    _prefer_as_victim(900)
    probe = Probe()
    channel.reply(ok="begin", pid=os.getpid())
    for command in channel.commands():
        if command["op"] == "end":
            return
        try:
            _invoke(application, channel, probe, command)
            channel.reply(ok="invoke")
        except Exception as error:  # noqa: BLE001  as above
            channel.reply(error=_one_line(error))


def _invoke(application: Any, channel: Channel, probe: Any, plan: dict[str, Any]) -> None:
    for _ in range(plan["warmup"]):
        start = time.perf_counter()
        application.invoke()
        channel.reply(warm=1)
        if (time.perf_counter() - start) * 1e3 > plan["budget_ms"] / plan["count"]:
            break
    start = time.perf_counter()
    for n in range(1, plan["at_most"] + 1):
        done = probe.measure(application.invoke)
        channel.reply(i=[round(done.runtime_ms, 4), *(round(v, 4) for v in done.metrics.values())])
        elapsed_ms = (time.perf_counter() - start) * 1e3
        if (n >= plan["count"] and elapsed_ms >= plan["least_ms"]) or (
            n >= plan["at_least"] and elapsed_ms >= plan["budget_ms"]
        ):
            return


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


if __name__ == "__main__":
    main()
