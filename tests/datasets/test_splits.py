"""Splits: every application on one side, the same whatever the order; shots nested and each pair's own."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashfm.datasets import MeasurementTable, Split, by_application, hold_out, leave_one_group_out, shot_sets
from flashfm.datasets.sources import load_cloudbandit
from flashfm.errors import DataError

APPS = st.sets(st.text(max_size=4), min_size=5, max_size=40)


def check_partition(split: Split, apps: set[str]) -> None:
    assert set(split.train) | set(split.test) == apps
    assert not set(split.train) & set(split.test)
    assert split.train
    assert split.test
    assert list(split.train) == sorted(split.train)
    assert list(split.test) == sorted(split.test)


@given(APPS, st.integers(2, 5), st.integers(1, 3), st.integers(0, 10), st.randoms())
def test_folds_partition_and_ignore_the_order(
    apps: set[str], folds: int, repeats: int, seed: int, shuffler: random.Random
) -> None:
    splits = list(by_application(apps, folds=folds, repeats=repeats, seed=seed))
    assert len(splits) == folds * repeats == len({split.name for split in splits})
    for i, split in enumerate(splits):
        check_partition(split, apps)
        assert len(split.test) in (len(apps) // folds, len(apps) // folds + 1)
        if i % folds == 0:
            tested = [app for other in splits[i : i + folds] for app in other.test]
            assert sorted(tested) == sorted(apps)
    column = [*apps, *apps]  # as a table has it: an application comes once for each of its rows
    shuffler.shuffle(column)
    assert list(by_application(column, folds=folds, repeats=repeats, seed=seed)) == splits


def test_the_protocol_has_twenty_splits_of_seeds_0_to_3() -> None:
    apps = [f"app-{i}" for i in range(28)]
    splits = list(by_application(apps))
    assert len(splits) == 20
    assert [split.name for split in splits[:6]] == [*(f"seed 0 fold {i}" for i in range(5)), "seed 1 fold 0"]
    assert splits[5:10] == list(by_application(apps, repeats=1, seed=1))
    assert splits[0].test != splits[5].test


@given(APPS, st.floats(0.01, 0.99), st.integers(0, 5))
def test_hold_out(apps: set[str], share: float, seed: int) -> None:
    split = hold_out(apps, share, seed)
    check_partition(split, apps)
    assert abs(len(split.test) - share * len(apps)) <= 1
    assert split == hold_out(sorted(apps, reverse=True), share, seed)


def test_leave_one_group_out() -> None:
    groups = {"buzz-kmeans": "buzz", "card-kmeans": "card", "buzz-xgboost": "buzz", "tall": "z"}
    splits = list(leave_one_group_out(groups))
    assert [split.name for split in splits] == ["without buzz", "without card", "without z"]
    assert splits[0].test == ("buzz-kmeans", "buzz-xgboost")
    for split in splits:
        check_partition(split, set(groups))


@given(st.text(max_size=5), st.none() | st.text(max_size=3), st.integers(2, 40), st.integers(1, 6), st.integers(1, 9))
def test_shots_are_distinct_nested_and_leave_a_query(
    app: str, platform: str | None, n: int, shots: int, sets: int
) -> None:
    drawn = shot_sets((app, platform), n, shots=shots, sets=sets)
    assert drawn.shape == (sets, min(shots, n - 1))
    assert all(len(set(row)) == len(row) for row in drawn.tolist())
    assert drawn.min() >= 0
    assert drawn.max() < n
    for k in range(1, drawn.shape[1]):
        np.testing.assert_array_equal(shot_sets((app, platform), n, shots=k, sets=sets), drawn[:, :k])
    np.testing.assert_array_equal(shot_sets((app, platform), n, shots=shots, sets=1), drawn[:1])


def test_shots_are_each_pairs_own_and_cover_everything() -> None:
    one, other = (shot_sets((app, "lambda"), 82) for app in ("a", "b"))
    assert (one != other).any()
    assert (one != shot_sets(("a", "lambda"), 82, seed=1)).any()
    assert (one != shot_sets(("alambda", None), 82)).any()
    assert set(shot_sets(("a", None), 20, shots=1, sets=400).ravel().tolist()) == set(range(20))


def test_golden_values_that_published_results_rest_on() -> None:
    apps = [f"app-{i}" for i in range(10)]
    assert next(by_application(apps)).test == GOLDEN_FOLD
    assert shot_sets(("app-0", "lambda"), 6, shots=3, sets=2).tolist() == GOLDEN_SHOTS


GOLDEN_FOLD = ("app-4", "app-5")
GOLDEN_SHOTS = [[3, 1, 4], [1, 3, 0]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: by_application(["a"] * 9, folds=2),
        lambda: by_application("abcd"),
        lambda: by_application("abcdef", folds=1),
        lambda: by_application("abcdef", repeats=0),
        lambda: hold_out(["a"]),
        lambda: hold_out("ab", share=1.0),
        lambda: leave_one_group_out({"a": "g", "b": "g"}),
        lambda: shot_sets(("a", None), 1),
        lambda: shot_sets(("a", None), 5, shots=0),
    ],
)
def test_what_cannot_be_split_is_refused_at_once(call) -> None:
    with pytest.raises(DataError):
        call()


@pytest.mark.data
def test_platforms_of_an_application_stay_together(public) -> None:
    public("cloudbandit")
    table: MeasurementTable = load_cloudbandit(provider_is_platform=True)
    assert len(table.pairs) == 83
    for split in by_application(table.frame["app"], repeats=1):
        train, test = table.of_apps(split.train), table.of_apps(split.test)
        assert not {app for app, _ in train.pairs} & {app for app, _ in test.pairs}
        assert len(train) + len(test) == len(table)
