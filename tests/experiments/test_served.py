"""A replica under real limits: it answers, it is throttled, and nothing of it stays."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import gettempdir

import pytest

from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.errors import LimitsError, MeasureError
from flashfm.experiments.open_load import Load
from flashfm.experiments.served import bench
from flashfm.measurements.limits import Backend, Limits, detect

SPEC = ApplicationSpec("busy", (SegmentSpec("floating-point", {"operations": 40_000}),))


@pytest.fixture(scope="module")
def backend() -> Backend:
    try:
        return detect()
    except LimitsError as error:
        pytest.skip(str(error))


@pytest.mark.limits
def test_a_replica_answers_under_its_quota_and_leaves_nothing_behind(backend: Backend) -> None:
    before = set(Path(gettempdir()).glob("flashfm-*"))
    with bench(backend) as place:
        with place.replica(SPEC, Limits(cpu_quota=0.2, memory_mb=512), concurrency=2) as replica:
            found = place.send(Load(replica.port, replica.pid, 200.0, 0.5, 2.0, seed=0, timeout_s=2.0))
            assert Path(f"/proc/{replica.pid}").exists()
        assert not Path(f"/proc/{replica.pid}").exists()
    assert set(Path(gettempdir()).glob("flashfm-*")) <= before
    assert found.ended > 0
    assert found.cpu_s / found.wall_s < 0.3
    assert found.rss_mib < 512


@pytest.mark.limits
def test_a_server_that_cannot_start_says_why(backend: Backend) -> None:
    missing = ApplicationSpec("gone", (SegmentSpec("s3-read", {"file_kb": 128, "objects": 0}),))
    with (
        bench(backend) as place,
        pytest.raises(MeasureError, match=r"application gone: the server ended before it answered: .*objects"),
        place.replica(missing, Limits(), concurrency=1),
    ):
        pass


@pytest.mark.limits
def test_a_load_on_a_process_that_is_gone_is_an_error_in_one_line(backend: Backend) -> None:
    with bench(backend) as place, pytest.raises(MeasureError, match="is the server still there") as caught:
        place.send(Load(1, 2**22 + os.getpid(), 10.0, 0.1, 0.2, seed=0))
    assert "\n" not in str(caught.value)
