"""What holds for every engine: the same results, each once, and the same errors."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import engine_items
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from flashfm.engine.base import Engine
from flashfm.engine.choose import engine_of
from flashfm.errors import EngineError, ShotsError


def test_every_item_is_yielded_once_under_its_name(engine: Engine) -> None:
    items = {f"item-{i}": i for i in range(20)}
    yielded = list(engine.run(engine_items.square, items))
    assert len(yielded) == len(items)
    assert dict(yielded) == {name: i * i for name, i in items.items()}


def test_nothing_to_do_is_done(engine: Engine) -> None:
    assert list(engine.run(engine_items.square, {})) == []


def test_numbers_are_those_of_this_process_to_the_last_bit(engine: Engine) -> None:
    seeds = {str(seed): seed for seed in range(5)}
    with engine_of() as inline, threadpool_limits(2):  # this process may compute on as many threads as it likes
        here = dict(inline.run(engine_items.drawn, seeds))
    there = dict(engine.run(engine_items.drawn, seeds))
    assert {name: values.tobytes() for name, values in there.items()} == {
        name: values.tobytes() for name, values in here.items()
    }


def test_training_is_that_of_this_process_to_the_last_bit(engine: Engine) -> None:
    seeds = {"a": 1, "b": 2}
    with engine_of() as inline:
        here = dict(inline.run(engine_items.trained, seeds))
    there = dict(engine.run(engine_items.trained, seeds))
    assert here["a"].keys() == there["a"].keys()
    for name, weights in here.items():
        assert all(np.array_equal(weights[key], there[name][key]) for key in weights)


def test_an_item_yields_the_same_alone_and_in_company_and_in_any_order(engine: Engine) -> None:
    seeds = {str(seed): seed for seed in range(4)}
    company = dict(engine.run(engine_items.drawn, seeds))
    turned = dict(engine.run(engine_items.drawn, dict(reversed(seeds.items()))))
    (_, alone), *_ = engine.run(engine_items.drawn, {"2": 2})
    assert np.array_equal(alone, company["2"])
    assert all(np.array_equal(company[name], turned[name]) for name in seeds)


def test_torch_has_one_thread(engine: Engine) -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert dict(engine.run(engine_items.threads, {"a": 0, "b": 1})) == {"a": 1, "b": 1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_is_bound_to_the_work_reaches_every_item(engine: Engine) -> None:
    factor = np.ones(2**20)
    assert dict(engine.run(partial(engine_items.scaled, factor), {"a": 1, "b": 2})) == {"a": 2.0**20, "b": 2.0**21}


def test_one_run_after_another_and_one_inside_another(engine: Engine) -> None:
    sums = {}
    for name, value in engine.run(engine_items.square, {"a": 2, "b": 3}):
        sums[name] = sum(dict(engine.run(engine_items.square, {"x": value, "y": value + 1})).values())
    assert sums == {"a": 16 + 25, "b": 81 + 100}


def test_an_error_is_the_same_class_and_line(engine: Engine) -> None:
    with pytest.raises(ShotsError) as caught:
        list(engine.run(engine_items.refuse, {str(i): i for i in range(6)}))
    assert type(caught.value) is ShotsError
    assert str(caught.value) == "row 3, column latency_s: expected a number, got 'x'"
    assert "item '3'" in caught.value.__notes__


def test_an_error_that_cannot_be_sent_whole_keeps_class_words_and_exit_code(engine: Engine) -> None:
    with pytest.raises(engine_items.Marked) as caught:
        list(engine.run(engine_items.marked, {"a": 0}))
    assert (str(caught.value), caught.value.exit_code) == ("cannot be sent whole", 77)


def test_a_bug_comes_with_its_own_class(engine: Engine) -> None:
    with pytest.raises(KeyError, match="no such key"):
        list(engine.run(engine_items.bug, {"a": 0}))


def test_after_an_error_the_engine_goes_on_with_another_run(engine: Engine) -> None:
    with pytest.raises(ShotsError):
        list(engine.run(engine_items.refuse, {"a": 3, "b": 4}))
    assert dict(engine.run(engine_items.refuse, {"a": 1, "b": 4})) == {"a": 1, "b": 4}


def test_a_run_that_is_left_early_does_not_disturb_the_next(engine: Engine) -> None:
    for _ in engine.run(engine_items.slept, {str(i): 0.01 for i in range(6)}):
        break
    assert dict(engine.run(engine_items.square, {"a": 2})) == {"a": 4}


def test_items_may_come_one_by_one_and_results_in_their_order(engine: Engine) -> None:
    sleeps = [0.5, *[0.01] * 30]
    drawn, yielded = 0, []

    def coming() -> Iterator[tuple[str, float]]:
        nonlocal drawn
        for i, seconds in enumerate(sleeps):
            drawn += 1
            assert drawn - len(yielded) <= 4 * max(2, engine.workers)
            yield str(i), seconds

    for name, _ in engine.run(engine_items.slept, coming(), ordered=True):
        yielded.append(name)
    assert yielded == [str(i) for i in range(len(sleeps))]


def test_an_error_in_drawing_an_item_is_raised_when_those_before_it_are_done(engine: Engine) -> None:
    def coming() -> Iterator[tuple[str, int]]:
        yield from {"a": 2, "b": 3}.items()
        raise ShotsError("row 3")

    yielded: dict[str, int] = {}
    with pytest.raises(ShotsError, match=r"^row 3$"):
        yielded.update(engine.run(engine_items.square, coming()))
    assert yielded == {"a": 4, "b": 9}
    assert dict(engine.run(engine_items.square, {"a": 2})) == {"a": 4}


# -- workers -----------------------------------------------------------------------------------------------------------


def test_an_item_whose_worker_is_killed_is_worked_on_again(
    workers: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = {str(i): (tmp_path / str(i), 2 if i == 1 else 0) for i in range(6)}
    with caplog.at_level(logging.WARNING, "flashfm.engine"):
        done = list(workers.run(engine_items.dies, items))
    assert sorted(done) == sorted((name, times + 1) for name, (_, times) in items.items())
    again = [record.getMessage() for record in caplog.records if record.name == "flashfm.engine"]
    assert [(words.partition(", ")[0], words.partition("; ")[2]) for words in again] == [
        ("item '1': its worker was lost", "trying again, 2 of 3 times"),
        ("item '1': its worker was lost", "trying again, 3 of 3 times"),
    ]


def test_an_item_that_was_lost_keeps_its_place_in_the_order(workers: Engine, tmp_path: Path) -> None:
    items = ((str(i), (tmp_path / str(i), 2 if i == 1 else 0)) for i in range(12))
    done = list(workers.run(engine_items.dies, items, ordered=True))
    assert done == [(str(i), 3 if i == 1 else 1) for i in range(12)]


def test_an_item_that_always_kills_its_worker_is_named_and_the_others_are_kept(workers: Engine, tmp_path: Path) -> None:
    items = {str(i): (tmp_path / str(i), 99 if i == 0 else 0) for i in range(6)}
    done: dict[str, int] = {}
    with pytest.raises(EngineError) as caught:
        done.update(workers.run(engine_items.dies, items))
    assert done.items() <= {str(i): 1 for i in range(1, 6)}.items()
    assert len(done) >= 4  # the other worker may be at one when the last try is lost
    assert (tmp_path / "0").stat().st_size == 3
    assert str(caught.value).startswith("item '0': its worker was lost 3 times, the last time ")
    assert "\n" not in str(caught.value)


def test_large_results_and_items_pass(workers: Engine) -> None:
    made = dict(workers.run(engine_items.large, {"a": 20, "b": 30}))
    assert {name: values.nbytes for name, values in made.items()} == {"a": 20 * 2**20, "b": 30 * 2**20}
    assert dict(workers.run(engine_items.size, made)) == {"a": 20 * 2**20, "b": 30 * 2**20}


def test_an_item_cannot_change_what_another_gets(workers: Engine) -> None:
    shared: list[int] = []
    assert dict(workers.run(engine_items.append, {str(i): shared for i in range(4)})) == {str(i): [0] for i in range(4)}
    assert shared == []


def test_results_come_as_they_are_done(workers: Engine) -> None:
    assert [name for name, _ in workers.run(engine_items.slept, {"long": 2.0, "short": 0.01})] == ["short", "long"]


# -- by name -----------------------------------------------------------------------------------------------------------


def test_one_worker_of_this_machine_is_this_process() -> None:
    with engine_of("local", 1) as engine:
        assert engine.workers == 1
        assert dict(engine.run(engine_items.process, {"a": 0})) == {"a": os.getpid()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "spark"}, "--engine spark: expected one of local, ray"),
        ({"workers": 0}, "--workers 0: expected at least 1"),
        ({"name": "ray", "workers": -1}, "--workers -1: expected at least 1"),
        ({"address": "10.0.0.1:6379"}, "--address 10.0.0.1:6379: only --engine ray takes one"),
        ({"name": "ray", "address": "ray://10.0.0.1:10001"}, "expected HOST:PORT"),
        ({"name": "ray", "address": "10.0.0.1"}, "expected HOST:PORT"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(EngineError) as caught:
        engine_of(**arguments)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
