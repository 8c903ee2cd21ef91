"""Which item is worked on when: each result once, whatever is lost and in which order things happen."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator

import engine_items
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.engine import schedule
from flashfm.engine.schedule import Broken, Event, Lost, Outcome, Progress
from flashfm.engine.task import pack, perform
from flashfm.errors import EngineError


class Shuffled:
    """Works on items right here, in an order of chance, and loses each of them so often before."""

    def __init__(self, places: int, losses: dict[str, int], seed: int, breaks_after: int | None = None) -> None:
        self._places, self._losses, self._rng = places, Counter(losses), random.Random(seed)
        self._at: dict[str, bytes] = {}
        self._work = pack(engine_items.square, "the work")
        self._left = breaks_after
        self.most, self.closed = 0, False

    def free(self) -> bool:
        return len(self._at) < self._places

    def start(self, name: str, item: bytes) -> None:
        assert name not in self._at
        self._at[name] = item
        self.most = max(self.most, len(self._at))

    def wait(self) -> list[Event]:
        names = self._rng.sample(sorted(self._at), self._rng.randint(0, len(self._at)))
        events: list[Event] = []
        for name in names:
            events.append(Progress(name, 1, 2))
            item = self._at.pop(name)
            if self._losses[name] > 0:
                self._losses[name] -= 1
                events.append(Lost(name, "killed by SIGKILL"))
                continue
            events.append(Outcome(name, perform(self._work, item, lambda *_: None)))
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    return [Broken(EngineError("the cluster is gone")), *events]
        return events

    def close(self) -> None:
        self.closed = True


counts = st.lists(st.integers(0, 2), max_size=12)


@given(losses=counts, places=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_each_item_is_yielded_once_while_none_is_lost_too_often(losses: list[int], places: int, seed: int) -> None:
    where = Shuffled(places, {str(i): n for i, n in enumerate(losses)}, seed)
    told: list[tuple[str, int, int]] = []
    yielded = list(schedule.run(where, {str(i): i for i in range(len(losses))}, lambda *said: told.append(said)))
    assert sorted(yielded) == sorted((str(i), i * i) for i in range(len(losses)))
    assert Counter(name for name, *_ in told) == Counter({str(i): n + 1 for i, n in enumerate(losses)})
    assert where.most <= places
    assert where.closed


@given(losses=st.lists(st.integers(0, 4), min_size=1, max_size=8), tries=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_an_item_that_is_lost_too_often_ends_the_run_and_no_other(losses: list[int], tries: int, seed: int) -> None:
    where = Shuffled(2, {str(i): n for i, n in enumerate(losses)}, seed)
    yielded: list[tuple[str, int]] = []
    run = schedule.run(where, {str(i): i for i in range(len(losses))}, lambda *_: None, tries)
    if max(losses) < tries:
        yielded.extend(run)
        assert len(yielded) == len(losses)
    else:
        with pytest.raises(EngineError, match=f"its worker was lost {tries} times") as caught:
            yielded.extend(run)
        named = str(caught.value).split("'")[1]
        assert losses[int(named)] >= tries
        assert all(losses[int(name)] < tries for name, _ in yielded)
    assert len(dict(yielded)) == len(yielded)
    assert where.closed


@given(n=st.integers(1, 10), after=st.integers(1, 10), seed=st.integers(0, 2**32))
def test_what_was_done_before_all_broke_is_yielded(n: int, after: int, seed: int) -> None:
    where = Shuffled(3, {}, seed, breaks_after=after)
    yielded: dict[str, int] = {}
    run = schedule.run(where, {str(i): i for i in range(n)}, lambda *_: None)
    if after > n:
        yielded.update(run)
        assert len(yielded) == n
    else:
        with pytest.raises(EngineError, match="the cluster is gone"):
            yielded.update(run)
        assert len(yielded) == after
    assert where.closed


# -- items that come one by one, and results in their order ------------------------------------------------------------


class Counted:
    """Items without end, or up to some; holds the number that is in hand against a limit whenever one is drawn."""

    def __init__(self, limit: int, end: int | None = None) -> None:
        self._limit, self._end = limit, end
        self.drawn, self.most = 0, 0
        self.yielded: list[tuple[str, int]] = []

    def __iter__(self) -> Iterator[tuple[str, int]]:
        for i in itertools.count() if self._end is None else range(self._end):
            self.drawn += 1
            in_hand = self.drawn - len(self.yielded)
            assert in_hand <= self._limit
            self.most = max(self.most, in_hand)
            yield str(i), i


@settings(max_examples=20)
@given(places=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_an_item_is_drawn_when_it_can_start(places: int, seed: int) -> None:
    where, items = Shuffled(places, {}, seed), Counted(places)
    for done in schedule.run(where, items, lambda *_: None):
        items.yielded.append(done)
        if len(items.yielded) == 20:
            break
    assert items.drawn < 20 + 2 * places
    assert items.most == where.most == places


@given(losses=counts, places=st.integers(1, 4), most=st.integers(1, 8), seed=st.integers(0, 2**32))
def test_results_come_in_the_order_of_the_items_and_few_are_in_hand(
    losses: list[int], places: int, most: int, seed: int
) -> None:
    where = Shuffled(places, {str(i): n for i, n in enumerate(losses)}, seed)
    items = Counted(most, len(losses))
    for done in schedule.run(where, items, lambda *_: None, most=lambda: most):
        items.yielded.append(done)
    assert items.yielded == [(str(i), i * i) for i in range(len(losses))]
    assert where.most == min(places, most, len(losses))
    assert where.closed


class FirstIsLast(Shuffled):
    """Has the first item done when there is nothing else to do."""

    def wait(self) -> list[Event]:
        first = self._at.pop("0", None)
        events = super().wait() if self._at else []
        if first is not None:
            if events or self._at:
                self._at["0"] = first
            else:
                events = [Outcome("0", perform(self._work, first, lambda *_: None))]
        return events


def test_a_first_item_that_takes_long_lets_no_more_start_than_may_be_in_hand() -> None:
    where, items = FirstIsLast(3, {}, seed=0), Counted(7, 30)
    drawn_when_first_came = 0
    for done in schedule.run(where, items, lambda *_: None, most=lambda: 7):
        drawn_when_first_came = drawn_when_first_came or items.drawn
        items.yielded.append(done)
    assert drawn_when_first_came == items.most == 7
    assert [name for name, _ in items.yielded] == [str(i) for i in range(30)]
