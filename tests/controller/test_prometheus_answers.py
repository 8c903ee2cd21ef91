"""Prometheus: what hostile, slow and wrong servers come to, and what they are told; they answer over real HTTP."""

from __future__ import annotations

import json
import math
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.controller.prometheus import Access, PrometheusSource
from flashfm.controller.queries import LOCAL, Queries
from flashfm.errors import BackendError, ControlError

ONLY = Queries(time_s="", arrived_per_s="", served_per_s="", p99_s="", used_cores="", used_mib="")
TOKEN = "s3cret-t0ken"


class Fake(ThreadingHTTPServer):
    """Answers what a test wants."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.status, self.body, self.pause_s, self.drip = 200, b"", 0.0, False
        self.more: dict[str, str] = {}
        self.got: list[tuple[str, dict[str, str]]] = []
        self.ended = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Answering(BaseHTTPRequestHandler):
    server: Fake
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        fake = self.server
        fake.got.append((asked, {name.lower(): value for name, value in self.headers.items()}))
        fake.ended.wait(fake.pause_s)
        if fake.drip:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not fake.ended.wait(0.05):
                self.wfile.write(b"X: y\r\n")
        self.send_response(fake.status)
        for name, value in fake.more.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(fake.body)))
        self.end_headers()
        self.wfile.write(fake.body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def faking(tls: ssl.SSLContext | None = None) -> Iterator[tuple[Fake, str]]:
    with Fake() as fake:
        if tls is not None:
            fake.socket = tls.wrap_socket(fake.socket, server_side=True)
        thread = threading.Thread(target=fake.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield fake, f"{'http' if tls is None else 'https'}://127.0.0.1:{fake.server_port}"
        fake.ended.set()
        fake.shutdown()
        thread.join()


@pytest.fixture
def fake() -> Iterator[tuple[Fake, str]]:
    with faking() as made:
        yield made


def vector(*series: tuple[str, str], at_s: float | None = None, **more: Any) -> bytes:
    at_s = time.time() if at_s is None else at_s
    result = [{"metric": {"flashfm_figure": figure}, "value": [at_s, value]} for figure, value in series]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}, **more}).encode()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>hello</html>", "the answer is none of Prometheus"),
        (200, b"", "the answer is none of Prometheus"),
        (200, b"[" * 500_000, "the answer is none of Prometheus"),
        (200, b'"success"', "the answer is none of Prometheus"),
        (200, b'{"status":"success","data":{"resultType":"matrix","result":[]}}', "the answer is none of Prometheus"),
        (200, b'{"status":"success","data":{"resultType":"vector","result":[1]}}', "the answer is none of Prometheus"),
        (200, b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{}}]}}', "none of Prometheus"),
        (200, vector(("ready", "one")), "the answer is none of Prometheus"),
        (200, vector(("ready", "1")).replace(b'"1"', b"9" * 400), "the answer is none of Prometheus"),
        (200, vector(("ready", "1"), warnings=["half\nof it"]), r"the answer may lack something: .*half"),
        (200, vector(("ready", "1"), at_s=1e9), r"clocks differ: the server's by -\d+ s"),
        (200, vector(("ready", "1"), at_s=math.nan), "clocks differ"),
        (200, b"x" * (1 << 20) + b"x", "an answer of more than 1048576 bytes"),
        (302, b"", "answered 302, a redirect, which is not followed"),
        (400, b"what?", "answered 400: without a reason; is the address that of a Prometheus server?"),
        (400, b'{"status":"error","error":"bad\\n' + TOKEN.encode() + b'"}', "query for ready is refused: bad …"),
        (401, TOKEN.encode(), "answered 401: not allowed; is the token right"),
        (404, b"", "answered 404: without a reason"),
        (503, b'{"status":"error","error":"query timed out"}', "answered 503: query timed out"),
        (500, json.dumps({"error": f"\x1b[31m{TOKEN}" + "x" * 900}).encode(), "answered 500: .* …$"),
    ],
)
def test_whatever_a_server_answers_is_one_line_without_the_token(
    fake: tuple[Fake, str], status: int, body: bytes, said: str
) -> None:
    server, url = fake
    server.status, server.body, server.more = status, body, {"Location": "http://elsewhere.invalid/"}
    with (
        PrometheusSource(url, replace(ONLY, ready="up"), access=Access(token=TOKEN)) as source,
        pytest.raises(BackendError, match=said) as told,
    ):
        source.sample({}, time.time())
    assert str(told.value).isprintable()
    assert TOKEN not in str(told.value)
    assert len(str(told.value)) < 400
    assert TOKEN not in repr(vars(source))


@pytest.mark.parametrize("how", [{"pause_s": 30.0}, {"drip": True}])
def test_slow_answers_are_not_waited_for(fake: tuple[Fake, str], how: dict[str, Any]) -> None:
    server, url = fake
    vars(server).update(how)
    with PrometheusSource(url, replace(ONLY, ready="up"), timeout_s=0.3) as source:
        for _ in range(2):
            begun_s = time.monotonic()
            with pytest.raises(BackendError, match=r"no whole answer within 0\.3 s"):
                source.sample({}, time.time())
            assert time.monotonic() - begun_s < 2.0
        vars(server).update(pause_s=0.0, drip=False, body=vector(("ready", "3")))
        assert source.sample({}, time.time()).ready == 3, "the next step tries again"


def test_what_is_sent(fake: tuple[Fake, str], tmp_path: Path) -> None:
    server, url = fake
    server.body = vector(("ready", "3"))
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    access = Access(headers={"X-Scope-OrgID": "me"}, token_file=path)
    with PrometheusSource(f"{url}/", replace(ONLY, ready="up"), access=access) as source:
        assert source.sample({}, time.time()).ready == 3
        path.write_text("another")
        source.sample({}, time.time())
        path.write_text("two\nlines")
        with pytest.raises(BackendError, match="token: holds no token; expected printable ASCII"):
            source.sample({}, time.time())
        path.unlink()
        with pytest.raises(BackendError, match="token: the token cannot be read: No such file"):
            source.sample({}, time.time())
    assert [headers["authorization"] for _, headers in server.got] == [f"Bearer {TOKEN}", "Bearer another"]
    assert server.got[0][1]["x-scope-orgid"] == "me"
    assert "accept-encoding" in server.got[0][1]
    assert server.got[0][0].endswith("&timeout=5000ms")


json_like = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def odd() -> Iterator[tuple[Fake, PrometheusSource]]:
    with faking() as (server, url), PrometheusSource(url, replace(ONLY, ready="up")) as source:
        yield server, source


@settings(max_examples=50, deadline=None)
@given(metric=json_like | st.just({"flashfm_figure": "ready"}), value=json_like, timed=st.booleans(), other=json_like)
def test_whatever_json_is_answered_is_a_sample_or_one_line(
    odd: tuple[Fake, PrometheusSource], metric: Any, value: Any, timed: bool, other: Any
) -> None:
    server, source = odd
    series = {"metric": metric, "value": [time.time(), value] if timed else value}
    body = {"status": "success", "data": {"resultType": "vector", "result": [series]}}
    server.body = json.dumps(body if timed or other is None else other).encode()
    got, failed = source.samples({"a": {}}, time.time())
    assert [*got, *failed] == ["a"]
    assert all(said.isprintable() for said in failed.values())


def test_tls_is_checked_against_the_given_certificates(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with faking(tls) as (server, url):
        server.body = vector(("ready", "3"))
        queries = replace(ONLY, ready="up")
        with PrometheusSource(url, queries, access=Access(ca_file=certificate)) as source:
            assert source.sample({}, time.time()).ready == 3
        failed = pytest.raises(BackendError, match=r"no answer: .*certificate verify failed")
        with PrometheusSource(url, queries, access=Access(token=TOKEN)) as source, failed:
            source.sample({}, time.time())
        assert len(server.got) == 1, "a server that is not who it should be gets no token"
    with pytest.raises(ControlError, match="no certificates in PEM"):
        PrometheusSource("https://127.0.0.1:1", queries, access=Access(ca_file=tmp_path / "none.pem"))


def self_signed(folder: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path = folder / "both.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(pem))
    return path


@pytest.mark.parametrize(
    "url",
    [
        "",
        "prometheus:9090",
        "ftp://host",
        "http://",
        "http://host:99999999",
        "http://[::1",
        "http://a b",
        "http://h\nx",
    ],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ControlError, match="expected such as http://host:9090"):
        PrometheusSource(url, LOCAL)


def test_settings_that_make_no_sense_are_refused_without_repeating_secrets() -> None:
    for url in (f"http://me:{TOKEN}@host", f"http://host/?token={TOKEN}", f"http://host/#{TOKEN}"):
        with pytest.raises(ControlError, match="holds a user, a query or a fragment") as told:
            PrometheusSource(url, LOCAL)
        assert TOKEN not in str(told.value)
    for access in ({"token": f"{TOKEN}\n"}, {"headers": {"a": f" {TOKEN}"}}, {"headers": {"": TOKEN}}):
        with pytest.raises(ControlError, match="cannot be sent") as told:
            Access(**access)
        assert TOKEN not in str(told.value)
    with pytest.raises(ControlError, match="expected one of them"):
        Access(token=TOKEN, token_file=Path("x"))
    with pytest.raises(ControlError, match="expected both above 0"):
        PrometheusSource("http://host", LOCAL, window_s=0.0)
    assert TOKEN not in repr(Access(token=TOKEN, headers={"X-Key": TOKEN}))


def test_a_wrong_address_is_one_line() -> None:
    with (
        PrometheusSource("http://127.0.0.1:9", LOCAL) as source,
        pytest.raises(BackendError, match="no answer: ") as told,
    ):
        source.sample({"name": "shop"}, time.time())
    assert "is the address right" in str(told.value)
