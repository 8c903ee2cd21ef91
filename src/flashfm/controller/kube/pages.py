"""What an operator shows over HTTP: `/healthz`, `/readyz` and `/metrics`; read-only, and without anybody's secrets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING

from flashfm.errors import ControlError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

IDLE_S = 5.0
"""After which a client that says nothing is left."""


class Pages:
    """A server in a thread of its own; a context manager.

    Args:
        address: to listen on; that of the pod in a cluster, else loopback.
        port: 0 for any that is free.
        alive: why the process should be started anew; None where it need not.
        ready: why it cannot work just now; None where it can.
        registry: of its metrics.

    Raises:
        ControlError: the address cannot be listened on.
    """

    def __init__(
        self,
        address: str,
        port: int,
        *,
        alive: Callable[[], str | None],
        ready: Callable[[], str | None],
        registry: CollectorRegistry,
    ) -> None:
        from prometheus_client import generate_latest

        def metrics() -> tuple[int, bytes]:
            return 200, generate_latest(registry)

        pages = {"/healthz": lambda: _said(alive()), "/readyz": lambda: _said(ready()), "/metrics": metrics}
        try:
            self._server = ThreadingHTTPServer((address, port), type("Page", (_Page,), {"pages": pages}))
        except (OSError, OverflowError) as error:
            raise ControlError(f"{address}:{port}: cannot be listened on: {error}; give another --listen") from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="pages")

    @property
    def port(self) -> int:
        """That it listens on."""
        return self._server.server_port

    def __enter__(self) -> Pages:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Page(BaseHTTPRequestHandler):
    pages: dict[str, Callable[[], tuple[int, bytes]]]
    timeout = IDLE_S
    server_version = "flashfm"
    sys_version = ""

    def do_GET(self) -> None:
        page = self.pages.get(self.path.split("?")[0])
        status, body = (404, b"there are /healthz, /readyz and /metrics\n") if page is None else page()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: probes come every few seconds."""


def _said(trouble: str | None) -> tuple[int, bytes]:
    return (200, b"ok\n") if trouble is None else (503, f"{trouble}\n".encode())
