"""The HTTP server of an application: answers, limits, metrics, and how it stops. Real HTTP over loopback."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flashfm.applications.runtime import Application
from flashfm.applications.server import ApplicationServer, ServerConfig
from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.errors import ServiceError

SPEC = ApplicationSpec("naps", (SegmentSpec("sleep", {"sleep_ms": 2}), SegmentSpec("sleep", {"sleep_ms": 1})))
LONG = 20.0


class Scripted(Application):
    """An instance whose invocations do what the test says."""

    def __init__(self, workdir: Path, act: Callable[[], list[int]]) -> None:
        super().__init__(SPEC, workdir)
        self.act = act

    def invoke(self) -> list[int]:
        return self.act()


@contextmanager
def serving(*instances: Application, **config: object) -> Iterator[ApplicationServer]:
    with ApplicationServer(instances, ServerConfig(port=0, **config)) as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            if not server.draining:
                server.drain()
            thread.join()


@pytest.fixture
def instance(tmp_path: Path) -> Application:
    made = Application(SPEC, tmp_path)
    made.prepare()
    return made


def ask(server: ApplicationServer, method: str = "POST", path: str = "/", **more: object):
    """One request over a connection of its own: status, headers, body."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=LONG)) as connection:
        connection.request(method, path, **more)  # type: ignore[arg-type]
        answer = connection.getresponse()
        body = answer.read()
    return answer.status, answer.headers, json.loads(body) if body.startswith(b"{") else body


