"""Serves one application over HTTP, with Prometheus metrics. Instances in, answers out; one process, several threads.

`POST /` or `GET /` runs the application once, `GET /healthz` answers 200 until the server stops, `GET /metrics` is for
Prometheus. Segments hold state and may not be thread safe, so each of `concurrency` prepared instances serves one
request at a time; requests wait for one in a queue of bounded length, and beyond that are answered 503. Python runs one
thread at a time: more CPU cores than one need more processes, which may share the port (`share_port`).
"""

from __future__ import annotations

import json
import logging
import queue
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from flashfm.applications.deployment import deployed
from flashfm.applications.handler import one_line
from flashfm.applications.runtime import Application
from flashfm.applications.server_metrics import CONTENT_TYPE, ServerMetrics
from flashfm.applications.spec import ApplicationSpec
from flashfm.errors import ServiceError

log = logging.getLogger("flashfm.server")

SWITCH_S = 0.0005
"""How long a busy thread keeps the interpreter from the others. Python's own 5 ms is as long as many a request, and
lets one that only has to be read or answered wait so long each time: p99 at two thirds of the capacity doubles."""


@dataclass(frozen=True)
class ServerConfig:
    """How an application is served."""

    host: str = "127.0.0.1"
    """Address to listen on; "0.0.0.0" for every network of the machine."""
    port: int = 8080
    """TCP port; 0 takes a free one."""
    concurrency: int = 4
    """Instances, and so invocations at a time; each holds its own inputs in memory."""
    queue: int = 64
    """Requests that may wait for an instance; more are answered 503 at once."""
    queue_timeout_s: float = 30.0
    """Longest wait for an instance before 503."""
    max_body_bytes: int = 1 << 20
    """Largest request body; it is read and ignored."""
    max_connections: int = 512
    """Open connections, one thread each; more are answered 503 and closed."""
    keep_alive_s: float = 75.0
    """Longest silence of a client."""
    drain_s: float = 25.0
    """Longest wait at the end for requests in flight; Kubernetes kills after 30 s."""
    share_port: bool = False
    """Let other processes listen on the same port (SO_REUSEPORT); the kernel spreads connections over them."""
    metrics_port: int | None = None
    """A second port for `/metrics` alone, for processes that share `port`: there a scrape reaches any one of them."""


