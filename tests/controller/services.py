"""What tests of live services share: an application that computes a little, and single requests to it."""

from __future__ import annotations

import http.client

import pytest

from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.errors import LimitsError
from flashfm.measurements.limits import Backend, detect

BUSY = ApplicationSpec(
    "busy", (SegmentSpec("floating-point", {"operations": 12_000}), SegmentSpec("sleep", {"sleep_ms": 2}))
)


def backend_or_skip() -> Backend:
    try:
        return detect()
    except LimitsError as error:
        pytest.skip(str(error))


def call(port: int) -> int:
    """Status of one request with a connection of its own."""
    web = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        web.request("POST", "/")
        answer = web.getresponse()
        answer.read()
        return answer.status
    finally:
        web.close()
