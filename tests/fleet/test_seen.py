"""Who came before: as a set of names would say, in eight bytes a pair."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashfm.fleet.seen as module
from flashfm.fleet.seen import Seen

NAMES = st.sampled_from(["a", "b", "ab", "", "c", "\0", "ä"])
PAIRS = st.lists(st.lists(st.tuples(NAMES, st.one_of(st.none(), NAMES)), max_size=12), max_size=5)


@given(PAIRS)
def test_it_says_what_a_set_of_names_would(calls: list[list[tuple[str, str | None]]]) -> None:
    seen, known = Seen(), set[tuple[str, str | None]]()
    for pairs in calls:
        expected = []
        for app, platform in pairs:
            key = (app, "\0" if platform is None else platform)
            expected.append(key in known)
            known.add(key)
        columns = (pa.array([pair[j] for pair in pairs], pa.string()) for j in (0, 1))
        assert seen.add(*columns).tolist() == expected
    assert len(seen) == len(known)


def test_many_names_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LOOSE", 1000)
    seen = Seen()
    for start in range(0, 20_000, 700):
        apps = pa.array([f"app-{i}" for i in range(start, start + 700)])
        assert not seen.add(apps, pa.array(["x"] * 700)).any()
        assert not seen.add(pa.array(["x"] * 700), apps).any()
        assert seen.add(apps, pa.array(["x"] * 700)).all()
    assert len(seen) == 2 * 29 * 700
