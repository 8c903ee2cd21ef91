"""The protocol: which queries are judged, which files are made, and how methods are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.errors import DataError, DataMissingError, FlashError
from flashfm.experiments import evaluation
from flashfm.experiments.evaluation import (
    Scores,
    drawn_means,
    pair_apps,
    paired_difference,
    positions,
    read,
    run,
    score,
    splits,
    summarise,
)
from flashfm.tasks.config_search import Observations, Shots


@dataclass
class Oracle:
    """Knows the shots and is off by its own constant elsewhere; remembers what it was asked."""

    configs: int = 6
    per_shots: bool = False
    name: str = "oracle"
    fits: list[tuple[int, int, int]] = field(default_factory=list)
    trained_on: list[tuple[str, ...]] = field(default_factory=list)
    asked: list[Shots] = field(default_factory=list)

    def fit(self, train: Observations, *, shots: int, seed: int) -> Oracle:
        self.fits.append((len(train), shots, seed))
        self.trained_on.append(train.apps)
        return self

    def predict(self, shots: Shots) -> np.ndarray:
        self.asked.append(shots)
        found = np.full((len(shots), self.configs), 100.0)
        np.put_along_axis(found, shots.config, -1e9, axis=1)  # a shot that is judged would ruin the mean
        return found


@pytest.fixture
def data(synthetic: Callable[..., pd.DataFrame], observe: Callable[..., Observations]) -> Observations:
    frame = synthetic(10, platforms=("fast", "slow"))
    rng = np.random.default_rng(0)
    keep = (rng.random(len(frame)) < 0.7) | frame["memory_mb"].isin([128.0, 1024.0])
    return observe(frame[keep])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_every_other_observed_configuration_is_asked_and_no_shot(data: Observations, k: int) -> None:
    oracle = Oracle()
    pair, config, ape = score(oracle, data, range(len(data)), k, sets=7)
    assert (ape < 1e6).all()
    observed = data.observed
    for i in range(len(data)):
        assert (pair == i).sum() == (7 * (observed[i].size - k) if observed[i].size > k else 0)
        assert set(config[pair == i]) <= set(observed[i])
    judged = [i for i in range(len(data)) if observed[i].size > k]
    for i, shots in zip(judged, oracle.asked, strict=True):
        assert shots.config.shape == (7, k)
        assert set(shots.config.ravel()) <= set(observed[i])
        np.testing.assert_array_equal(shots.log_runtime, data.log_runtime[i][shots.config])


def test_the_error_is_that_of_the_run_time(data: Observations) -> None:
    pair, config, ape = score(Oracle(), data, [3], 1, sets=2)
    np.testing.assert_allclose(ape, np.abs(100 / np.exp(data.log_runtime[pair, config]) - 1), rtol=1e-12)


def test_sets_of_more_shots_begin_with_those_of_fewer_and_do_not_depend_on_other_pairs(data: Observations) -> None:
    full = [i for i, seen in enumerate(data.observed) if seen.size == 6]
    assert full
    asked = {}
    for k in (1, 2, 3):
        oracle = Oracle()
        score(oracle, data, full, k, sets=9)
        asked[k] = [shots.config for shots in oracle.asked]
    for one, two, three in zip(*asked.values(), strict=True):
        np.testing.assert_array_equal(one, two[:, :1])
        np.testing.assert_array_equal(two, three[:, :2])
    alone = Oracle()
    score(alone, data, full[-1:], 3, sets=4)
    np.testing.assert_array_equal(alone.asked[0].config, asked[3][-1][:4])


def test_designed_shots_are_taken_in_order_as_far_as_a_pair_has_them(data: Observations) -> None:
    oracle = Oracle()
    designed = [5, 3, 0, 1, 2, 4]
    pair, config, _ = score(oracle, data, range(len(data)), 2, designed=designed)
    judged = [i for i, seen in enumerate(data.observed) if seen.size > 2]
    for i, shots in zip(judged, oracle.asked, strict=True):
        expected = [c for c in designed if c in data.observed[i]][:2]
        assert shots.config.tolist() == [expected]
        assert set(config[pair == i]) == set(data.observed[i]) - set(expected)


@pytest.mark.parametrize("designed", [[], [3]])
def test_a_design_of_too_few_configurations_is_refused(data: Observations, designed: list[int]) -> None:
    with pytest.raises(FlashError):
        score(Oracle(), data, range(len(data)), 2, designed=designed)


def test_where_no_pair_has_enough_configurations_it_is_said(data: Observations) -> None:
    with pytest.raises(DataError, match="more than 6 configurations"):
        score(Oracle(), data, range(len(data)), 6)


def test_splits_are_the_first_of_the_protocol_and_share_no_application(data: Observations) -> None:
    some = splits(data, 5)
    assert [split.name for split in some] == [split.name for split in splits(data, 20)][:5]
    assert len(splits(data)) == 20
    for split in some:
        assert not set(split.train) & set(split.test)
        assert set(split.train) | set(split.test) == set(data.apps)
    assert sorted(app for split in some for app in split.test) == sorted(data.apps)


def test_a_run_trains_on_training_applications_and_judges_the_others(data: Observations, tmp_path: Path) -> None:
    oracle, of = Oracle(), splits(data, 3)
    done: list[None] = []
    run(oracle, data, of, tmp_path, shots=(1, 2), sets=3, on_done=lambda: done.append(None))
    assert len(done) == 6
    assert oracle.trained_on == [tuple(app for app in data.apps if app in split.train) for split in of]
    assert [seed for *_, seed in oracle.fits] == [0, 1, 2]
    for k in (1, 2):
        found = read(tmp_path, k)
        assert len(found) == 3
        for scores, split in zip(found, of, strict=True):
            assert {data.pairs[i][0] for i in scores.pair} == set(split.test)
            assert (scores.ape < 1e6).all()
            assert scores.seconds >= 0


def test_a_method_of_one_number_of_shots_is_trained_for_each(data: Observations, tmp_path: Path) -> None:
    oracle = Oracle(per_shots=True)
    run(oracle, data, splits(data, 2), tmp_path, shots=(1, 3), sets=2)
    assert [shots for _, shots, _ in oracle.fits] == [1, 3, 1, 3]


def test_a_run_goes_on_where_it_was_stopped(data: Observations, tmp_path: Path) -> None:
    of = splits(data, 3)
    run(Oracle(), data, of, tmp_path, shots=(1, 2), sets=3)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = Oracle()
    run(again, data, of, tmp_path, shots=(1, 2), sets=3)
    assert again.fits == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    gone = sorted(tmp_path.iterdir())[3]
    gone.unlink()
    once = Oracle()
    run(once, data, of, tmp_path, shots=(1, 2), sets=3)
    assert len(once.fits) == 1
    with np.load(gone) as new:
        assert new["test_ape"].size
    assert len(before) == len(list(tmp_path.iterdir()))


def test_files_of_other_settings_are_not_taken_for_these(data: Observations, tmp_path: Path) -> None:
    of = splits(data, 1)
    run(Oracle(), data, of, tmp_path, shots=(1,), sets=2)
    run(Oracle(), data, of, tmp_path, shots=(1,), sets=5)
    (found,) = read(tmp_path, 1)
    observed = data.observed
    assert found.ape.size == 5 * sum(observed[i].size - 1 for i in np.unique(found.pair))
    run(Oracle(), data, of, tmp_path, shots=(1,), sets=5, training_error=True)
    assert len(read(tmp_path, 1, "train")) == 1


def test_the_training_error_is_judged_on_training_pairs(data: Observations, tmp_path: Path) -> None:
    of = splits(data, 2)
    run(Oracle(), data, of, tmp_path, shots=(1,), sets=12, training_error=True)
    observed = data.observed
    for scores, split in zip(read(tmp_path, 1, "train"), of, strict=True):
        assert {data.pairs[i][0] for i in scores.pair} == set(split.train)
        assert scores.ape.size == 10 * sum(observed[i].size - 1 for i in np.unique(scores.pair))


def test_what_was_not_run_is_not_read(tmp_path: Path) -> None:
    assert read(tmp_path, 1) == []


def scores(ape: dict[int, list[float]], seconds: float = 1.0) -> Scores:
    pair = np.array([i for i, values in ape.items() for _ in values])
    config = np.array([j for values in ape.values() for j in range(len(values))])
    return Scores(pair, config, np.array([value for values in ape.values() for value in values]), seconds)


def test_a_summary_weighs_pairs_alike_and_splits_alike() -> None:
    of = [scores({0: [0.1, 0.3], 1: [0.5, 0.5, 0.5, 1.3]}, 2.0), scores({2: [0.4]}, 4.0)]
    row = summarise("lambda", "ours", 1, of)
    assert row.mean == pytest.approx(((0.2 + 0.7) / 2 + 0.4) / 2)
    assert row.median == pytest.approx((0.2 + 0.5 + 0.4) / 3)
    assert row.sd == pytest.approx(np.std([0.45, 0.4], ddof=1))
    assert (row.n_pairs, row.n_queries, row.shots, row.seconds) == (3, 7, 1, 3.0)
    assert summarise("lambda", "ours", 1, of[:1]).sd == 0.0


def test_the_order_of_queries_does_not_matter() -> None:
    whole = scores({0: [0.1, 0.3], 1: [0.5, 0.9]})
    order = np.array([2, 0, 3, 1])
    shuffled = Scores(whole.pair[order], whole.config[order], whole.ape[order], 1.0)
    assert summarise("d", "m", 1, [shuffled]).mean == pytest.approx(summarise("d", "m", 1, [whole]).mean)
    assert summarise("d", "m", 1, [shuffled]).median == pytest.approx(summarise("d", "m", 1, [whole]).median)


def random_scores(seed: int, shift: float = 0.0, pairs: int = 40) -> Scores:
    rng = np.random.default_rng(seed)
    return scores({i: list(rng.exponential(0.2, 4) + shift) for i in range(pairs)})


def test_turning_a_comparison_around_turns_its_sign() -> None:
    ours, rival = [random_scores(0), random_scores(1)], [random_scores(2), random_scores(3)]
    mean, low, high = paired_difference(ours, rival, apps=None)
    turned = paired_difference(rival, ours, apps=None)
    assert turned == pytest.approx((-mean, -high, -low), rel=1e-9)
    assert low < mean < high
    assert mean == pytest.approx(np.mean([a.ape.mean() - b.ape.mean() for a, b in zip(ours, rival, strict=True)]))


def test_a_clear_difference_is_one_and_none_is_none() -> None:
    assert paired_difference([random_scores(0)], [random_scores(1, shift=0.5)], apps=None)[2] < 0
    assert paired_difference([random_scores(0)], [random_scores(0)], apps=None) == (0.0, 0.0, 0.0)


def test_pairs_of_several_splits_count_once() -> None:
    ours = [scores({0: [0.1], 1: [0.2]}), scores({0: [0.3]})]
    rival = [scores({0: [0.0], 1: [0.0]}), scores({0: [0.0]})]
    assert paired_difference(ours, rival, apps=None)[0] == pytest.approx(((0.1 + 0.3) / 2 + 0.2) / 2)


def test_methods_that_were_asked_other_queries_are_not_compared() -> None:
    with pytest.raises(DataError, match="not judged on the same queries"):
        paired_difference([scores({0: [0.1, 0.2]})], [scores({1: [0.1, 0.2]})], apps=None)


def test_the_interval_covers_the_true_difference_about_nineteen_times_in_twenty() -> None:
    inside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        ours = scores({i: [value] for i, value in enumerate(rng.normal(0.1, 0.3, 60) + 1)})
        _, low, high = paired_difference([ours], [scores({i: [1.0] for i in range(60)})], apps=None, draws=500)
        inside += low <= 0.1 <= high
    assert 0.89 <= inside / 200 <= 0.99


def test_pairs_of_one_application_come_and_go_together() -> None:
    """Four twins of ten applications say no more than the ten: the interval is as wide, and the estimate the same."""
    values = np.random.default_rng(0).normal(0.1, 0.3, 10) + 1
    ones = [1.0] * 40
    twins = [scores({i: [values[i // 4]] for i in range(40)})], [scores({i: [ones[i]] for i in range(40)})]
    alone = [scores({i: [values[i]] for i in range(10)})], [scores({i: [ones[i]] for i in range(10)})]
    apps = [f"app-{i // 4}" for i in range(40)]
    assert paired_difference(*twins, apps=apps) == pytest.approx(paired_difference(*alone, apps=None), rel=1e-9)
    mean, low, high = paired_difference(*twins, apps=None)
    found = paired_difference(*twins, apps=apps)
    assert found[0] == mean
    assert found[2] - found[1] > 1.5 * (high - low)


def test_a_draw_weighs_an_application_by_its_pairs() -> None:
    """Every mean is that of whole applications, the one of three pairs three times as heavy as that of one."""
    of_pairs = np.array([[1.0], [2.0], [3.0], [10.0]])
    drawn = drawn_means(of_pairs, [4, 0, 2, 1], ["a", "b", "a", "-", "a"], draws=500)
    assert set(np.round(drawn[:, 0], 9)) == {2.0, (6 + 10) / 4, 10.0}


def test_where_each_pair_is_an_application_names_make_no_difference() -> None:
    ours, rival = [random_scores(0)], [random_scores(1)]
    apps = [f"app-{i}" for i in range(40)]
    assert paired_difference(ours, rival, apps=apps) == paired_difference(ours, rival, apps=None)


def test_scores_of_pairs_that_the_data_set_lacks_are_refused() -> None:
    with pytest.raises(DataError, match="of pair 3, but the data set has 2 pairs"):
        paired_difference([scores({3: [0.1]})], [scores({3: [0.2]})], apps=["a", "b"])


def test_pairs_have_their_applications_where_the_data_set_is_here(
    data: Observations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "load", lambda _: data)
    assert pair_apps("lambda") == [app for app, _ in data.pairs]

    def missing(name: str) -> Observations:
        raise DataMissingError(name)

    monkeypatch.setattr(evaluation, "load", missing)
    assert pair_apps("lambda") is None


def test_positions_are_those_of_the_applications_pairs(data: Observations) -> None:
    asked = {data.pairs[0][0], data.pairs[-1][0]}
    assert {data.pairs[i][0] for i in positions(data, iter(asked))} == asked
    assert len(positions(data, data.apps)) == len(data)
    assert positions(data, []) == []


def test_an_unknown_data_set_is_named() -> None:
    with pytest.raises(DataError, match="'azure'"):
        evaluation.load("azure")


@pytest.mark.data
@pytest.mark.parametrize("name", ["lambda", "openwhisk"])
def test_measured_platforms_are_parts_without_hand_written_applications(name: str) -> None:
    from flashfm.applications.segments import REAL

    data = evaluation.load(name)
    assert {platform.startswith(name) for _, platform in data.pairs if platform} == {True}
    assert not set(data.apps) & set(REAL)
    assert set(evaluation.table(name, real=True).apps) <= set(REAL)
    assert data.space.names == (["memory_mb"] if name == "lambda" else ["memory_mb", "cpu_shares"])
