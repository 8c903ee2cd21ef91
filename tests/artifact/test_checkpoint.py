"""Saved models: they give back what was put in, survive a kill, and every way of being wrong is one line."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flashfm.artifact import checkpoint, swap
from flashfm.artifact.checkpoint import CARD, CONFIG, DTYPES, MAX_BYTES, TENSORS, VERSION, Saved, load, save
from flashfm.errors import ArtifactError

KIND = "config-search"
SETTINGS = {"width": 32, "rates": [3e-4, 0.0], "space": {"memory_mb": None, "name": "ünïcode"}, "set": True}
TENSOR = {"gru.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "steps": np.array(7, dtype=np.int64)}


def model(folder: Path, **other: Any) -> Path:
    """A good model in `folder`."""
    save(folder, **{"kind": KIND, "config": SETTINGS, "tensors": TENSOR, "card": "# A model\n"} | other)
    return folder


@cache
def files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as parent:
        return {path.name: path.read_bytes() for path in model(Path(parent) / "m").iterdir()}


def copy(folder: Path) -> Path:
    """The good model once more, without waiting for the disk."""
    folder.mkdir()
    for name, content in files().items():
        (folder / name).write_bytes(content)
    return folder


def header_of(folder: Path) -> dict[str, Any]:
    header: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    return header


def forge(folder: Path, *, content: bytes | None = None, **fields: Any) -> Path:
    """Change a model as somebody would who also mends the digests."""
    header = header_of(folder) | fields
    if content is not None:
        (folder / TENSORS).write_bytes(content)
        header["sha256"] = hashlib.sha256(content).hexdigest()
    header["header_sha256"] = checkpoint._digest({k: v for k, v in header.items() if k != "header_sha256"})
    (folder / CONFIG).write_text(json.dumps(header))
    return folder


def refusal(folder: Path, kind: str = KIND) -> str:
    """The message with which a folder is refused: one line that names it."""
    with pytest.raises(ArtifactError) as refused:
        load(folder, kind=kind)
    message = str(refused.value)
    assert "\n" not in message
    assert str(folder) in message
    assert ";" in message, "expected the message to say how to mend it"
    assert len(message) < 500 + len(str(folder))
    return message


def loaded_or_refused(folder: Path) -> Saved | None:
    """What is loaded, or None where it is refused in one line; any other exception fails the test."""
    message = "none"
    try:
        return load(folder, kind=KIND)
    except ArtifactError as error:
        message = str(error)
    assert "\n" not in message
    return None


def same(one: Saved, other: Saved) -> bool:
    return (
        one.config == other.config
        and one.card == other.card
        and one.tensors.keys() == other.tensors.keys()
        and all(
            a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
            for a, b in ((one.tensors[name], other.tensors[name]) for name in one.tensors)
        )
    )


# -- round trip ------------------------------------------------------------------------------------------------------

ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(
        dtype,
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False} if dtype.startswith("float") else None,
    )
)
NAMES = st.text(min_size=1, max_size=20).filter(str.isprintable)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=30)
@given(
    st.dictionaries(NAMES, ARRAYS, max_size=4),
    st.dictionaries(st.text(max_size=5), JSON, max_size=4),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)
def test_what_was_saved_comes_back(tensors: dict[str, np.ndarray], config: dict[str, Any], card: str) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        save(folder, kind=KIND, config=config, tensors=tensors, card=card)
        again = load(folder, kind=KIND)
        assert same(again, Saved(config, tensors, card))
        assert list(again.tensors) == list(tensors)
        assert all(tensor.flags.writeable and tensor.flags.c_contiguous for tensor in again.tensors.values())
        assert sorted(path.name for path in Path(parent).iterdir()) == ["model"]
        assert sorted(path.name for path in folder.iterdir()) == sorted([CONFIG, TENSORS, CARD])


def test_layout_in_memory_does_not_matter(tmp_path: Path) -> None:
    plain = np.arange(24, dtype=np.float64).reshape(2, 3, 4)
    for i, tensor in enumerate([np.asfortranarray(plain), plain.astype(">f8"), np.repeat(plain, 2, axis=1)[:, ::2]]):
        again = load(model(tmp_path / str(i), tensors={"x": tensor}), kind=KIND).tensors["x"]
        np.testing.assert_array_equal(again, plain)


def test_the_same_model_has_the_same_bytes(tmp_path: Path) -> None:
    one, other = model(tmp_path / "a"), model(tmp_path / "b")
    for name in (CONFIG, TENSORS, CARD):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_the_config_tells_what_is_in_the_folder(tmp_path: Path) -> None:
    header = header_of(model(tmp_path / "m"))
    assert header["format"] == "flashfm"
    assert header["format_version"] == VERSION == 1
    assert header["kind"] == KIND
    assert header["tensors"]["gru.weight"] == {"dtype": "float32", "shape": [3, 4]}
    assert header["sha256"] == hashlib.sha256((tmp_path / "m" / TENSORS).read_bytes()).hexdigest()


def test_tuples_become_lists_and_the_layout_of_the_json_is_free(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", config={"grid": (1, 2)})
    (folder / CONFIG).write_text(json.dumps(header_of(folder), indent=7, sort_keys=True))
    assert load(folder, kind=KIND).config == {"grid": [1, 2]}


def test_the_card_may_be_edited(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    (folder / CARD).write_text("mine")
    assert load(folder, kind=KIND).card == "mine"


# -- saving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"config": {"a": [{"b": np.float32(1)}]}}, "config['a'][0]['b']: expected a plain, finite JSON value"),
        ({"config": {"a": float("nan")}}, "config['a']: expected a plain, finite JSON value, got nan"),
        ({"config": {"a": {1: 2}}}, "config['a']: expected text as keys, got 1"),
        ({"config": {"a": "x" * (MAX_BYTES[CONFIG] + 1)}}, "config.json: would have"),
        ({"card": "x" * (MAX_BYTES[CARD] + 1)}, "README.md: would have"),
        ({"card": "\ud800"}, "Unicode"),
        ({"tensors": {"x": np.array([1, np.nan])}}, "tensor 'x' holds NaN"),
        ({"tensors": {"x": np.array(np.inf)}, "allow_nan": {"x"}}, "tensor 'x' holds infinite values"),
        ({"tensors": {"x": np.array(["text"])}}, "dtype 'str"),
        ({"tensors": {"x": np.array([object()])}}, "dtype 'object'"),
        ({"tensors": {"x": np.zeros(2, complex)}}, "dtype 'complex128'"),
        ({"tensors": {"two\nlines": np.zeros(2)}}, "printable"),
        ({"tensors": {"": np.zeros(2)}}, "printable"),
        ({"tensors": {"__metadata__": np.zeros(2)}}, "printable"),
        ({"tensors": {"x": np.broadcast_to(np.int8(1), (MAX_BYTES[TENSORS] + 1,))}}, "expected a shape of at most"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(other: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as refused:
        model(tmp_path / "m", **other)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_config_that_holds_itself(tmp_path: Path) -> None:
    config: dict[str, Any] = {}
    config["self"] = config
    with pytest.raises(ArtifactError, match="recursion"):
        model(tmp_path / "m", config=config)


def test_a_model_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = model(tmp_path / "deep" / "m")
    model(folder, tensors={"other": np.zeros((0, 3))}, card="second")
    again = load(folder, kind=KIND)
    assert list(again.tensors) == ["other"]
    assert again.card == "second"
    assert [path.name for path in folder.parent.iterdir()] == ["m"]


def test_an_empty_folder_is_filled_and_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    model(tmp_path / "link")
    model(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert load(tmp_path / "empty", kind=KIND).card == "# A model\n"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"thesis.txt": "mine"}, "neither empty nor a flashfm model"),
        ({"config.json": "{}"}, "neither empty nor a flashfm model"),
        ({"config.json": "["}, "neither empty nor a flashfm model"),
        ({"config.json": "[" * 100_000}, "neither empty nor a flashfm model"),
        ({"config.json": '{"format": "flashfm"}', "thesis.txt": "mine"}, "holds 'thesis.txt' beside the model"),
    ],
)
def test_a_foreign_folder_is_left_alone(files: dict[str, str], said: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ArtifactError) as refused:
        model(tmp_path)
    assert said in str(refused.value)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_saving_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArtifactError, match="is a file, expected a folder"):
        model(tmp_path / "file")
    with pytest.raises(ArtifactError, match="cannot save the model: "):
        model(tmp_path / "file" / "m")
    for odd in (tmp_path / "nul\0", tmp_path / ("x" * 300)):
        with pytest.raises(ArtifactError, match=r"not a usable path|File name too long"):
            model(odd)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_harms_nothing(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    script = f"""
