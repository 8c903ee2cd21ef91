"""Finding an application by name: every way in, and one clear line for everything else."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashfm.applications.catalogue import MAX_FILE_BYTES, NAMED_COUNT, load, real_application, resolve
from flashfm.applications.generator import generate_many
from flashfm.applications.segments import REAL
from flashfm.applications.spec import ApplicationSpec
from flashfm.errors import SpecError

FIRST = generate_many(0, 4)


@pytest.fixture
def one(tmp_path: Path) -> Path:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(FIRST[0].to_dict()))
    return path


@pytest.fixture
def several(tmp_path: Path) -> Path:
    path = tmp_path / "several.json"
    path.write_text(json.dumps([spec.to_dict() for spec in FIRST]))
    return path


# -- every way in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "index"), [(0, 0), (0, 3), (0, NAMED_COUNT), (7, 2)])
def test_an_application_of_a_seed(seed: int, index: int) -> None:
    assert resolve(f"seed:{seed}/{index}") == generate_many(seed, index + 1)[index]


def test_a_generated_name() -> None:
    last = generate_many(0, NAMED_COUNT)[-1]
    assert resolve(last.name) == last


@pytest.mark.parametrize("name", REAL)
def test_a_real_application(name: str) -> None:
    spec = resolve(name)
    assert spec == real_application(name) == ApplicationSpec.from_dict(spec.to_dict())
    assert (spec.name, [part.kind for part in spec.segments]) == (name, [name])


def test_a_file(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(str(one)) == FIRST[0]
    monkeypatch.chdir(one.parent)
    assert resolve("one.json") == FIRST[0]
    one.rename("named-like-nothing")
    assert resolve("named-like-nothing") == FIRST[0]


def test_one_of_several_in_a_file(several: Path) -> None:
    assert load(several) == FIRST
    assert resolve(f"{several}#{FIRST[2].name}") == resolve(f"{several}#2") == FIRST[2]


def test_a_hash_may_be_part_of_a_file_name(one: Path) -> None:
    assert resolve(str(one.rename(one.with_name("a#0.json")))) == FIRST[0]


def test_a_pipe_is_read_as_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(json.dumps(FIRST[1].to_dict()),))
    writer.start()
    assert resolve(str(pipe)) == FIRST[1]
    writer.join()


# -- everything else -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("airline-bookin", "did you mean airline-booking"),
        (FIRST[0].name[:-1], f"did you mean .*{FIRST[0].name}"),
        ("zzzzzz", "expected a spec file .* seed:S/I"),
        ("", "no such file or name"),
        ("a" * 10_000, "no such file or name"),
        ("null\0byte", "no such file or name"),
        ("null/\0byte", "cannot be read"),
        ("no/such/file.json", "No such file"),
        ("/", "is a directory"),
        ("/dev/zero", "is larger than"),
        ("/dev/null", "is not JSON"),
        ("seed:0", "expected seed:S/I"),
        ("seed:-1/0", "expected seed:S/I"),
        ("seed:0/1/2", "expected seed:S/I"),
        ("seed:٣/١", "expected seed:S/I"),
        ("seed:0/100000", "out of range"),
        ("seed:" + "9" * 5000 + "/1", "expected seed:S/I"),
    ],
    ids=lambda value: value[:12],
)
def test_unknown_applications_are_one_line(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=says) as raised:
        resolve(text)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not JSON"),
        (b"[]", "empty list"),
        (b"{}", "expected an object with 'name' and 'segments'"),
        (b"3", "expected an object"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b"1" * 5_000, "is not JSON|expected an object"),
        (b'{"name": "x", "segments": [{"kind": "sleep", "params": {"sleep_ms": NaN}}]}', "sleep_ms is nan"),
        (b'{"name": "../x", "segments": []}', "application name '../x'"),
        (b'[{"name": "x", "segments": [{"kind": "rm", "params": {}}]}]', "entry 0: segment kind 'rm' is unknown"),
        (b" " * (MAX_FILE_BYTES + 1), "is larger than"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_damaged_files_are_one_line_with_the_place(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "spec.json"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=says) as raised:
        resolve(str(path))
    assert "spec.json" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("part", ["", "#4", "#nobody", "#-1", "#²", "#" + "1" * 5000])
def test_a_file_of_several_needs_one_that_it_holds(several: Path, part: str) -> None:
    with pytest.raises(SpecError, match=r"(holds|the file holds) 4"):
        resolve(f"{several}{part}")


def test_a_file_may_not_be_readable(one: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    one.chmod(0)
    with pytest.raises(SpecError, match="Permission denied"):
        resolve(str(one))


def test_a_real_application_is_not_any_name() -> None:
    with pytest.raises(SpecError, match="expected one of airline-booking"):
        real_application("sleep")


@given(st.text(max_size=30))
def test_any_text_is_a_spec_or_a_spec_error(text: str) -> None:
    with suppress(SpecError):
        assert isinstance(resolve(text), ApplicationSpec)
