"""Many pairs at once are read, adapted to and fine-tuned as each alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.adapt.adapted import candidates
from flashfm.adapt.fewshot import FlashRegressor
from flashfm.adapt.finetune import FineTuneConfig, fine_tune, fine_tune_each
from flashfm.adapt.many import MOST_OTHERS, adapt_each, offered
from flashfm.adapt.rows import check_each, unique_rows
from flashfm.adapt.shots import read_each, read_shots
from flashfm.errors import ShotsError
from flashfm.models.flash import FlashModel
from flashfm.tasks.config_search import Observations

Frames = dict[str, pd.DataFrame]
SHORT = FineTuneConfig(steps=5, learning_rate=3e-3)


def mixed(apps: Frames, seed: int, pairs: int = 10) -> tuple[list[pd.DataFrame], np.ndarray, pd.DataFrame]:
    """Pairs with repeats, failures, sizes between those of the grid and now and then a bad cell, in one frame."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(pairs):
        rows = list(apps.values())[rng.integers(len(apps))]
        rows = rows.sample(int(rng.integers(1, 9)), replace=True, random_state=int(rng.integers(1e6)))
        rows = rows.assign(outcome=rng.choice(["ok", "ok", "ok", "timeout", "out_of_memory"], len(rows)))
        at = int(rng.integers(len(rows)))
        for column, value in (("memory_mb", 777.0), ("memory_mb", 7.0), ("runtime_ms", -1.0), ("user_cpu_ms_mean", -1)):
            if rng.random() < 0.1:
                rows.iloc[at, rows.columns.get_loc(column)] = value
        frames.append(rows.reset_index(drop=True))
    order = rng.permutation(np.repeat(np.arange(pairs), [len(frame) for frame in frames]))
    place = [iter(range(len(frame))) for frame in frames]
    whole = pd.concat([frames[i].iloc[[next(place[i])]] for i in order], ignore_index=True)
    return frames, order, whole


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_each_of_many_is_read_as_alone(pretrained: FlashModel, apps: Frames, seed: int) -> None:
    frames, owner, whole = mixed(apps, seed)
    read = read_each(pretrained, whole, owner, len(frames))
    for i, frame in enumerate(frames):
        if i in read.problems:
            with pytest.raises(ShotsError) as caught:
                read_shots(pretrained, frame)
            assert read.problems[i] == str(caught.value)
            assert read.count[i] == 0
            continue
        model, one = read_shots(pretrained, frame)
        assert read.count[i] == one.shots.count
        own = slice(int(read.start[i]), int(read.start[i] + read.count[i]))
        keys = pretrained.space.keys(read.configurations.iloc[read.config[own]])
        assert keys == pretrained.space.keys(model.grid.iloc[one.shots.config[0]])
        np.testing.assert_allclose(read.log_runtime[own], one.shots.log_runtime[0], rtol=1e-12)
        np.testing.assert_allclose(read.metrics[own], one.shots.metrics[0], rtol=1e-12)
        failed = read.configurations.iloc[read.failed_config[read.failed_pair == i]]
        assert failed["memory_mb"].tolist() == one.failed["memory_mb"].tolist()


@settings(max_examples=6)
@given(st.integers(0, 10_000), st.sampled_from([False, None, True]))
def test_each_of_many_is_adapted_to_as_alone(
    pretrained: FlashModel, apps: Frames, seed: int, fine_tune: bool | None
) -> None:
    model = replace(pretrained, calibration=replace(pretrained.calibration, mix=np.ones(6)))
    frames, owner, whole = mixed(apps, seed, pairs=6)
    read, told = read_each(model, whole, owner, len(frames)), set[int]()
    for batch in adapt_each(model, read, fine_tune=fine_tune):
        for row, pair in enumerate(batch.pair.tolist()):
            adapted = FlashRegressor(model).adapt(frames[pair], fine_tune=fine_tune)
            assert batch.fine_tuned[row] == adapted.fine_tuned
            assert adapted.novelty is not None
            assert batch.p_value[row] == pytest.approx(adapted.novelty.p_value)
            assert batch.distance[row] == pytest.approx(adapted.novelty.distance, rel=1e-5)
            # what failed is offered as well, to be refused by its outcome
            at = np.flatnonzero(batch.offers.offered[row] & (batch.offers.outcome[row] == 0))
            sizes = batch.offers.configurations["memory_mb"].to_numpy()[at]
            table = adapted.predict().set_index("memory_mb")
            failed = set(adapted._read.failed["memory_mb"])
            assert set(sizes) == set(table.index) - failed
            found = batch.offers.runtime[row, at]
            np.testing.assert_allclose(found, table.loc[sizes, ["runtime_ms", "lower_ms", "upper_ms"]], rtol=1e-5)
            told.add(pair)
    assert told == set(np.flatnonzero(read.count > 0).tolist())


