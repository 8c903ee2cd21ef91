"""The journal survives what happens to files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.errors import MeasureError
from flashfm.measurements.harness import Sample
from flashfm.measurements.journal import Journal
from flashfm.records import METRICS, Invocation, Outcome, ResourceConfig


def sample(memory_mb: int = 128, runtime_ms: float = 5.0) -> Sample:
    return Sample(ResourceConfig(memory_mb), Outcome.OK, [Invocation(runtime_ms, dict.fromkeys(METRICS, 1.5))])


def test_what_was_added_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "j"
    kept = {("a", ResourceConfig(128), 0): sample(), ("a", ResourceConfig(256), 1): sample(256, 7.0)}
    with Journal(path, {"x": 1}) as journal:
        for (app, _, number), value in kept.items():
            journal.add(app, number, value)
    with Journal(path, {"x": 1}) as again:
        assert again.samples == kept


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_cut_anywhere_loses_at_most_what_was_cut(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "j"
    with Journal(path, {"x": 1}) as journal:
        for size in (128, 256, 512):
            journal.add("a", 0, sample(size))
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    length = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:length])
    with Journal(path, {"x": 1}) as cut:
        assert len(cut.samples) == sum(end <= length for end in ends[1:])
        cut.add("b", 0, sample())
    with Journal(path, {"x": 1}) as again:
        assert ("b", ResourceConfig(128), 0) in again.samples
        assert len(again.samples) == 1 + sum(end <= length for end in ends[1:])


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    Journal(tmp_path / "j", {"seed": 1, "passes": 2}).close()
    with pytest.raises(MeasureError, match=r"other settings \(seed\)"):
        Journal(tmp_path / "j", {"seed": 2, "passes": 2})


@pytest.mark.parametrize("line", ["not json\n", '{"app": "a"}\n', "[]\n", "3\n"])
def test_damage_in_the_middle_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "j"
    with Journal(path, {}) as journal:
        journal.add("a", 0, sample())
    header, entry = path.read_text().splitlines(keepends=True)
    path.write_text(header + line + entry)
    with pytest.raises(MeasureError, match="line 2 is not a journal entry"):
        Journal(path, {})


def test_a_full_disk_is_one_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    """The kernel refuses to let the file grow, in a process of its own."""
    code = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_journal import sample
from flashfm.errors import MeasureError
from flashfm.measurements.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]), {})
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    for number in range(100):
        journal.add("a", number, sample())
except MeasureError as error:
    print(number, error)
journal.close()
"""
    path = tmp_path / "j"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(Path(__file__).parent)], capture_output=True, text=True
    )
    assert done.stderr == ""
    number, message = done.stdout.split(" ", 1)
    assert "free some space and run the same command again" in message
    assert path.read_bytes().endswith(b"\n")
    assert [json.loads(line)["pass"] for line in path.read_text().splitlines()[1:]] == list(range(int(number)))
    with Journal(path, {}) as again:
        assert len(again.samples) == int(number)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="cannot write the journal"):
        Journal(tmp_path, {})
    with pytest.raises(MeasureError, match="cannot write the journal"):
        Journal(tmp_path / "no" / "j", {})
