"""Rolled applications: unique, stable over seeds and lengths, named by their work."""

import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.applications.generator import generate, generate_many, named
from flashfm.applications.segments import POOL, REAL
from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.errors import SpecError

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*-[0-9a-f]{6}")
GOLDEN = ["s3read-dynread-s3read-dynwrite-352070", "imgrot-imgrot-s3read-db6144", "s3stream-matrix-s3stream-11ff77"]


class OnlyRandom(random.Random):
    """Refuses every source of randomness but `random()`."""

    def getrandbits(self, k: int, /) -> int:
        raise AssertionError("only random() may be called")


@pytest.fixture(scope="module")
def thousand() -> list[ApplicationSpec]:
    return generate_many(0, 1000)


def test_thousand_are_unique_and_take_under_a_second(thousand: list[ApplicationSpec]) -> None:
    start_s = time.process_time()
    assert generate_many(0, 1000) == thousand
    assert time.process_time() - start_s < 1
    assert len({spec.name for spec in thousand}) == 1000
    assert len({spec.digest for spec in thousand}) == 1000


def test_longer_list_begins_with_the_shorter(thousand: list[ApplicationSpec]) -> None:
    for count in (0, 1, 10, 999):
        assert generate_many(0, count) == thousand[:count]


def test_seeds_differ(thousand: list[ApplicationSpec]) -> None:
    assert generate_many(1, 10) != thousand[:10]


def test_first_of_seed_zero_is_what_it_always_was(thousand: list[ApplicationSpec]) -> None:
    """A change here makes every published data set's applications another set: only on purpose, with the changelog."""
    assert [spec.name for spec in thousand[:3]] == GOLDEN


def test_one_to_four_segments_about_equally_often(thousand: list[ApplicationSpec]) -> None:
    counts = [sum(len(spec.segments) == n for spec in thousand) for n in (1, 2, 3, 4)]
    assert sum(counts) == 1000
    assert min(counts) > 150  # of one segment there are few: a kind has as little as three sizes


def test_every_kind_of_the_pool_is_rolled_and_no_other(thousand: list[ApplicationSpec]) -> None:
    kinds = [part.kind for spec in thousand for part in spec.segments]
    assert set(kinds) == set(POOL)
    assert not set(kinds) & set(REAL)
    assert min(map(kinds.count, POOL)) > 80


def test_segments_are_rolled_with_replacement(thousand: list[ApplicationSpec]) -> None:
    assert any(len({part.kind for part in spec.segments}) < len(spec.segments) for spec in thousand)


def test_names_are_readable_and_specs_valid(thousand: list[ApplicationSpec]) -> None:
    for spec in thousand:
        assert NAME.fullmatch(spec.name)
        assert spec.name.endswith(spec.digest[:6])
        assert ApplicationSpec.from_dict(spec.to_dict()) == spec


@given(seed=st.integers(0, 2**32), segments=st.integers(1, 16))
@settings(max_examples=100, deadline=None)
def test_generate_asks_for_random_only(seed: int, segments: int) -> None:
    spec = generate(OnlyRandom(seed), segments=segments)
    assert len(spec.segments) == segments
    assert len(spec.name) <= 53
    assert spec == generate(random.Random(seed), segments=segments)


@pytest.mark.parametrize("segments", [0, -1, 17, range(0), range(5), range(3, 18)])
def test_impossible_numbers_of_segments_are_refused(segments: int | range) -> None:
    with pytest.raises(SpecError, match="segments an application"):
        generate(random.Random(0), segments=segments)


def test_negative_count_is_refused() -> None:
    with pytest.raises(SpecError, match="-1"):
        generate_many(0, -1)


def test_equal_work_has_an_equal_name() -> None:
    parts = [SegmentSpec("sleep", {"sleep_ms": 20}), SegmentSpec("compression", {"file_kb": 128, "level": 6})]
    reordered = [SegmentSpec("sleep", {"sleep_ms": 20}), SegmentSpec("compression", {"level": 6, "file_kb": 128})]
    assert named(parts).name == named(reordered).name
    assert named(parts).name.startswith("sleep-gzip-")
    assert named(parts[:1]).name != named(parts).name


@pytest.mark.parametrize("parts", [[], [SegmentSpec("no-such-kind")]])
def test_unnameable_segments_are_refused(parts: list[SegmentSpec]) -> None:
    with pytest.raises(SpecError):
        named(parts)
