"""Files of pairs: read in chunks, answered like frames, kept in parts, and gone on with after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flashfm.fleet.rows as reading
from flashfm.adapt.fewshot import FlashRegressor
from flashfm.errors import DataError, DataFormatError, FlashError, ShotsError
from flashfm.fleet import FleetSettings, FleetSummary, recommend, recommend_many
from flashfm.fleet.rows import Source

Made = Callable[..., pd.DataFrame]
SMALL = FleetSettings(fine_tune=False, part_pairs=7)


@pytest.fixture(scope="module")
def rows(many: Made) -> pd.DataFrame:
    return many(40, 20)


@pytest.fixture
def data(rows: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "rows.parquet"
    rows.to_parquet(path, row_group_size=31)
    return path


def told(path: Path) -> pd.DataFrame:
    return pq.read_table(path).to_pandas()


# a file is answered like a frame


def test_a_file_gives_the_plan_of_its_rows(
    regressor: FlashRegressor, rows: pd.DataFrame, data: Path, same_plan: Callable[..., None], tmp_path: Path
) -> None:
    steps: list[tuple[int, int]] = []
    summary = recommend(data, tmp_path / "plan.parquet", regressor, SMALL, lambda *step: steps.append(step))
    expected = recommend_many(regressor, rows, SMALL)
    same_plan(told(tmp_path / "plan.parquet"), expected.to_pandas())
    for name, value in expected.summary.to_dict().items():
        assert summary.to_dict()[name] == pytest.approx(value)
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert steps[-1] == (len(rows), len(rows))
    assert len(steps) == 6
    assert not (tmp_path / "plan.parquet.parts").exists()
    assert pq.read_schema(tmp_path / "plan.parquet").names == expected.table.schema.names


@settings(max_examples=8)
@given(st.integers(1, 50), st.integers(1, 40), st.integers(5, 60))
def test_neither_parts_nor_batches_nor_row_groups_change_what_is_read(
    regressor: FlashRegressor,
    rows: pd.DataFrame,
    tmp_path_factory: pytest.TempPathFactory,
    pairs: int,
    batch: int,
    group: int,
) -> None:
    path = tmp_path_factory.mktemp("groups") / "rows.parquet"
    rows.to_parquet(path, row_group_size=group)
    before, reading.BATCH_ROWS = reading.BATCH_ROWS, batch
    try:
        source = Source.open(path, regressor.model, SMALL)
        chunks = list(source.chunks(pairs))
        again = list(source.chunks(pairs, chunks[0].end)) if len(chunks) > 1 else []
    finally:
        reading.BATCH_ROWS = before
    assert [len(chunk.apps) for chunk in chunks[:-1]] == [pairs] * (len(chunks) - 1)
    frame = pd.concat([chunk.frame for chunk in chunks], ignore_index=True)
    for name in ("memory_mb", "runtime_ms", "user_cpu_ms_mean"):
        np.testing.assert_array_equal(frame[name], rows[name])
    names = [chunk.apps.take(pa.array(chunk.owner)) for chunk in chunks]
    assert pa.concat_arrays(names).to_pylist() == rows["app"].tolist()
    assert chunks[-1].end == len(rows)
    assert [chunk.end for chunk in again] == [chunk.end for chunk in chunks[1:]]
    for one, other in zip(again, chunks[1:], strict=True):
        pd.testing.assert_frame_equal(one.frame, other.frame)


def test_a_csv_file_is_answered_like_a_parquet_file(
    regressor: FlashRegressor, rows: pd.DataFrame, data: Path, tmp_path: Path
) -> None:
    text = tmp_path / "rows.csv"
    rows.assign(app=rows["app"] + ', "so called"\n').to_csv(text, index=False, encoding="utf-8-sig")
    steps: list[tuple[int, int]] = []
    one = recommend(data, tmp_path / "one.parquet", regressor, SMALL)
    other = recommend(text, tmp_path / "other.parquet", regressor, SMALL, lambda *step: steps.append(step))
    assert one == other
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1] == 2 * len(rows)
    frames = [told(tmp_path / f"{name}.parquet").drop(columns="app") for name in ("one", "other")]
    pd.testing.assert_frame_equal(*frames, rtol=1e-9)


def test_bad_cells_of_a_csv_file_are_problems_of_their_pairs(regressor: FlashRegressor, tmp_path: Path) -> None:
    lines = ["app,platform,memory_mb,runtime_ms,outcome"]
    lines += ["good,p,512,100,ok", "good,p,1024, 60 ,", "word,p,512,fast,ok", "word,p,1024,50,ok", "size,p,12GB,50,ok"]
    lines += ["empty,p,512,,ok", "failed,p,512,,timeout", "fine,,512,n/a,timeout", "fine,,2048,90,", ",p,512,90,ok"]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    recommend(path, tmp_path / "plan.parquet", regressor, replace(SMALL, part_pairs=2))
    plan = told(tmp_path / "plan.parquet").set_index("app")
    assert plan["status"].tolist()[1:4] == ["bad"] * 3
    assert plan["status"].iloc[-1] == "bad"
    assert plan.loc["word", "reason"] == "shots: row 1, column 'runtime_ms': expected a number, got 'fast'"
    assert plan.loc["size", "reason"] == "shots: row 1, column 'memory_mb': expected a number, got '12GB'"
    assert "empty cell" in plan.loc["empty", "reason"]
    assert plan.loc["failed", "status"] == "declined"
    assert {plan.loc["good", "status"], plan.loc["fine", "status"]} <= {"recommended", "stay", "declined"}
    assert plan.loc["good", "shots"] == 2
    assert pd.isna(plan.loc["fine", "platform"])


def test_a_pair_that_comes_again_is_a_row_that_says_so(
    regressor: FlashRegressor, rows: pd.DataFrame, tmp_path: Path
) -> None:
    first = rows[rows["app"] == rows["app"].iloc[0]]
    again = pd.concat([rows, first, rows.tail(1).assign(platform="north"), first])
    again.to_parquet(tmp_path / "rows.parquet")
    summary = recommend(tmp_path / "rows.parquet", tmp_path / "plan.parquet", regressor, SMALL)
    plan = told(tmp_path / "plan.parquet")
    assert summary.pairs == 43
    assert summary.bad == 2
    bad = plan[plan["status"] == "bad"]
    assert bad.index.tolist() == [40, 42]
    assert bad["reason"].iloc[0].startswith(f"row {len(rows) + 1}: the pair comes again")
    assert plan.loc[0, "status"] != "bad"


def test_a_pair_with_too_many_rows_is_one_bad_row(
    regressor: FlashRegressor, rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_PAIR_ROWS", 50)
    monkeypatch.setattr(reading, "BATCH_ROWS", 64)
    huge = pd.concat([rows.head(1).assign(app="huge")] * 500)
    pd.concat([rows, huge, rows.assign(app="z" + rows["app"])]).to_parquet(tmp_path / "rows.parquet")
    recommend(tmp_path / "rows.parquet", tmp_path / "plan.parquet", regressor, SMALL)
    plan = told(tmp_path / "plan.parquet")
    assert plan.loc[plan["status"] == "bad", "app"].tolist() == ["huge"]
    assert "more than 50 rows" in plan.set_index("app").loc["huge", "reason"]
    assert plan["app"].tolist() == [*rows["app"].unique(), "huge", *("z" + rows["app"]).unique()]


def test_names_may_be_numbers_and_categories(regressor: FlashRegressor, rows: pd.DataFrame, tmp_path: Path) -> None:
    number = rows["app"].str[-4:].astype(int)
    rows.assign(app=number, platform=rows["platform"].astype("category")).to_parquet(tmp_path / "rows.parquet")
    recommend(tmp_path / "rows.parquet", tmp_path / "plan.parquet", regressor, SMALL)
    plan = told(tmp_path / "plan.parquet")
    assert plan["app"].tolist() == [str(i) for i in range(40)]
    assert set(plan["platform"]) == {"east", "west"}


# going on


KILLED = """
import os, signal, sys
from pathlib import Path
from flashfm.adapt.fewshot import FlashRegressor
from flashfm.fleet import FleetSettings, recommend
data, out, model, after = sys.argv[1:]
steps = []
def on_step(done, total):
    steps.append(done)
    if len(steps) == int(after):
        os.kill(os.getpid(), signal.SIGKILL)
