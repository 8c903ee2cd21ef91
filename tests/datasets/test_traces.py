"""Traces: counts are kept whatever is done to them, damaged and hostile files are refused, large ones are streamed."""

from __future__ import annotations

import bz2
import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.datasets import RateTrace, load_trace, traces
from flashfm.datasets.traces import read_arrivals, read_bins, read_invocations, read_minute_counts, read_rate_archive
from flashfm.errors import DataError, DataFormatError

COUNTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=50)
HEADER = "app,func,end_timestamp,duration\n"


def trace(counts: list[int], bin_s: float = 60.0) -> RateTrace:
    return RateTrace("t", np.array(counts, dtype=np.int64), bin_s)


def text_file(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def archive(folder: Path, content: bytes, name: str = "workload.txt", **header: object) -> Path:
    path = folder / "trace.tbz2"
    with tarfile.open(path, "w:bz2") as file:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        for key, value in header.items():
            setattr(info, key, value)
        file.addfile(info, io.BytesIO(content))
    return path


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DataFormatError) as refused:
        call()
    assert "\n" not in str(refused.value)
    return str(refused.value)


# -- the value -------------------------------------------------------------------------------------------------------


@given(COUNTS, st.floats(0.1, 500), st.floats(0.07, 7))
def test_resampling_keeps_every_request(counts: list[int], bin_s: float, factor: float) -> None:
    before = trace(counts, bin_s)
    after = before.resample(bin_s * factor)
    assert after.total == before.total
    assert after.counts.min() >= 0
    assert abs(after.duration_s - before.duration_s) <= after.bin_s
    assert after.bin_s == bin_s * factor


@given(COUNTS, st.integers(1, 7))
def test_resampling_to_multiples_adds_up_and_comes_back(counts: list[int], k: int) -> None:
    before = trace(counts, 1.0)
    added = [sum(counts[i : i + k]) for i in range(0, len(counts), k)]
    assert before.resample(float(k)).counts.tolist() == added
    fine = before.resample(1.0 / k)
    assert fine.resample(1.0).counts.tolist() == counts
    assert np.ptp(fine.counts.reshape(-1, k), axis=1).max() <= 1


def test_days_and_daily_load() -> None:
    hourly = trace([1] * 24 + [5000] * 24 + [9] * 5, 3600.0)
    assert hourly.daily_load().tolist() == [24, 120_000]
    higher, lower = hourly.split_by_daily_load(1e5)
    assert [day.name for day in higher] == ["t/day 2"]
    assert [day.total for day in lower] == [24]
    exactly = trace([100_000], 86_400.0)
    assert [len(part) for part in exactly.split_by_daily_load()] == [0, 1]


def test_what_has_no_daily_load() -> None:
    with pytest.raises(DataError, match="too short"):
        trace([1, 2]).daily_load()
    with pytest.raises(DataError, match="resample it first"):
        trace([1] * 9, 50_000.0).days()


@pytest.mark.parametrize(("counts", "bin_s"), [([], 1.0), ([-1], 1.0), ([1], 0.0), ([1], float("nan"))])
def test_a_trace_must_make_sense(counts: list[int], bin_s: float) -> None:
    with pytest.raises(DataError, match="trace 't'"):
        trace(counts, bin_s)


@pytest.mark.parametrize("bin_s", [0.0, -1.0, float("inf"), 1e-9])
def test_bins_that_make_no_sense(bin_s: float) -> None:
    with pytest.raises(DataError, match="expected at least"):
        trace([1, 2]).resample(bin_s)


# -- invocations -----------------------------------------------------------------------------------------------------


def test_invocations_count_where_they_start(tmp_path: Path) -> None:
    rows = ["b,g,400.5,0.5", "a,f,59.9,1.0", "a,g,60.5,1.0", "a,f,0.5,2.0", "a,f,60.0,0"]
    path = text_file(tmp_path, HEADER + "\n".join(rows) + "\n")
    (total,) = read_invocations(path)
    assert total.counts.tolist() == [3, 1, 0, 0, 0, 0, 1]
    by_app = read_invocations(path, by="app", name="x")
    assert [(one.name, one.total, len(one)) for one in by_app] == [("x/a", 4, 7), ("x/b", 1, 7)]
    by_function = read_invocations(path, by="function", bin_s=30.0, name="x")
    assert [(one.name, one.total) for one in by_function] == [("x/a/f", 3), ("x/a/g", 1), ("x/b/g", 1)]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a,f,1.0,-0.5", "row 2 (line 3), column 'duration': expected seconds from 0 to 31622400, got '-0.5'"),
        ("a,f,-1.0,0.5", "row 2 (line 3), column 'end_timestamp'"),
        ("a,f,soon,0.5", "column 'end_timestamp': expected seconds from 0 to 31622400, got 'soon'"),
        ("a,f,,0.5", "column 'end_timestamp'"),
        ("a,f,1611964800000,0.5", "column 'end_timestamp'"),
        ("a,f,nan,0.5", "column 'end_timestamp'"),
        (",f,1.0,0.5", "column 'app': expected a value"),
        ("a,f,1.0", "expected CSV with columns"),
        ("a,f,1.0,0.5,9", "expected CSV with columns"),
    ],
)
def test_invocations_that_make_no_sense(row: str, said: str, tmp_path: Path) -> None:
    path = text_file(tmp_path, f"{HEADER}a,f,1.0,0.5\n{row}\na,f,1.0,0.5\n")
    assert said in refusal(lambda: read_invocations(path))


