"""Traces of users: what they come to, and that gaps, other units and values that are no counts get one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.datasets.trace_file import open_trace, read_trace
from flashfm.errors import DataError, DataFormatError


def csv(folder: Path, text: str, name: str = "mine.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def rows(header: str, *values: object) -> str:
    return "\n".join([header, *(f"{10 * i},{value}" for i, value in enumerate(values))]) + "\n"


def test_counts_are_taken_as_they_are(tmp_path: Path) -> None:
    trace = read_trace(csv(tmp_path, rows("time_s,requests", 3, 0, 7)))
    assert (trace.name, trace.bin_s, trace.counts.tolist()) == ("mine.csv", 10.0, [3, 0, 7])


def test_rates_become_counts(tmp_path: Path) -> None:
    trace = read_trace(csv(tmp_path, rows("time_s,rate_per_s", 0.25, 0.25, 1e-9, "2.5")))
    assert trace.counts.sum() == 30
    np.testing.assert_allclose(np.cumsum(trace.counts), [3, 5, 5, 30])


def test_dates_and_parquet(tmp_path: Path) -> None:
    text = "timestamp,requests,note\n2024-03-01T23:59:30,4,a\n2024-03-02 00:00:00,5,b\n2024-03-02T00:00:30Z,6,c\n"
    trace = read_trace(csv(tmp_path, text))
    assert (trace.bin_s, trace.counts.tolist()) == (30.0, [4, 5, 6])
    times = pd.date_range("2024-03-01", periods=3, freq="60s")
    pd.DataFrame({"timestamp": times, "rate_per_s": [1.0, 2.0, 3.0]}).to_parquet(tmp_path / "mine.parquet")
    assert read_trace(tmp_path / "mine.parquet").counts.tolist() == [60, 120, 180]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 100), min_size=2, max_size=40), st.sampled_from([1.0, 7.5, 30.0, 300.0]))
def test_no_request_of_a_rate_is_lost(
    tmp_path_factory: pytest.TempPathFactory, rates: list[float], bin_s: float
) -> None:
    frame = pd.DataFrame({"time_s": np.arange(len(rates)) * bin_s, "rate_per_s": [*rates[:-1], rates[-1] + 1]})
    path = tmp_path_factory.mktemp("trace") / "mine.csv"
    frame.to_csv(path, index=False)
    trace = read_trace(path)
    assert abs(trace.total - bin_s * (sum(rates) + 1)) <= 0.5 + 1e-6
    assert (np.abs(trace.counts - bin_s * frame["rate_per_s"]) <= 1 + 1e-6).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "time_s,requests\n0,1\n10,1\n20,1\n50,1\n60,1\n",
            "row 4 (line 5), column 'time_s': expected 10 s after the row before, as most are, got 30 s (fill a gap",
        ),
        ("time_s,requests\n0,1\n10,1\n20,1\n20,1\n30,1\n", "row 4 (line 5), column 'time_s': expected 10 s"),
        ("time_s,requests\n0,1\n10,1\n20,1\n15,1\n25,1\n", "got -5 s"),
        ("time_s,requests\n5,1\n4,1\n3,1\n", "expected a time after the one before, got -1 s"),
        ("time_s,requests\n5,1\n5,1\n", "expected a time after the one before, got 0 s"),
        ("time_s,requests\n0,1\n", "1 rows; expected at least 2"),
        (rows("time_s,requests", 1, -2), "row 2 (line 3), column 'requests': expected a whole number from 0"),
        (rows("time_s,requests", 1, "nan"), "row 2 (line 3), column 'requests'"),
        (rows("time_s,requests", 1, ""), "got nothing"),
        (rows("time_s,requests", 1, "inf"), "row 2 (line 3), column 'requests'"),
        (rows("time_s,requests", 1, "many"), "row 2 (line 3), column 'requests': expected a number, got 'many'"),
        (rows("time_s,requests", 1, 2.5), "(if these are rates, call the column 'rate_per_s')"),
        (rows("time_s,rate_per_s", 1, -0.5), "row 2 (line 3), column 'rate_per_s': expected a number from 0"),
        (rows("time_s,rate_per_s", 1, "nan"), "row 2 (line 3), column 'rate_per_s'"),
        (rows("time_s,requests", 0, 0, 0), "no request in 3 rows"),
        (rows("time_ms,requests", 1, 2), "column 'time_ms', expected 'time_s': divide by 1000 and rename it"),
        (rows("timestamp_us,requests", 1, 2), "column 'timestamp_us', expected 'time_s': divide by 1000000 and"),
        (rows("time_h,requests", 1, 2), "multiply by 3600 and rename it"),
        (rows("time_s,rate_per_min", 1, 2), "column 'rate_per_min', expected 'rate_per_s': divide by 60 and rename"),
        (rows("time_s,rate_per_ms", 1, 2), "column 'rate_per_ms', expected 'rate_per_s': multiply by 1000"),
        (rows("time_s,RPS", 1, 2), "column 'RPS', expected 'rate_per_s': rename it"),
        (rows("when,requests", 1, 2), "no column 'time_s' or 'timestamp', which says when a bin begins; got when"),
        (rows("time_s,value", 1, 2), "no column 'requests' or 'rate_per_s', which says how many requests came"),
        ("time_s,requests,rate_per_s\n0,1,1\n1,1,1\n", "columns 'requests' and 'rate_per_s', both say how many"),
        ("timestamp,requests\n0,1\n30,1\n", "expected a date and time such as 2023-11-16T18:17:00; numbers go in"),
        ("time_s,requests\n0,1\n30000,1\n60000,1\n", "are the times in milliseconds? divide them by 1000"),
        ("time_s,requests\nnan,1\n30,1\n", "row 1 (line 2), column 'time_s': expected seconds, got"),
        ("timestamp,requests\n2024-01-01,1\n2024-01-02,1\n", "rows are 86400 s apart, expected at most 3600 s"),
        ("time_s;requests\n0;1\n", "expected commas"),
        ("", "empty"),
    ],
)
def test_what_is_no_trace_gets_one_line(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataFormatError) as told:
        read_trace(csv(tmp_path, text))
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_what_is_no_file_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataFormatError, match="a directory, expected a file"):
        open_trace(str(tmp_path / "folder.csv"))
    with pytest.raises(DataFormatError, match="no such file"):
        open_trace("absent.csv")
    with pytest.raises(DataError, match="'absent' is neither a file nor a trace; expected a path, or one of azure-"):
        open_trace("absent")
    with pytest.raises(DataFormatError, match=r"expected a \.parquet or \.csv file"):
        open_trace(str(csv(tmp_path, "1 2 3", "mine.txt")))
    with pytest.raises(DataError, match="'cloudbandit' is a table of measurements, not a trace"):
        open_trace("cloudbandit")


def test_a_file_may_be_in_a_known_format(tmp_path: Path) -> None:
    text = "timestamp,value\n2014-04-10 00:04:00,94\n2014-04-10 00:09:00,56\n"
    assert open_trace(str(csv(tmp_path, text)), "aws-elb").counts.tolist() == [94, 56]
    functions = "HashFunction," + ",".join(map(str, range(1, 1441))) + "\n"
    functions += "quiet," + ",".join(["1"] * 1440) + "\nbusy," + ",".join(["2"] * 1440) + "\n"
    assert open_trace(str(csv(tmp_path, functions)), "azure-functions-2019-sample").name.endswith("/busy")


@pytest.mark.data
def test_public_traces_go_by_name(public) -> None:
    public("aws-elb")
    assert open_trace("aws-elb").total == 249_327
