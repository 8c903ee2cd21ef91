"""The dynamics against real processes: what is served, files that go on, errors and tables, and one short real run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.applications.runtime import Application
from flashfm.datasets.table import MeasurementTable
from flashfm.errors import DataError, LimitsError
from flashfm.experiments.open_load import Heard, Load
from flashfm.experiments.reality import (
    CPU_MS,
    NOTHING,
    SIZES,
    RealityConfig,
    Runs,
    chosen,
    cpu_share,
    parameters,
    run,
    run_name,
)
from flashfm.experiments.reality_page import QUANTITIES, compared, errors
from flashfm.measurements.limits import detect
from flashfm.tasks.autoscaling.calibration import load_costs
from flashfm.tasks.autoscaling.serving import serve

SMALL = RealityConfig(applications=3, loads=(0.2, 0.6))


def test_the_applications_need_no_services_and_go_from_waiting_to_computing() -> None:
    shipped = load_costs()
    by_name = {one.name: one for one in shipped.costs}
    picked = chosen(RealityConfig(), shipped)
    shares = [cpu_share(by_name[spec.name]) for spec, _ in picked]
    assert len({spec.name for spec, _ in picked}) == 16
    assert shares == sorted(shares)
    assert shares[0] < 0.1 < 0.9 < shares[-1]
    assert {cores for _, cores in picked} == {0.5, 1.0}
    for spec, _ in picked:
        assert not Application.services(spec)
        assert CPU_MS[0] <= 1e3 * by_name[spec.name].cpu_s <= CPU_MS[1]


def measured(folder: Path, name: str, cpu_ms: float, wait_ms: float) -> None:
    frame = pd.DataFrame({"app": name, "platform": "lambda", "memory_mb": [float(size) for size in SIZES]})
    quota = np.minimum(1.0, frame["memory_mb"] / 1769)
    frame = frame.assign(runtime_ms=wait_ms + cpu_ms / quota, runtime_cov=0.1, user_cpu_ms_mean=cpu_ms)
    zero = ["system_cpu_ms_mean", *(f"{w}_bytes_mean" for w in ("fs_read", "fs_write", "net_rx", "net_tx"))]
    frame = frame.assign(rss_mb_mean=20.0, **dict.fromkeys(zero, 0.0))
    MeasurementTable.from_frame(frame).write(folder / f"{name}.parquet")


@pytest.fixture
def perfect(tmp_path: Path) -> Path:
    """A folder of loads in which everything was as the dynamics predict: 10 ms of CPU and 20 ms of waiting."""
    folder = tmp_path / "out"
    runs = Runs(folder, SMALL)
    measured(folder, NOTHING.name, 0.1, 1.1)
    load = Load(1, 1, 50.0, 1.0, 10.0, seed=0)
    runs.write(NOTHING.name, Heard(500, 500, 0, [0.002] * 500, 0.001, 0.3, 10.0, 50.0), load)
    for spec, cores in runs.served:
        measured(folder, spec.name, 10.0, 20.0)
        one, params = runs.costs(spec), parameters([runs.costs(spec)], runs.overhead(), SMALL)
        assert one.cpu_s == pytest.approx(0.01, rel=1e-3)
        for share in SMALL.loads:
            rate = share * cores / 0.0105
            sent = round(rate * 10)
            found = serve(
                params, *(np.array([v]) for v in (cores, 1024.0, 1.0, sent / 10, 0.0)), speed=1.0, memory_noise=0.0
            )
            low, high = float(found.p50_s[0]), float(found.p99_s[0])
            heard = Heard(sent, sent, 0, [low] * sent, 0.001, 10 * float(found.cpu_cores[0]), 10.0, 70.0)
            heard.latency_s[-max(2, sent // 50) :] = [high] * max(2, sent // 50)
            runs.write(run_name(spec, cores, share), heard, Load(1, 1, rate, 1.0, 10.0, seed=0))
    return folder


def test_the_overhead_is_what_serving_adds(perfect: Path) -> None:
    here = Runs(perfect, SMALL).overhead()
    assert here.cpu_s == pytest.approx(0.3 / 500 - 0.0001, rel=1e-3)
    assert here.wait_s == pytest.approx(0.002 - 0.0006 - 0.0011, rel=1e-2)
    assert here.memory_mib == pytest.approx(30)


def test_where_all_is_as_predicted_there_is_no_error(perfect: Path) -> None:
    frame = compared(Runs(perfect, SMALL))
    off = errors(frame)
    assert len(frame) == 6
    assert off[["p50", "p99", "utilisation", "throughput"]].to_numpy().max() < 0.01
    assert (off["memory"] == (frame["memory_predicted"] / 70 - 1).abs()).all()
    doubled = errors(frame.assign(p50=2 * frame["p50"]))
    assert doubled["p50"].to_numpy() == pytest.approx(0.5, abs=0.01)


def test_results_are_assembled_from_files_alone(perfect: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    path = run(perfect, tmp_path / "res", SMALL, only_assemble=True, on_step=lambda *at: steps.append(at))
    data = json.loads(path.read_text())
    assert steps == [(7, 7)]
    assert {row["metric"] for row in data["rows"]} == set(QUANTITIES)
    assert {row["method"] for row in data["rows"]} == {"all loads", "20 % of capacity", "60 % of capacity"}
    assert len(data["served"]) == 6
    text = path.with_suffix(".md").read_text()
    assert "| median latency | 0 % | 0 % | 0 % |" in text
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_what_is_missing_damaged_or_of_other_settings_is_refused(perfect: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of other settings"):
        run(perfect, tmp_path, replace(SMALL, warm_s=9.0), only_assemble=True)
    (perfect / "nothing.json").write_text("{}")
    with pytest.raises(DataError, match=r"nothing\.json: not what this experiment writes"):
        run(perfect, tmp_path, SMALL, only_assemble=True)
    (perfect / "nothing.json").unlink()
    with pytest.raises(DataError, match="1 loads are missing, such as nothing"):
        run(perfect, tmp_path, SMALL, only_assemble=True)


@pytest.mark.limits
@pytest.mark.slow
def test_a_short_run_serves_and_goes_on_where_it_was(tmp_path: Path) -> None:
    try:
        detect()
    except LimitsError as error:
        pytest.skip(str(error))
    config = RealityConfig(applications=1, loads=(0.3,), requests=20, window_s=(2.0, 3.0), warm_s=0.5)
    path = run(tmp_path / "out", tmp_path / "res", config)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    assert run(tmp_path / "out", tmp_path / "res", config) == path
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()} == before
    (row,) = json.loads(path.read_text())["served"]
    assert row["failed"] == 0
    assert row["throughput"] == pytest.approx(row["throughput_predicted"], rel=0.5)
