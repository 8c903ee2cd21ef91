"""`flashfm data`: what it prints, what it refuses, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from flashfm.cli import main
from flashfm.datasets import MeasurementTable, sources
from flashfm.datasets.catalogue import SOURCES
from flashfm.errors import DataError


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Runs `flashfm data …`; returns exit code, standard output and standard error."""

    def call(*words: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["data", *words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return stopped.value.code or 0, said.out, said.err

    return call


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A table of three applications in a Parquet file."""
    rows = []
    for app, share in (("busy", 0.98), ("half", 0.5), ("waits", 0.02)):
        for size in (128, 512, 3008):
            runtime = 60 * (1 - share) + 60 * share / min(1, size / 1769)
            cpu = {"user_cpu_ms_mean": 60 * share, "system_cpu_ms_mean": 0.0}
            rows.append({"app": app, "platform": "lambda", "memory_mb": size, "runtime_ms": runtime, **cpu})
    table = MeasurementTable.from_frame(pd.DataFrame(rows), card={"machine": "test"})
    table.write(tmp_path / "mine.parquet")
    return tmp_path / "mine.parquet"


# -- list ------------------------------------------------------------------------------------------------------------


def test_list_for_people_and_for_machines(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLASHFM_DATA", raising=False)
    monkeypatch.setattr(sources, "cache_dir", lambda: tmp_path)
    code, out, _ = run("list")
    assert code == 0
    assert all(name in out for name in (*SOURCES, "measured", "can be fetched", "by hand"))
    found = json.loads(run("list", "--json")[1])
    assert [one["name"] for one in found] == ["measured", *SOURCES]
    entry = found[1]
    assert {"url", "sha256", "licence", "citation", "page", "redistribute", "file"} <= set(entry)
    assert entry["file"] is None
    path = tmp_path / SOURCES["cloudbandit"].path
    path.parent.mkdir()
    path.touch()
    assert json.loads(run("list", "--json")[1])[1]["file"] == str(path)


# -- fetch -----------------------------------------------------------------------------------------------------------


def test_fetch_goes_on_and_reports_at_the_end(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fake(name: str, *, progress: object = None) -> Path:
        if name == "twitter":
            raise DataError("twitter: no network")
        return tmp_path / name

    monkeypatch.setattr(sources, "fetch", fake)
    code, out, err = run("fetch", "cloudbandit")
    assert (code, out.strip()) == (0, f"cloudbandit: {tmp_path / 'cloudbandit'}")
    code, out, err = run("fetch", "--all")
    assert code == 3
    assert "twitter: not fetched" in out
    assert all(f"{name}: {tmp_path}" in out for name, known in SOURCES.items() if known.url and name != "twitter")
    assert err.splitlines() == ["flashfm: twitter: no network"]


def test_fetch_needs_names_or_all(run) -> None:
    assert run("fetch")[0] == 2
    assert run("fetch", "nasa", "--all")[0] == 2
    code, out, err = run("fetch", "nasa", "nosuch")
    assert code == 3
    assert out == ""
    assert "'nosuch'" in err


def test_fetch_of_what_must_be_got_by_hand(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLASHFM_DATA", raising=False)
    monkeypatch.setattr(sources, "cache_dir", lambda: tmp_path)
    code, _, err = run("fetch", "sizeless-original")
    assert code == 3
    assert "6066333" in err
    assert len(err.splitlines()) == 1


def test_the_bar_tells_rich_how_far_it_is() -> None:
    from rich.progress import Progress

    from flashfm.cli.data import _Bar

    progress = Progress(disable=True)
    bar = _Bar(progress, "nasa")
    assert progress.tasks[0].total is None
    bar.start(100)
    bar.update(70)
    bar.update(30)
    assert progress.tasks[0].completed == progress.tasks[0].total == 100


# -- show ------------------------------------------------------------------------------------------------------------


def test_show_a_table(run, mine: Path) -> None:
    code, out, _ = run("show", str(mine))
    assert code == 0
    for words in (
        "9 rows, 3 pairs: 3 applications on lambda",
        "memory_mb: 128, 512, 3008",
        "CPU-bound",
        "outcomes: ok 9",
    ):
        assert words in out
    summary = json.loads(run("show", str(mine), "--json")[1])
    assert summary["card"] == {"machine": "test"}
    assert summary["configuration"] == {"memory_mb": [128, 512, 3008]}
    assert [curve["app"] for curve in summary["curves"]] == ["busy", "half", "waits"]
    assert summary["curves"][0]["points"][-1] == {"memory_mb": 3008, "runtime_ms": 60.0, "outcome": "ok"}
    assert summary["picture"] is None


def test_show_chosen_apps_and_draw_them(run, mine: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curves.svg"
    code, out, _ = run("show", str(mine), "--apps", "waits,half", "--plot", str(picture))
    assert code == 0
    assert f"Picture: {picture}" in out
    drawn = picture.read_text()
    assert "waits" in drawn
    assert "busy" not in drawn + out
    assert run("show", str(mine), "--plot", str(tmp_path / "all.png"))[0] == 0
    code, _, err = run("show", str(mine), "--apps", "waits,nobody")
    assert (code, len(err.splitlines())) == (3, 1)
    assert "no application 'nobody'" in err


def test_show_a_csv_of_ones_own(run, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("app,architecture,runtime_ms,outcome\na,arm,5,ok\na,x86,,timeout\n")
    code, _, err = run("show", str(path))
    assert code == 3
    assert "declare them" in err
    code, out, _ = run("show", str(path), "--config", "architecture")
    assert code == 0
    assert "architecture: arm, x86" in out
    summary = json.loads(run("show", str(path), "--config", "architecture", "--json")[1])
    assert summary["curves"][0]["points"][1] == {"architecture": "x86", "runtime_ms": None, "outcome": "timeout"}
    code, _, err = run("show", str(path), "--config", "architecture", "--plot", str(tmp_path / "a.png"))
    assert code == 3
    assert "memory_mb" in err


@pytest.mark.parametrize("content", ["app,memory_gb,runtime_ms\na,1,5\n", "", "app,memory_mb,runtime_ms\na,128,x\n"])
def test_show_a_file_that_breaks_the_schema(content: str, run, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(content)
    code, out, err = run("show", str(tmp_path / "bad.csv"))
    assert (code, out, len(err.splitlines())) == (3, "", 1)
    assert err.startswith("flashfm: ")


def test_show_what_is_nothing(run, tmp_path: Path) -> None:
    code, _, err = run("show", "nosuch")
    assert code == 3
    assert "neither a file nor a data set" in err
    assert "no such file" in run("show", str(tmp_path / "absent.csv"))[2]


def test_show_a_trace_from_a_file_of_its_format(run, tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_text("app,func,end_timestamp,duration\n" + "".join(f"a,f,{i},0.5\n" for i in range(1, 200_000, 100)))
    code, out, _ = run("show", str(path), "--as", "azure-functions-2021", "--plot", str(tmp_path / "rate.svg"))
    assert code == 0
    assert "2,000" in out
    assert "864 to 864" in out
    assert "requests/s" in (tmp_path / "rate.svg").read_text()
    summary = json.loads(run("show", str(path), "--as", "azure-functions-2021", "--json")[1])
    assert summary["traces"][0]["requests"] == 2000
    assert run("show", str(path), "--as", "nosuch")[0] == 3


@pytest.mark.data
@pytest.mark.parametrize("name", ["cloudbandit", "sizeless-selfhosted", "azure-llm-code"])
def test_show_public_data_sets(name: str, run) -> None:
    if sources.find(name) is None:
        pytest.skip(f"data set {name!r} is not on this machine: set FLASHFM_DATA, or run: flashfm data fetch {name}")
    code, out, _ = run("show", name)
    assert code == 0
    assert name in out
    assert json.loads(run("show", name, "--json")[1])["kind"] == SOURCES[name].kind
