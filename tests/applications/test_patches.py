"""The paper's seven updates, on specs and on loads."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashfm.applications.generator import generate_many, named
from flashfm.applications.patches import KINDS, Scenario, patch, patch_load, scenarios_for
from flashfm.applications.segments import POOL, segment_class
from flashfm.applications.spec import ApplicationSpec, SegmentSpec
from flashfm.errors import SpecError

DAY_S = 86_400
LIMIT_PER_S = 1e5 / DAY_S

MIXED = named(
    [
        SegmentSpec("sleep", {"sleep_ms": 20}),
        SegmentSpec("compression", {"file_kb": 256, "level": 6}),
        SegmentSpec("image-resize", {"side": 40, "images": 3}),
        SegmentSpec("file-write", {"file_kb": 384, "files": 2}),
    ]
)


def params(spec: ApplicationSpec | None, segment: int) -> dict[str, int | float | str]:
    assert spec is not None
    return dict(spec.segments[segment].params)


def test_there_are_seven_scenarios_and_each_has_a_row() -> None:
    assert len(Scenario) == 7
    assert set(KINDS) == set(Scenario)


def test_table_names_known_kinds_each_once() -> None:
    kinds = [kind for row in KINDS.values() for kind in row]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) == {kind for kind in POOL if segment_class(kind).patched(segment_class(kind).example())}


def test_file_size_changes_every_file_segment_and_no_other() -> None:
    patched = patch(MIXED, Scenario.FILE_SIZE)
    assert params(patched, 0) == params(MIXED, 0)
    assert params(patched, 1) == {"file_kb": 768, "level": 6}
    assert params(patched, 2) == params(MIXED, 2)
    assert params(patched, 3) == {"file_kb": 1024, "files": 2}


def test_image_size() -> None:
    assert params(patch(MIXED, Scenario.IMAGE_SIZE), 2) == {"side": 160, "images": 3}


def test_table_size_of_the_paper() -> None:
    items = {"items": 1024}
    assert segment_class("dynamodb-read").example().keys() == items.keys()
    assert params(patch(named([SegmentSpec("dynamodb-read", items)]), Scenario.TABLE_SIZE), 0) == {"items": 10240}


def test_patched_spec_has_the_name_of_its_work() -> None:
    patched = patch(MIXED, Scenario.FILE_SIZE)
    assert patched is not None
    assert patched == named(patched.segments)
    assert patched.name != MIXED.name
    assert patched.name.rsplit("-", 1)[0] == MIXED.name.rsplit("-", 1)[0]


def test_patch_leaves_the_original_alone() -> None:
    before = MIXED.to_dict()
    for scenario in Scenario:
        patch(MIXED, scenario)
    assert MIXED.to_dict() == before


@pytest.mark.parametrize("scenario", [Scenario.TABLE_SIZE, Scenario.FLOATING_POINT, Scenario.JSON_SIZE, Scenario.LOAD])
def test_untouched_spec_gives_none(scenario: Scenario) -> None:
    assert patch(MIXED, scenario) is None


def test_scenarios_for_names_those_that_change_the_spec() -> None:
    assert scenarios_for(MIXED) == (Scenario.FILE_SIZE, Scenario.IMAGE_SIZE)
    assert scenarios_for(named(MIXED.segments[:1])) == ()


def test_every_update_of_rolled_applications_is_a_valid_spec() -> None:
    seen = set()
    for spec in generate_many(11, 200):
        for scenario in scenarios_for(spec):
            patched = patch(spec, scenario)
            assert patched is not None
            assert patched.digest != spec.digest
            assert ApplicationSpec.from_dict(patched.to_dict()) == patched
            seen.add(scenario)
    assert seen == set(Scenario) - {Scenario.LOAD}


def test_size_past_the_range_of_specs_is_refused() -> None:
    with pytest.raises(SpecError, match="operations"):
        patch(named([SegmentSpec("floating-point", {"operations": 10**9})]), Scenario.FLOATING_POINT)


@given(rate=st.floats(0, LIMIT_PER_S, exclude_min=True))
def test_low_load_becomes_high(rate: float) -> None:
    assert patch_load(rate) * DAY_S > 1e5
    assert patch_load(rate) >= 16 * rate


def test_load_values() -> None:
    assert patch_load(1.0) == 16.0
    assert patch_load(1e-9) == pytest.approx(125_000 / DAY_S)
    rates = [patch_load(LIMIT_PER_S * k / 100) for k in range(1, 101)]
    assert all(a <= b for a, b in pairwise(rates))


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf, -math.inf, 1.2, 1e9])
def test_impossible_or_high_load_is_refused(rate: float) -> None:
    with pytest.raises(SpecError, match="load"):
        patch_load(rate)
