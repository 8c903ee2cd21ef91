"""Direct scrapes: rates of a step, and that quantiles are those of Prometheus."""

from __future__ import annotations

import math
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_server import job, needs_prometheus, pages, prometheus, until

from flashfm.applications.catalogue import real_application
from flashfm.applications.server_metrics import BUCKETS_S, ServerMetrics
from flashfm.controller.scrape import Rates, Scrape, parsed, quantile, rates, scrape, scrape_all
from flashfm.errors import BackendError

NOTHING = Rates(None, None, None, None, None)


def told(at: int, ok: int = 0, *, failed: int = 0, refused: int = 0, slow: int = 0, start: int = 1) -> Scrape:
    """A process that answers fast in 0 to 0.1 s, slowly in 0.1 to 1 s, and takes 0.1 s of CPU for each."""
    answered = {"200": float(ok), "500": float(failed), "503": float(refused)}
    taken = float(ok + failed)
    buckets = {0.1: taken - slow, 1.0: taken, math.inf: taken}
    return Scrape(float(at), float(start), answered, buckets, 0.1 * taken, 50.0)


def test_a_step_by_hand() -> None:
    before = {"a": told(100, 10, slow=10), "b": told(100, 1000)}
    now = {"a": told(130, 100, slow=13), "b": told(130, 1210, failed=3, refused=30, slow=3)}
    found = rates(before, now, 30.0)
    assert found.arrived_per_s == pytest.approx((90 + 210 + 3 + 30) / 30)
    assert found.served_per_s == pytest.approx((90 + 210) / 30)
    assert found.cores == pytest.approx(0.1 * 303 / 30)
    assert found.resident_mib == 50
    assert found.p99_s == pytest.approx(0.1 + 0.9 * (0.99 * 303 - 297) / 6)


def test_a_process_that_began_anew_has_not_counted_backwards() -> None:
    before = {"a": told(100, 1000)}
    assert rates(before, {"a": told(130, 60, start=110)}, 30.0).arrived_per_s == 2
    assert rates(before, {"a": told(130, 60)}, 30.0).arrived_per_s == 2, "counters fell"
    grown = rates(before, {"a": told(130, 1060, start=110)}, 30.0)
    assert grown.arrived_per_s == pytest.approx(1060 / 30), "the start tells"
    assert grown.cores == pytest.approx(106 / 30)


def test_processes_come_and_go() -> None:
    before = {"a": told(100, 10), "gone": told(100, 70)}
    came, unseen = told(130, 60, start=110), told(130, 9000, start=5)
    found = rates(before, {"a": told(130, 40), "came": came, "unseen": unseen}, 30.0)
    assert found.arrived_per_s == (30 + 60) / 30, "when it counted is not known of one that was there and not scraped"
    assert found.resident_mib == 50


def test_what_is_not_told_is_none_and_an_idle_step_is_zero() -> None:
    assert rates({}, {}, 30.0) == NOTHING
    assert rates({"a": told(100, 10)}, {}, 30.0) == NOTHING
    first = rates({}, {"a": told(130, 10)}, 30.0)
    assert (first.arrived_per_s, first.cores, first.p99_s, first.resident_mib) == (None, None, None, 50)
    idle = rates({"a": told(100, 10)}, {"a": told(130, 10)}, 30.0)
    assert idle == Rates(0.0, 0.0, None, 0.0, 50.0)
    bare = rates({"a": Scrape(100.0)}, {"a": Scrape(130.0)}, 30.0)
    assert bare == NOTHING


counts = st.lists(st.integers(0, 10_000), min_size=4, max_size=4)


@given(st.dictionaries(st.sampled_from("abc"), counts), st.dictionaries(st.sampled_from("abc"), counts))
def test_no_figure_is_below_zero_or_no_number(before: dict[str, list[int]], now: dict[str, list[int]]) -> None:
    def page(at: int, n: list[int]) -> Scrape:
        return told(at, n[0], failed=n[1], slow=min(n[2], n[0]), start=n[3])

    then, there = ({name: page(at, n) for name, n in of.items()} for at, of in ((100, before), (130, now)))
    found = rates(then, there, 30.0)
    known = [value for value in vars(found).values() if value is not None]
    assert all(math.isfinite(value) and value >= 0 for value in known)
    if found.arrived_per_s is not None:
        assert found.served_per_s <= found.arrived_per_s
    if found.p99_s is not None:
        assert found.p99_s <= 1.0


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ({}, None),
        ({math.inf: 5.0}, None),
        ({0.1: 5.0, 1.0: 5.0}, None),
        ({0.1: 0.0, math.inf: 0.0}, None),
        ({0.1: 100.0, math.inf: 100.0}, 0.099),
        ({0.1: 0.0, 1.0: 100.0, math.inf: 100.0}, 0.991),
        ({0.1: 0.0, 1.0: 98.0, math.inf: 100.0}, 1.0),
        ({0.1: 50.0, 1.0: 40.0, math.inf: 100.0}, 1.0),
        ({-1.0: 100.0, math.inf: 100.0}, -1.0),
    ],
)
def test_quantiles_by_hand(buckets: dict[float, float], expected: float | None) -> None:
    assert quantile(0.99, buckets) == (None if expected is None else pytest.approx(expected))


