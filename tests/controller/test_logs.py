"""The log: one bounded line an event, with its fields and without secrets."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kube_api import KubeApi
from prometheus_server import pages
from rig import Rig

from flashfm.controller.kube.resource import manifest
from flashfm.controller.logs import HIDDEN, MOST_BYTES, Form, JsonLines, TextLines, logged, without_secrets
from flashfm.errors import BackendError

Make = Callable[[int], Rig]
log = logging.getLogger("flashfm.controller")


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("flashfm.controller", logging.WARNING, __file__, 1, message, args, None)
    vars(made).update(extra)
    return made


def lines(told: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.splitlines()]


def test_a_line_has_time_level_logger_message_and_fields() -> None:
    told = json.loads(
        JsonLines().format(record("%s: no room", "shop/web", target="shop/web", phase="serving", node="x"))
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("time"))
    assert told == {
        "level": "warning",
        "logger": "flashfm.controller",
        "message": "shop/web: no room",
        "target": "shop/web",
        "phase": "serving",
    }
    assert TextLines().format(record("shop/web: no room", target="shop/web")).endswith("Z WARNING shop/web: no room")


@given(st.text(), st.integers(1, 5_000), st.text())
def test_whatever_is_told_is_one_bounded_line(text: str, times: int, field: str) -> None:
    of = record("%s", text * times, target=field * times, phase="serving")
    try:
        raise ValueError(text * times)
    except ValueError:
        of.exc_info = sys.exc_info()
    line = JsonLines().format(of)
    assert line.isascii()
    assert len(line) <= MOST_BYTES
    assert len(line.splitlines()) == 1
    told = json.loads(line)
    assert told["phase"] == "serving"
    assert told["error"].startswith("ValueError: ")
    assert len(TextLines().format(of).splitlines()) == 1


def test_arguments_that_do_not_fit_are_told_all_the_same() -> None:
    assert json.loads(JsonLines().format(record("%d of %d", "three")))["message"] == "%d of %d ('three',)"


SECRET = "c2VjcmV0LXRva2Vu"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "text",
    [
        f"refused: Authorization: Bearer {SECRET}",
        f"headers {{'authorization': 'Bearer {SECRET}'}}",
        f"authorization: {SECRET}",
        f"a Basic {SECRET}=",
        f"Authorization: bearer {SECRET.lower()}{SECRET}",
        f"X-API-Key: {SECRET}",
        f"https://admin:{SECRET}@prometheus.monitoring:9090/api: no answer",
        f"GET http://prometheus/api?token={SECRET}&query=up",
        f'{{"access_token": "{SECRET}", "expires": 3600}}',
        f"password='{SECRET} {SECRET}' user=x",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
        JWT.replace("c2lnbmF0dXJl", SECRET),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    of = record("shop/web: %s", text, target=text)
    try:
        raise BackendError(text)
    except BackendError:
        of.exc_info = sys.exc_info()
    for line in (JsonLines().format(of), TextLines().format(of)):
        assert SECRET not in line
        assert "shop/web: " in line
    assert HIDDEN in without_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        "/var/run/secrets/kubernetes.io/serviceaccount/token: the token cannot be read: no such file",
        "http://prometheus:9090/api/v1/query: answered 401: not allowed; is the token right, and may it query?",
        "PATCH /api/v1/namespaces/shop/pods/web-1/resize: 403 Forbidden: bind the role of `manifests/rbac.yaml`",
        "serving: 40 steps in which it earned no less than the rules: 0.71 against 0.69",
        "basic figures are missing: p99_s",
    ],
)
def test_what_is_none_stays_as_it_is(text: str) -> None:
    assert without_secrets(text) == text


def test_libraries_tell_no_requests_and_warnings_of_python_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.getLogger("httpx").level)
    with pages({"/": lambda: (200, b"")}) as address, logged(Form.JSON):
        assert httpx.get(f"http://{address}/", trust_env=False).status_code == 200
        log.info("asked")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert (list(root.handlers), root.level, logging.getLogger("httpx").level) == before
    asked, old = lines(capsys.readouterr().err)
    assert asked["message"] == "asked"
    assert "DeprecationWarning: old" in old["message"]
    log.warning("afterwards")
    assert "{" not in capsys.readouterr().err


def test_the_loop_tells_target_and_phase(rig: Make, capsys: pytest.CaptureFixture[str]) -> None:
    one = rig(3)

    def refuse(_: object) -> None:
        raise BackendError("no room")

    one.acting = refuse
    with logged(Form.JSON):
        one.steps(40)
    told = lines(capsys.readouterr().err)
    assert {(line["target"], line["phase"]) for line in told} == {(one.target.name, "bootstrap")}
    assert {line["level"]: line["message"].removeprefix(f"{one.target.name}: ") for line in told} == {
        "info": "bootstrap: the operator lets the controller act",
        "warning": "no room",
    }


def test_an_operator_that_is_no_terminal_logs_json(tmp_path: Path) -> None:
    with KubeApi() as kube:
        kube.put(manifest("crd")[0])
        words = ["autoscale", "kubernetes", "--kubeconfig", kube.kubeconfig(tmp_path / "kubeconfig")]
        words += ["--listen", "127.0.0.1:0", "--state", tmp_path / "state.db", "--prometheus", "http://127.0.0.1:9"]
        process = subprocess.Popen(
            [sys.executable, "-m", "flashfm", *map(str, words)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert process.stderr is not None
        timer = threading.Timer(60, process.kill)
        timer.start()
        try:
            first = process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
        finally:
            timer.cancel()
            process.kill()
            process.wait()
            process.stderr.close()
    told = lines(first + rest)
    assert told[0]["message"].startswith("controlling all namespaces; pages are on 127.0.0.1:")
    assert {line["logger"] for line in told} <= {"flashfm.controller"}