def raw(server: ApplicationServer, request: bytes) -> bytes:
    """Everything that comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=LONG) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def scraped(server: ApplicationServer, port: int | None = None) -> dict[str, float]:
    """Samples of /metrics by name, and by name{code} where they have one."""
    with closing(http.client.HTTPConnection("127.0.0.1", port or server.server_port, timeout=LONG)) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    return {
        f"{sample.name}{{{sample.labels['code']}}}" if "code" in sample.labels else sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_bucket") or sample.labels["le"] == "+Inf"
    }


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# -- answers ---------------------------------------------------------------------------------------------------------


def test_it_listens_on_this_machine_alone_unless_asked() -> None:
    assert ServerConfig().host == "127.0.0.1"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_invocation_is_answered_with_results_and_time(instance: Application, method: str) -> None:
    with serving(instance) as server:
        status, headers, answer = ask(server, method, "/?x=1", body=b"x" * 1000)
    assert (status, answer["results"]) == (200, [2, 1])
    assert answer["runtime_ms"] >= 3
    assert headers["Content-Type"] == "application/json"


def test_a_connection_serves_many_requests(instance: Application) -> None:
    with serving(instance) as server, closing(http.client.HTTPConnection("127.0.0.1", server.server_port)) as kept:
        sockets = set()
        for _ in range(5):
            kept.request("POST", "/", body=b"ignored")
            assert kept.getresponse().read()
            sockets.add(kept.sock)
    assert len(sockets) == 1
    assert None not in sockets


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/nowhere", 404),
        ("HEAD", "/", 405),
        ("POST", "/metrics", 405),
        ("DELETE", "/", 501),
        ("GET", "/%2e%2e/etc/passwd", 404),
    ],
)
def test_other_requests_have_their_status(instance: Application, method: str, path: str, status: int) -> None:
    with serving(instance) as server:
        got, headers, body = ask(server, method, path)
        assert ask(server)[0] == 200
    assert got == status
    assert method != "HEAD" or body == b""
    assert ("Allow" in headers) == (status == 405)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n" + b"x" * 101, 413),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", 400),
    ],
)
def test_hostile_requests_are_refused_in_one_line(
    instance: Application, request_: bytes, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(instance, max_body_bytes=100) as server:
        answer = raw(server, request_)
        assert ask(server)[0] == 200
    assert b"200 OK" not in answer
    assert f"{status}".encode() in answer.split(b"\r\n")[0] or b'"error"' in answer
    assert capfd.readouterr().err == ""


def test_half_a_request_then_silence_is_forgotten(instance: Application) -> None:
    with serving(instance, keep_alive_s=0.1) as server:
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=LONG) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 50\r\n\r\nonly a part")
            assert connection.recv(1000) == b""
        assert ask(server)[0] == 200


def test_a_client_that_goes_away_is_no_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    gate = threading.Event()
    with serving(Scripted(tmp_path, lambda: [int(gate.wait(LONG))])) as server:
        with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            until(lambda: server.metrics.in_flight._value.get() == 1)
        gate.set()
        assert ask(server)[0] == 200
    assert capfd.readouterr().err == ""


def test_expect_100_continue_is_answered_before_the_body(instance: Application) -> None:
    with serving(instance) as server, socket.create_connection(("127.0.0.1", server.server_port), timeout=LONG) as peer:
        peer.sendall(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert b"100 Continue" in peer.recv(1000)
        peer.sendall(b"ok")
        assert b"200 OK" in peer.recv(1000)


# -- concurrency -----------------------------------------------------------------------------------------------------


def test_as_many_invocations_at_a_time_as_instances(tmp_path: Path) -> None:
    meet = threading.Barrier(3, timeout=LONG)
    instances = [Scripted(tmp_path, lambda: [meet.wait() * 0]) for _ in range(3)]
    with serving(*instances) as server, ThreadPoolExecutor(3) as pool:
        assert [answer[0] for answer in pool.map(lambda _: ask(server), range(3))] == [200] * 3


def test_one_instance_is_never_called_twice_at_a_time(tmp_path: Path) -> None:
    running, most = [0], [0]

    def act() -> list[int]:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.01)
        running[0] -= 1
        return []

    with serving(Scripted(tmp_path, act)) as server, ThreadPoolExecutor(8) as pool:
        assert {answer[0] for answer in pool.map(lambda _: ask(server), range(16))} == {200}
    assert most == [1]


def test_over_the_queue_limit_is_503_at_once(tmp_path: Path) -> None:
    gate = threading.Event()
    with serving(Scripted(tmp_path, lambda: [int(gate.wait(LONG))]), queue=1) as server, ThreadPoolExecutor(2) as pool:
        admitted = [pool.submit(ask, server) for _ in range(2)]
        until(lambda: server._admitted == 2)
        status, headers, answer = ask(server)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "busy" in answer["error"]
        assert ask(server, "GET", "/healthz")[0] == 200
        assert scraped(server)["http_requests_in_flight"] == 2
        gate.set()
        assert [future.result()[0] for future in admitted] == [200, 200]
        assert ask(server)[0] == 200
        samples = scraped(server)
    assert samples["http_requests_total{503}"] == 1
    assert samples["http_requests_total{200}"] == samples["http_request_duration_seconds_count"] == 3


def test_waiting_too_long_for_an_instance_is_503(tmp_path: Path) -> None:
    gate = threading.Event()
    slow = Scripted(tmp_path, lambda: [int(gate.wait(LONG))])
    with serving(slow, queue_timeout_s=0.05) as server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, server)
        until(lambda: server._admitted == 1)
        assert ask(server)[0] == 503
        gate.set()
        assert first.result()[0] == 200


def test_over_the_connection_limit_is_503(instance: Application) -> None:
    with serving(instance, max_connections=1) as server:
        with socket.create_connection(("127.0.0.1", server.server_port)):
            until(lambda: len(server._connections) == 1)
            assert raw(server, b"").startswith(b"HTTP/1.1 503 ")
        until(lambda: not server._connections)
        assert ask(server)[0] == 200


def test_a_failing_invocation_is_500_and_the_next_one_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    acts = iter([lambda: 1 / 0, lambda: [7]])
    with serving(Scripted(tmp_path, lambda: next(acts)())) as server:
        status, _, answer = ask(server)
        assert (status, answer) == (500, {"error": "the application failed: ZeroDivisionError: division by zero"})
        assert ask(server)[2]["results"] == [7]
        assert scraped(server)["http_requests_total{500}"] == 1
    assert [record.getMessage() for record in caplog.records] == [
        "invocation failed: ZeroDivisionError: division by zero"
    ]


# -- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_count_load_and_not_probes(instance: Application) -> None:
    with serving(instance) as server:
        for _ in range(3):
            ask(server)
        ask(server, "GET", "/healthz")
        ask(server, "GET", "/nowhere")
        before = scraped(server)
        samples = scraped(server)
    assert samples["http_requests_total{200}"] == before["http_requests_total{200}"] == 3
    assert samples["http_requests_total{404}"] == 1
    assert samples["http_request_duration_seconds_bucket"] == samples["http_request_duration_seconds_count"] == 3
    assert 0.009 <= samples["http_request_duration_seconds_sum"] < LONG
    assert samples["http_requests_in_flight"] == 0
    assert samples["flashfm_application_info"] == 1
    assert samples["process_resident_memory_bytes"] > 1e6
    assert samples["process_cpu_seconds_total"] > 0


def test_two_servers_count_apart(instance: Application) -> None:
    with serving(instance) as one, serving(instance) as other:
        ask(one)
        assert scraped(other)["http_requests_total{200}"] == 0


def test_metrics_have_a_second_port(instance: Application) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = ServerConfig(metrics_port=port)
    with serving(instance) as server:
        with server.metrics.served_on(config):
            ask(server)
            assert scraped(server, port)["http_requests_total{200}"] == 1
            with pytest.raises(ServiceError, match="--metrics-port"), server.metrics.served_on(config):
                pass
        with pytest.raises(ConnectionRefusedError):
            scraped(server, port)


# -- addresses -------------------------------------------------------------------------------------------------------


def test_a_taken_port_is_one_line(instance: Application) -> None:
    with serving(instance) as server:
        config = ServerConfig(port=server.server_port)
        with pytest.raises(ServiceError, match=r"cannot listen on 127\.0\.0\.1 port \d+: .*; choose another"):
            ApplicationServer([instance], config)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_an_address_of_others_is_one_line(instance: Application, host: str) -> None:
    with pytest.raises(ServiceError, match="cannot listen on"):
        ApplicationServer([instance], ServerConfig(host=host, port=0))


def test_processes_may_share_a_port(instance: Application) -> None:
    with serving(instance, share_port=True) as one:
        config = ServerConfig(port=one.server_port, share_port=True)
        with ApplicationServer([instance], config) as other:
            assert other.server_port == one.server_port


def test_it_listens_on_ipv6(instance: Application) -> None:
    try:
        server = ApplicationServer([instance], ServerConfig(host="::1", port=0))
    except ServiceError:
        pytest.skip("this machine has no IPv6 loopback")
    with server:
        assert server.url == f"http://[::1]:{server.server_port}"


# -- the end ---------------------------------------------------------------------------------------------------------


def test_draining_finishes_what_is_in_flight_and_closes_what_is_idle(tmp_path: Path) -> None:
    gate = threading.Event()
    slow = Scripted(tmp_path, lambda: [int(gate.wait(LONG))])
    with (
        serving(slow) as server,
        ThreadPoolExecutor(2) as pool,
        socket.create_connection(("127.0.0.1", server.server_port), timeout=LONG) as idle,
    ):
        running = pool.submit(ask, server)
        until(lambda: server._admitted == 1)
        drained = pool.submit(server.drain)
        assert idle.recv(100) == b""
        with pytest.raises(ConnectionRefusedError):
            ask(server)
        assert not drained.done()
        gate.set()
        status, headers, _ = running.result()
        assert (status, headers["Connection"]) == (200, "close")
        assert drained.result() == 0


def test_draining_gives_up_in_the_end(tmp_path: Path) -> None:
    gate = threading.Event()
    slow = Scripted(tmp_path, lambda: [int(gate.wait(LONG))])
    with serving(slow, drain_s=0.05) as server, ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, server)
        until(lambda: server._admitted == 1)
        assert server.drain() == 1
        gate.set()
        assert running.result()[0] == 200


@contextmanager
def process(*words: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """`flashfm apps serve … --json`, once it answers."""
    command = [sys.executable, "-m", "flashfm", "apps", "serve", *words, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            assert line, child.communicate()[1]
            yield child, json.loads(line)
        finally:
            child.kill()


def fetch(url: object) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection(str(url).removeprefix("http://"), timeout=LONG)) as connection:
        connection.request("POST", "/")
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_well(tmp_path: Path, number: signal.Signals) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(ApplicationSpec("nap", (SegmentSpec("sleep", {"sleep_ms": 800}),)).to_dict()))
    with process(str(spec)) as (child, said), ThreadPoolExecutor(1) as pool:
        assert said["pid"] == child.pid
        running = pool.submit(fetch, said["url"])
        time.sleep(0.3)
        child.send_signal(number)
        status, body = running.result()
        assert (status, json.loads(body)["results"]) == (200, [800])
        assert child.wait(LONG) == 0
        assert child.stderr is not None
        assert child.stderr.read() == ""


def test_the_second_signal_does_not_wait(tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(ApplicationSpec("nap", (SegmentSpec("sleep", {"sleep_ms": 60_000}),)).to_dict()))
    with process(str(spec)) as (child, said):
        peer = socket.create_connection(("127.0.0.1", int(str(said["url"]).rpartition(":")[2])))
        with peer:
            peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
            time.sleep(0.3)
            child.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert child.poll() is None
            child.send_signal(signal.SIGTERM)
            assert child.wait(LONG) == 130


def test_an_application_with_services_is_served_and_leaves_nothing(tmp_path: Path) -> None:
    with process("airline-booking", "--concurrency", "2") as (child, said), ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: fetch(said["url"]), range(8)))
        assert [status for status, _ in answers] == [200] * 8, answers
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        child.terminate()
        assert child.wait(LONG) == 0
    assert children
    until(lambda: not any(_alive(int(pid)) for pid in children))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