def test_files_that_are_no_invocations(tmp_path: Path) -> None:
    assert "no invocations" in refusal(lambda: read_invocations(text_file(tmp_path, HEADER)))
    for text in ("", "app,func\na,f\n", "x" * 1000, "\0\0\0"):
        path = text_file(tmp_path, text)
        refusal(lambda path=path: read_invocations(path))
    binary = tmp_path / "binary.csv"
    binary.write_bytes(HEADER.encode() + b"\xff\xfe,\x80,1,1\n")
    refusal(lambda: read_invocations(binary))
    with pytest.raises(DataError, match="cannot be read"):
        read_invocations(tmp_path / "absent.csv")


def test_too_many_bins_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    path = text_file(tmp_path, HEADER + "a,f,31000000,0\n")
    assert "over longer bins" in refusal(lambda: read_invocations(path, bin_s=0.1))


@pytest.mark.slow
def test_two_million_invocations_stream_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    app, func = "a" * 63, "f" * 64
    with path.open("w") as file:
        file.write(HEADER)
        for minute in range(1000):
            line = f"{app}{minute % 9},{func},{minute * 60 + 30.25},0.125\n"
            file.write(line * 2000)
    script = f"""
import resource
from pathlib import Path
import pandas, pyarrow.csv
from flashfm.datasets.traces import read_invocations
path = Path({str(path)!r})
small = path.with_name("small.csv")
small.write_text("".join(path.open().readlines(4000)))
read_invocations(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = read_invocations(path, by="function")
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(sum(one.total for one in found), len(found), grown)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    total, n, grown = done.stdout.split()
    assert (int(total), int(n)) == (2_000_000, 9)
    assert path.stat().st_size > 250e6
    assert float(grown) < 200, f"{grown} MiB"


# -- other formats ---------------------------------------------------------------------------------------------------


def minute_row(function: str, first: object = 7) -> str:
    return ",".join(["o", "a", function, "timer", str(first), *["0"] * 1439])


def minute_header() -> str:
    return ",".join(["HashOwner", "HashApp", "HashFunction", "Trigger", *(str(i) for i in range(1, 1441))]) + "\n"


def test_minute_counts(tmp_path: Path) -> None:
    found = read_minute_counts(text_file(tmp_path, minute_header() + minute_row("f") + "\n" + minute_row("g", 1)))
    assert [(one.name, one.total, len(one)) for one in found] == [("functions/f", 7, 1440), ("functions/g", 1, 1440)]


@pytest.mark.parametrize("count", ["-1", "1.5", "many", "", "1e99"])
def test_minute_counts_that_make_no_sense(count: str, tmp_path: Path) -> None:
    path = text_file(tmp_path, minute_header() + minute_row("f") + "\n" + minute_row("g", count) + "\n")
    assert "row 2 (line 3), column '1': expected a whole number" in refusal(lambda: read_minute_counts(path))


def test_minute_counts_without_a_minute(tmp_path: Path) -> None:
    path = text_file(tmp_path, "HashFunction,1,2\nf,1,2\n")
    assert "column '3' is missing" in refusal(lambda: read_minute_counts(path))


def test_arrivals_may_be_in_any_order(tmp_path: Path) -> None:
    times = ["2023-11-16 18:15:46.6805900", "2023-11-16 18:15:48.6805901", "2023-11-16 18:15:46.9"]
    path = text_file(tmp_path, "TIMESTAMP,ContextTokens\n" + "".join(f"{t},1\n" for t in times))
    assert read_arrivals(path).counts.tolist() == [2, 0, 1]
    bad = text_file(tmp_path, "TIMESTAMP,ContextTokens\n2023-11-16 18:15:46,1\nyesterday,2\n")
    assert "row 2 (line 3), column 'TIMESTAMP': expected a date and time" in refusal(lambda: read_arrivals(bad))
    far = text_file(tmp_path, "TIMESTAMP\n2023-11-16 18:15:46\n2093-11-16 18:15:46\n")
    assert "row 2 (line 3)" in refusal(lambda: read_arrivals(far))
    assert "expected a column 'TIMESTAMP'" in refusal(lambda: read_arrivals(text_file(tmp_path, "a,b\n1,2\n")))


def test_bins_with_gaps(tmp_path: Path) -> None:
    text = "timestamp,value\n2014-04-10 00:04:00,94.0\n2014-04-10 00:09:00,56\n2014-04-10 00:19:00,5\n"
    assert read_bins(text_file(tmp_path, text)).counts.tolist() == [94, 56, 0, 5]
    for row, column in [("2014-04-10 00:21:30,5", "timestamp"), ("2014-04-10 00:04:00,5", "timestamp")]:
        path = text_file(tmp_path, text + row + "\n")
        assert f"row 4 (line 5), column {column!r}" in refusal(lambda path=path: read_bins(path))
    for value in ("-1", "1.5", ""):
        path = text_file(tmp_path, text + f"2014-04-10 00:24:00,{value}\n")
        assert "row 4 (line 5), column 'value'" in refusal(lambda path=path: read_bins(path))
    assert "no column 'value'" in refusal(lambda: read_bins(text_file(tmp_path, "timestamp\n2014-04-10 00:04:00\n")))


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 999_999_999), min_size=1, max_size=60),
    st.integers(1, 40),
    st.sampled_from([" ", "\n", "\r\n"]),
    st.text(" \n", max_size=60),
)
def test_archives_are_read_whatever_the_block_size(counts: list[int], block: int, blank: str, end: str) -> None:
    path = Path("memory")
    text = io.BytesIO((blank.join(map(str, counts)) + end).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traces, "_BLOCK", block)
        assert traces._counts(text.read, path).tolist() == counts


def test_archives(tmp_path: Path) -> None:
    assert read_rate_archive(archive(tmp_path, b"1 2 33\n4")).counts.tolist() == [1, 2, 33, 4]
    inner = archive(tmp_path, b"7 8", name="/somewhere/../../etc/workload.txt")
    assert read_rate_archive(inner).counts.tolist() == [7, 8]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["trace.tbz2"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"  \n ", "is empty"),
        (b"1 2 x 4", "number 3: expected a whole number below 10^9, got b'x'"),
        (b"1 -2", "number 2"),
        (b"1 2.5", "number 2"),
        (b"1 2000000000 3", "number 2"),
        (b"1 2 " + b"9" * 5000, "number 3"),
        (b"1 2 3\x00", "number 3"),
    ],
)
def test_archives_that_hold_no_counts(content: bytes, said: str, tmp_path: Path) -> None:
    assert said in refusal(lambda: read_rate_archive(archive(tmp_path, content)))


def test_hostile_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no file workload.txt" in refusal(lambda: read_rate_archive(archive(tmp_path, b"1", name="other.txt")))
    link = archive(tmp_path, b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    assert "no file workload.txt" in refusal(lambda: read_rate_archive(link))
    monkeypatch.setattr(traces, "MAX_ARCHIVE_BYTES", 10_000)
    for name in ("workload.txt", "padding.bin"):
        bomb = archive(tmp_path, b"1 " * 10_000, name=name)
        assert "unpacks to more than 10000 bytes" in refusal(lambda bomb=bomb: read_rate_archive(bomb))
    sound = archive(tmp_path, b"1 2 3 " * 500)
    content = sound.read_bytes()
    for damaged in (
        content[: len(content) // 2],
        content[:20] + b"\xff" * 9 + content[29:],
        b"plain text",
        b"",
        bz2.compress(b"x"),
    ):
        sound.write_bytes(damaged)
        refusal(lambda: read_rate_archive(sound))
    with pytest.raises(DataError, match="cannot be read"):
        read_rate_archive(tmp_path / "absent.tbz2")


# -- the public ones -------------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "n", "bins", "bin_s", "total"),
    [
        ("azure-functions-2021-sample", 1, 21, 60.0, 199),
        ("azure-functions-2019-sample", 4, 1440, 60.0, 1150),
        ("azure-llm-conv", 1, 3502, 1.0, 19_366),
        ("azure-llm-code", 1, 3436, 1.0, 8_819),
        ("nasa", 1, 5_059_950, 1.0, 3_461_610),
        ("twitter", 1, 1_899_061, 1.0, 120_774_326),
        ("aws-elb", 1, 4040, 300.0, 249_327),
    ],
)
def test_every_public_trace(name: str, n: int, bins: int, bin_s: float, total: int, public) -> None:
    public(name)
    found = load_trace(name)
    assert (len(found), len(found[0]), found[0].bin_s, found[0].total) == (n, bins, bin_s, total)


@pytest.mark.data
def test_azure_2021_parts_into_apps_and_functions(public) -> None:
    path = public("azure-functions-2021-sample")
    assert len(load_trace("azure-functions-2021", path, by="app")) == 13
    assert sum(one.total for one in load_trace("azure-functions-2021", path, by="function")) == 199


def test_names_that_are_no_trace() -> None:
    with pytest.raises(DataError, match="no data set is called"):
        load_trace("worldcup")
    with pytest.raises(DataError, match="is a table"):
        load_trace("cloudbandit")