@needs_prometheus
def test_quantiles_are_those_of_prometheus(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    bounds = (*BUCKETS_S, math.inf)
    cases = [np.cumsum(generator.poisson(generator.exponential(20), len(bounds))) for _ in range(60)]
    cases += [np.cumsum(np.eye(len(bounds), dtype=int)[i]) * 7 for i in range(len(bounds))]
    cases += [np.zeros(len(bounds), int)]
    text = "".join(
        f'http_request_duration_seconds_bucket{{case="{i}",le="{"+Inf" if math.isinf(bound) else bound}"}} {n}\n'
        for i, case in enumerate(cases)
        for bound, n in zip(bounds, case, strict=True)
    )
    with (
        pages({"/": lambda: (200, text.encode())}) as address,
        prometheus(tmp_path, [job("cases", address, ["/"])]) as server,
    ):
        until(lambda: server.scrapes("up"), "it was scraped")
        for q in (0.5, 0.99):
            asked = server.query(f"histogram_quantile({q}, sum by (case, le) (http_request_duration_seconds_bucket))")
            theirs = {int(one["metric"]["case"]): float(one["value"][1]) for one in asked}
            assert len(theirs) == len(cases)
            for i, case in enumerate(cases):
                ours = quantile(q, dict(zip(bounds, map(float, case), strict=True)))
                assert math.isnan(theirs[i]) if ours is None else ours == pytest.approx(theirs[i], rel=1e-12)


def test_a_served_application_is_read() -> None:
    metrics = ServerMetrics(real_application("airline-booking"))
    for code, seconds in (("200", 0.02), ("200", 0.2), ("500", 90.0)):
        metrics.requests.labels(code).inc()
        metrics.duration.observe(seconds)
    metrics.requests.labels("503").inc(4)
    with pages({"/metrics": lambda: (200, metrics.exposition())}) as address:
        one = scrape(f"http://{address}/metrics")
    assert one.answered == {"200": 2, "500": 1, "503": 4}
    assert [one.buckets[bound] for bound in (0.01, 0.025, 0.25, 60.0, math.inf)] == [0, 1, 2, 2, 3]
    assert list(one.buckets)[:-1] == list(BUCKETS_S)
    assert one.cpu_s == pytest.approx(time.process_time(), abs=1.0)
    assert one.resident_mib > 10
    assert one.start_s < one.time_s == pytest.approx(time.time(), abs=5.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<html>hello</html>", "not in Prometheus' text format"),
        ('http_requests_total{code="200" 5', "not in Prometheus' text format"),
        ("http_requests_total five", "not in Prometheus' text format"),
        (f"http_requests_total {'9' * 400}", "not in Prometheus' text format"),
        ("http_request_duration_seconds_bucket 5", "not in Prometheus' text format"),
        ('http_request_duration_seconds_bucket{le="x"} 5', "not in Prometheus' text format"),
        ("process_cpu_seconds_total 5\nprocess_cpu_seconds_total 6", "process_cpu_seconds_total is there twice"),
    ],
)
def test_what_is_no_exposition_is_one_line(text: str, said: str) -> None:
    with pytest.raises(BackendError, match=said) as told_of:
        parsed(text, 0.0)
    assert str(told_of.value).isprintable()


@given(st.text(max_size=60) | st.from_regex(r'[a-z_]{1,9}(\{[a-z"=,]{0,9}\})? [0-9eN+-]{1,5}\n', fullmatch=True))
def test_whatever_is_exposed_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(parsed(text, 0.0), Scrape)
    except BackendError as error:
        assert str(error).isprintable()  # noqa: PT017 - either is right


def test_values_that_are_no_counts_are_not_told() -> None:
    page = 'process_cpu_seconds_total NaN\nprocess_resident_memory_bytes -1\nhttp_requests_total{code="200"} +Inf\n'
    assert parsed(page, 5.0) == Scrape(5.0)


def test_labels_of_an_application_are_summed_over() -> None:
    page = (
        'http_requests_total{code="200",path="/a"} 1\nhttp_requests_total{code="200",path="/b"} 2\n'
        'http_request_duration_seconds_bucket{le="+Inf",path="/a"} 1\n'
        'http_request_duration_seconds_bucket{le="+Inf",path="/b"} 2\n'
    )
    assert parsed(page, 5.0) == Scrape(5.0, answered={"200": 3.0}, buckets={math.inf: 3.0})


def test_those_that_do_not_answer_are_named_and_do_not_hold_up_the_others() -> None:
    ended = threading.Event()

    def slow() -> tuple[int, bytes]:
        ended.wait(10)
        return 200, b""

    paths = {
        "/good": lambda: (200, b"process_cpu_seconds_total 5\n"),
        "/broken": lambda: (500, b""),
        "/huge": lambda: (200, b"#" * (5 << 20)),
        "/slow": slow,
    }
    with pages(paths) as address, socket.create_server(("127.0.0.1", 0)) as silent:
        urls = {path: f"http://{address}{path}" for path in paths}
        urls |= {"silent": f"http://127.0.0.1:{silent.getsockname()[1]}/", "none": "foo"}
        begun_s = time.monotonic()
        got, failed = scrape_all(urls, 0.5)
        assert time.monotonic() - begun_s < 3.0
        ended.set()
        with pytest.raises(BackendError, match="answered 500, expected 200 and metrics"):
            scrape(urls["/broken"])
    assert got["/good"].cpu_s == 5
    assert list(got) == ["/good"]
    assert "no whole answer within 0.5 s" in failed["/slow"]
    assert "no whole answer within 0.5 s" in failed["silent"]
    assert "more than 4194304 bytes" in failed["/huge"]
    assert "foo: no answer: " in failed["none"]
