"""EmbeddedAws: S3 and DynamoDB for one machine, in a child process. Nothing in, an `endpoint_url` out.

The server is moto's, on the loopback device only, all in memory; nothing of it outlives the process that started it.
"""

from __future__ import annotations

import http.client
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType

from flashfm.errors import ServiceError

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 5.0


class EmbeddedAws:
    """A running S3 and DynamoDB; a context manager, or call `close`.

    Forks of the process that made it may use `endpoint_url`; only that process itself can close the server.

    Args:
        start_timeout_s: longest wait in seconds for the server to answer.
        launcher: words before the command, such as a program that sets limits and then becomes the command.

    Raises:
        ServiceError: the server did not start.
    """

    def __init__(self, *, start_timeout_s: float = START_TIMEOUT_S, launcher: Sequence[str] = ()) -> None:
        self._owner = os.getpid()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        command = [*launcher, sys.executable, "-m", "flashfm.applications.aws_server", "--parent", str(self._owner)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, "MALLOC_ARENA_MAX": "2"},  # threads come and go: without it memory only grows
                process_group=0,
            )
        except OSError as error:
            self._errors.close()
            raise ServiceError(
                f"embedded S3 and DynamoDB: cannot start {sys.executable}: {error}; "
                "run flashfm with a Python that has moto[server] installed"
            ) from error
        try:
            self._port = self._await_port(time.monotonic() + start_timeout_s, start_timeout_s)
        except BaseException:
            self.close()
            raise

    @property
    def endpoint_url(self) -> str:
        """Where boto3 finds both services."""
        return f"http://{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def reset(self) -> None:
        """Delete every bucket and table.

        Raises:
            ServiceError: the server did not answer or refused.
        """
        connection = http.client.HTTPConnection(HOST, self._port, timeout=10)
        try:
            connection.request("POST", "/moto-api/reset")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise ServiceError(
                f"embedded S3 and DynamoDB at {self.endpoint_url}: cannot reset: {error}; start a new EmbeddedAws"
            ) from error
        finally:
            connection.close()
        if status != 200:
            raise ServiceError(
                f"embedded S3 and DynamoDB at {self.endpoint_url}: reset answered {status}, expected 200; "
                "start a new EmbeddedAws"
            )

    def close(self) -> None:
        """End the server and reap it; does nothing the second time, and nothing in a fork."""
        if os.getpid() != self._owner:
            return
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(CLOSE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._errors.close()

    def __enter__(self) -> EmbeddedAws:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _await_port(self, deadline: float, timeout_s: float) -> int:
        """Read the line with which the server reports that it listens."""
        stdout = self._process.stdout
        assert stdout is not None
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise ServiceError(
                        f"embedded S3 and DynamoDB: no answer within {timeout_s:g} s; the machine may be overloaded: "
                        f"try again, or with a larger start_timeout_s{self._tail()}"
                    )
                piece = os.read(stdout.fileno(), 64)
                if not piece:
                    status = self._process.wait()
                    raise ServiceError(
                        f"embedded S3 and DynamoDB: the server ended with status {status} before it answered; "
                        f"check that moto[server] is installed for {sys.executable}{self._tail()}"
                    )
                line += piece
        return int(line)

    def _tail(self) -> str:
        """The last line that the server wrote to standard error, for a message."""
        self._errors.seek(0)
        lines = self._errors.read()[-2000:].decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"; its last words: {last}" if last else ""
