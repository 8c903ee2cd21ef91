"""One instance of an application under limits: a group, and the worker process in it. All waiting is asynchronous."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any

from flashfm.applications.spec import ApplicationSpec
from flashfm.engine.threads import SINGLE_THREAD
from flashfm.errors import LimitsError, MeasureError
from flashfm.measurements.limits import LOWEST_SHARES, Group, Limits
from flashfm.records import METRICS, Invocation, Outcome

STARTUP_TIMEOUT_S = 120.0


class InstanceEnded(Exception):
    """The instance cannot answer any more, or answered with an error."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome, self.detail = outcome, detail


@dataclass(frozen=True, slots=True)
class InvokePlan:
    """How many invocations one request to an instance makes."""

    warmup: int = 1
    """Calls that are not recorded."""
    count: int = 10
    """Recorded calls, at least."""
    at_most: int = 500
    """Recorded calls, at most."""
    at_least: int = 3
    """Recorded calls that are made even when `budget_ms` is used up."""
    least_ms: float = 0.0
    """Short calls are repeated beyond `count` until so much time has passed."""
    budget_ms: float = 50_000.0
    """After so much time no further call is made, so that ten calls of five seconds are the most."""

    def as_command(self) -> dict[str, object]:
        """The worker's `invoke` command."""
        names = ("warmup", "count", "at_most", "at_least", "least_ms", "budget_ms")
        return {"op": "invoke", **{name: getattr(self, name) for name in names}}


class Sandbox:
    """A worker process in a group of its own.

    Args:
        group: where the process lives; removed when the sandbox closes.
        spec: the application.
        workdir: the deployment's directory.
        endpoint_url: S3 and DynamoDB endpoint.
        deployment: distinguishes deployments in names of external resources.
        cpus: cores that the worker may use before an instance begins; None for all.
    """

    def __init__(
        self,
        group: Group,
        spec: ApplicationSpec,
        workdir: Path,
        *,
        endpoint_url: str | None,
        deployment: str,
        cpus: frozenset[int] | None = None,
    ) -> None:
        self._group, self._spec, self._cpus = group, spec, cpus
        self._load: dict[str, object] = {
            "op": "load",
            "spec": spec.to_dict(),
            "workdir": str(workdir),
            "endpoint": endpoint_url,
            "deployment": deployment,
        }
        self._process: asyncio.subprocess.Process | None = None
        self._errors: IO[bytes] = TemporaryFile()  # noqa: SIM115  closed with the sandbox
        self._child: int | None = None
        self._kills = 0

    async def __aenter__(self) -> Sandbox:
        """Start the worker and load the spec, with a low CPU weight so that others are not disturbed."""
        try:
            self._group.apply(Limits(cpu_shares=LOWEST_SHARES))
            self._process = await asyncio.create_subprocess_exec(
                *self._group.launcher,
                sys.executable,
                "-P",
                "-m",
                "flashfm.measurements.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, **SINGLE_THREAD, "PYTHONDONTWRITEBYTECODE": "1"},
                start_new_session=True,
            )
            if self._cpus is not None:
                os.sched_setaffinity(self._process.pid, self._cpus)
            await self._call(self._load)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Kill the worker and remove the group."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await asyncio.to_thread(self._group.remove)
        if process is not None:
            await process.wait()
            if process.stdin is not None:
                process.stdin.close()
        self._errors.close()

    async def call(self, op: str) -> None:
        """Have the worker `provision`, `prepare` or `remove` the application, without limits.

        Raises:
            MeasureError: it failed; the message holds the application's own error.
        """
        try:
            await self._call({"op": op})
        except InstanceEnded as ended:
            raise MeasureError(f"{self._spec.name}: {op} failed: {ended.detail}") from None

    async def begin(self, limits: Limits, cpus: frozenset[int] | None = None) -> None:
        """Set `limits` and have a fresh instance forked under them, on the cores `cpus` where given.

        Raises:
            InstanceEnded: the instance did not fit its limits.
        """
        assert self._process is not None
        if cpus is not None:
            os.sched_setaffinity(self._process.pid, cpus)
        self._kills = self._group.oom_kills()
        try:
            self._group.apply(limits)
        except LimitsError as error:
            raise InstanceEnded(Outcome.OUT_OF_MEMORY, f"the prepared application does not fit: {error}") from None
        self._child = (await self._call({"op": "begin"}))["pid"]

    async def invoke(self, plan: InvokePlan, timeout_s: float) -> AsyncIterator[Invocation]:
        """Call the instance as planned and give each recorded invocation as it ends.

        Raises:
            InstanceEnded: killed for memory, an error, or one invocation took longer than `timeout_s`.
        """
        await self._send(plan.as_command())
        while "ok" not in (reply := await self._receive(timeout_s)):
            if "i" in reply:
                runtime_ms, *values = reply["i"]
                yield Invocation(runtime_ms, dict(zip(METRICS, values, strict=True)))

    async def end(self) -> None:
        """Let the instance go; the worker stays and can begin another."""
        if self._child is not None:
            with contextlib.suppress(InstanceEnded):
                await self._call({"op": "end"})
        self._group.apply(Limits(cpu_shares=LOWEST_SHARES))

    @property
    def alive(self) -> bool:
        """Whether the worker can begin another instance."""
        return self._process is not None and self._process.returncode is None

    async def _call(self, command: dict[str, object]) -> dict[str, Any]:
        await self._send(command)
        return await self._receive(STARTUP_TIMEOUT_S)

    async def _send(self, command: dict[str, object]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        with contextlib.suppress(ConnectionError):  # the missing answer says more
            await self._process.stdin.drain()

    async def _receive(self, timeout_s: float) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), timeout_s)
        except TimeoutError:
            await self._kill_child()
            raise InstanceEnded(Outcome.TIMEOUT, f"no answer within {timeout_s:g} s") from None
        if not line:
            await self._process.wait()
            self._child = None
            raise self._ended(f"the worker ended: {self._last_words()}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            out_of_memory = reply["error"].startswith("MemoryError")
            raise InstanceEnded(Outcome.OUT_OF_MEMORY if out_of_memory else Outcome.ERROR, reply["error"])
        if "ended" in reply:
            self._child = None
            raise self._ended(f"exit status {reply['ended']}: {self._last_words()}")
        return reply

    async def _kill_child(self) -> None:
        """End an instance that does not answer, and read the worker's word of it."""
        assert self._process is not None
        assert self._process.stdout is not None
        if self._child is None:
            self._process.kill()
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            while line := await asyncio.wait_for(self._process.stdout.readline(), 10):
                if b'"ended"' in line:
                    break
        self._child = None

    def _ended(self, detail: str) -> InstanceEnded:
        if self._group.oom_kills() > self._kills:
            return InstanceEnded(Outcome.OUT_OF_MEMORY, "killed by the kernel at its memory limit")
        return InstanceEnded(Outcome.ERROR, detail)

    def _last_words(self) -> str:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 2000))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "no message"