recommend(Path(data), Path(out), FlashRegressor.from_pretrained(Path(model)), FleetSettings(part_pairs=7), on_step)
"""


def test_a_killed_run_goes_on_and_makes_the_same_bytes(regressor: FlashRegressor, data: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "model", tmp_path / "plan.parquet"
    regressor.save_pretrained(folder)
    model, wanted = FlashRegressor.from_pretrained(folder), FleetSettings(part_pairs=7)
    command = [sys.executable, "-c", KILLED, str(data), str(out), str(folder), "2"]
    done = subprocess.run(command, capture_output=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    parts = tmp_path / "plan.parquet.parts"
    assert sorted(path.name for path in parts.iterdir()) == [
        "manifest.json",
        "part-00000.parquet",
        "part-00001.parquet",
    ]
    (parts / ".part-00002.parquet.1.tmp").write_bytes(b"half")
    (tmp_path / ".plan.parquet.1.tmp").write_bytes(b"half")
    steps: list[int] = []
    summary = recommend(data, out, model, wanted, lambda now, _: steps.append(now))
    assert len(steps) == 1 + 4
    assert not parts.exists()
    assert list(tmp_path.glob(".*")) == []
    whole = recommend(data, tmp_path / "whole.parquet", model, wanted)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert summary == whole


class Stopped(Exception):
    pass


def stop_after(parts: int) -> Callable[[int, int], None]:
    left = [parts]

    def step(done: int, total: int) -> None:
        left[0] -= 1
        if not left[0]:
            raise Stopped

    return step


def interrupted(data: Path, out: Path, model: FlashRegressor, parts: int = 3) -> Path:
    with pytest.raises(Stopped):
        recommend(data, out, model, SMALL, stop_after(parts))
    return out.with_name(out.name + ".parts")


@pytest.mark.parametrize("parts", [1, 5, 6])
def test_wherever_a_run_stops_it_goes_on(regressor: FlashRegressor, data: Path, tmp_path: Path, parts: int) -> None:
    whole = recommend(data, tmp_path / "whole.parquet", regressor, SMALL)
    interrupted(data, tmp_path / "plan.parquet", regressor, parts)
    assert not (tmp_path / "plan.parquet").exists()
    assert recommend(data, tmp_path / "plan.parquet", regressor, SMALL) == whole
    assert (tmp_path / "plan.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_csv_run_goes_on_too_and_knows_who_came_before(
    regressor: FlashRegressor, rows: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    pd.concat([rows, rows.head(3)]).to_csv(path, index=False)
    recommend(path, tmp_path / "whole.parquet", regressor, SMALL)
    interrupted(path, tmp_path / "plan.parquet", regressor)
    recommend(path, tmp_path / "plan.parquet", regressor, SMALL)
    assert (tmp_path / "plan.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert "comes again" in told(tmp_path / "plan.parquet")["reason"].iloc[-1]


def test_a_part_that_was_damaged_is_made_again(regressor: FlashRegressor, data: Path, tmp_path: Path) -> None:
    recommend(data, tmp_path / "whole.parquet", regressor, SMALL)
    parts = interrupted(data, tmp_path / "plan.parquet", regressor)
    part = parts / "part-00001.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    recommend(data, tmp_path / "plan.parquet", regressor, SMALL)
    assert (tmp_path / "plan.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_another_run_is_refused_in_one_line(
    regressor: FlashRegressor, rows: pd.DataFrame, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "plan.parquet"
    parts = interrupted(data, out, regressor)
    kept = {path.name: path.read_bytes() for path in parts.iterdir()}
    rows.head(99).to_parquet(tmp_path / "other.parquet")
    novelty = regressor.model.novelty
    assert novelty is not None
    other = FlashRegressor(replace(regressor.model, novelty=replace(novelty, whiten=2 * novelty.whiten)))
    for arguments, words in (
        (
            (data, out, regressor, replace(SMALL, objective="runtime")),
            "settings.objective was 'cost', this run has 'runtime'",
        ),
        ((data, out, regressor, replace(SMALL, part_pairs=8)), "settings.part_pairs was 7"),
        ((tmp_path / "other.parquet", out, regressor, SMALL), "another input file"),
        ((data, out, other, SMALL), "another model"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            recommend(*arguments)
        assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in parts.iterdir()} == kept


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"run": {}, "parts": [{"file": "../x"}]}', '{"run": 1, "parts": 3}']
)
def test_a_damaged_manifest_is_refused(regressor: FlashRegressor, data: Path, tmp_path: Path, text: str) -> None:
    parts = interrupted(data, tmp_path / "plan.parquet", regressor)
    (parts / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"damaged; delete the folder"):
        recommend(data, tmp_path / "plan.parquet", regressor, SMALL)


def test_two_runs_do_not_make_one_plan(regressor: FlashRegressor, data: Path, tmp_path: Path) -> None:
    def meanwhile(done: int, total: int) -> None:
        with pytest.raises(DataError, match="another run is making this plan"):
            recommend(data, tmp_path / "plan.parquet", regressor, SMALL)

    recommend(data, tmp_path / "plan.parquet", regressor, SMALL, meanwhile)
    assert (tmp_path / "plan.parquet").exists()


def test_files_of_others_stay(regressor: FlashRegressor, data: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.parquet.parts").mkdir()
    (tmp_path / "plan.parquet.parts" / "notes.txt").write_text("mine")
    (tmp_path / "plan.parquet").write_text("old")
    recommend(data, tmp_path / "plan.parquet", regressor, SMALL)
    assert [path.name for path in (tmp_path / "plan.parquet.parts").iterdir()] == ["notes.txt"]
    assert len(told(tmp_path / "plan.parquet")) == 40


def test_the_plan_says_what_it_was_made_with(regressor: FlashRegressor, data: Path, tmp_path: Path) -> None:
    summary = recommend(data, tmp_path / "plan.parquet", regressor, SMALL)
    stored = json.loads(pq.read_schema(tmp_path / "plan.parquet").metadata[b"flashfm"])
    assert stored["summary"] == summary.to_dict()
    assert stored["run"]["settings"] == SMALL.to_dict()
    assert stored["run"]["input"]["bytes"] == data.stat().st_size


# what cannot be read


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.txt", b"app", "suffix"),
        ("rows.csv", b"", "empty"),
        ("rows.csv", b"app;memory_mb;runtime_ms\na;1;2\n", "commas"),
        ("rows.csv", b"app,app,memory_mb,runtime_ms\na,a,512,2\n", "are called 'app'"),
        ("rows.csv", b"app,memory_mb,runtime_ms\na,512\n", "not CSV"),
        ("rows.csv", b"app,memory_mb,runtime_ms\n\xff\xfe,512,5\n", "UTF"),
        ("rows.csv", b"app,memory_mb,runtime_ms\n", "no data rows"),
        ("rows.csv", b"name,memory_mb,runtime_ms\na,512,5\n", "no column 'app'"),
        ("rows.csv", b"app,memory_gb,runtime_ms\na,512,5\n", "memory_gb"),
        ("rows.csv", b"app,memory_mb,runtime_s\na,512,5\n", "runtime_s"),
        ("rows.csv", b"app,memory_mb,time\na,512,5\n", "no column 'runtime_ms'"),
        ("rows.parquet", b"PAR1 and so on", "Parquet"),
        ("none.parquet", None, "no such file"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(
    regressor: FlashRegressor, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FlashError, match=words) as caught:
        recommend(tmp_path / name, tmp_path / "plan.parquet", regressor, SMALL)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, DataError | ShotsError)
    assert not (tmp_path / "plan.parquet").exists()


def test_a_file_that_is_cut_short_is_refused(regressor: FlashRegressor, data: Path, tmp_path: Path) -> None:
    content = bytearray(data.read_bytes())
    content[200:900] = b"\0" * 700
    data.write_bytes(content)
    with pytest.raises(DataFormatError, match=r"damaged|Parquet"):
        recommend(data, tmp_path / "plan.parquet", regressor, SMALL)


def test_places_that_cannot_be_written_are_refused(regressor: FlashRegressor, data: Path, tmp_path: Path) -> None:
    for out, words in (
        (data, "is the input"),
        (tmp_path / "plan.csv", "expected a .parquet file"),
        (tmp_path / "nowhere" / "plan.parquet", "cannot be used"),
    ):
        with pytest.raises(DataError, match=words):
            recommend(data, out, regressor, SMALL)


def test_summaries_add_up() -> None:
    one = FleetSummary(pairs=2, recommended=1, bad=1, usd_today=3.0, usd_planned=1.0, priced=1)
    two = one + one
    assert two.pairs == 4
    assert two.saving_usd == 4.0
    assert two.to_dict()["saving_usd"] == 4.0
