"""What an adapted model says: novelty, neighbours, recommendations, and what to measure next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.act import Declined, LambdaPrice, Recommendation
from flashfm.adapt.adapted import Novelty
from flashfm.adapt.fewshot import FlashRegressor
from flashfm.errors import FlashError, ModelError
from flashfm.models.flash import FlashModel

SIZES = [128.0, 256.0, 512.0, 1024.0, 2048.0, 3008.0]
Frames = dict[str, pd.DataFrame]


def rows_at(app: pd.DataFrame, *sizes: float) -> pd.DataFrame:
    return app.set_index("memory_mb").loc[list(sizes)].reset_index()


# novelty


def test_novelty_is_that_of_the_embedding(regressor: FlashRegressor, app: pd.DataFrame) -> None:
    novelty = regressor.adapt(app.head(2)).novelty
    assert novelty is not None
    assert 0 < novelty.p_value <= 1
    assert novelty.distance >= 0
    assert Novelty(0.049, 1.0).novel
    assert not Novelty(0.05, 1.0).novel


def test_pairs_of_the_same_world_are_seldom_novel(regressor: FlashRegressor, apps: Frames) -> None:
    for k in (1, 3):
        found = [regressor.adapt(app.head(k), fine_tune=False).novelty for app in apps.values()]
        assert np.mean([novelty is not None and novelty.novel for novelty in found]) < 0.2


def test_the_nearest_are_known_pairs_in_order(regressor: FlashRegressor, app: pd.DataFrame) -> None:
    adapted = regressor.adapt(app.head(2))
    nearest = adapted.nearest(5)
    assert len(nearest) == 5
    assert {(name, platform) for name, platform, _ in nearest} <= set(regressor.pairs)
    distances = [distance for *_, distance in nearest]
    assert distances == sorted(distances)
    assert adapted.nearest(0) == []


# recommend


def test_without_measurements_it_declines_and_says_what_to_measure(regressor: FlashRegressor) -> None:
    answer = regressor.adapt().recommend("runtime")
    assert isinstance(answer, Declined)
    assert f"{regressor.designed(1)[0]['memory_mb']} MB" in answer.mend


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("outcome", ["timeout", "out_of_memory", "error"])
def test_where_all_that_was_measured_failed_it_declines(
    regressor: FlashRegressor, app: pd.DataFrame, size: float, outcome: str
) -> None:
    rows = rows_at(app, size).assign(outcome=outcome, runtime_ms=np.nan)
    answer = regressor.adapt(rows).recommend("runtime")
    assert isinstance(answer, Declined)
    assert answer.reason
    assert answer.mend


def test_where_every_configuration_failed_it_declines(regressor: FlashRegressor, app: pd.DataFrame) -> None:
    answer = regressor.adapt(app.assign(outcome="timeout")).recommend("runtime")
    assert isinstance(answer, Declined)
    assert "time" in answer.reason


def test_lambda_prices_are_taken_where_none_are_given(regressor: FlashRegressor, app: pd.DataFrame) -> None:
    adapted = regressor.adapt(rows_at(app, 1024.0))
    answer, same = adapted.recommend(), adapted.recommend("cost", price=LambdaPrice())
    assert isinstance(answer, Recommendation)
    assert answer == same
    assert answer.choice.usd_per_million is not None


@pytest.mark.parametrize("sizes", [(2048.0, 128.0), (128.0, 2048.0)])
def test_todays_configuration_is_the_first_shot(
    regressor: FlashRegressor, app: pd.DataFrame, sizes: tuple[float, ...]
) -> None:
    answer = regressor.adapt(rows_at(app, *sizes)).recommend("runtime")
    assert isinstance(answer, Recommendation)
    assert answer.today is not None
    assert answer.today.config == {"memory_mb": sizes[0]}
    assert answer.today.measured
    assert answer.today.runtime_ms.expected == pytest.approx(rows_at(app, sizes[0])["runtime_ms"].iloc[0], rel=0.2)


def test_measured_configurations_are_told_from_predicted_ones(regressor: FlashRegressor, app: pd.DataFrame) -> None:
    measured = {512.0, 3008.0}
    answer = regressor.adapt(rows_at(app, *measured)).recommend("runtime")
    assert isinstance(answer, Recommendation)
    for choice in (answer.choice, *answer.alternatives):
        assert choice.measured == (choice.config["memory_mb"] in measured)


@pytest.mark.parametrize("outcome", ["timeout", "error", "out_of_memory"])
@pytest.mark.parametrize("candidates", [None, SIZES, [300.0, 3008.0]])
def test_a_configuration_that_failed_is_never_recommended(
    regressor: FlashRegressor, app: pd.DataFrame, outcome: str, candidates: list[float] | None
) -> None:
    fastest = app.loc[app["runtime_ms"].idxmin(), "memory_mb"]
    rows = app.assign(outcome=np.where(app["memory_mb"] == fastest, outcome, "ok"))
    asked = None if candidates is None else pd.DataFrame({"memory_mb": candidates})
    answer = regressor.adapt(rows[rows["memory_mb"].isin([256.0, fastest])]).recommend("runtime", candidates=asked)
    for choice in (answer.choice, *answer.alternatives) if isinstance(answer, Recommendation) else ():
        assert choice.config["memory_mb"] != fastest
        if outcome == "out_of_memory":
            assert choice.config["memory_mb"] > fastest or choice.measured


def test_less_memory_than_ran_out_is_not_recommended_wherever_it_ran_out(
    regressor: FlashRegressor, app: pd.DataFrame
) -> None:
    ended = rows_at(app, 1024.0, 2048.0).assign(outcome="ok")
    out = ended.head(1).assign(memory_mb=300.0, outcome="out_of_memory")
    adapted = regressor.adapt(pd.concat([ended, out]))
    for candidates in (None, pd.DataFrame({"memory_mb": [128.0, 256.0, 2048.0]})):
        answer = adapted.recommend("cost", candidates=candidates)
        assert isinstance(answer, Recommendation)
        assert all(choice.config["memory_mb"] > 300 for choice in (answer.choice, *answer.alternatives))
    assert adapted.next_measurement().config["memory_mb"] > 300


def test_candidates_may_lie_between_those_of_the_grid(regressor: FlashRegressor, app: pd.DataFrame) -> None:
    candidates = pd.DataFrame({"memory_mb": [400.0, 900.0]})
    answer = regressor.adapt(rows_at(app, 512.0)).recommend("runtime", candidates=candidates)
    assert isinstance(answer, Recommendation)
    assert answer.choice.config["memory_mb"] in (400, 900)
    assert answer.today is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"objective": "joy"},
        {"max_slowdown": 0.5},
        {"max_slowdown": 1.2, "max_runtime_ms": 5.0},
        {"max_runtime_ms": -1.0},
        {"today": {"memory_mb": 77.0}},
        {"today": {"cpus": 2}},
        {"candidates": pd.DataFrame({"memory_mb": []}, dtype=float)},
        {"candidates": pd.DataFrame({"memory_mb": [7.0]})},
    ],
    ids=str,
)
def test_arguments_that_are_none_are_refused(
    regressor: FlashRegressor, app: pd.DataFrame, arguments: dict[str, Any]
) -> None:
    with pytest.raises(FlashError) as caught:
        regressor.adapt(rows_at(app, 512.0)).recommend(**({"objective": "runtime"} | arguments))
    assert "\n" not in str(caught.value)


def test_a_novel_pair_with_few_shots_is_declined(pretrained: FlashModel, app: pd.DataFrame) -> None:
    assert pretrained.novelty is not None
    regressor = FlashRegressor(replace(pretrained, novelty=replace(pretrained.novelty, held=np.zeros((1, 10_000)))))
    answer = regressor.adapt(app.head(1)).recommend("runtime")
    assert isinstance(answer, Declined)
    assert "measure 2 more" in answer.mend
    assert isinstance(regressor.adapt(app.head(3)).recommend("runtime"), Recommendation)


# next_measurement


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(SIZES), max_size=5, unique=True),
    st.sampled_from(["learn", "fastest"]),
    st.lists(st.sampled_from(["ok", "timeout", "error"]), min_size=5, max_size=5),
)
def test_what_was_tried_is_never_proposed(
    regressor: FlashRegressor, app: pd.DataFrame, sizes: list[float], goal: str, outcomes: list[str]
) -> None:
    rows = rows_at(app, *sizes).assign(outcome=outcomes[: len(sizes)])
    proposed = regressor.adapt(rows, fine_tune=False).next_measurement(goal)
    assert proposed.config["memory_mb"] in set(SIZES) - set(sizes)
    assert proposed.why


def test_where_everything_was_measured_there_is_nothing_left(regressor: FlashRegressor, app: pd.DataFrame) -> None:
    for goal in ("learn", "fastest"):
        with pytest.raises(ModelError, match="left to measure"):
            regressor.adapt(app).next_measurement(goal)


def test_an_unknown_goal_is_refused(regressor: FlashRegressor, app: pd.DataFrame) -> None:
    with pytest.raises(ModelError, match="learn or fastest"):
        regressor.adapt(app.head(1)).next_measurement("win")


def test_the_fastest_is_found_within_a_few_measurements(regressor: FlashRegressor, apps: Frames) -> None:
    regrets = []
    for app in list(apps.values())[:10]:
        sizes = [128.0]
        for _ in range(2):
            adapted = regressor.adapt(rows_at(app, *sizes), fine_tune=False)
            sizes.append(float(adapted.next_measurement("fastest").config["memory_mb"]))
        regrets.append(rows_at(app, *sizes)["runtime_ms"].min() / app["runtime_ms"].min() - 1)
    assert np.mean(regrets) < 0.05
