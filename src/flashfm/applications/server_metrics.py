"""What the server of an application tells Prometheus. Counts in, text out; a registry a server, none shared.

Only requests that are load are counted: probes of `/healthz` and scrapes of `/metrics` would flatter latencies and
rates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flashfm import __version__
from flashfm.applications.spec import ApplicationSpec
from flashfm.errors import ServiceError

if TYPE_CHECKING:
    from flashfm.applications.server import ServerConfig

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the latency histogram in seconds."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The exposition format that every Prometheus reads."""


class ServerMetrics:
    """Metrics of one server.

    Args:
        spec: the application, for the labels of `flashfm_application_info`.
    """

    def __init__(self, spec: ApplicationSpec) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

        self.registry = CollectorRegistry()
        self.requests = Counter(
            "http_requests", "Requests answered, by status; probes and scrapes apart.", ["code"], registry=self.registry
        )
        for code in ("200", "500", "503"):
            self.requests.labels(code)  # a rate needs the zero before the first one
        self.duration = Histogram(
            "http_request_duration_seconds",
            "Time from request to answer of invocations, with the wait for an instance; refused ones (503) apart.",
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.in_flight = Gauge("http_requests_in_flight", "Invocations running or waiting.", registry=self.registry)
        info = Gauge(
            "flashfm_application_info", "The application.", ["app", "digest", "version"], registry=self.registry
        )
        info.labels(spec.name, spec.digest[:12], __version__).set(1)
        ProcessCollector(registry=self.registry)

    def exposition(self) -> bytes:
        """All metrics as text."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)

    @contextmanager
    def served_on(self, config: ServerConfig) -> Iterator[None]:
        """Serve them on `config.metrics_port` too, where there is one.

        Raises:
            ServiceError: the port cannot be listened on.
        """
        if config.metrics_port is None:
            yield
            return
        from prometheus_client import start_http_server

        try:
            server, thread = start_http_server(config.metrics_port, config.host, self.registry)
        except (OSError, OverflowError) as error:
            raise ServiceError(
                f"cannot listen on {config.host} port {config.metrics_port}: {error}; choose another --metrics-port"
            ) from error
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
