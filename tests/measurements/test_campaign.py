"""Campaigns: order, packing, resuming, and what stops leave behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces_of import MARK, groups_of, processes_marked

from flashfm.applications.function import function_spec
from flashfm.applications.generator import generate_many
from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.measurements.campaign import Campaign, Capacity, OpenLoad, Runner, run
from flashfm.measurements.journal import Journal
from flashfm.measurements.limits import Backend
from flashfm.measurements.platforms import Lambda, OpenWhisk
from flashfm.measurements.sandbox import InvokePlan
from flashfm.records import Outcome, ResourceConfig

QUICK = InvokePlan(warmup=0, count=2, at_least=1)


def nap(name: str, ms: int = 10) -> ApplicationSpec:
    return ApplicationSpec(name, (SegmentSpec("sleep", {"sleep_ms": ms}),))


def campaign(*apps: ApplicationSpec, passes: int = 1, memory: tuple[int, ...] = (256, 1024)) -> Campaign:
    return Campaign(apps, Lambda(), tuple(map(ResourceConfig, memory)), QUICK, passes=passes)


@given(st.integers(0, 1000), st.integers(1, 4))
def test_every_configuration_is_visited_once_a_pass_in_an_order_of_its_own(seed: int, passes: int) -> None:
    planned = Campaign((nap("a"), nap("b")), Lambda(), tuple(Lambda().configs(None, None)), passes=passes, seed=seed)
    order = planned.order(planned.apps[0])
    assert sorted(order) == sorted((n, c) for n in range(passes) for c in planned.configs)
    assert [n for n, _ in order] == sorted(n for n, _ in order)
    assert order == planned.order(planned.apps[0])


@given(st.lists(st.floats(0.05, 1.2), min_size=1, max_size=12))
def test_capacity_is_never_exceeded_and_everybody_gets_a_turn(wants: list[float]) -> None:
    async def main() -> tuple[float, int]:
        capacity, now, most, served = Capacity(1.0), 0.0, 0.0, 0

        async def job(cores: float) -> None:
            nonlocal now, most, served
            async with capacity.take(cores):
                now += min(cores, 1.0)
                most = max(most, now)
                await asyncio.sleep(0)
                now -= min(cores, 1.0)
            served += 1

        await asyncio.gather(*map(job, wants))
        return most, served

    most, served = asyncio.run(main())
    assert most <= 1.0 + 1e-6
    assert served == len(wants)


@given(st.sets(st.integers(0, 4)), st.integers(0, 3))
def test_capacity_survives_cancelled_waits(cancelled: set[int], after: int) -> None:
    async def main() -> list[object]:
        capacity = Capacity(1.0)

        async def hold() -> None:
            async with capacity.take(0.6):
                await asyncio.sleep(0)
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(hold()) for _ in range(5)]
        for _ in range(after):
            await asyncio.sleep(0)
        for i in cancelled:
            tasks[i].cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait_for(hold(), 1)
        return ends

    ends = asyncio.run(main())
    assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends)


@pytest.mark.limits
def test_a_campaign_measures_every_pair_with_services_and_files(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, str(tmp_path))
    kinds = {"s3-stream": None, "dynamodb-write": None, "file-read": None, "json-to-yaml": None}
    apps = []
    for app in generate_many(3, 200):
        part = app.segments[0]
        if len(app.segments) == 1 and kinds.get(part.kind, "done") is None:
            kinds[part.kind] = "done"  # type: ignore[assignment]
            apps.append(app)
    assert len(apps) == 4
    planned = campaign(*apps, passes=2)
    seen: list[str] = []
    with Journal(tmp_path / "j", planned.settings()) as journal:
        runner = Runner(planned, journal, backend)
        runner.on_visit = lambda app, sample: seen.append(app)
        run(runner)
        measured = runner.measurements()
    assert len(seen) == planned.visits == 16
    assert {(m.outcome, m.detail) for m in measured} == {(Outcome.OK, "")}
    assert all(m.n_invocations == 4 and m.runtime_ms for m in measured)
    of = {next(a.segments[0].kind for a in apps if a.name == m.app): m.mean for m in measured}
    assert of["s3-stream"]["net_rx_bytes"] > 100_000
    assert of["dynamodb-write"]["net_tx_packets"] >= 1
    assert of["json-to-yaml"]["net_rx_bytes"] == 0
    assert of["file-read"]["fs_read_bytes"] > 100_000
    assert not groups_of(os.getpid())
    assert not processes_marked(str(tmp_path))


@pytest.mark.limits
def test_openwhisk_neighbours_slow_it_down(backend: Backend, tmp_path: Path) -> None:
    spin = tmp_path / "spin.py"
    spin.write_text("import time\ndef handler(e):\n s=time.process_time()\n while time.process_time()-s<.04: pass\n")
    configs = (ResourceConfig(128, 256), ResourceConfig(128, 2048))
    planned = Campaign((function_spec(str(spin)),), OpenWhisk(1), configs, InvokePlan(count=8), passes=1)
    with Journal(tmp_path / "j", planned.settings()) as journal:
        runner = Runner(planned, journal, backend)
        run(runner)
        equal, heavy = runner.measurements()
    assert equal.runtime_ms is not None
    assert heavy.runtime_ms is not None
    assert equal.runtime_ms == pytest.approx(80, rel=0.3), "half of the core"
    assert heavy.runtime_ms == pytest.approx(45, rel=0.3), "eight ninths of the core"


@pytest.mark.limits
def test_an_open_load(backend: Backend, tmp_path: Path) -> None:
    planned = Campaign((nap("a", 30),), Lambda(), (ResourceConfig(512),), load=OpenLoad(20.0, 2.0, 4), passes=1)
    with Journal(tmp_path / "j", planned.settings()) as journal:
        runner = Runner(planned, journal, backend)
        run(runner)
        (measured,) = runner.measurements()
    assert measured.outcome is Outcome.OK
    assert 15 <= measured.n_invocations <= 70
    assert measured.runtime_ms == pytest.approx(30, rel=0.2)


@pytest.mark.limits
def test_a_worker_that_dies_at_once_is_an_outcome(backend: Backend, tmp_path: Path) -> None:
    dying = tmp_path / "dying.py"
    dying.write_text("import os, threading\nthreading.Timer(.05, os._exit, [5]).start()\ndef handler(e): return 1\n")
    planned = campaign(function_spec(str(dying)))
    with Journal(tmp_path / "j", planned.settings()) as journal:
        runner = Runner(planned, journal, backend)
        run(runner)
        assert len(runner.measurements()) == 2


@pytest.mark.limits
def test_an_open_load_on_what_cannot_be_prepared(backend: Backend, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_module")
    load = OpenLoad(20.0, 0.5, 2)
    planned = Campaign((function_spec(str(broken)),), OpenWhisk(0), (ResourceConfig(512, 512),), load=load, passes=1)
    with Journal(tmp_path / "j", planned.settings()) as journal:
        runner = Runner(planned, journal, backend)
        run(runner)
        (measured,) = runner.measurements()
    assert measured.outcome is Outcome.ERROR
    assert "no_such_module" in measured.detail


@pytest.mark.limits
def test_an_application_that_cannot_be_provisioned_does_not_stop_the_others(backend: Backend, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_module")
    planned = campaign(function_spec(str(broken)), nap("fine"))
    with Journal(tmp_path / "j", planned.settings()) as journal:
        runner = Runner(planned, journal, backend)
        run(runner)
        outcomes = {m.app: (m.outcome, m.detail) for m in runner.measurements()}
    assert outcomes.pop("fine") == (Outcome.OK, "")
    ((outcome, detail),) = outcomes.values()
    assert outcome is Outcome.ERROR
    assert "no_such_module" in detail


@pytest.mark.limits
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_campaign_leaves_nothing_and_goes_on(backend: Backend, tmp_path: Path, how: signal.Signals) -> None:
    out = tmp_path / "data.parquet"
    journal = tmp_path / "data.parquet.journal"
    words = ["--apps", "seed:5/0-3", "--memory", "512,2048", "--invocations", "2", "--least-ms", "0", "--out", str(out)]
    command = [sys.executable, "-m", "flashfm", "measure", *words]
    environment = {**os.environ, MARK: str(tmp_path)}
    first = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True, env=environment)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and first.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") > 3:
            break
        time.sleep(0.02)
    first.send_signal(how)
    _, errors = first.communicate(timeout=60)
    if first.returncode == 0:
        pytest.skip("the campaign was over before it could be stopped")
    kept = journal.read_bytes()
    assert b"Traceback" not in errors, errors.decode()
    assert first.returncode == (-9 if how is signal.SIGKILL else 130)
    deadline = time.monotonic() + 15
    while (groups_of(first.pid) or processes_marked(str(tmp_path))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not groups_of(first.pid)
    assert not processes_marked(str(tmp_path))
    second = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert '"rows": 8' in second.stdout
    assert not journal.exists()
    assert kept.count(b"\n") >= 3
