"""The catalogue, the way to a file, the download and the loaders."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.datasets import catalogue, sources
from flashfm.datasets.catalogue import SOURCES
from flashfm.datasets.sources import (
    SIZELESS_METRICS,
    fetch,
    find,
    load_cloudbandit,
    load_measured,
    load_sizeless,
    load_table,
    locate,
)
from flashfm.errors import DataError, DataFormatError, DataMissingError
from flashfm.records import METRICS

CONTENT = b"some,data\n1,2\n"


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No FLASHFM_DATA, and an empty cache; returns the cache folder."""
    monkeypatch.delenv("FLASHFM_DATA", raising=False)
    monkeypatch.setattr(sources, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT at /good, half of it at /short, other bytes at /other, and 404 elsewhere."""

    def do_GET(self) -> None:
        if self.path not in ("/good", "/short", "/other"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write({"/good": CONTENT, "/short": CONTENT[:5], "/other": CONTENT[::-1]}[self.path])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server on this machine."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def serve_from(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let the catalogue know the data set `cloudbandit` at `url`, with the digest of CONTENT."""
    known = replace(SOURCES["cloudbandit"], url=url, sha256=hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setitem(catalogue.SOURCES, "cloudbandit", known)


# -- catalogue -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOURCES)
def test_every_entry_is_whole(name: str) -> None:
    known = SOURCES[name]
    assert known.name == name
    assert known.page.startswith("https://")
    assert known.licence
    assert known.citation
    assert not Path(known.path).is_absolute()
    assert ".." not in known.path
    if known.url:
        assert known.url.startswith("https://raw.githubusercontent.com/")
        assert re.search(r"/[0-9a-f]{7,40}/", known.url), "an address pinned to a commit"
        assert re.fullmatch(r"[0-9a-f]{64}", known.sha256 or "")
    else:
        assert known.note


@pytest.mark.data
@pytest.mark.parametrize("name", [name for name, known in SOURCES.items() if known.sha256])
def test_every_file_has_the_digest_of_the_catalogue(name: str, public) -> None:
    assert public(name).is_file()


# -- where files are -------------------------------------------------------------------------------------------------


def test_a_missing_file_says_how_to_get_it(alone: Path) -> None:
    assert find("cloudbandit") is None
    with pytest.raises(DataMissingError, match="flashfm data fetch cloudbandit, or set FLASHFM_DATA") as refused:
        locate("cloudbandit")
    assert str(alone) in str(refused.value)
    with pytest.raises(DataMissingError, match="CodeOcean capsule 6066333"):
        load_table("sizeless-original")
    with pytest.raises(DataMissingError, match="unpack it"):
        locate("azure-functions-2021")
    with pytest.raises(DataMissingError, match=r"cannot be fetched; it has no public address"):
        fetch("sizeless-original")
    with pytest.raises(DataError, match="no data set is called 'sizless'; expected one of measured, cloudbandit"):
        locate("sizless")


def test_the_folder_comes_before_the_cache(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_from(monkeypatch, "https://invalid.invalid/")
    monkeypatch.setenv("FLASHFM_DATA", str(tmp_path / "folder"))
    for place in (alone, tmp_path / "folder"):
        path = place / SOURCES["cloudbandit"].path
        path.parent.mkdir(parents=True)
        path.write_bytes(CONTENT)
        assert locate("cloudbandit") == path


def test_another_digest_is_refused_with_both(alone: Path) -> None:
    path = alone / SOURCES["cloudbandit"].path
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    with pytest.raises(DataFormatError) as refused:
        locate("cloudbandit")
    assert SOURCES["cloudbandit"].sha256 in str(refused.value)
    assert hashlib.sha256(CONTENT).hexdigest() in str(refused.value)


# -- download --------------------------------------------------------------------------------------------------------


class Bar:
    """Notes what a progress bar is told."""

    total: int | None = 0
    now = 0

    def start(self, total_bytes: int | None) -> None:
        self.total = total_bytes

    def update(self, n_bytes: int) -> None:
        self.now += n_bytes


def test_fetch_puts_a_checked_file_into_the_cache(alone: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_from(monkeypatch, f"{address}/good")
    bar = Bar()
    path = fetch("cloudbandit", progress=bar)
    assert path == alone / SOURCES["cloudbandit"].path == locate("cloudbandit")
    assert path.read_bytes() == CONTENT
    assert bar.total == bar.now == len(CONTENT)
    serve_from(monkeypatch, f"{address}/gone")
    assert fetch("cloudbandit") == path, "what is here is not fetched again"


@pytest.mark.parametrize(
    ("place", "kind", "said"),
    [
        ("/gone", DataError, "HTTP status 404"),
        ("/other", DataFormatError, hashlib.sha256(CONTENT[::-1]).hexdigest()),
        ("/short", DataError, "did not answer as expected"),
    ],
)
def test_a_download_that_fails_leaves_nothing(
    place: str, kind: type[DataError], said: str, alone: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_from(monkeypatch, address + place)
    with pytest.raises(kind, match=said) as refused:
        fetch("cloudbandit")
    assert "\n" not in str(refused.value)
    assert [path for path in alone.rglob("*") if path.is_file()] == []


def test_no_network_is_one_line(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    serve_from(monkeypatch, "http://127.0.0.1:1/nobody-listens")
    with pytest.raises(DataError, match=r"check the network, or get the file by hand from https://github\.com/IBM"):
        fetch("cloudbandit")


def test_a_cache_that_cannot_be_written(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.delenv("FLASHFM_DATA", raising=False)
    monkeypatch.setattr(sources, "cache_dir", lambda: tmp_path / "file" / "cache")
    serve_from(monkeypatch, f"{address}/good")
    with pytest.raises(DataError, match="cannot be kept"):
        fetch("cloudbandit")


# -- loaders ---------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_cloudbandit_is_that_of_the_protocol(public) -> None:
    path = public("cloudbandit")
    table = load_table("cloudbandit")
    assert (len(table.apps), len(table.pairs), len(table.configurations), len(table)) == (28, 28, 82, 2100)
    assert table.config_columns == ("provider", "family", "type", "vcpu", "nodes")
    assert "cost_usd" in table.frame
    assert "cost_usd" not in (*table.config_columns, *table.metric_names)
    assert table.frame["n_invocations"].sum() == 2202
    raw = pd.read_csv(path)
    one = (
        (raw["workload"] == "santander-kmeans")
        & (raw["provider"] == "A")
        & (raw["A_family"] == 1)
        & (raw["nodes"] == 5)
    )
    seconds = raw.loc[one & (raw["A_vcpu"] == 1) & (raw["status"] == "ok"), "target_runtime"]
    assert len(seconds) == 2
    rows = table.frame.query("app == 'santander-kmeans' and family == 'A1' and nodes == 5 and vcpu == 1")
    assert rows["runtime_ms"].tolist() == pytest.approx([1000 * seconds.mean()])
    assert rows["runtime_cov"].tolist() == pytest.approx([seconds.std() / seconds.mean()])
    assert rows["type"].isna().all()
    assert table.frame.query("provider == 'C'")["type"].notna().all()


@pytest.mark.data
def test_sizeless_in_our_units(public) -> None:
    raw = pd.read_csv(public("sizeless-selfhosted"))
    table = load_sizeless()
    assert (len(table), len(table.apps)) == (240, 30)
    assert sorted(table.frame["memory_mb"].unique()) == [128, 256, 512, 1024, 2048, 3008, 4096, 16384]
    assert set(METRICS) <= set(table.metric_names)
    ours = table.frame.iloc[1]
    theirs = raw.iloc[1]
    assert ours["app"] == theirs["f_name"]
    assert ours["runtime_ms"] == theirs["duration_mean"]
    assert ours["runtime_cov"] == pytest.approx(theirs["duration_cov"] / 100)
    assert ours["user_cpu_ms_mean"] == pytest.approx(theirs["userDiff_mean"] / 1000)
    assert ours["heap_used_mb_mean"] == pytest.approx(theirs["heapUsed_mean"] / 1048576)
    assert ours["fs_write_bytes_mean"] == pytest.approx(theirs["fsWrite_mean"] * 512)
    share = (table.frame["user_cpu_ms_mean"] + table.frame["system_cpu_ms_mean"]) / table.frame["runtime_ms"]
    assert 0.3 < share.min() < share.max() < 1.5, "CPU time is a plausible share of the run time"


def sizeless_file(folder: Path, **columns: object) -> Path:
    """Two functions at two sizes in Sizeless's schema, with columns added or replaced."""
    base: dict[str, object] = {
        "duration_mean": [100.0, 50.0, 30.0, 30.0],
        "duration_cov": [10.0, 10.0, 5.0, 5.0],
        "userDiff_mean": [9e4, 4.5e4, 1e3, 1e3],
        "f_size": [128, 256, 128, 256],
        "f_name": ["a", "a", "b", "b"],
        "y_128": [100.0, 100.0, 30.0, 30.0],
        "y_256": [50.0, 50.0, 30.0, 30.0],
    }
    path = folder / "processed_training_data.csv"
    pd.DataFrame(base | columns).to_csv(path)
    return path


def test_a_sizeless_file_by_hand(tmp_path: Path) -> None:
    table = load_table("sizeless-original", sizeless_file(tmp_path))
    assert table.pairs == (("a", "aws-lambda"), ("b", "aws-lambda"))
    assert table.frame["user_cpu_ms_mean"].tolist() == [90.0, 45.0, 1.0, 1.0]
    assert table.frame["runtime_cov"].tolist() == [0.1, 0.1, 0.05, 0.05]


def test_a_label_without_a_row_becomes_one(tmp_path: Path) -> None:
    table = load_sizeless(sizeless_file(tmp_path, y_512=[25.0, 25.0, np.nan, np.nan]), platform="mine")
    extra = table.frame.query("memory_mb == 512")
    assert extra["app"].tolist() == ["a"]
    assert extra["runtime_ms"].tolist() == [25.0]
    assert extra["user_cpu_ms_mean"].isna().all()


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"y_256": [50.0, 51.0, 30.0, 30.0]}, "row 2 (line 3), column 'y_256': expected 50 ms as in the row measured"),
        ({"userDiff_mean": [9e4, "?", 1e3, 1e3]}, "row 2 (line 3), column 'userDiff_mean': expected a number, got '?'"),
        ({"f_name": ["a", "a", "b", ""]}, "row 4 (line 5), column 'app': expected a value"),
        ({"f_size": [128, 128, 128, 256], "y_128": None, "y_256": None}, "row 1 (line 2) and row 2 (line 3)"),
        ({"userDiff_mean": [9e7, 4.5e7, 1e3, 1e3]}, "row 1 (line 2), column 'user_cpu_ms_mean': expected at most"),
    ],
)
def test_a_sizeless_file_that_makes_no_sense(columns: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataFormatError) as refused:
        load_sizeless(sizeless_file(tmp_path, **columns))
    assert said in str(refused.value)


def test_a_file_of_another_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match="no column 'provider'"):
        load_cloudbandit(sizeless_file(tmp_path))
    path = tmp_path / "other.csv"
    path.write_text("app,memory_mb,runtime_ms\na,128,5\n")
    with pytest.raises(DataFormatError, match="no column 'f_name'"):
        load_sizeless(path)


@pytest.mark.data
def test_cloudbandit_rows_that_make_no_sense(public, tmp_path: Path) -> None:
    lines = public("cloudbandit").read_text().splitlines(keepends=True)[:40]
    for old, new, said in [
        (",C,", ",D,", "'provider': expected A, B or C, got 'D'"),
        ("188.857", "soon", "expected a number"),
    ]:
        path = tmp_path / "other.csv"
        path.write_text("".join([lines[0], lines[1].replace(old, new), *lines[2:]]))
        with pytest.raises(DataFormatError, match=re.escape("row 1 (line 2), column ")) as refused:
            load_cloudbandit(path)
        assert said in str(refused.value)


def test_the_measured_set_loads_or_says_that_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "measured_file", lambda: None)
    with pytest.raises(DataMissingError, match="flashfm measure"):
        load_measured()


def test_metric_names_of_sizeless_are_ours() -> None:
    assert {ours for ours, _ in SIZELESS_METRICS.values()} >= set(METRICS)


def test_a_trace_is_no_table() -> None:
    with pytest.raises(DataError, match="is a trace"):
        load_table("nasa")