import resource, signal, numpy
from flashfm.artifact.checkpoint import save
from flashfm.errors import ArtifactError
import flashfm.datasets.files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save({str(folder)!r}, kind="x", config={{}}, tensors={{"x": numpy.ones(5000)}}, card="")
except ArtifactError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "what was there is unharmed" in done.stdout
    assert load(folder, kind=KIND).card == "# A model\n"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


SAVES = """
import sys, time, numpy
from flashfm.artifact import checkpoint, swap
folder, exchange, pause_s = sys.argv[1:]
if exchange == "no":
    swap._exchange = lambda one, other: False
import flashfm.datasets.files
print("ready", flush=True)
for i in range(1, 10**9):
    tensors = {"x": numpy.full((50_000,), i, dtype=numpy.int32)}
    checkpoint.save(folder, kind="config-search", config={"i": i}, tensors=tensors, card=str(i))
    print(i, flush=True)
    time.sleep(float(pause_s))
"""


@pytest.mark.parametrize("exchange", ["yes", "no"])
def test_a_kill_leaves_the_old_or_the_new_model(exchange: str, tmp_path: Path) -> None:
    rng = random.Random(exchange)
    folder = tmp_path / "m"
    for _ in range(2):
        model(folder, config={"i": 0}, tensors={"x": np.zeros(50_000, np.int32)}, card="0")
        assert [path.name for path in tmp_path.iterdir()] == ["m"], "what was left by the dead is swept"
        child = subprocess.Popen(
            [sys.executable, "-c", SAVES, str(folder), exchange, "0"], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.0, 0.25))
        child.kill()
        said = [int(line) for line in child.stdout.read().split("\n")[:-1]]
        child.wait()
        child.stdout.close()
        last = said[-1] if said else 0
        again = load(folder, kind=KIND)
        i = again.config["i"]
        assert i in (last, last + 1)
        assert again.card == str(i)
        assert (again.tensors["x"] == i).all()


