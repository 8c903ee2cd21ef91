"""The eleven segments that need no service: real work, equal results for equal seeds, the paper's updates."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.applications.runtime import Application
from flashfm.applications.segments import POOL, Context, Params, Segment, segment_class
from flashfm.applications.segments.json_to_yaml import random_json
from flashfm.applications.segments.text import random_text
from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.errors import SpecError

KINDS = [kind for kind in POOL if not kind.startswith(("dynamodb-", "s3-"))]

SMALL: dict[str, Params] = {
    "floating-point": {"operations": 1000},
    "matrix-multiplication": {"side": 50, "repeats": 5},
    "image-compress": {"side": 40, "images": 10, "quality": 80},
    "image-resize": {"side": 40, "images": 10},
    "image-rotate": {"side": 40, "images": 10},
    "json-to-yaml": {"document_bytes": 250, "documents": 3},
    "compression": {"file_kb": 128, "level": 1},
    "decompression": {"file_kb": 128, "repeats": 2},
    "file-read": {"file_kb": 128, "files": 2},
    "file-write": {"file_kb": 128, "files": 2},
    "sleep": {"sleep_ms": 10},
}

PAPER: dict[str, tuple[str, dict[int, int]]] = {
    "floating-point": ("operations", {100_000: 1_600_000}),
    "matrix-multiplication": ("side", {50: 150, 75: 225, 100: 300}),
    "image-compress": ("side", {40: 160, 80: 320, 120: 480}),
    "image-resize": ("side", {40: 160, 80: 320, 120: 480}),
    "image-rotate": ("side", {40: 160, 80: 320, 120: 480}),
    "json-to-yaml": ("document_bytes", {250: 2000, 500: 3000, 1000: 5000}),
    "compression": ("file_kb", {128: 512, 256: 768, 384: 1024}),
    "decompression": ("file_kb", {128: 512, 256: 768, 384: 1024}),
    "file-read": ("file_kb", {128: 512, 256: 768, 384: 1024}),
    "file-write": ("file_kb", {128: 512, 256: 768, 384: 1024}),
}


def ready(kind: str, workdir: Path, params: Params | None = None, seed: int = 1) -> Segment:
    segment = segment_class(kind)(params or SMALL[kind], Context(workdir, "test", seed))
    segment.provision()
    segment.prepare()
    return segment


@pytest.mark.parametrize("kind", KINDS)
class TestEverySegment:
    def test_runs_more_than_once_with_the_same_result(self, kind: str, tmp_path: Path) -> None:
        segment = ready(kind, tmp_path)
        first = segment.run()
        assert isinstance(first, int)
        assert first > 0
        assert segment.run() == first

    def test_runs_as_drawn(self, kind: str, tmp_path: Path) -> None:
        params = segment_class(kind).draw(random.Random(5))
        assert ready(kind, tmp_path, params).run() > 0

    def test_result_depends_on_the_seed_alone(self, kind: str, tmp_path: Path) -> None:
        results = []
        for i, seed in enumerate((1, 1, 2)):
            workdir = tmp_path / str(i)
            workdir.mkdir()
            results.append(ready(kind, workdir, seed=seed).run())
        assert results[0] == results[1]
        if kind not in ("file-write", "sleep"):  # these return their size
            assert results[0] != results[2]

    def test_remove_leaves_nothing_and_can_be_repeated(self, kind: str, tmp_path: Path) -> None:
        segment = ready(kind, tmp_path)
        segment.run()
        segment.remove()
        assert list(tmp_path.iterdir()) == []
        segment.remove()
        segment_class(kind)(SMALL[kind], Context(tmp_path / "absent", "test", 1)).remove()

    def test_declares_itself(self, kind: str) -> None:
        cls = segment_class(kind)
        assert cls.kind == kind
        assert cls.short.isalnum()
        assert len(cls.short) <= 9
        assert cls.bound in ("cpu", "disk", "time")
        assert cls.services == ()
        assert set(SMALL[kind]) == set(cls.example())

    def test_draws_legal_sizes_from_random_alone(self, kind: str) -> None:
        class OnlyRandom(random.Random):
            def getrandbits(self, k: int, /) -> int:
                raise AssertionError("draw may only call random()")

        rng = OnlyRandom(3)
        types = {key: type(value) for key, value in segment_class(kind).example().items()}
        for _ in range(200):
            params = segment_class(kind).draw(rng)
            assert {key: type(value) for key, value in params.items()} == types
            assert all(isinstance(value, int) and 0 < value <= 1e8 for value in params.values())

    def test_spec_round_trip(self, kind: str) -> None:
        spec = ApplicationSpec("one", (SegmentSpec(kind, segment_class(kind).draw(random.Random(2))),))
        assert ApplicationSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec

    def test_update_changes_the_paper_s_size_and_nothing_else(self, kind: str) -> None:
        if kind == "sleep":
            assert segment_class(kind).patched(SMALL[kind]) is None
            return
        key, sizes = PAPER[kind]
        for before, after in sizes.items():
            params = {**SMALL[kind], key: before}
            assert segment_class(kind).patched(params) == {**params, key: after}
            assert params[key] == before

    def test_updated_segment_runs(self, kind: str, tmp_path: Path) -> None:
        params = segment_class(kind).patched(SMALL[kind])
        if params is not None:
            assert ready(kind, tmp_path, params).run() > 0

    def test_every_drawn_size_has_an_update(self, kind: str) -> None:
        rng = random.Random(4)
        if kind != "sleep":
            key = PAPER[kind][0]
            for _ in range(20):
                params = segment_class(kind).draw(rng)
                updated = segment_class(kind).patched(params)
                assert updated is not None
                assert int(updated[key]) > int(params[key])


@pytest.mark.parametrize("kind", ["compression", "decompression", "file-read", "file-write", "json-to-yaml"])
def test_size_unknown_to_the_paper_has_no_update(kind: str) -> None:
    key = PAPER[kind][0]
    assert segment_class(kind).patched({**SMALL[kind], key: 77}) is None


def test_importing_segments_imports_no_library() -> None:
    kinds = ", ".join(repr(kind) for kind in KINDS)
    code = (
        "import sys; from flashfm.applications.segments import segment_class\n"
        f"for kind in ({kinds}): segment_class(kind)\n"
        "print(sorted({'numpy', 'PIL', 'yaml', 'boto3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_file_write_does_not_grow(tmp_path: Path) -> None:
    segment = ready("file-write", tmp_path)
    for _ in range(3):
        assert segment.run() == 2 * 128 * 1024
    assert len(list(tmp_path.iterdir())) == 2


def test_file_write_instances_of_one_deployment_keep_apart(tmp_path: Path) -> None:
    first, second = ready("file-write", tmp_path), ready("file-write", tmp_path)
    first.run()
    second.run()
    assert len(list(tmp_path.glob(f"output-{os.getpid()}-*"))) == 4
    first.remove()
    assert list(tmp_path.iterdir()) == []


def test_file_read_provisions_the_stated_size(tmp_path: Path) -> None:
    ready("file-read", tmp_path)
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [128 * 1024] * 2


def test_sleep_sleeps_and_uses_no_cpu(tmp_path: Path) -> None:
    segment = ready("sleep", tmp_path, {"sleep_ms": 50})
    wall_s, cpu_s = time.monotonic(), time.process_time()
    assert segment.run() == 50
    assert time.monotonic() - wall_s >= 0.05
    assert time.process_time() - cpu_s < 0.04


@given(seed=st.integers(0, 2**63 - 1), size=st.integers(12, 6000))
@settings(max_examples=50, deadline=None)
def test_random_json_has_the_stated_size_and_parses(seed: int, size: int) -> None:
    text = random_json(random.Random(seed), size)
    assert len(text.encode()) == size
    assert isinstance(json.loads(text), dict)


@given(seed=st.integers(0, 2**63 - 1), size=st.integers(1, 5000))
@settings(max_examples=50, deadline=None)
def test_random_text_has_the_stated_size(seed: int, size: int) -> None:
    assert len(random_text(random.Random(seed), size)) == size


def test_application_runs_several_segments_in_order(tmp_path: Path) -> None:
    parts = tuple(SegmentSpec(kind, SMALL[kind]) for kind in ("file-write", "sleep", "file-write"))
    app = Application(ApplicationSpec("three", parts), tmp_path)
    app.provision()
    app.prepare()
    assert app.invoke() == [2 * 128 * 1024, 10, 2 * 128 * 1024]
    app.remove()
    app.remove()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
ANYTHING = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
NUMBER = st.integers(-(10**10), 10**10) | st.floats() | st.booleans() | st.text(max_size=3)


@st.composite
def near_specs(draw: st.DrawFn) -> dict[str, object]:
    """Specs of the right outline whose details are often wrong."""
    segments = []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(KINDS))
        value = draw(st.sampled_from([st.integers(1, 1000), NUMBER]))
        params: dict[str, object] = {key: draw(value) for key in SMALL[kind]}
        if draw(st.integers(0, 9)) == 0:
            params[draw(st.text(max_size=5))] = draw(SCALAR)
        segments.append({"kind": kind, "params": params})
    name = draw(st.from_regex(r"[a-z0-9][a-z0-9-]{0,60}", fullmatch=True) | st.text(max_size=5))
    return {"name": name, "segments": segments}


@given(data=ANYTHING | near_specs())
@settings(max_examples=300, deadline=None)
def test_hostile_spec_is_refused_or_kept_as_it_is(data: object) -> None:
    try:
        spec = ApplicationSpec.from_dict(data)
    except SpecError:
        return
    assert spec.to_dict() == data
    assert ApplicationSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
