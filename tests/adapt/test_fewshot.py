"""Adaptation as a user sees it: frames in, frames and decisions out, and the claims about them."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.act import Declined, Recommendation
from flashfm.adapt.adapted import AdaptedRegressor
from flashfm.adapt.fewshot import FlashRegressor
from flashfm.errors import ArtifactError, ModelError, ShotsError
from flashfm.models.flash import FlashModel

SIZES = [128.0, 256.0, 512.0, 1024.0, 2048.0, 3008.0]
NUMBERS = ["runtime_ms", "lower_ms", "upper_ms"]
Frames = dict[str, pd.DataFrame]


def rows_at(app: pd.DataFrame, *sizes: float) -> pd.DataFrame:
    return app.set_index("memory_mb").loc[list(sizes)].reset_index()


def error(adapted: AdaptedRegressor, app: pd.DataFrame, asked: list[float]) -> float:
    predicted = adapted.predict(pd.DataFrame({"memory_mb": asked}))["runtime_ms"].to_numpy()
    return float(np.abs(predicted / rows_at(app, *asked)["runtime_ms"].to_numpy() - 1).mean())


# claims


def test_one_shot_beats_the_prior_and_more_help_on_average(regressor: FlashRegressor, apps: Frames) -> None:
    shots, asked = [512.0, 3008.0, 128.0], [256.0, 1024.0, 2048.0]
    errors = [
        np.mean([error(regressor.adapt(rows_at(app, *shots[:k])), app, asked) for app in apps.values()])
        for k in range(4)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < 0.3 * errors[0]


def test_intervals_narrow_with_shots_and_are_narrowest_at_them(regressor: FlashRegressor, apps: Frames) -> None:
    def widths(k: int) -> np.ndarray:
        found = []
        for app in apps.values():
            table = regressor.adapt(rows_at(app, *[512.0, 3008.0, 128.0][:k])).predict()
            found.append(np.log(table["upper_ms"] / table["lower_ms"]).to_numpy())
        return np.mean(found, axis=0)

    prior, one, three = widths(0), widths(1), widths(3)
    assert (one < prior).all()
    assert three.mean() < one.mean()
    assert one.argmin() == SIZES.index(512.0)


def test_intervals_cover_most_of_unseen_applications(regressor: FlashRegressor, apps: Frames) -> None:
    inside = []
    for app in apps.values():
        table = regressor.adapt(rows_at(app, 512.0)).predict().merge(app, on="memory_mb", suffixes=("", "_true"))
        table = table[table["memory_mb"] != 512.0]
        inside += [*((table["lower_ms"] <= table["runtime_ms_true"]) & (table["runtime_ms_true"] <= table["upper_ms"]))]
    assert 0.75 < np.mean(inside) <= 1.0


def test_measuring_what_is_proposed_lowers_the_error_more_than_measuring_at_random(
    regressor: FlashRegressor, apps: Frames
) -> None:
    designed, random = [], []
    for i, app in enumerate(apps.values()):
        start = rows_at(app, 512.0)
        proposed = float(regressor.adapt(start).next_measurement().config["memory_mb"])
        other = float(np.random.default_rng(i).choice([size for size in SIZES if size != 512.0]))
        for found, size in ((designed, proposed), (random, other)):
            found.append(error(regressor.adapt(rows_at(app, 512.0, size), fine_tune=False), app, SIZES))
    assert np.mean(designed) < 1.1 * np.mean(random)


# adapt


def test_adapting_changes_neither_the_model_nor_the_rows(regressor: FlashRegressor, app: pd.DataFrame) -> None:
    model = regressor.model
    weights = [copy.deepcopy(net.state_dict()) for net in model.nets]
    profiles, grid, rows = model.prior.gp.profiles.copy(), model.grid.copy(), rows_at(app, 128.0, 512.0, 3008.0)
    before, given_rows = regressor.adapt(rows).predict(), rows.copy()
    for fine_tune in (None, False, True):
        adapted = regressor.adapt(rows.assign(memory_mb=[128.0, 600.0, 3008.0]), fine_tune=fine_tune)
        adapted.predict(pd.DataFrame({"memory_mb": [777.0]}))
        adapted.recommend("runtime")
        adapted.next_measurement()
    assert regressor.model is model
    pd.testing.assert_frame_equal(model.grid, grid)
    np.testing.assert_array_equal(model.prior.gp.profiles, profiles)
    for net, old in zip(model.nets, weights, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in net.state_dict().items())
    pd.testing.assert_frame_equal(rows, given_rows)
    pd.testing.assert_frame_equal(regressor.adapt(rows).predict(), before)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(6)), st.integers(1, 6))
def test_the_order_of_rows_does_not_change_the_answers(
    regressor: FlashRegressor, app: pd.DataFrame, order: list[int], k: int
) -> None:
    rows = app.iloc[:k]
    turned = rows.iloc[[i for i in order if i < k]]
    one, other = regressor.adapt(rows, fine_tune=False), regressor.adapt(turned, fine_tune=False)
    np.testing.assert_allclose(one.predict()[NUMBERS], other.predict()[NUMBERS], rtol=1e-5)
    assert one.shots["memory_mb"].tolist() == rows["memory_mb"].tolist()
    assert other.shots["memory_mb"].tolist() == turned["memory_mb"].tolist()


def test_what_adapted_says_of_itself(regressor: FlashRegressor, app: pd.DataFrame) -> None:
    rows = rows_at(app, 2048.0, 256.0)
    adapted = regressor.adapt(rows.assign(platform="here"))
    assert adapted.pair == (rows["app"].iloc[0], "here")
    assert adapted.shots["memory_mb"].tolist() == [2048.0, 256.0]
    np.testing.assert_allclose(adapted.shots["runtime_ms"], rows["runtime_ms"], rtol=1e-12)
    assert adapted.embedding is not None
    assert adapted.embedding.shape == (8,)
    assert not adapted.fine_tuned
    assert "2 shots" in repr(adapted)
    table = adapted.shots
    table["runtime_ms"] = 0.0
    assert (adapted.shots["runtime_ms"] > 0).all()


def test_without_shots_the_prior_answers_alone(regressor: FlashRegressor) -> None:
    for adapted in (regressor.adapt(), regressor.adapt(pd.DataFrame({"memory_mb": [], "runtime_ms": []}, dtype=float))):
        assert adapted.predict()["memory_mb"].tolist() == SIZES
        assert adapted.embedding is None
        assert adapted.novelty is None
        assert adapted.nearest() == []
        assert not len(adapted.shots)


def test_fine_tuning_is_said_only_where_it_happened(regressor: FlashRegressor, app: pd.DataFrame) -> None:
    assert not regressor.adapt(fine_tune=True).fine_tuned
    tuned = regressor.adapt(app.head(4), fine_tune=True)
    assert tuned.fine_tuned == (tuned.model is not regressor.model)
    assert not regressor.adapt(app.head(4), fine_tune=False).fine_tuned


def test_a_novel_pair_is_tuned_from_three_shots_on(pretrained: FlashModel, app: pd.DataFrame) -> None:
    assert pretrained.novelty is not None
    all_novel = replace(pretrained.novelty, held=np.zeros((1, 10_000)))
    trusted = replace(pretrained.calibration, mix=np.ones(6))
    regressor = FlashRegressor(replace(pretrained, novelty=all_novel, calibration=trusted))
    assert not regressor.adapt(app.head(2)).fine_tuned
    assert regressor.adapt(app.head(4)).fine_tuned
    assert not regressor.adapt(app.head(4), fine_tune=False).fine_tuned


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"app": ["a", "b"]}, "2 applications"),
        ({"runtime_ms": [1.0, 0.0]}, "got 0"),
        ({"runtime_ms": [1.0, np.nan]}, "empty cell"),
        ({"memory_mb": [128.0, 9000.0]}, "got 9000"),
    ],
)
def test_bad_shots_are_refused(
    regressor: FlashRegressor, app: pd.DataFrame, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ShotsError, match=words):
        regressor.adapt(app.head(2).assign(**change))


def test_a_metric_of_nothing_but_empty_cells_is_like_none(regressor: FlashRegressor, app: pd.DataFrame) -> None:
    rows = rows_at(app, 256.0, 2048.0)
    empty, absent = rows.assign(user_cpu_ms_mean=np.nan), rows.drop(columns="user_cpu_ms_mean")
    pd.testing.assert_frame_equal(regressor.adapt(empty).predict(), regressor.adapt(absent).predict())


# predict


@pytest.mark.parametrize("k", range(7))
def test_predictions_are_finite_and_ordered(regressor: FlashRegressor, app: pd.DataFrame, k: int) -> None:
    table = regressor.adapt(app.head(k)).predict()
    assert list(table.columns) == ["memory_mb", *NUMBERS]
    assert table["memory_mb"].tolist() == SIZES
    assert np.isfinite(table[NUMBERS].to_numpy()).all()
    assert (table["lower_ms"] > 0).all()
    assert (table["lower_ms"] <= table["runtime_ms"]).all()
    assert (table["runtime_ms"] <= table["upper_ms"]).all()


def test_answers_come_in_the_order_asked_and_as_often(regressor: FlashRegressor, app: pd.DataFrame) -> None:
    adapted = regressor.adapt(rows_at(app, 512.0))
    whole = adapted.predict().set_index("memory_mb")
    asked = pd.DataFrame({"memory_mb": [3008, 128, 3008, 300, 512, 300]}, index=[5, 5, 5, 1, 1, 1])
    table = adapted.predict(asked)
    assert table["memory_mb"].tolist() == [3008.0, 128.0, 3008.0, 300.0, 512.0, 300.0]
    for i in (0, 1, 2, 4):
        np.testing.assert_allclose(table.loc[i, NUMBERS].tolist(), whole.loc[table["memory_mb"][i], NUMBERS], rtol=1e-6)
    np.testing.assert_array_equal(table.loc[3, NUMBERS].tolist(), table.loc[5, NUMBERS].tolist())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(128, 3008) | st.sampled_from(SIZES), min_size=1, max_size=5), st.integers(0, 3))
def test_one_question_at_a_time_gets_the_same_answers(
    regressor: FlashRegressor, app: pd.DataFrame, asked: list[float], k: int
) -> None:
    adapted = regressor.adapt(app.iloc[[3, 0, 5]].head(k))
    together = adapted.predict(pd.DataFrame({"memory_mb": asked}))
    for i, size in enumerate(asked):
        alone = adapted.predict(pd.DataFrame({"memory_mb": [size]}))
        np.testing.assert_allclose(alone[NUMBERS].iloc[0].tolist(), together[NUMBERS].iloc[i].tolist(), rtol=1e-5)


def test_between_neighbours_predictions_lie_between_or_close(regressor: FlashRegressor, apps: Frames) -> None:
    for app in list(apps.values())[:10]:
        adapted = regressor.adapt(rows_at(app, 256.0, 2048.0))
        grid = adapted.predict()["runtime_ms"].to_numpy()
        between = np.sqrt(np.array(SIZES[:-1]) * np.array(SIZES[1:]))
        found = adapted.predict(pd.DataFrame({"memory_mb": between}))["runtime_ms"].to_numpy()
        low, high = np.minimum(grid[:-1], grid[1:]), np.maximum(grid[:-1], grid[1:])
        assert (found > 0.9 * low).all()
        assert (found < 1.1 * high).all()


def test_a_shot_between_those_of_the_grid_is_followed(regressor: FlashRegressor, apps: Frames) -> None:
    errors = []
    for app in apps.values():
        at = np.sqrt(rows_at(app, 512.0, 1024.0)["runtime_ms"].prod())
        rows = rows_at(app, 512.0).assign(memory_mb=724.0, runtime_ms=at)
        adapted = regressor.adapt(rows)
        assert adapted.predict()["memory_mb"].tolist() == [*SIZES, 724.0]
        errors.append(error(adapted, app, [256.0, 512.0, 1024.0, 2048.0]))
        assert adapted.predict(rows[["memory_mb"]])["runtime_ms"][0] == pytest.approx(at, rel=0.15)
    assert np.mean(errors) < 0.25


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        ({"memory_mb": [64.0]}, "from 128 to 3008"),
        ({"memory_mb": ["big"]}, "expected a number"),
        ({"memory_mb": [np.nan]}, "empty cell"),
        ({"memory_gb": [1.0]}, "no configuration column 'memory_mb'"),
    ],
)
def test_bad_questions_are_refused(
    regressor: FlashRegressor, app: pd.DataFrame, queries: dict[str, Any], words: str
) -> None:
    with pytest.raises(ShotsError, match=words) as caught:
        regressor.adapt(app.head(1)).predict(pd.DataFrame(queries))
    assert str(caught.value).startswith("queries: ")


def test_no_question_gets_no_answer(regressor: FlashRegressor, app: pd.DataFrame) -> None:
    table = regressor.adapt(app.head(1)).predict(pd.DataFrame({"memory_mb": []}, dtype=float))
    assert list(table.columns) == ["memory_mb", *NUMBERS]
    assert not len(table)


def test_only_configurations_of_the_shots_platform_are_answered_for(pretrained: FlashModel, app: pd.DataFrame) -> None:
    together = np.zeros((6, 6), dtype=np.bool_)
    together[:3, :3] = together[3:, 3:] = True
    regressor = FlashRegressor(replace(pretrained, together=together))
    adapted = regressor.adapt(rows_at(app, 256.0))
    assert adapted.predict()["memory_mb"].tolist() == SIZES[:3]
    assert adapted.next_measurement().config["memory_mb"] in (128, 512)
    answer = adapted.recommend("runtime")
    assert isinstance(answer, Recommendation)
    assert answer.choice.config["memory_mb"] in SIZES[:3]
    assert len(adapted.predict(pd.DataFrame({"memory_mb": SIZES}))) == 6


@pytest.mark.parametrize("sizes", [(256.0, 2048.0), (128.0, 256.0, 2048.0, 3008.0)])
def test_shots_that_no_pretraining_pair_had_together_still_have_answers(
    pretrained: FlashModel, app: pd.DataFrame, sizes: tuple[float, ...]
) -> None:
    together = np.eye(6, dtype=np.bool_)
    adapted = FlashRegressor(replace(pretrained, together=together)).adapt(rows_at(app, *sizes))
    assert set(sizes) <= set(adapted.predict()["memory_mb"])
    assert isinstance(adapted.recommend("runtime"), Recommendation | Declined)


def test_many_pairs_at_once_are_as_many_one_by_one(regressor: FlashRegressor, apps: Frames) -> None:
    some = list(apps.values())[:4]
    rows = pd.concat([rows_at(app, 256.0, 2048.0) for app in some]).sample(frac=1.0, random_state=1)
    table = regressor.predict(rows)
    assert list(table.columns) == ["app", "memory_mb", *NUMBERS]
    for app in some:
        one = regressor.adapt(rows_at(app, 256.0, 2048.0), fine_tune=False).predict()
        of_app = table[table["app"] == app["app"].iloc[0]]
        np.testing.assert_allclose(of_app[NUMBERS].to_numpy(), one[NUMBERS].to_numpy(), rtol=1e-5)


def test_many_pairs_may_have_platforms_different_shots_and_questions(regressor: FlashRegressor, apps: Frames) -> None:
    one, other, third = list(apps.values())[:3]
    rows = pd.concat([one.head(1).assign(platform="a"), one.head(3).assign(platform="b"), other.head(2), third.head(6)])
    table = regressor.predict(rows, pd.DataFrame({"memory_mb": [300.0, 512.0]}))
    assert list(table.columns) == ["app", "platform", "memory_mb", *NUMBERS]
    assert table["memory_mb"].tolist() == [300.0, 512.0] * 4
    assert table["platform"].isna().sum() == 4
    assert np.isfinite(table[NUMBERS].to_numpy()).all()


def test_many_pairs_need_names_and_rows(regressor: FlashRegressor, app: pd.DataFrame) -> None:
    with pytest.raises(ShotsError, match="no column 'app'"):
        regressor.predict(app.drop(columns="app"))
    with pytest.raises(ShotsError):
        regressor.predict(app[:0])


# designed shots


def test_designed_shots_are_configurations_of_the_grid(regressor: FlashRegressor) -> None:
    designed = [config["memory_mb"] for config in regressor.designed(3)]
    assert len(set(designed)) == 3
    assert set(designed) <= set(SIZES)
    assert regressor.adapt().next_measurement().config["memory_mb"] == designed[0]


# saving


def test_a_saved_model_answers_bit_for_bit(
    regressor: FlashRegressor, mixed: FlashModel, app: pd.DataFrame, tmp_path: Path
) -> None:
    regressor.save_pretrained(tmp_path / "model")
    again = FlashRegressor.from_pretrained(tmp_path / "model")
    assert again.pairs == regressor.pairs
    for k in (0, 1, 3):
        one, other = (which.adapt(app.head(k)) for which in (regressor, again))
        pd.testing.assert_frame_equal(other.predict(), one.predict(), check_exact=True)
        assert other.novelty == one.novelty
        assert other.nearest() == one.nearest()
        assert other.next_measurement() == one.next_measurement()
        assert other.recommend() == one.recommend()
    FlashRegressor(mixed, "# Mixed\n").save_pretrained(tmp_path / "mixed")
    again = FlashRegressor.from_pretrained(str(tmp_path / "mixed"))
    assert again.card == "# Mixed\n"
    pd.testing.assert_frame_equal(again.adapt().predict(), FlashRegressor(mixed).adapt().predict(), check_exact=True)


def test_saving_what_was_loaded_gives_the_same_bytes(regressor: FlashRegressor, tmp_path: Path) -> None:
    regressor.save_pretrained(tmp_path / "one")
    FlashRegressor.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_a_model_that_is_not_there_or_is_damaged_is_refused(regressor: FlashRegressor, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        FlashRegressor.from_pretrained(tmp_path / "none")
    regressor.save_pretrained(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace("memory_mb", "memory_xb"))
    with pytest.raises(ArtifactError):
        FlashRegressor.from_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match="--device gpu: expected one of cpu, cuda, auto"):
        FlashRegressor.from_pretrained("serverless-memory", device="gpu")


def test_what_a_regressor_says_of_itself(regressor: FlashRegressor) -> None:
    assert regressor.config_columns == ("memory_mb",)
    assert regressor.metric_names == ("user_cpu_ms", "net_in_bytes")
    assert regressor.grid["memory_mb"].tolist() == SIZES
    assert len(regressor.pairs) == 24
    assert "24 pairs" in repr(regressor)
    grid = regressor.grid
    grid["memory_mb"] = 0.0
    assert regressor.grid["memory_mb"].tolist() == SIZES
