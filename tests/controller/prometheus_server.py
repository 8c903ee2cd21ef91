"""A real Prometheus server on loopback, and a page of metrics for it to scrape."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

BINARY = shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(BINARY is None, reason="no prometheus on PATH: apt-get install prometheus")
INTERVAL = "500ms"
"""Of scrapes."""

Page = Callable[[], tuple[int, bytes]]


class PrometheusServer:
    """One server, which may be stopped and started again on the same port with the same data.

    Its first scrape comes 5 s after its start: it waits for so long for targets to be found.
    """

    def __init__(self, folder: Path, jobs: list[dict[str, Any]]) -> None:
        self.folder, self._process = folder, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = {"global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL}, "scrape_configs": jobs}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def start(self) -> None:
        assert BINARY is not None
        log = self.folder / "log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [
                    BINARY,
                    f"--config.file={self.folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self.folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--log.level=warn",
                ],
                stdout=out,
                stderr=out,
                cwd=self.folder,
            )
        until(lambda: self._ready() or self._process.poll() is not None, "Prometheus answers")
        assert self._process.poll() is None, log.read_text()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def query(self, promql: str) -> list[dict[str, Any]]:
        asked = urllib.parse.urlencode({"query": promql}).encode()
        with urllib.request.urlopen(f"{self.url}/api/v1/query", asked, timeout=5) as answer:
            return json.load(answer)["data"]["result"]

    def scrapes(self, selector: str) -> int:
        """How often the least scraped of the series has been."""
        found = self.query(f"min(count_over_time({selector}[1h]))")
        return int(found[0]["value"][1]) if found else 0

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False


@contextmanager
def prometheus(folder: Path, jobs: list[dict[str, Any]]) -> Iterator[PrometheusServer]:
    server = PrometheusServer(folder, jobs)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def pages(by_path: dict[str, Page]) -> Iterator[str]:
    """Serve what the functions return; changes of the dictionary count at once."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = by_path[self.path]()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def job(name: str, address: str, paths: list[str], **labels: str) -> dict[str, Any]:
    """A job that scrapes several paths of one address, each a target; its labels go before those of the page."""
    targets = [{"targets": [address], "labels": {"__metrics_path__": path, "path": path, **labels}} for path in paths]
    return {"job_name": name, "static_configs": targets}


def until(true: Callable[[], object], what: str, within_s: float = 15.0) -> None:
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.05)
