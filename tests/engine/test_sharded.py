"""Pretraining of the agent by several workers: one model, the mean gradient, and what happens when a worker is lost."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sharded_items

from flashfm.engine.base import Engine
from flashfm.engine.group import run_together
from flashfm.engine.inline import INLINE
from flashfm.engine.local import Local
from flashfm.errors import ModelError
from flashfm.models.agent_state import digest
from flashfm.pretraining import sharded
from flashfm.pretraining.autoscaling import AutoscalingConfig
from flashfm.pretraining.checkpoints import INDEX, Checkpoints
from flashfm.pretraining.reinforcement import AgentConfig
from flashfm.tasks.autoscaling.scenario import default


@pytest.fixture(scope="module")
def of_two(local: Engine) -> str:
    """Digest of the model of two workers that nothing stopped."""
    model, seconds = sharded.pretrain(local, sharded_items.pairs(), sharded_items.CONFIG, seed=1)
    assert seconds > 0
    return digest(model)


def test_all_ranks_end_with_one_model_on_every_engine(workers: Engine, of_two: str) -> None:
    assert run_together(workers, sharded_items.made, 2) == [of_two, of_two]


def test_every_pair_counts_alike_in_the_mean_gradient(local: Engine) -> None:
    one, other = run_together(local, sharded_items.mean, 2)
    assert one == other == [(1 * 1 + 2 * 3) / 4, (10 * 1 + 11 * 3) / 4]
    assert run_together(INLINE, sharded_items.mean, 1) == [[1.0, 10.0]]


def test_updates_on_shares_of_a_batch_are_those_on_the_batch(local: Engine) -> None:
    (whole,) = run_together(INLINE, sharded_items.learned, 1)
    one, other = run_together(local, sharded_items.learned, 2)
    assert one == other
    np.testing.assert_allclose(one, whole, atol=1e-5)


# -- workers that are lost ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unbroken(local: Engine, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Weights of a training that loses nobody."""
    folder = tmp_path_factory.mktemp("kept")
    one, other = run_together(local, partial(sharded_items.lost_at, folder, "never"), 2)
    assert one == other
    return one


def test_a_rank_that_dies_before_it_keeps_the_last_episode_takes_all_back_to_the_one_before(
    local: Engine, tmp_path: Path, unbroken: list[float]
) -> None:
    """The other rank has nothing left to do by then."""
    assert run_together(local, partial(sharded_items.lost_at, tmp_path, "agent-agent-2"), 2) == [unbroken] * 2
    assert (tmp_path / "rank-1-died").exists()
    assert not list(tmp_path.glob("rank-*/agent-episode-*"))


def test_a_run_that_lost_a_worker_goes_on_from_what_all_have_kept(local: Engine, tmp_path: Path) -> None:
    """It is killed after the first policy is trained, whose files are the same ones afterwards."""
    kept, mark = tmp_path / "kept", tmp_path / "died"
    rules = {"rules": sharded_items.Deadly(mark, kept)}
    with Checkpoints(kept) as checkpoints:
        sharded.pretrain(
            local, sharded_items.pairs(), sharded_items.CONFIG, seed=1, checkpoints=checkpoints, rules=rules
        )
        assert sorted(path.name for path in kept.glob("rank-*")) == ["rank-0", "rank-1"]
        assert mark.read_text() == sharded_items.trained(kept) != ""
        checkpoints.remove()
    assert not kept.exists()


def test_a_folder_that_a_machine_does_not_see_keeps_nothing_there(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "here") as checkpoints:
        checkpoints.belong({"seed": 1})
        index = (tmp_path / "here" / INDEX).read_bytes()
    assert sharded._Folder(tmp_path / "here", index).seen()
    assert not sharded._Folder(tmp_path / "there", index).seen()
    assert not sharded._Folder(tmp_path / "here", index + b" ").seen()


@pytest.mark.parametrize(("pairs", "workers"), [(3, 2), (800, 33)])
def test_more_workers_than_can_share_the_work_are_refused(pairs: int, workers: int) -> None:
    config = AutoscalingConfig(agent=AgentConfig(batch=32))
    with pytest.raises(
        ModelError, match=f"^{workers} workers for {pairs} pairs: expected 1 to {min(pairs // 2, 32)}, "
    ):
        sharded.pretrain(Local(workers), default(0).take(np.arange(pairs)), config)
