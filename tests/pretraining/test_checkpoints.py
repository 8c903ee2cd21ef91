"""Checkpoints: what was kept last comes back bit for bit, and what is damaged, foreign or in use is refused."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.errors import ArtifactError
from flashfm.pretraining.checkpoints import INDEX, Checkpoints

RUN = {"seed": 1, "config": {"episodes": 3, "noise": (0.3, 0.05)}}
TYPES = (torch.float32, torch.float64, torch.int64, torch.bool)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder with two parts."""
    with Checkpoints(tmp_path / "kept") as checkpoints:
        checkpoints.belong(RUN)
        checkpoints.write({"agent": {"weight": torch.arange(6.0).reshape(2, 3)}, "encoder": {"mean": torch.ones(4)}})
    return tmp_path / "kept"


def one_line(error: pytest.ExceptionInfo[ArtifactError], *parts: str) -> None:
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(TYPES),
    st.integers(0, 2**32 - 1),
)
def test_tensors_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], dtype: torch.dtype, seed: int
) -> None:
    values = 1e3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    tensor = (
        torch.where(values.abs() < 100, torch.nan, values).to(dtype) if dtype.is_floating_point else values.to(dtype)
    )
    folder = tmp_path_factory.mktemp("kept")
    with Checkpoints(folder) as checkpoints:
        checkpoints.belong(RUN)
        checkpoints.write({"agent": {"a.b": tensor}})
    with Checkpoints(folder) as checkpoints:
        checkpoints.belong(RUN)
        found = checkpoints["agent"]["a.b"]
    assert (found.dtype, found.shape) == (dtype, tensor.shape)
    assert found.numpy().tobytes() == tensor.numpy().tobytes()


def test_a_part_takes_the_place_of_the_one_before(kept: Path) -> None:
    with Checkpoints(kept) as checkpoints:
        checkpoints.write({"agent": {"weight": torch.zeros(1)}}, forget=["encoder", "never there"])
        assert "encoder" not in checkpoints
    with Checkpoints(kept) as checkpoints:
        assert checkpoints["agent"]["weight"].tolist() == [0.0]
    assert len(list(kept.iterdir())) == 2


def test_what_a_killed_process_left_is_of_no_account(kept: Path) -> None:
    """It wrote a part, whole or half, and was killed before the index named it."""
    whole = next(kept.glob("agent.*"))
    shutil.copy(whole, kept / "agent.0123456789abcdef.safetensors")
    (kept / f".{whole.name}.77.tmp").write_bytes(whole.read_bytes()[:20])
    with Checkpoints(kept) as checkpoints:
        checkpoints.belong(RUN)
        assert checkpoints["agent"]["weight"].shape == (2, 3)
        checkpoints.write({})
    assert sorted(path.name.split(".")[0] for path in kept.iterdir()) == ["agent", "checkpoints", "encoder"]


def test_time_adds_up_over_processes(kept: Path) -> None:
    text = json.loads((kept / INDEX).read_text())
    (kept / INDEX).write_text(json.dumps(text | {"seconds": 1000.0}))
    with Checkpoints(kept) as checkpoints:
        assert 1000 < checkpoints.seconds < 1100
        checkpoints.write({})
    assert json.loads((kept / INDEX).read_text())["seconds"] > 1000


def test_the_folder_goes_with_the_run_unless_it_holds_something_else(kept: Path) -> None:
    other = shutil.copytree(kept, kept.with_name("other"))
    (other / "mine.txt").touch()
    for folder in (kept, other):
        with Checkpoints(folder) as checkpoints:
            checkpoints.remove()
    assert not kept.exists()
    assert [path.name for path in other.iterdir()] == ["mine.txt"]


def test_without_a_folder_nothing_is_kept() -> None:
    checkpoints = Checkpoints()
    checkpoints.belong(RUN)
    checkpoints.write({"agent": {"weight": torch.zeros(1)}})
    assert "agent" not in checkpoints
    checkpoints.remove()


