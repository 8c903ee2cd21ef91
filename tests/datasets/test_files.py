"""Tables as files: they give back what was put in, and every way of being damaged is one line."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.datasets import MeasurementTable
from flashfm.datasets.files import VERSION
from flashfm.errors import DataError, DataFormatError
from flashfm.records import Outcome

SMALL = "app,memory_mb,runtime_ms\na,128,5\na,256,2.5\nb,128,7\n"


def frame() -> pd.DataFrame:
    """Three good rows of two applications."""
    return pd.DataFrame({"app": ["a", "a", "b"], "memory_mb": [128, 256, 128], "runtime_ms": [5.0, 2.5, 7.0]})


def csv_file(folder: Path, text: str | bytes) -> Path:
    path = folder / "mine.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path) -> str:
    """The message with which a file is refused: one line."""
    with pytest.raises(DataFormatError) as refused:
        MeasurementTable.read(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def outcome_of_reading(path: Path) -> str:
    """The message with which a file is refused, or nothing; any other exception fails the test."""
    try:
        MeasurementTable.read(path)
    except DataError as error:
        return str(error)
    return ""


NAMES = st.text(min_size=1, max_size=12).map(str.strip).filter(bool)
NUMBERS = st.floats(1e-3, 8.64e7) | st.none()


@st.composite
def row_lists(draw: st.DrawFn) -> list[dict[str, object]]:
    """Rows of any small table: names of any alphabet, conditional and categorical configuration, metrics, failures."""
    keys = draw(
        st.lists(
            st.tuples(
                NAMES, NAMES, st.integers(64, 20_000), st.none() | st.sampled_from(["arm", "x86", 'ünïcode, "q"'])
            ),
            min_size=1,
            max_size=8,
            unique=True,
        )
    )
    rows = []
    for app, platform, memory, family in keys:
        runtime = draw(NUMBERS)
        rows.append(
            {
                "app": app,
                "platform": platform,
                "memory_mb": memory,
                "family": family,
                "runtime_ms": runtime,
                "runtime_cov": draw(st.none() | st.floats(0, 1)),
                "n_invocations": draw(st.integers(2, 10**6)),
                "outcome": "ok"
                if runtime is not None
                else draw(st.sampled_from([o.value for o in Outcome if o != "ok"])),
                "rss_mb_mean": draw(st.none() | st.floats(0, 1e9)),
            }
        )
    return rows


@settings(deadline=None, max_examples=25)
@given(row_lists(), st.text(max_size=5))
def test_files_give_back_what_was_written(rows: list[dict[str, object]], by: str) -> None:
    mine = pd.DataFrame(rows)
    table = MeasurementTable.from_frame(mine, config_columns=["memory_mb", "family"], card={"by": by})
    with tempfile.TemporaryDirectory() as folder:
        for name in ("t.parquet", "t.csv"):
            path = Path(folder) / name
            table.write(path)
            again = MeasurementTable.read(path, config_columns=None if name == "t.parquet" else table.config_columns)
            pd.testing.assert_frame_equal(again.frame, table.frame, check_exact=True)
            assert again.config_columns == table.config_columns
            if name == "t.parquet":
                assert again.card == table.card
        assert sorted(p.name for p in Path(folder).iterdir()) == ["t.csv", "t.parquet"]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    text = 'app,memory_mb,runtime_ms\n\n"two\nlines",128,5\n\na,256,x\n'
    assert "row 2 (line 6), column 'runtime_ms': expected a number, got 'x'" in refusal(csv_file(tmp_path, text))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the file is empty"),
        ("app,memory_mb,runtime_ms\n", "no data rows"),
        ("app;memory_mb;runtime_ms\na;128;5\n", "expected commas"),
        ("app,memory_mb,runtime_ms\na,128\n", "row 1 (line 2) has 2 fields, expected 3"),
        ("app,memory_mb,runtime_ms\na,128,5,6\n", "row 1 (line 2) has 4 fields, expected 3"),
        ('app,memory_mb,runtime_ms\n"a,128,5\n', "row 1 is not CSV"),
        ("app,memory_mb,runtime_ms,app\na,128,5,a\n", "column 'app' appears 2 times"),
        ("app,memory_mb,runtime_ms\né,128,5\n".encode("latin-1"), "not UTF-8"),
        (SMALL.encode("utf-16"), "not UTF-8"),
        (b"\x00\x01\x02,\xff", "not UTF-8"),
    ],
)
def test_csv_files_that_are_damaged(content: str | bytes, said: str, tmp_path: Path) -> None:
    message = refusal(csv_file(tmp_path, content))
    assert said in message
    assert "mine.csv" in message


def test_a_byte_order_mark_and_other_line_ends_are_fine(tmp_path: Path) -> None:
    for text in ("\ufeff" + SMALL, SMALL.replace("\n", "\r\n"), SMALL.replace("\n", "\n\n").rstrip()):
        assert len(MeasurementTable.read(csv_file(tmp_path, text))) == 3


def test_what_is_no_table_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent.csv")
    assert "suffix '.txt'" in refusal(tmp_path / "x.txt")
    (tmp_path / "folder.csv").mkdir()
    assert "a directory" in refusal(tmp_path / "folder.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "not a file" in refusal(tmp_path / "pipe.csv")
    (tmp_path / "x.parquet").write_text(SMALL)
    assert "not a readable Parquet file" in refusal(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(b"")
    assert "not a readable Parquet file" in refusal(tmp_path / "x.parquet")
    with pytest.raises(DataFormatError, match="suffix"):
        MeasurementTable.from_frame(frame()).write(tmp_path / "x.txt")


def test_parquet_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "theirs.parquet"
    frame().set_index("app", append=True).reset_index("app").to_parquet(path)
    assert len(MeasurementTable.read(path)) == 3
    nested = pyarrow.Table.from_pylist([{"app": "a", "memory_mb": [128], "runtime_ms": 5.0}])
    pyarrow.parquet.write_table(nested, path)
    assert "column 'memory_mb': expected a number" in refusal(path)
    doubled = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["app", "app"])
    pyarrow.parquet.write_table(doubled, path)
    assert "column 'app' appears 2 times" in refusal(path)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (b"not json", "metadata in the file are damaged"),
        (b'{"version": 1}', "metadata in the file are damaged"),
        (b'{"version": 1, "config_columns": [1], "card": {}}', "metadata in the file are damaged"),
        (b"[]", "metadata in the file are damaged"),
        (b'{"version": 99, "config_columns": [], "card": {}}', "upgrade"),
    ],
)
def test_parquet_metadata_that_is_not_ours(metadata: bytes, said: str, tmp_path: Path) -> None:
    assert VERSION < 99
    table = pyarrow.Table.from_pandas(frame()).replace_schema_metadata({b"flashfm": metadata})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    assert said in refusal(tmp_path / "x.parquet")


@settings(deadline=None, max_examples=60)
@given(cut=st.floats(0, 1), flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), max_size=3))
def test_damaged_parquet_is_refused_in_one_line(cut: float, flips: list[tuple[float, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.parquet"
        MeasurementTable.from_frame(frame()).write(path)
        content = bytearray(path.read_bytes())
        for place, change in flips:
            content[int(place * len(content))] ^= change
        path.write_bytes(content[: round(cut * len(content))])
        assert "\n" not in outcome_of_reading(path)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200) | st.text(st.sampled_from('a,1.-"\n\r;é\0'), max_size=80).map(str.encode))
def test_any_csv_bytes_are_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = csv_file(Path(folder), b"app,memory_mb,runtime_ms\n" + content)
        assert "\n" not in outcome_of_reading(path)


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_a_full_disk_harms_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    MeasurementTable.from_frame(frame()).write(path)
    before = path.read_bytes()
    script = f"""
import resource, numpy, pandas
from flashfm.datasets import MeasurementTable
from flashfm.errors import DataError
n = 5000
names = [f"app-{{i}}" for i in range(n)]
rows = pandas.DataFrame({{"app": names, "memory_mb": 128, "runtime_ms": numpy.random.rand(n) + 1}})
table = MeasurementTable.from_frame(rows)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    table.write({str(path)!r})
except DataError as error:
    print("refused:", error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert "refused:" in done.stdout, done.stderr
    assert "nothing was changed" in done.stdout
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        MeasurementTable.from_frame(frame()).write(tmp_path / "absent" / "t.parquet")
