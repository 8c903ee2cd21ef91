"""`flashfm measure` as a person uses it: what it prints, and one clear line for every wrong input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flashfm.cli.measure import applications
from flashfm.datasets.table import MeasurementTable
from flashfm.errors import FlashError, SpecError
from flashfm.measurements.limits import detect


def flashfm(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "flashfm", *words], capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def limited() -> None:
    try:
        detect()
    except FlashError as error:
        pytest.skip(str(error))


HANDLER = "import json\ndef main(event, context):\n    return sum(i * i for i in range(event['size']))\n"


@pytest.mark.limits
@pytest.mark.usefixtures("limited")
def test_a_users_own_function(tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text(HANDLER)
    words = ["--function", "handler.py:main", "--event", '{"size": 200000}', "--memory", "256,2048"]
    done = flashfm("measure", *words, "--passes", "1", "--out", "mine.parquet", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outcomes"] == {"ok": 2}
    frame = MeasurementTable.read(tmp_path / "mine.parquet").frame.set_index("memory_mb")
    assert frame.runtime_ms[256] > 3 * frame.runtime_ms[2048]
    assert not (tmp_path / "mine.parquet.journal").exists()


@pytest.mark.limits
@pytest.mark.usefixtures("limited")
def test_an_open_load_that_is_too_much_says_so(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ndef handler(event): time.sleep(0.1)\n")
    words = ["--function", "slow.py", "--memory", "512", "--rate", "40", "--duration", "1", "--instances", "1"]
    done = flashfm("measure", *words, "--out", "slow.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "requests waited for an instance" in " ".join(done.stderr.split())
    assert "1 rows in slow.parquet (1 ok)" in done.stdout


def test_check_says_what_works() -> None:
    done = flashfm("measure", "--check")
    try:
        name = detect().name
    except FlashError:
        assert done.returncode == 4
        return
    assert done.returncode == 0
    assert f"flashfm measure will use {name}" in done.stdout
    assert json.loads(flashfm("measure", "--check", "--json").stdout)["use"] == name


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "nothing to measure"),
        (["--apps", "no-such-app"], "no-such-app"),
        (["--apps", "seed:0/9-3"], "expected FIRST <= LAST"),
        (["--apps", "seed:0/1,seed:0/1"], "twice"),
        (["--apps", "seed:0/1", "--memory", "1GB"], "'1GB' is not a whole number"),
        (["--apps", "seed:0/1", "--memory", "8"], "memory is 8"),
        (["--apps", "seed:0/1", "--platform", "azure"], "expected lambda or openwhisk"),
        (["--apps", "seed:0/1", "--shares", "100"], "no CPU shares"),
        (["--apps", "seed:0/1", "--platform", "openwhisk", "--neighbours", "-2"], "expected 0 to 64"),
        (["--apps", "seed:0/1", "--out", "no/such/folder/x.parquet"], "does not exist"),
        (["--apps", "seed:0/1", "--out", "x.xlsx"], "expected a name that ends in"),
        (["--apps", "seed:0/1", "--passes", "0"], "--passes is 0"),
        (["--apps", "seed:0/1", "--timeout", "0"], "--timeout is 0"),
        (["--function", "missing.py"], "expected FILE.py:NAME"),
        (["--function", __file__, "--event", "{"], "not JSON"),
        (["--apps", "seed:0/1", "--rate", "-3"], "rate is -3"),
        (["--apps", "seed:0/1", "--core", "999"], "core 999"),
        (["--apps", "seed:0/1", "--engine", "spark"], "--engine spark: expected one of local, ray"),
        (["--apps", "seed:0/1", "--address", "10.0.0.5:6379"], "only --engine ray takes one"),
        (["--apps", "seed:0/1", "--engine", "ray", "--address", "here"], "--address here: expected HOST:PORT"),
        (["--function", __file__, "--engine", "ray"], "--engine ray measures what all nodes have"),
    ],
)
def test_wrong_input_is_one_clear_line(words: list[str], says: str, tmp_path: Path) -> None:
    done = flashfm("measure", *words, cwd=tmp_path)
    assert done.returncode in (2, 4, 11)
    assert says in done.stderr
    assert done.stderr.startswith("flashfm: ")
    assert done.stderr.count("\n") == 1


def test_a_spec_file_may_not_name_code(tmp_path: Path) -> None:
    spec = {"name": "evil", "segments": [{"kind": "function", "params": {"target": "/tmp/x.py:f", "event": "{}"}}]}
    (tmp_path / "evil.json").write_text(json.dumps(spec))
    with pytest.raises(SpecError, match="may not name code to run"):
        applications(str(tmp_path / "evil.json"))


def test_ranges_are_parts_of_one_list() -> None:
    assert applications("seed:1/2-4") == applications("seed:1/0-4")[2:]
    assert applications("seed:1/3")[0] == applications("seed:1/0-4")[3]
