"""`flashfm apps`: what people and machines see, exit codes, and that nothing is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from flashfm.applications.catalogue import resolve
from flashfm.applications.generator import generate_many
from flashfm.applications.runtime import Application
from flashfm.applications.segments import POOL, REAL
from flashfm.applications.segments.aws import new_client
from flashfm.applications.services import EmbeddedAws
from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.cli import main
from flashfm.cli.apps import app

NAPS = ApplicationSpec("naps", (SegmentSpec("sleep", {"sleep_ms": 3}), SegmentSpec("sleep", {"sleep_ms": 1})))
STORED = ApplicationSpec(
    "stored", (SegmentSpec("s3-write", {"file_kb": 4, "objects": 1}), SegmentSpec("sleep", {"sleep_ms": 60_000}))
)
COMMANDS = ["generate", "list", "run", "patch", "serve", "provision", "remove", "package"]


def apps(*words: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["apps", *map(str, words)])
    return int(stopped.value.code or 0)


@pytest.fixture
def naps(tmp_path: Path) -> Path:
    path = tmp_path / "naps.json"
    path.write_text(json.dumps(NAPS.to_dict()))
    return path


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as running:
        yield running


def buckets(aws: EmbeddedAws, tmp_path: Path) -> list[str]:
    context = Application(STORED, tmp_path / "list", endpoint_url=aws.endpoint_url).segments[0].context
    s3 = new_client(context, "s3")
    try:
        return [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    finally:
        s3.close()


# -- every command ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_parses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert apps(command, "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    _, found, words = shown.partition(f"Example: flashfm apps {command}")
    assert found
    made = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    made.make_context(command, words.split())


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert apps("--help") == 0
    listed = capsys.readouterr().out
    assert [command for command in COMMANDS if f"\n  {command}" not in listed] == []


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["run", "no-such-app"], 2, "application 'no-such-app': no such file or name"),
        (["run", "seed:0/x"], 2, "expected seed:S/I"),
        (["serve", "missing.json"], 2, "No such file"),
        (["serve", "seed:0/1", "--host", "no.such.host.invalid"], 5, "choose another --host or --port"),
        (["serve", "naps.json", "--port", "0", "--deployment", "NO"], 2, "deployment 'NO'"),
        (["serve", "airline-booking", "--no-provision"], 1, "embedded S3 and DynamoDB start empty"),
        (["run", "airline-booking", "--endpoint-url", "nonsense"], 2, "endpoint 'nonsense'"),
        (["run", "airline-booking", "--endpoint-url", "http://127.0.0.1:9"], 5, "at http://127.0.0.1:9"),
        (["provision", "airline-booking", "--endpoint-url", "http://127.0.0.1:9"], 5, "cannot create"),
        (["patch", "naps.json", "--scenario", "image-size"], 2, "scenarios that do: none does"),
        (["patch", "seed:0/0", "--scenario", "load"], 2, "changes nothing in"),
        (["package", "naps.json", "--out", "x", "--target", "vm"], 6, "expected openwhisk, kubernetes, sam or all"),
        (["package", "naps.json", "--out", "x", "--memory-mb", "1"], 6, "memory_mb: 1; expected"),
        (["package", "naps.json", "--out", "naps.json"], 6, "choose another --out"),
        (["generate", "--out", "/proc/no.json"], 2, "cannot write '/proc/no.json'"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_errors_are_one_line_with_their_exit_code(
    words: list[str],
    code: int,
    says: str,
    naps: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(naps.parent)
    assert apps(*words) == code
    error = capsys.readouterr().err
    assert error.startswith("flashfm: ")
    assert says in error
    assert len(error.splitlines()) == 1
    assert [path.name for path in naps.parent.iterdir()] == ["naps.json"]


@pytest.mark.parametrize(
    "words",
    [
        ["run", "seed:0/3", "--repeat", "0"],
        ["generate", "--count", "0"],
        ["serve", "seed:0/3", "--port", "70000"],
        ["patch", "seed:0/3", "--scenario", "rename"],
        ["provision", "seed:0/3"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert apps(*words) == 2
    assert "Usage:" in capsys.readouterr().err


# -- generate, list, patch -------------------------------------------------------------------------------------------


def test_generate_shows_and_prints(capsys: pytest.CaptureFixture[str]) -> None:
    specs = generate_many(3, 4)
    assert apps("generate", "--seed", 3, "--count", 4) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in table[1:]] == [[f"seed:3/{i}", spec.name] for i, spec in enumerate(specs)]
    assert apps("generate", "--seed", 3, "--count", 4, "--json") == 0
    assert [ApplicationSpec.from_dict(item) for item in json.loads(capsys.readouterr().out)] == specs


def test_generated_files_are_found_again(tmp_path: Path) -> None:
    specs = generate_many(0, 3)
    assert apps("generate", "--count", 3, "--out", tmp_path / "all.json") == 0
    assert apps("generate", "--count", 3, "--out", tmp_path / "each") == 0
    assert apps("generate", "--count", 1, "--out", tmp_path / "one.json") == 0
    assert resolve(f"{tmp_path}/all.json#{specs[1].name}") == specs[1]
    assert resolve(f"{tmp_path}/each/{specs[2].name}.json") == specs[2]
    assert resolve(f"{tmp_path}/one.json") == specs[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.json", "each", "one.json"]


def test_list_shows_every_segment_and_application(capsys: pytest.CaptureFixture[str]) -> None:
    assert apps("list") == 0
    table = capsys.readouterr().out
    assert [kind for kind in (*POOL, *REAL) if kind not in table] == []
    assert apps("list", "--json") == 0
    listed = {one["kind"]: one for one in json.loads(capsys.readouterr().out)}
    assert set(listed) == {*POOL, *REAL}
    assert listed["image-resize"]["scenario"] == "image-size"
    assert listed["sleep"]["scenario"] is None
    assert {one["bound"] for one in listed.values()} == {"cpu", "disk", "network", "time"}


def test_patch_shows_the_change_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = ApplicationSpec("images", (SegmentSpec("image-rotate", {"side": 40, "images": 1}), NAPS.segments[0]))
    spec, out = tmp_path / "images.json", tmp_path / "patched.json"
    spec.write_text(json.dumps(images.to_dict()))
    assert apps("patch", spec, "--scenario", "image-size", "--out", out) == 0
    table = capsys.readouterr().out
    assert "side 40 -> 160" in table
    assert apps("patch", spec, "--scenario", "image-size", "--json") == 0
    printed = ApplicationSpec.from_dict(json.loads(capsys.readouterr().out))
    assert printed == resolve(str(out))
    assert [part.params.get("side") for part in printed.segments] == [160, None]


# -- run, provision, remove ------------------------------------------------------------------------------------------


def test_run_prints_every_time(naps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert apps("run", naps, "--repeat", 3) == 0
    *lines, mean, _ = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert all("[3, 1]" in line and float(line.split()[1]) >= 4 for line in lines)
    assert mean.startswith("naps: mean ")
    assert apps("run", naps, "--repeat", 2, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["results"] == [[3, 1], [3, 1]]
    assert sum(printed["runtime_ms"]) / 2 == pytest.approx(printed["mean_ms"], abs=0.01)


def test_run_uses_the_endpoint_and_leaves_nothing_there(aws: EmbeddedAws, tmp_path: Path) -> None:
    assert apps("run", "retail-catalogue", "--repeat", 1, "--endpoint-url", aws.endpoint_url) == 0
    assert buckets(aws, tmp_path) == []


def test_provision_then_remove(aws: EmbeddedAws, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "stored.json"
    spec.write_text(json.dumps(STORED.to_dict()))
    where = ["--endpoint-url", aws.endpoint_url, "--deployment", "cli-1"]
    assert apps("provision", spec, *where) == 0
    assert [name[:7] for name in buckets(aws, tmp_path)] == ["fcli-1-"]
    assert apps("remove", spec, *where, "--json") == 0
    assert buckets(aws, tmp_path) == []
    assert json.loads(capsys.readouterr().out.split("\n", 1)[1])["done"] == "removed"


def test_an_application_without_services_needs_no_provisioning(naps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert apps("provision", naps, "--endpoint-url", "http://127.0.0.1:9") == 0
    assert "nothing" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_removes_everything(aws: EmbeddedAws, tmp_path: Path, number: signal.Signals) -> None:
    spec, temporary = tmp_path / "stored.json", tmp_path / "tmp"
    spec.write_text(json.dumps(STORED.to_dict()))
    temporary.mkdir()
    command = [sys.executable, "-m", "flashfm", "apps", "run", str(spec), "--endpoint-url", aws.endpoint_url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={"TMPDIR": str(temporary)}) as child:
        deadline = time.monotonic() + 60
        while not buckets(aws, tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(0.5)
        child.send_signal(number)
        assert child.wait(60) == 130
        assert child.stderr is not None
        assert "Traceback" not in child.stderr.read()
    assert buckets(aws, tmp_path) == []
    assert list(temporary.iterdir()) == []


# -- package ---------------------------------------------------------------------------------------------------------


def test_package_writes_all_targets(naps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert apps("package", naps, "--out", out) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == [
        f"{out}/{target}" for target in ("openwhisk", "kubernetes", "sam")
    ]
    assert apps("package", naps, "--out", out, "--target", "sam", "--json") == 0
    (target, written) = json.loads(capsys.readouterr().out).popitem()
    assert target == "sam"
    assert all(Path(path).is_file() for path in written)