class ApplicationServer(ThreadingHTTPServer):
    """An HTTP server over prepared instances; listens as soon as it is made, answers in `serve_forever`.

    Args:
        instances: prepared instances of one application.
        config: addresses and limits; `config.concurrency` is not looked at.

    Raises:
        ServiceError: the address cannot be listened on.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, instances: Sequence[Application], config: ServerConfig) -> None:
        self.config = config
        self.metrics = ServerMetrics(instances[0].spec)
        self.draining = False
        self._idle: queue.LifoQueue[Application] = queue.LifoQueue()
        for instance in instances:
            self._idle.put(instance)
        self._limit = len(instances) + config.queue
        self._admitted = 0
        self._connections: dict[socket.socket, bool] = {}  # connection -> busy with a request
        self._changed = threading.Condition()
        self.address_family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        self.allow_reuse_port = config.share_port
        try:
            super().__init__((config.host, config.port), _Handler)
        except (OSError, OverflowError) as error:
            raise ServiceError(
                f"cannot listen on {config.host} port {config.port}: {error}; choose another --host or --port"
            ) from error

    @property
    def url(self) -> str:
        """Where the application answers."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"http://{host}:{self.server_address[1]}"

    def server_bind(self) -> None:
        """Bind without looking the host's name up, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.config.host, int(self.server_address[1])

    def answer(self) -> tuple[int, dict[str, Any]]:
        """Run the application once, when an instance is free: the status and what to answer."""
        with self._changed:
            if self._admitted >= self._limit:
                return 503, {"error": f"busy: {self._limit} requests are running or waiting; try again later"}
            self._admitted += 1
        try:
            try:
                instance = self._idle.get(timeout=self.config.queue_timeout_s)
            except queue.Empty:
                return 503, {"error": f"busy: no instance within {self.config.queue_timeout_s:g} s; try again later"}
            try:
                started = time.perf_counter()
                results = instance.invoke()
                return 200, {"results": results, "runtime_ms": round(1e3 * (time.perf_counter() - started), 3)}
            except Exception as error:  # noqa: BLE001 - one failed request must not end the server
                log.error("invocation failed: %s", one_line(error))
                return 500, {"error": f"the application failed: {one_line(error)}"}
            finally:
                self._idle.put(instance)
        finally:
            with self._changed:
                self._admitted -= 1

    def drain(self) -> int:
        """Stop accepting, finish the requests in flight and close; `serve_forever` must be running in another thread.

        Returns:
            The connections that were still busy after `config.drain_s`.
        """
        self.draining = True
        self.shutdown()
        self.socket.setblocking(False)
        with suppress(OSError):  # what the kernel has accepted for us already; BlockingIOError when there is no more
            while True:
                self.process_request(*self.socket.accept())
        self.server_close()
        with self._changed:
            for connection, busy in self._connections.items():
                if not busy:
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RD)  # what has arrived is still read; then the end
            self._changed.wait_for(lambda: not self._connections, self.config.drain_s)
            return len(self._connections)

    def mark(self, connection: socket.socket, *, busy: bool) -> None:
        """Note whether a connection has a request under way."""
        with self._changed:
            self._connections[connection] = busy

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; where the process is out of file descriptors, wait instead of spinning."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(0.05)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection its thread, or refuse it."""
        with self._changed:
            full = len(self._connections) >= self.config.max_connections
            if not full:
                self._connections[request] = False
        if full:
            self.metrics.requests.labels("503").inc()
            request.settimeout(1)
            with suppress(OSError):
                request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and forget it."""
        super().shutdown_request(request)
        with self._changed:
            self._connections.pop(request, None)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log what went wrong with a connection, in one line; a client that went away is no error."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError | TimeoutError):
            log.error("connection of %s: %s", client_address[0], one_line(error))


class _Handler(BaseHTTPRequestHandler):
    """One connection: requests in turn, until the client or the server has enough."""

    server: ApplicationServer
    protocol_version = "HTTP/1.1"
    server_version = "flashfm"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer leaves in one packet

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.config.keep_alive_s)

    def handle_one_request(self) -> None:
        super().handle_one_request()
        self.server.mark(self.connection, busy=False)
        if self.server.draining:
            self.close_connection = True

    def parse_request(self) -> bool:
        self.server.mark(self.connection, busy=True)
        return super().parse_request()

    def handle_expect_100(self) -> bool:
        allowed = super().handle_expect_100()
        self.wfile.flush()
        return allowed

    def do_GET(self) -> None:
        self._route()

    def do_HEAD(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def _route(self) -> None:
        if not self._skip_body():
            return
        path, metrics = self.path.split("?", 1)[0], self.server.metrics
        if path == "/healthz" and self.command != "POST":
            draining = self.server.draining
            self._send(503 if draining else 200, {"status": "stopping" if draining else "ok"})
        elif path == "/metrics" and self.command != "POST":
            self._send(200, metrics.exposition(), CONTENT_TYPE)
        elif path == "/" and self.command != "HEAD":
            started = time.perf_counter()
            with metrics.in_flight.track_inprogress():
                status, answer = self.server.answer()
            metrics.requests.labels(str(status)).inc()
            if status != 503:
                metrics.duration.observe(time.perf_counter() - started)
            self._send(status, answer)  # counted before: who has an answer finds it in the metrics
        else:
            status = 405 if path in ("/", "/healthz", "/metrics") else 404
            metrics.requests.labels(str(status)).inc()
            self._send(status, {"error": "expected POST / or GET /, GET /healthz or GET /metrics"})

    def _skip_body(self) -> bool:
        """Read the body and forget it, so that the next request of the connection is found; False if that failed."""
        lengths = self.headers.get_all("Content-Length", ["0"])
        if "Transfer-Encoding" in self.headers:
            self.send_error(411, "expected a Content-Length; chunked bodies are not read")
        elif len(set(lengths)) != 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
            self.send_error(400, "expected one whole number as Content-Length")
        elif len(lengths[0]) > 18 or int(lengths[0]) > self.server.config.max_body_bytes:
            self.send_error(413, f"expected a body of at most {self.server.config.max_body_bytes} bytes")
        elif len(self.rfile.read(int(lengths[0]))) < int(lengths[0]):
            self.close_connection = True
        else:
            return True
        return False

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer what cannot be read as a request, and close the connection."""
        self.server.metrics.requests.labels(str(int(code))).inc()
        self.close_connection = True
        self._send(int(code), {"error": message or self.responses.get(code, ("error", ""))[0]})

    def _send(self, status: int, body: dict[str, Any] | bytes, content_type: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        if status == 503:
            self.send_header("Retry-After", "1")
        if status == 405:
            self.send_header("Allow", "GET, POST" if self.path.split("?", 1)[0] == "/" else "GET, HEAD")
        if self.close_connection or self.server.draining:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of requests that went well; errors have lines of their own."""


def serve(
    spec: ApplicationSpec,
    config: ServerConfig,
    *,
    endpoint_url: str | None = None,
    deployment: str | None = None,
    provision: bool = True,
    ready: Callable[[str], None] = lambda _url: None,
) -> int:
    """Deploy an application and serve it until SIGTERM or SIGINT; call it in the main thread.

    Args:
        spec: the application.
        config: addresses and limits.
        endpoint_url: see `deployed`.
        deployment: its name, see `deployed`.
        provision: see `deployed`.
        ready: is called with the URL once requests are answered.

    Returns:
        The requests that were not finished within `config.drain_s`.

    Raises:
        FlashError: the application cannot be deployed, or its address cannot be listened on.
        KeyboardInterrupt: a signal came while it was deployed, or a second one while it was drained.
    """
    with (
        _stopping() as stop,
        _switching(),
        deployed(spec, endpoint_url=endpoint_url, name=deployment, provision=provision) as place,
        ApplicationServer([place.instance() for _ in range(config.concurrency)], config) as server,
        server.metrics.served_on(config),
    ):
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        try:
            stop.answering = True
            ready(server.url)
            stop.asked.wait()
            return server.drain()
        finally:
            server.shutdown()


@contextmanager
def _switching() -> Iterator[None]:
    """Let threads take turns every `SWITCH_S`."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _stopping() -> Iterator[_Stop]:
    """SIGTERM and SIGINT ask to stop once requests are answered; before that, and the second time, they interrupt."""
    stop = _Stop()

    def signalled(_signum: int, _frame: object) -> None:
        if stop.asked.is_set() or not stop.answering:
            raise KeyboardInterrupt
        stop.asked.set()

    before = {number: signal.signal(number, signalled) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class _Stop:
    answering: bool = False
    asked: threading.Event = field(default_factory=threading.Event)
