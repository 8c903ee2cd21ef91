"""The space of configurations: what it lets through, what it says of the rest, and the features that come out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jaxtyping
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashfm.errors import ArtifactError, DataFormatError, ShotsError
from flashfm.tasks.space import MAX_LEVELS, ConfigSpace, describe

GRID = pd.DataFrame(
    {
        "memory_mb": [128.0, 512.0, 2048.0, 2048.0],
        "cpus": [1.0, 2.0, 3.0, 1.0],
        "family": ["m5", "c5", "m5", "r5"],
        "shares": [256.0, 512.0, np.nan, np.nan],
        "disk": ["ssd", None, "hdd", None],
    }
)
SPACE = ConfigSpace.fit(GRID)


@st.composite
def grids(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(1, 6))
    numbers = st.floats(-1e6, 1e6, allow_subnormal=False) | st.integers(1, 4096).map(float)
    columns: dict[str, list[Any]] = {}
    for i in range(draw(st.integers(1, 4))):
        values: st.SearchStrategy[Any] = draw(st.sampled_from([numbers, st.sampled_from(["a", "b", "ç", "1"])]))
        if draw(st.booleans()):
            values = values | st.none()
        column = draw(st.lists(values, min_size=rows, max_size=rows).filter(lambda c: any(v is not None for v in c)))
        columns[f"c{i}"] = column
    return pd.DataFrame(columns)


@given(grids())
def test_a_space_survives_json(grid: pd.DataFrame) -> None:
    space = ConfigSpace.fit(grid)
    again = ConfigSpace.from_dict(json.loads(json.dumps(space.to_dict(), allow_nan=False)))
    assert again == space
    checked = space.check(grid)
    np.testing.assert_array_equal(again.features(again.check(grid)), space.features(checked))


@given(grids())
def test_what_was_fitted_is_let_through_and_has_finite_features_of_bounded_size(grid: pd.DataFrame) -> None:
    space = ConfigSpace.fit(grid)
    features = space.features(space.check(grid))
    assert features.shape == (len(grid), len(space.feature_names))
    assert features.shape[1] == sum(column.width for column in space.columns)
    assert np.isfinite(features).all()
    assert np.abs(features).max() <= np.sqrt(len(grid)) + 1e-6


@given(grids())
def test_checking_again_changes_nothing(grid: pd.DataFrame) -> None:
    space = ConfigSpace.fit(grid)
    once = space.check(grid)
    pd.testing.assert_frame_equal(space.check(once), once)


def test_numbers_are_standardised_over_their_different_values() -> None:
    features = SPACE.features(SPACE.check(GRID))
    memory = np.log([128.0, 512.0, 2048.0])
    np.testing.assert_allclose(features[:3, 0], (memory - memory.mean()) / memory.std(), rtol=1e-12)
    np.testing.assert_allclose(features[:3, 1], (np.array([1.0, 2.0, 3.0]) - 2.0) / np.std([1.0, 2.0, 3.0]))


def test_the_logarithm_is_read_from_a_factor_of_four_on_and_only_above_zero() -> None:
    columns = ConfigSpace.fit(pd.DataFrame({"a": [1.0, 4.0], "b": [1.0, 3.9], "c": [0.0, 9.0]})).columns
    assert [column.log for column in columns] == [True, False, False]


def test_levels_are_indicators_of_which_one_is_1() -> None:
    features = SPACE.features(SPACE.check(GRID))
    at = [SPACE.feature_names.index(f"family={level}") for level in ("c5", "m5", "r5")]
    np.testing.assert_array_equal(features[:, at], [[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])


def test_an_empty_number_is_0_with_an_indicator_of_it() -> None:
    features = SPACE.features(SPACE.check(GRID))
    at, empty = SPACE.feature_names.index("shares"), SPACE.feature_names.index("shares empty")
    np.testing.assert_array_equal(features[:, empty], [0, 0, 1, 1])
    np.testing.assert_array_equal(features[2:, at], [0, 0])
    assert (features[:2, at] != 0).all()


def test_an_empty_level_has_no_indicator_on() -> None:
    features = SPACE.features(SPACE.check(GRID))
    at = [i for i, name in enumerate(SPACE.feature_names) if name.startswith("disk=")]
    np.testing.assert_array_equal(features[:, at].sum(axis=1), [1, 0, 1, 0])


def test_a_column_that_never_varies_is_0() -> None:
    space = ConfigSpace.fit(pd.DataFrame({"a": [512.0, 512.0], "b": [1.0, 2.0]}))
    np.testing.assert_array_equal(space.features(space.check(pd.DataFrame({"a": [512], "b": [2]})))[:, 0], [0.0])


def test_further_columns_are_dropped_and_an_optional_one_may_be_absent() -> None:
    frame = GRID.drop(columns="shares").assign(app="x", runtime_ms=3.0)
    checked = SPACE.check(frame)
    assert list(checked.columns) == SPACE.names
    assert checked["shares"].isna().all()


@pytest.mark.parametrize(
    "memory",
    [[128, 512], ["128", "512"], pd.array([128, 512], dtype="Int64"), pd.array([128, 512], dtype="float32")],
    ids=["int", "text", "nullable", "float32"],
)
def test_numbers_come_in_many_types_and_leave_in_one(memory: Any) -> None:
    space = ConfigSpace.fit(GRID[["memory_mb"]])
    checked = space.check(pd.DataFrame({"memory_mb": memory}, index=[7, 7]))
    assert checked["memory_mb"].dtype == np.float64
    assert checked.index.tolist() == [0, 1]
    assert checked["memory_mb"].tolist() == [128.0, 512.0]


GOOD: dict[str, Any] = {"memory_mb": 512.0, "cpus": 2.0, "family": "m5", "shares": 256.0, "disk": "ssd"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"memory_mb": 4096.0}, ("row 2", "'memory_mb'", "from 128 to 2048", "got 4096")),
        ({"memory_mb": 127.0}, ("row 2", "'memory_mb'", "got 127")),
        ({"memory_mb": -512.0}, ("row 2", "'memory_mb'", "got -512")),
        ({"memory_mb": np.inf}, ("row 2", "'memory_mb'", "got inf")),
        ({"memory_mb": np.nan}, ("row 2", "'memory_mb'", "got an empty cell")),
        ({"memory_mb": None}, ("row 2", "'memory_mb'", "got an empty cell")),
        ({"memory_mb": pd.NA}, ("row 2", "'memory_mb'", "got an empty cell")),
        ({"memory_mb": "512 MB"}, ("row 2", "'memory_mb'", "expected a number", "'512 MB'")),
        ({"shares": np.inf}, ("row 2", "'shares'", "got inf")),
        ({"family": "t3"}, ("row 2", "'family'", "c5, m5, r5", "'t3'")),
        ({"family": None}, ("row 2", "'family'", "an empty cell")),
        ({"family": np.nan}, ("row 2", "'family'", "an empty cell")),
        ({"family": pd.NA}, ("row 2", "'family'", "an empty cell")),
        ({"family": 5}, ("row 2", "'family'", "'5'")),
        ({"disk": "tape"}, ("row 2", "'disk'", "hdd, ssd", "'tape'")),
    ],
)
def test_a_bad_value_is_named_with_its_row_and_column(change: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ShotsError) as caught:
        SPACE.check(pd.DataFrame([GOOD, {**GOOD, **change}]), "queries")
    message = str(caught.value)
    assert message.startswith("queries: ")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("value", [np.nan, None, pd.NA])
def test_optional_columns_may_be_empty_in_any_way(value: Any) -> None:
    checked = SPACE.check(pd.DataFrame([{**GOOD, "shares": value, "disk": value}]))
    assert checked["shares"].isna().all()
    assert SPACE.keys(checked) == [(512.0, 2.0, "m5", None, None)]


def test_a_missing_column_is_named_with_those_that_came() -> None:
    with pytest.raises(ShotsError, match=r"no configuration column 'cpus', got memory_mb, family"):
        SPACE.check(pd.DataFrame([GOOD])[["memory_mb", "family"]])


def test_a_doubled_configuration_column_is_refused() -> None:
    frame = pd.DataFrame([[512.0, 512.0]], columns=["memory_mb", "memory_mb"])
    with pytest.raises(ShotsError, match="memory_mb"):
        ConfigSpace.fit(GRID[["memory_mb"]]).check(frame)


def test_a_column_that_is_always_empty_or_a_name_is_refused() -> None:
    with pytest.raises(DataFormatError, match="'a' is always empty"):
        ConfigSpace.fit(pd.DataFrame({"a": [np.nan, np.nan]}))
    with pytest.raises(DataFormatError, match=f"'a' has {MAX_LEVELS + 1} different texts"):
        ConfigSpace.fit(pd.DataFrame({"a": [f"x{i}" for i in range(MAX_LEVELS + 1)]}))


def test_keys_hold_nine_digits_and_places_are_found_by_them() -> None:
    space = ConfigSpace.fit(GRID[["memory_mb"]])
    places = {key: i for i, key in enumerate(space.keys(space.check(GRID[["memory_mb"]].drop_duplicates())))}
    asked = space.check(pd.DataFrame({"memory_mb": [2048.0, 512.0000000001, 512.001, 128.0]}))
    assert space.locate(asked, places).tolist() == [2, 1, -1, 0]


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the type checks of tests, which users do not have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def column(**change: Any) -> dict[str, Any]:
    return {**SPACE.to_dict()["columns"][0], **change}


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"columns": []},
        {"columns": "memory_mb"},
        {"columns": {"memory_mb": 1}},
        {"columns": [1]},
        {"columns": [column(), column()]},
        {"columns": [column(colour="red")]},
        {"columns": [column(name=3)]},
        {"columns": [column(levels="abc")]},
        {"columns": [column(levels=["b", 1])]},
        {"columns": [column(levels=["b", "b"])]},
        {"columns": [column(low="1")]},
        {"columns": [column(low=True)]},
        {"columns": [column(low=float("nan"))]},
        {"columns": [column(high=float("inf"))]},
        {"columns": [column(high=10**400)]},
        {"columns": [column(low=4096.0)]},
        {"columns": [column(low=0.0, log=True)]},
        {"columns": [column(scale=0.0)]},
        {"columns": [column(scale=-1.0)]},
        {"columns": [column(log=1)]},
        {"columns": [column(optional="no")]},
    ],
    ids=lambda data: json.dumps(data)[:60],
)
@pytest.mark.usefixtures("unchecked")
def test_a_damaged_space_is_refused(data: Any) -> None:
    with pytest.raises(ArtifactError, match="get or write the model again"):
        ConfigSpace.from_dict(data)


def test_a_configuration_in_words_leaves_empty_columns_out() -> None:
    words = describe({"memory_mb": 512.0, "shares": np.nan, "disk": None, "family": "m5"})
    assert words == "memory_mb=512, family=m5"
