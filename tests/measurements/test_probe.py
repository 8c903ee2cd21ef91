"""What the probe reads is what really happened."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashfm.measurements.probe import Probe
from flashfm.records import METRICS


@pytest.fixture(scope="module")
def probe() -> Probe:
    return Probe()


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """Answers every byte with two."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    while data := peer.recv(65536):
                        peer.sendall(data * 2)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def ask(address: tuple[str, int], size: int) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(bytes(size))
        left = 2 * size
        while left:
            left -= len(connection.recv(left))


def test_every_metric_is_there_and_not_negative(probe: Probe) -> None:
    done = probe.measure(lambda: sum(range(1000)))
    assert tuple(done.metrics) == METRICS
    assert done.runtime_ms > 0
    assert all(v >= 0 for v in done.metrics.values())


def test_tcp_bytes_of_connections_opened_and_closed_in_the_call(probe: Probe, echo: tuple[str, int]) -> None:
    for size in (10_000, 30_000):
        done = probe.measure(lambda size=size: ask(echo, size)).metrics
        assert done["net_tx_bytes"] == size
        assert done["net_rx_bytes"] == 2 * size
        assert done["net_tx_packets"] >= 1
        assert done["net_rx_packets"] >= 1


def test_tcp_bytes_of_a_connection_that_stays_open(probe: Probe, echo: tuple[str, int]) -> None:
    with socket.create_connection(echo) as kept:

        def call() -> None:
            kept.sendall(bytes(500))
            got = 0
            while got < 1000:
                got += len(kept.recv(1000))

        for _ in range(3):
            assert probe.measure(call).metrics["net_rx_bytes"] == 1000


def test_no_traffic_is_counted_twice_or_kept(probe: Probe, echo: tuple[str, int]) -> None:
    probe.measure(lambda: ask(echo, 100))
    assert probe.measure(lambda: None).metrics["net_tx_bytes"] == 0


def test_file_bytes(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert probe.measure(lambda: path.write_bytes(bytes(70_000))).metrics["fs_write_bytes"] == 70_000
    assert probe.measure(path.read_bytes).metrics["fs_read_bytes"] == pytest.approx(70_000, abs=64)
    assert probe.measure(lambda: None).metrics["fs_read_bytes"] <= 64


def figures(body: str) -> dict[str, float]:
    """Metrics of `call`, defined by `body`, in a process that does nothing else."""
    code = f"import json, time\nfrom flashfm.measurements.probe import Probe\nkept = []\n{body}\n"
    code += "print(json.dumps(Probe().measure(call).metrics))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_memory_is_in_mib() -> None:
    idle = figures("def call(): pass")
    grown = figures("def call(): kept.append(bytearray(b'x') * (32 << 20))")
    assert grown["heap_used_mb"] - idle["heap_used_mb"] == pytest.approx(32, abs=2)
    assert grown["rss_mb"] >= grown["heap_used_mb"]


def test_cpu_time_adds_up() -> None:
    spent = figures("def call():\n    start = time.process_time()\n    while time.process_time() - start < 0.2: pass")
    assert spent["user_cpu_ms"] + spent["system_cpu_ms"] == pytest.approx(200, rel=0.1)
