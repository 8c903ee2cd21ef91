"""Groups of workers: what they exchange, and what happens when one of them goes."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import group_items
import pytest

from flashfm.engine import group
from flashfm.engine.base import TRIES, Engine
from flashfm.engine.group import ALONE, Group, run_together
from flashfm.engine.inline import INLINE
from flashfm.errors import EngineError, ShotsError


def test_every_rank_has_the_same_of_all(workers: Engine) -> None:
    first, second = run_together(workers, partial(group_items.exchanges, 7), 2)
    assert first == second
    assert first["sum"] == [10.0, 12.0, 14.0]
    assert first["square"] == [100.0, 110.0, 120.0, 110.0, 122.0, 134.0, 120.0, 134.0, 148.0]
    assert first["mean"] == [5.0, 6.0, 7.0]
    assert first["shared"] == [10.0, 11.0, 12.0]
    assert first["gathered"] == [float(i) for i in range(7)]


def test_one_alone_keeps_what_it_has_in_this_process() -> None:
    (found,) = run_together(INLINE, partial(group_items.exchanges, 7), 1)
    assert found["sum"] == found["mean"] == found["shared"] == [0.0, 1.0, 2.0]
    assert found["gathered"] == [float(i) for i in range(7)]
    told: list[tuple[int, int]] = []
    assert run_together(INLINE, partial(group_items.steps, 0.0), 1, lambda *at: told.append(at)) == [10]
    assert told == [(i + 1, 10) for i in range(10)]


def test_sums_are_the_same_on_all_ranks_and_each_time(local: Engine) -> None:
    found = [values for _ in range(2) for values in run_together(local, group_items.random_sum, 2)]
    assert all(values == found[0] for values in found)
    assert len(set(found[0])) == 1000


@pytest.mark.parametrize(("rows", "size"), [(64, 1), (64, 2), (7, 3), (5, 5), (2, 3)])
def test_shares_are_even_and_all(rows: int, size: int) -> None:
    parts = [range(rows)[Group(rank, size).part(rows)] for rank in range(size)]
    assert [row for part in parts for row in part] == list(range(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert ALONE.part(rows) == slice(0, rows)


def test_progress_of_the_first_rank_is_heard(workers: Engine) -> None:
    told: list[tuple[int, int]] = []
    assert run_together(workers, partial(group_items.steps, 1.5), 2, lambda *at: told.append(at)) == [10, 10]
    assert len(told) >= 2
    assert told == sorted(set(told))
    assert all(0 < done <= total == 10 for done, total in told)


def test_nothing_but_loopback_reaches_a_group_of_this_machine(local: Engine) -> None:
    ours, theirs = run_together(local, group_items.doors, 2)
    assert len(ours) >= 2
    assert {*ours, *theirs} == {"127.0.0.1"}


# -- ranks that go -----------------------------------------------------------------------------------------------------


def test_when_a_rank_is_killed_all_start_anew(
    workers: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "flashfm.engine"):
        assert run_together(workers, partial(group_items.killed, tmp_path, 1), 2) == [4, 4]
    assert len(list(tmp_path.glob("0-*"))) == len(list(tmp_path.glob("1-*"))) == 2
    said = [record.getMessage() for record in caplog.records]
    assert f"a worker of 2 that work together was lost; all start anew, 2 of {TRIES} times" in said


def test_a_rank_that_is_killed_each_time_is_one_line(
    local: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "TRIES", 2)
    with pytest.raises(EngineError, match="2 workers that work together lost one of them 2 times; ") as caught:
        run_together(local, partial(group_items.killed, tmp_path, 2), 2)
    assert "\n" not in str(caught.value)
    assert len(list(tmp_path.glob("0-*"))) == 2


def test_what_a_rank_raises_is_raised_and_not_that_others_miss_it(local: Engine) -> None:
    with pytest.raises(ShotsError) as caught:
        run_together(local, group_items.refuses, 2)
    assert str(caught.value) == "row 1: no"
    assert run_together(local, partial(group_items.steps, 0.0), 2) == [10, 10]


@pytest.mark.parametrize("size", [0, 3])
def test_a_group_larger_than_the_engine_is_one_line(local: Engine, size: int) -> None:
    with pytest.raises(EngineError, match=f"^{size} workers are to work together, expected 1 to the 2 of the engine$"):
        run_together(local, group_items.refuses, size)