@pytest.mark.parametrize(
    ("run", "part"),
    [
        (RUN | {"seed": 2}, "seed 1, this one has 2"),
        (RUN | {"config": {"episodes": 4, "noise": [0.3, 0.05]}}, "config.episodes 3, this one has 4"),
        (RUN | {"pairs": 800}, "pairs None, this one has 800"),
    ],
)
def test_another_run_is_refused(kept: Path, run: dict[str, object], part: str) -> None:
    before = {path: path.read_bytes() for path in kept.iterdir()}
    with Checkpoints(kept) as checkpoints, pytest.raises(ArtifactError) as error:
        checkpoints.belong(run)
    one_line(error, str(kept), part, "choose another folder, or delete it")
    assert {path: path.read_bytes() for path in kept.iterdir()} == before


def edited(**changed: object) -> Callable[[Path], object]:
    return lambda folder: (folder / INDEX).write_text(json.dumps(json.loads((folder / INDEX).read_text()) | changed))


@pytest.mark.parametrize(
    ("harm", "part"),
    [
        (lambda folder: (folder / INDEX).write_bytes((folder / INDEX).read_bytes()[:-20]), "cut short"),
        (lambda folder: (folder / INDEX).write_bytes(b""), "cut short"),
        (lambda folder: (folder / INDEX).write_text("[]"), "edited"),
        (lambda folder: (folder / INDEX).write_text("[" * 100_000), "edited"),
        (edited(version=2), "of another version"),
        (edited(run=None), "edited"),
        (edited(parts={"../agent": "0" * 64}), "edited"),
        (edited(parts={"encoder": "0" * 64}), "cannot be read: No such file"),
        (edited(parts={}), "part 'encoder' is missing"),
        (lambda folder: next(folder.glob("encoder.*")).unlink(), "cannot be read: No such file"),
        (lambda folder: cut(next(folder.glob("encoder.*"))), "damaged or cut short"),
        (lambda folder: flipped(next(folder.glob("encoder.*"))), "damaged or cut short"),
    ],
)
def test_damage_is_refused(kept: Path, harm: Callable[[Path], object], part: str) -> None:
    harm(kept)
    with pytest.raises(ArtifactError) as error:
        read(kept)
    one_line(error, str(kept), part, "delete the folder to begin anew")


def read(folder: Path) -> dict[str, torch.Tensor]:
    with Checkpoints(folder) as checkpoints:
        checkpoints.belong(RUN)
        return checkpoints["encoder"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_tensors_that_do_not_fit_are_told_as_damage(kept: Path) -> None:
    with pytest.raises(ArtifactError) as error, Checkpoints(kept) as checkpoints, checkpoints.fitting("encoder"):
        torch.nn.Linear(2, 2).load_state_dict(checkpoints["encoder"])
    one_line(error, "part 'encoder' does not fit this version")


def test_a_folder_has_one_user(kept: Path) -> None:
    with Checkpoints(kept), pytest.raises(ArtifactError) as error, Checkpoints(kept):
        pass
    one_line(error, str(kept), "another process")
    with Checkpoints(kept) as checkpoints:
        assert "agent" in checkpoints


def test_who_waits_has_the_folder_when_it_is_left(kept: Path) -> None:
    left: list[float] = []
    first = Checkpoints(kept).__enter__()

    def leave() -> None:
        left.append(time.monotonic())
        first.__exit__(None, None, None)

    threading.Timer(0.2, leave).start()
    with Checkpoints(kept, wait_s=30.0) as checkpoints:
        assert left
        assert "agent" in checkpoints


def test_those_of_workers_are_below_and_go_with_the_run(kept: Path) -> None:
    with Checkpoints(kept) as run:
        for rank in (0, 1):
            with run.of_rank(rank) as own:
                own.belong(RUN)
                own.write({"agent": {"weight": torch.full((2,), float(rank))}})
        with run.of_rank(1) as own:
            assert own["agent"]["weight"].tolist() == [1.0, 1.0]
        assert run["agent"]["weight"].shape == (2, 3)
        (kept / "rank-1" / "mine.txt").touch()
        run.remove()
    assert [str(path.relative_to(kept)) for path in kept.rglob("*")] == ["rank-1", "rank-1/mine.txt"]
    assert Checkpoints().of_rank(0).folder is None


def test_foreign_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for folder, part in ((tmp_path, "'mine.txt'"), (tmp_path / "mine.txt", "choose another")):
        with pytest.raises(ArtifactError) as error, Checkpoints(folder):
            pass
        one_line(error, str(folder), part)
    assert (tmp_path / "mine.txt").read_text() == "mine"