DIES = """
import os, sys, numpy
from pathlib import Path
from flashfm.artifact import checkpoint, swap
import flashfm.datasets.files
folder, exchange = Path(sys.argv[1]), sys.argv[2]
if exchange == "no":
    swap._exchange = lambda one, other: False
WATCHED = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir", "ctypes.dlsym")

def save(i):
    checkpoint.save(folder, kind="config-search", config={"i": i}, tensors={"x": numpy.full(9, i)}, card=str(i))

def save_dying(i, at):
    calls = 0
    def hook(event, args):
        nonlocal calls
        if event in WATCHED:
            calls += 1
            if calls == at:
                os._exit(9)
    sys.addaudithook(hook)
    save(i)
    os._exit(0)

save(0)
deaths, kept, status = 0, set(), 9
while status == 9:
    i = deaths + 1
    child = os.fork()
    if not child:
        save_dying(i, at=deaths + 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    again = checkpoint.load(folder, kind="config-search")
    assert again.config["i"] in (0, i) and again.card == str(again.config["i"]), (i, again)
    assert (again.tensors["x"] == again.config["i"]).all()
    deaths += status == 9
    kept.add(again.config["i"] == i)
    save(0)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
assert status == 0 and kept == {True, False}
print(deaths)
"""


@pytest.mark.parametrize("exchange", ["yes", "no"])
def test_dying_before_any_call_to_the_system_leaves_the_old_or_the_new_model(exchange: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", DIES, str(tmp_path / "m"), exchange]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15


@pytest.mark.parametrize("exchange", ["yes", "no"])
def test_a_reader_beside_a_writer_sees_whole_models(exchange: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    model(folder, config={"i": 0}, tensors={"x": np.zeros(50_000, np.int32)}, card="0")
    child = subprocess.Popen(
        [sys.executable, "-c", SAVES, str(folder), exchange, "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        seen = set()
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            again = load(folder, kind=KIND)
            assert (again.tensors["x"] == again.config["i"]).all()
            seen.add(again.config["i"])
        assert len(seen) > 1
    finally:
        child.kill()
        child.communicate()


def test_a_model_set_aside_by_the_dead_is_found_and_then_cleared(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", card="old")
    folder.rename(swap._aside(folder))
    assert load(folder, kind=KIND).card == "old"
    model(folder, card="new")
    assert load(folder, kind=KIND).card == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_failed_swap_puts_the_old_model_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model(tmp_path / "m", card="old")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.endswith(".saving"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(swap, "_exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(ArtifactError, match="Input/output error; what was there is unharmed"):
        model(folder, card="new")
    assert load(folder, kind=KIND).card == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


# -- loading what is wrong -------------------------------------------------------------------------------------------


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def becomes(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str, at: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:at])


def forged(**fields: Any) -> Callable[[Path], object]:
    return lambda folder: forge(folder, **fields)


def with_tensors(**tensors: np.ndarray) -> Callable[[Path], object]:
    return lambda folder: forge(folder, content=safetensors.numpy.save(tensors))


def larger(name: str) -> Callable[[Path], object]:
    """The file grows beyond what is allowed, without taking room on the disk."""
    return lambda folder: os.truncate(folder / name, MAX_BYTES[name] + 1)


def field_edited(folder: Path) -> None:
    text = (folder / CONFIG).read_text()
    assert '"width": 32' in text
    (folder / CONFIG).write_text(text.replace('"width": 32', '"width": 33'))


def entry(dtype: Any, shape: Any) -> dict[str, Any]:
    return {"tensors": {"x": {"dtype": dtype, "shape": shape}}}


def hugging_face(folder: Path) -> None:
    (folder / CONFIG).write_text('{"architectures": ["BertModel"], "model_type": "bert"}')


def only(*names: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        for path in folder.iterdir():
            path.unlink()
        for name in names:
            (folder / name).write_bytes(b"\x80\x04.")

    return change


GOOD = {"gru_weight": TENSOR["gru.weight"], "steps": TENSOR["steps"]}


@pytest.mark.parametrize(
    ("damage", "where", "said"),
    [
        (without(CONFIG), CONFIG, "no such file; give a folder that flashfm saved"),
        (without(TENSORS), TENSORS, "no such file"),
        (without(CARD), CARD, "no such file"),
        (only(), CONFIG, "no such file"),
        (only("pytorch_model.bin"), CONFIG, "'pytorch_model.bin' is of a kind that may hold a pickle"),
        (only("model.pkl"), CONFIG, "flashfm never reads pickles"),
        (hugging_face, CONFIG, "not a flashfm model: expected format 'flashfm', got a Hugging Face transformers model"),
        (becomes(CONFIG, b"{}"), CONFIG, "expected format 'flashfm', got no such field"),
        (becomes(CONFIG, b'{"format": "onnx"}'), CONFIG, "got 'onnx'"),
        (becomes(CONFIG, b""), CONFIG, "not JSON"),
        (becomes(CONFIG, b"\xff\xfe\x00"), CONFIG, "not JSON"),
        (becomes(CONFIG, b"[1]"), CONFIG, "expected a JSON object, got list"),
        (becomes(CONFIG, b"[" * 100_000), CONFIG, "not JSON"),
        (becomes(CONFIG, b'{"format": ' + b"9" * 5000 + b"}"), CONFIG, "not JSON"),
        (becomes(CONFIG, b'{"format": "flashfm", "format": "flashfm"}'), CONFIG, "a key appears twice"),
        (becomes(CONFIG, b'{"format": "flashfm", "config": NaN}'), CONFIG, "NaN is not a JSON value"),
        (cut(CONFIG, 100), CONFIG, "cut short"),
        (becomes(CONFIG, b'{"format": "flashfm", "format_version": 2}'), CONFIG, "written by a later flashfm"),
        (becomes(CONFIG, b'{"format": "flashfm", "format_version": 2}'), CONFIG, "upgrade"),
        (becomes(CONFIG, b'{"format": "flashfm", "format_version": 0}'), CONFIG, "expected format_version from 1"),
        (becomes(CONFIG, b'{"format": "flashfm", "format_version": true}'), CONFIG, "got True"),
        (becomes(CONFIG, b'{"format": "flashfm", "format_version": 1}'), CONFIG, "field 'kind' is missing"),
        (forged(script="rm"), CONFIG, "field 'script' is unknown"),
        (field_edited, CONFIG, "damaged or edited"),
        (forged(kind="autoscaling"), "", "holds a model of kind 'autoscaling', expected 'config-search'"),
        (forged(kind=1), CONFIG, "field 'kind': expected str, got int"),
        (forged(config=[]), CONFIG, "field 'config': expected dict, got list"),
        (forged(tensors=[]), CONFIG, "field 'tensors': expected dict, got list"),
        (forged(sha256=None), CONFIG, "field 'sha256': expected str, got NoneType"),
        (forged(tensors={"x": 1}), CONFIG, "expected its dtype and shape, got 1"),
        (forged(tensors={"a\nb": {}}), CONFIG, "printable"),
        (forged(**entry("object", [1])), CONFIG, "dtype 'object', expected one of bool"),
        (forged(**entry(["float32"], [1])), CONFIG, "dtype ['float32']"),
        (forged(**entry("float32", "12")), CONFIG, "expected a shape"),
        (forged(**entry("float32", [-1])), CONFIG, "expected a shape"),
        (forged(**entry("float32", [True])), CONFIG, "expected a shape"),
        (forged(**entry("float32", [10**30])), CONFIG, "expected a shape"),
        (forged(**entry("float32", [0, 2**29, 2**29, 2**29])), CONFIG, "expected a shape"),
        (forged(**entry("float32", [1] * 1000)), CONFIG, "expected a shape"),
        (forged(**entry("float64", [2**28])), CONFIG, "its tensors need 2147483648 bytes"),
        (forged(**entry("float64", [2**20])), TENSORS, "its tensors alone need 8388608"),
        (cut(TENSORS, 20), TENSORS, "cut short: 20 bytes"),
        (cut(TENSORS, 0), TENSORS, "cut short: 0 bytes"),
        (forged(sha256="0" * 64), TENSORS, "its SHA-256 is not the one in config.json"),
        (forged(content=b"\x80\x04" * 100), TENSORS, "not a safetensors file"),
        (forged(content=struct.pack("<Q", 2**63) + b"{}" * 100), TENSORS, "not a safetensors file"),
        (with_tensors(steps=TENSOR["steps"], more=np.zeros(99)), TENSORS, "tensor 'gru.weight' is missing"),
        (
            lambda f: forge(f, content=safetensors.numpy.save(TENSOR | {"x": np.zeros(9)})),
            TENSORS,
            "tensor 'x' is not told of",
        ),
        (
            lambda f: forge(f, content=safetensors.numpy.save(TENSOR | {"steps": np.array(7.0)})),
            TENSORS,
            "expected int64 () as in config.json, got float64 ()",
        ),
        (
            lambda f: forge(f, content=safetensors.numpy.save(TENSOR | {"gru.weight": np.zeros((4, 3), np.float32)})),
            TENSORS,
            "expected float32 (3, 4) as in config.json, got float32 (4, 3)",
        ),
        (
            lambda f: forge(f, content=safetensors.numpy.save(TENSOR | {"gru.weight": np.full((3, 4), np.nan, "f4")})),
            TENSORS,
            "tensor 'gru.weight' holds NaN",
        ),
        (
            lambda f: forge(f, content=safetensors.numpy.save(TENSOR | {"gru.weight": np.full((3, 4), np.inf, "f4")})),
            TENSORS,
            "tensor 'gru.weight' holds infinite values",
        ),
        (larger(CONFIG), CONFIG, "at most 4194304 are read"),
        (larger(TENSORS), TENSORS, "at most 536870912 are read"),
        (larger(CARD), CARD, "at most 4194304 are read"),
        (becomes(CARD, b"\xff"), CARD, "not UTF-8 text (byte 0)"),
    ],
)
def test_damage_is_told_in_one_line(damage: Callable[[Path], object], where: str, said: str, tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    damage(folder)
    message = refusal(folder)
    assert said in message
    assert message.startswith(f"{folder / where}: ")


def test_what_is_no_folder(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "absent")
    (tmp_path / "model.pkl").write_bytes(b"")
    assert "got a file" in refusal(tmp_path / "model.pkl")
    for odd in (f"{tmp_path}/nul\0", "x" * 300, f"{tmp_path}/model.pkl/m"):
        with pytest.raises(ArtifactError, match=r"not a usable path|too long|no such folder"):
            load(odd, kind=KIND)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(ArtifactError, match=r"circle.*: not a usable path|circle: "):
        load(tmp_path / "circle", kind=KIND)


@pytest.mark.parametrize("name", [CONFIG, TENSORS, CARD])
def test_a_pipe_or_a_device_is_not_read(name: str, tmp_path: Path) -> None:
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), os.mkdir):
        folder = model(tmp_path / "m")
        (folder / name).unlink()
        make(folder / name)
        assert "not a regular file" in refusal(folder)
        (folder / name).rmdir() if (folder / name).is_dir() else (folder / name).unlink()
        for other in folder.iterdir():
            other.unlink()


@pytest.mark.parametrize("name", [CONFIG, TENSORS, CARD])
def test_a_file_without_permission(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model(tmp_path / "m")
    opened = Path.open

    def denied(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self.name == name:
            raise PermissionError(13, "Permission denied")
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", denied)
    assert "Permission denied; check its permissions" in refusal(folder)


def test_absent_values_only_where_the_caller_expects_them(tmp_path: Path) -> None:
    tensors = {"metric": np.array([np.nan, 1.0])}
    folder = model(tmp_path / "m", tensors=tensors, allow_nan={"metric"})
    np.testing.assert_array_equal(load(folder, kind=KIND, allow_nan={"metric"}).tensors["metric"], tensors["metric"])
    assert "tensor 'metric' holds NaN" in refusal(folder)


def test_a_declared_size_takes_no_memory(tmp_path: Path) -> None:
    folder = forge(model(tmp_path / "m"), **entry("uint8", [MAX_BYTES[TENSORS]]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "cut short" in refusal(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


@settings(deadline=None, max_examples=300)
@given(
    name=st.sampled_from([CONFIG, TENSORS]),
    cut=st.none() | st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), max_size=3),
)
def test_random_damage_is_refused_or_harmless(name: str, cut: float | None, flips: list[tuple[float, int]]) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = copy(Path(parent) / "m")
        content = bytearray((folder / name).read_bytes())
        for place, change in flips:
            content[int(place * len(content))] ^= change
        (folder / name).write_bytes(content if cut is None else content[: round(cut * len(content))])
        again = loaded_or_refused(folder)
        assert again is None or same(again, Saved(SETTINGS, TENSOR, "# A model\n"))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_random_tensors_under_a_good_checksum(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = copy(Path(parent) / "m")
        content = bytearray((folder / TENSORS).read_bytes())
        header = content[8 : 8 + struct.unpack("<Q", content[:8])[0]].rstrip()
        for place, change in data.draw(
            st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(1, 255)), max_size=3)
        ):
            content[place] ^= change
        if data.draw(st.booleans()):
            digits = [i for i, byte in enumerate(header) if chr(byte).isdigit()]
            header[data.draw(st.sampled_from(digits))] = ord(data.draw(st.sampled_from("0123456789-e")))
            content[8 : 8 + len(header)] = header
        forge(folder, content=bytes(content))
        again = loaded_or_refused(folder)
        shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in TENSOR.items()}
        assert again is None or {name: (x.dtype, x.shape) for name, x in again.tensors.items()} == shapes


@settings(deadline=None, max_examples=100)
@given(JSON, st.sampled_from(["kind", "flashfm_version", "config", "tensors", "sha256", "format_version", "format"]))
def test_any_json_in_any_field(value: Any, field: str) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = forge(copy(Path(parent) / "m"), **{field: value})
        again = loaded_or_refused(folder)
        if again is not None:
            assert same(again, Saved(value if field == "config" else SETTINGS, TENSOR, "# A model\n"))


def test_no_pickle_and_no_torch() -> None:
    script = """
import sys
for name in ("cloudpickle", "joblib", "torch"):
    sys.modules[name] = None
import numpy as np, pickle
def never(*_, **__): raise SystemExit("a pickle was read")
pickle.load = pickle.loads = pickle.Unpickler = never
from flashfm.artifact import checkpoint, registry, card
folder = sys.argv[1]
checkpoint.save(folder, kind="x", config={}, tensors={"x": np.ones(3)}, card="")
print(checkpoint.load(folder, kind="x").tensors["x"].sum())
"""
    with tempfile.TemporaryDirectory() as parent:
        command = [sys.executable, "-c", script, f"{parent}/m"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "3.0\n", done.stderr
    for path in Path(checkpoint.__file__).parent.glob("*.py"):
        assert "import pickle" not in path.read_text()
