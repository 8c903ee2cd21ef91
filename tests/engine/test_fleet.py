"""A fleet on engines: the same plan to the byte, whoever answers, whoever is killed, and wherever a run goes on."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.parquet as pq
import pytest

import flashfm.fleet.rows as reading
from flashfm.adapt.fewshot import FlashRegressor
from flashfm.engine.base import Engine
from flashfm.engine.inline import INLINE
from flashfm.errors import DataFormatError
from flashfm.fleet import FleetSettings, FleetSummary, recommend

if TYPE_CHECKING:
    from flashfm.models.flash import FlashModel

PARTS = FleetSettings(part_pairs=4)
PAIRS = 22


@pytest.fixture(scope="module")
def regressor(pretrained: FlashModel) -> FlashRegressor:
    return FlashRegressor(pretrained)


@pytest.fixture(scope="module")
def data(synthetic: Callable[..., pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs with three shots, one of them bad, and the first again at the end, which only this process can know."""
    rows = synthetic(PAIRS, seed=7).groupby("app").sample(3, random_state=0).assign(outcome="ok")
    rows.loc[rows["app"] == "app-7-009", "runtime_ms"] = -1.0
    path = tmp_path_factory.mktemp("fleet") / "rows.parquet"
    pd.concat([rows, rows.head(2)]).to_parquet(path, row_group_size=10)
    return path


@pytest.fixture(scope="module")
def expected(regressor: FlashRegressor, data: Path) -> tuple[bytes, FleetSummary, list[tuple[int, int]]]:
    """What comes of it in this very process."""
    out, steps = data.with_name("inline.parquet"), list[tuple[int, int]]()
    summary = recommend(data, out, regressor, PARTS, lambda *step: steps.append(step))
    assert (summary.pairs, summary.bad, len(steps)) == (PAIRS + 1, 2, 6)
    return out.read_bytes(), summary, steps


def test_a_plan_is_the_same_to_the_byte_on_every_engine(
    workers: Engine,
    regressor: FlashRegressor,
    data: Path,
    expected: tuple[bytes, FleetSummary, list[tuple[int, int]]],
    tmp_path: Path,
) -> None:
    steps: list[tuple[int, int]] = []
    summary = recommend(
        data, tmp_path / "plan.parquet", regressor, PARTS, lambda *step: steps.append(step), engine=workers
    )
    assert ((tmp_path / "plan.parquet").read_bytes(), summary, steps) == expected


def processes_of_workers() -> list[int]:
    """Local workers that this process has."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_text()
        except OSError:
            continue
        if parent == os.getpid() and "flashfm.engine.worker" in words:
            found.append(int(folder.name))
    return found


def test_what_workers_had_that_are_killed_is_answered_again(
    local: Engine,
    regressor: FlashRegressor,
    data: Path,
    expected: tuple[bytes, FleetSummary, list[tuple[int, int]]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    steps: list[tuple[int, int]] = []

    def on_step(done: int, total: int) -> None:
        steps.append((done, total))
        if len(steps) == 1:  # stopped, each gets another part or keeps the one that it has, and is killed over it
            pids = processes_of_workers()
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            threading.Timer(0.5, lambda: [os.kill(pid, signal.SIGKILL) for pid in pids]).start()

    with caplog.at_level(logging.WARNING, "flashfm.engine"):
        summary = recommend(data, tmp_path / "plan.parquet", regressor, PARTS, on_step, local)
    assert any("killed by SIGKILL; trying again" in record.getMessage() for record in caplog.records)
    assert ((tmp_path / "plan.parquet").read_bytes(), summary, steps) == expected


KILLED = """
import os, signal, sys
from pathlib import Path
from flashfm.adapt.fewshot import FlashRegressor
from flashfm.engine.local import Local
from flashfm.fleet import FleetSettings, recommend
data, out, model = map(Path, sys.argv[1:])
def on_step(done, total):
    if len(list(out.with_name("plan.parquet.parts").glob("part-*"))) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
with Local(2) as engine:
    recommend(data, out, FlashRegressor.from_pretrained(model), FleetSettings(part_pairs=4), on_step, engine)
"""


def test_a_run_that_was_killed_with_workers_goes_on_without(
    regressor: FlashRegressor, data: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "model", tmp_path / "plan.parquet"
    regressor.save_pretrained(folder)
    command = [sys.executable, "-c", KILLED, str(data), str(out), str(folder)]
    done = subprocess.run(command, capture_output=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    kept = sorted(path.name for path in (tmp_path / "plan.parquet.parts").iterdir())
    assert kept == ["manifest.json", "part-00000.parquet", "part-00001.parquet"]
    saved, steps = FlashRegressor.from_pretrained(folder), list[int]()
    summary = recommend(data, out, saved, PARTS, lambda now, _: steps.append(now))
    assert len(steps) == 1 + 4
    assert recommend(data, tmp_path / "whole.parquet", saved, PARTS) == summary
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_file_that_is_damaged_further_on_is_the_same_error_and_what_is_before_is_kept(
    local: Engine, regressor: FlashRegressor, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH_ROWS", 30)
    path, whole = tmp_path / "rows.parquet", pd.read_parquet(data)
    pd.concat([whole, whole.assign(app="z" + whole["app"])]).to_parquet(path, row_group_size=30)
    content = bytearray(path.read_bytes())
    at = pq.ParquetFile(path).metadata.row_group(3).column(0).dictionary_page_offset
    content[at : at + 200] = b"\0" * 200
    path.write_bytes(content)
    parts = []
    for name, engine in (("inline", INLINE), ("local", local)):
        with pytest.raises(DataFormatError, match=r"damaged|Parquet"):
            recommend(path, tmp_path / f"{name}.parquet", regressor, FleetSettings(part_pairs=5), engine=engine)
        assert not (tmp_path / f"{name}.parquet").exists()
        kept = sorted((tmp_path / f"{name}.parquet.parts").glob("part-*"))
        parts.append([part.read_bytes() for part in kept])
    assert len(parts[0]) == 5
    assert parts[0] == parts[1]