def test_sizes_between_those_of_the_grid_share_a_few_extended_models(pretrained: FlashModel, app: pd.DataFrame) -> None:
    pairs = 3 * MOST_OTHERS
    whole = pd.concat([app.head(2).assign(memory_mb=[128.0, 300.0 + i]) for i in range(pairs)], ignore_index=True)
    owner = np.repeat(np.arange(pairs), 2)
    batches = list(adapt_each(pretrained, read_each(pretrained, whole, owner, pairs)))
    assert [len(batch.offers.configurations) - 6 for batch in batches] == [MOST_OTHERS] * 3
    for batch in batches:
        assert (batch.offers.offered[:, 6:].sum(axis=1) == 1).all()


def test_what_is_offered_is_known_together_or_measured(pretrained: FlashModel, unseen: Observations) -> None:
    together = np.zeros((6, 6), dtype=np.bool_)
    together[:3, :3] = together[3:, 3:] = True
    model = replace(pretrained, together=together)
    shots = unseen.shots(np.array([0, 1, 2]), np.array([[0, 1], [4, 5], [1, 4]]))
    given_ = offered(model, shots, 6)
    assert given_.tolist() == [[True] * 3 + [False] * 3, [False] * 3 + [True] * 3, [True] * 6]
    for i in range(3):
        assert candidates(model, shots.part(slice(i, i + 1))).tolist() == np.flatnonzero(given_[i]).tolist()


@pytest.mark.parametrize("k", [1, 2, 4])
def test_each_of_many_is_tuned_as_alone(pretrained: FlashModel, unseen: Observations, k: int) -> None:
    model = replace(pretrained, calibration=replace(pretrained.calibration, mix=np.ones(6)))
    rng = np.random.default_rng(k)
    shots = unseen.shots(np.arange(7), np.stack([rng.permutation(6)[:k] for _ in range(7)]))
    each, better = fine_tune_each(model, shots, SHORT)
    told = each.forecast(shots)
    assert better.any()
    for i in range(7):
        one = shots.part(slice(i, i + 1))
        tuned = fine_tune(model, one, SHORT)
        assert (tuned is not model) == better[i]
        alone = tuned.forecast(one)
        for name in ("point", "lower", "upper"):
            np.testing.assert_allclose(getattr(told, name)[i], getattr(alone, name)[0], rtol=1e-5)


def test_different_rows_are_found_in_order() -> None:
    frame = pd.DataFrame({"a": [1.0, np.nan, 1.0, np.nan, 2.0], "b": ["x", "y", "x", None, "x"]})
    first, number = unique_rows(frame)
    assert first.tolist() == [0, 1, 3, 4]
    assert number.tolist() == [0, 1, 0, 2, 3]
    odd = pd.DataFrame({"a": [[1], [1]]})
    assert unique_rows(odd)[1].tolist() == [0, 1]


def test_configurations_are_checked_one_by_one(pretrained: FlashModel) -> None:
    frame = pd.DataFrame({"memory_mb": [128.0, "big", 9000.0, "512", None]}, dtype=object)
    checked, sound, bad = check_each(pretrained.space, frame, "rows")
    assert checked["memory_mb"].tolist() == [128.0, 512.0]
    assert sound.tolist() == [0, 3]
    assert sorted(bad) == [1, 2, 4]
    assert bad[2].startswith(", column 'memory_mb': expected a number from 128 to 3008")
    with pytest.raises(ShotsError, match="no configuration column"):
        check_each(pretrained.space, frame.rename(columns={"memory_mb": "cores"}), "rows")


def test_predictions_for_many_do_not_mix_sizes_of_different_pairs(
    regressor: FlashRegressor, synthetic: Callable[..., pd.DataFrame]
) -> None:
    rows = synthetic(2, seed=3).groupby("app").head(2).assign(memory_mb=[128.0, 300.0, 128.0, 700.0])
    table = regressor.predict(rows)
    sizes = {app: set(part["memory_mb"]) for app, part in table.groupby("app")}
    grid = set(regressor.grid["memory_mb"])
    assert list(sizes.values()) == [grid | {300.0}, grid | {700.0}]
