"""Many pairs at once are told what each is told alone, and a bad one stops no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.act import LambdaPrice, PriceTable
from flashfm.adapt.fewshot import FlashRegressor
from flashfm.errors import DataFormatError, ModelError, ShotsError
from flashfm.fleet import FleetSettings, recommend_many
from flashfm.models.flash import FlashModel

Made = Callable[..., pd.DataFrame]
Checked = Callable[..., None]
PLAIN = FleetSettings(fine_tune=False)


# equal to one pair alone


@settings(max_examples=8)
@given(
    st.integers(0, 10_000),
    st.sampled_from(
        [
            FleetSettings(fine_tune=False),
            FleetSettings(fine_tune=False, objective="runtime"),
            FleetSettings(fine_tune=False, objective="runtime", price=LambdaPrice.arm(), strict=True, max_slowdown=1.3),
            FleetSettings(fine_tune=False, max_slowdown=1.1),
            FleetSettings(fine_tune=False, max_runtime_ms=120.0, strict=True, check_units=False),
        ]
    ),
)
def test_each_pair_is_told_what_it_is_told_alone(
    regressor: FlashRegressor, many: Made, as_alone: Checked, seed: int, wanted: FleetSettings
) -> None:
    rows = many(12, seed)
    as_alone(regressor, rows, wanted, recommend_many(regressor, rows, wanted).to_pandas())


@pytest.mark.parametrize("fine_tune", [None, True])
def test_so_are_pairs_that_are_fine_tuned(
    pretrained: FlashModel, many: Made, as_alone: Checked, fine_tune: bool | None
) -> None:
    assert pretrained.novelty is not None
    all_novel = replace(pretrained.novelty, held=np.zeros((1, 99)))
    trusted = replace(pretrained.calibration, mix=np.ones(6))
    model = FlashRegressor(replace(pretrained, novelty=all_novel, bare=None, environment=None, calibration=trusted))
    rows, wanted = many(10, 3), FleetSettings(fine_tune=fine_tune)
    plan = recommend_many(model, rows, wanted).to_pandas()
    as_alone(model, rows, wanted, plan)
    assert plan["fine_tuned"].any()
    assert plan["status"].nunique() > 1


def test_so_are_pairs_of_the_model_that_ships(as_alone: Checked) -> None:
    model = FlashRegressor.from_pretrained("serverless-memory")
    rng = np.random.default_rng(5)
    grid, profiles = model.model.grid, model.model.prior.gp.profiles
    parts = []
    for i in range(40):
        place = rng.integers(2)
        own = np.flatnonzero(grid["cpu_shares"].isna().to_numpy() == (place == 0))
        at = rng.permutation(own)[: rng.integers(1, 6)]
        told = np.exp(profiles[rng.integers(400), at] + rng.normal(0, 0.2, at.size))
        named = {"app": f"f{i}", "platform": ["lambda", "openwhisk-1"][place], "runtime_ms": told}
        parts.append(grid.iloc[at].assign(**named))
    rows = pd.concat(parts, ignore_index=True)
    rows.loc[rows.index[::9], "memory_mb"] = 1536.0
    plan = recommend_many(model, rows, PLAIN).to_pandas()
    as_alone(model, rows, PLAIN, plan)
    assert plan["app"].tolist() == [f"f{i}" for i in range(40)]
    assert (plan["status"] == "recommended").sum() > 10


@pytest.mark.parametrize("objective", ["cost", "runtime"])
def test_so_are_pairs_of_a_model_with_texts_and_empty_cells(
    mixed: FlashModel, synthetic: Callable[..., pd.DataFrame], as_alone: Checked, objective: str
) -> None:
    model = FlashRegressor(mixed)
    rows = synthetic(12, seed=4, metrics=False).groupby("app").sample(3, random_state=1)
    rows = rows.assign(platform="p", family=np.where(rows["memory_mb"] > 600, "big", "small"))
    rows["shares"] = np.where(rows["memory_mb"] > 600, np.nan, 256.0)
    rows.loc[rows.index[4], "family"] = "huge"
    wanted = replace(PLAIN, objective=objective)
    plan = recommend_many(model, rows, wanted).to_pandas()
    as_alone(model, rows, wanted, plan)
    assert plan["p_value"].isna().all()
    assert set(plan["family"].dropna()) <= {"big", "small"}
    assert (plan["status"] == "bad").sum() == 1


def test_so_are_run_times_that_no_answer_can_hold(regressor: FlashRegressor, many: Made, as_alone: Checked) -> None:
    rows = many(4, 14, odd=False).drop(columns=["user_cpu_ms_mean", "net_in_bytes_mean"])
    rows.loc[rows["app"] == "app-0002", "runtime_ms"] = 5e-324
    wanted = replace(PLAIN, check_units=False)
    plan = recommend_many(regressor, rows, wanted).to_pandas()
    as_alone(regressor, rows, wanted, plan)
    assert plan.loc[2, "status"] == "bad"
    assert "expected 0 < lower_ms" in plan.loc[2, "reason"]


@settings(max_examples=6)
@given(st.integers(0, 1000), st.integers(1, 11))
def test_no_pair_is_seen_by_another(
    regressor: FlashRegressor, many: Made, same_plan: Callable[..., None], seed: int, first: int
) -> None:
    rows = many(12, seed)
    whole = recommend_many(regressor, rows, PLAIN).to_pandas()
    apps = rows["app"].drop_duplicates().tolist()
    chosen = rows["app"].isin(apps[:first])
    parts = [recommend_many(regressor, rows[part], PLAIN).to_pandas() for part in (chosen, ~chosen)]
    apart = pd.concat(parts, ignore_index=True)
    same_plan(apart, whole)
    turned = recommend_many(regressor, rows.sample(frac=1.0, random_state=seed), PLAIN).to_pandas()
    assert sorted(turned["app"]) == sorted(whole["app"])


def test_the_order_of_pairs_is_that_of_their_first_rows(regressor: FlashRegressor, many: Made) -> None:
    rows = many(5, 2)
    mixed = rows.iloc[np.argsort(np.arange(len(rows)) % 3, kind="stable")]
    plan = recommend_many(regressor, mixed, PLAIN).to_pandas()
    assert plan["app"].tolist() == mixed["app"].drop_duplicates().tolist()


# bad pairs


BAD = {
    "no number": ({"runtime_ms": "fast"}, "expected a number, got 'fast'"),
    "not above 0": ({"runtime_ms": -1.0}, "got -1"),
    "empty": ({"runtime_ms": None}, "empty cell"),
    "out of range": ({"memory_mb": 9000.0}, "from 128 to 3008"),
    "no configuration": ({"memory_mb": "big"}, "'big'"),
    "unknown outcome": ({"outcome": "melted"}, "'melted'"),
    "another unit": ({"runtime_ms": 0.05}, "seconds"),
    "negative metric": ({"user_cpu_ms_mean": -3.0}, "at least 0"),
    "endless metric": ({"net_in_bytes_mean": np.inf}, "finite"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_pair_says_why_and_stops_no_other(
    regressor: FlashRegressor, many: Made, as_alone: Checked, kind: str
) -> None:
    change, words = BAD[kind]
    rows = many(6, 4, odd=False).astype(object)
    at = rows.index[rows["app"] == "app-0003"][-1]
    for column, value in change.items():
        rows.loc[at, column] = value
    plan = recommend_many(regressor, rows, PLAIN)
    told = plan.to_pandas()
    assert told["status"].eq("bad").tolist() == [app == "app-0003" for app in told["app"]]
    assert words in told.loc[3, "reason"]
    assert plan.summary.bad == 1
    as_alone(regressor, rows, PLAIN, told)


def test_many_bad_pairs_each_say_their_own_row(regressor: FlashRegressor, many: Made) -> None:
    rows = many(30, 5, odd=False)
    rows.loc[rows.groupby("app").tail(1).index[::2], "memory_mb"] = 1.0
    plan = recommend_many(regressor, rows, PLAIN).to_pandas()
    bad = plan["status"] == "bad"
    assert bad.sum() == 15
    counts = rows.groupby("app", sort=False).size().to_numpy()
    for number, reason in zip(counts[bad], plan.loc[bad, "reason"], strict=True):
        assert reason.startswith(f"shots: row {number}, column 'memory_mb'")


def test_names_and_platforms_are_checked(regressor: FlashRegressor, many: Made) -> None:
    rows = many(4, 6, odd=False)
    rows.loc[rows["app"] == "app-0001", "app"] = None
    wanted = replace(PLAIN, platforms=("east",))
    plan = recommend_many(regressor, rows.assign(platform="east"), wanted).to_pandas()
    assert plan["status"].eq("bad").tolist() == [False, True, False, False]
    assert "no name" in plan.loc[1, "reason"]
    plan = recommend_many(regressor, rows.assign(platform="moon"), wanted).to_pandas()
    assert plan["reason"].str.contains("'moon': expected one of east").tolist() == [True, False, True, True]


def test_prices_without_a_configuration_are_a_problem_of_its_pairs(
    regressor: FlashRegressor, many: Made, as_alone: Checked
) -> None:
    table = pd.DataFrame({"memory_mb": [128, 256, 512, 1024, 2048, 3008], "usd_per_hour": 0.1})
    rows = many(30, 7)
    wanted = replace(PLAIN, price=PriceTable.from_frame(table))
    plan = recommend_many(regressor, rows, wanted).to_pandas()
    as_alone(regressor, rows, wanted, plan)
    assert plan.loc[plan["status"] == "bad", "reason"].str.contains("no price for memory_mb=").all()
    assert {"bad", "recommended"} <= set(plan["status"])
    other = replace(PLAIN, price=PriceTable.from_frame(pd.DataFrame({"cores": [1], "usd_per_hour": 0.1})))
    with pytest.raises(ModelError, match="is no configuration column"):
        recommend_many(regressor, rows, other)


# nothing measured, and what runs today


def test_pairs_without_a_measurement_are_declined_as_one_alone_is(regressor: FlashRegressor, many: Made) -> None:
    rows = many(3, 8, odd=False)
    named = pd.DataFrame({"app": ["idle", "idle-too"], "platform": ["east", "east"]})
    plan = recommend_many(regressor, pd.concat([rows, named]), PLAIN, pairs=[("listed", None)]).to_pandas()
    alone = regressor.adapt().recommend()
    assert plan["app"].tolist()[3:] == ["idle", "idle-too", "listed"]
    for _, row in plan[3:].iterrows():
        assert (row["status"], row["reason"], row["mend"]) == ("declined", alone.reason, alone.mend)
    assert plan["shots"].tolist()[3:] == [0, 0, 0]


@pytest.mark.parametrize("outcome", ["timeout", "out_of_memory"])
@pytest.mark.parametrize("sizes", [[512.0], [300.0], [128.0, 256.0, 512.0, 1024.0, 2048.0, 3008.0]])
def test_so_are_pairs_that_only_failed(
    regressor: FlashRegressor, as_alone: Checked, outcome: str, sizes: list[float]
) -> None:
    rows = pd.DataFrame({"app": "a", "platform": "p", "memory_mb": sizes, "runtime_ms": np.nan, "outcome": outcome})
    plan = recommend_many(regressor, rows, PLAIN).to_pandas()
    as_alone(regressor, rows, PLAIN, plan)
    assert plan["shots"].tolist() == [0], "none has a run time"
    assert not set(plan["memory_mb"].dropna()) & set(sizes), "what failed is not recommended"


def test_what_runs_today_may_be_said(regressor: FlashRegressor, many: Made, as_alone: Checked) -> None:
    rows = many(20, 9)
    rng = np.random.default_rng(0)
    said = {app: rng.choice([128.0, 1024.0, 777.0, 64.0, np.nan]) for app in rows["app"].unique()}
    rows["today_memory_mb"] = rows["app"].map(said)
    plan = recommend_many(regressor, rows, PLAIN).to_pandas()
    unread = plan["app"].map(said) == 64.0
    assert plan.loc[unread, "status"].eq("bad").all()
    words = "today: column 'memory_mb': expected a number from 128 to 3008, got 64"
    assert plan.loc[unread, "reason"].str.startswith(words).all()
    told = {app: {"memory_mb": size} for app, size in said.items() if not np.isnan(size)}
    as_alone(regressor, rows[rows["today_memory_mb"] != 64.0], PLAIN, plan[~unread], told)
    assert {"bad", "recommended"} <= set(plan.loc[~unread, "status"])


def test_there_may_be_nothing_but_names_and_not_even_those(regressor: FlashRegressor, many: Made) -> None:
    rows = many(1, 0)
    plan = recommend_many(regressor, rows[:0], PLAIN, pairs=[("a", None), ("b", "p")])
    assert plan.to_pandas()["status"].tolist() == ["declined", "declined"]
    assert recommend_many(regressor, rows[:0], PLAIN).table.num_rows == 0


# columns and settings


def test_columns_may_be_called_otherwise(regressor: FlashRegressor, many: Made) -> None:
    rows = many(6, 10)
    other = rows.rename(columns={"app": "function", "platform": "region", "runtime_ms": "p50"}).assign(app="x")
    wanted = replace(PLAIN, app_column="function", platform_column="region", target="p50")
    one, two = recommend_many(regressor, rows, PLAIN), recommend_many(regressor, other, wanted)
    assert one.table.equals(two.table)
    assert one.summary == two.summary
    with pytest.raises(DataFormatError, match="no column 'nowhere' as you named it"):
        recommend_many(regressor, rows, replace(PLAIN, platform_column="nowhere"))
    with pytest.raises(DataFormatError, match="no column 'app'"):
        recommend_many(regressor, rows.drop(columns="app"), PLAIN)


def test_what_concerns_every_row_is_an_error(regressor: FlashRegressor, many: Made) -> None:
    rows = many(3, 11)
    for columns, words in (({"runtime_ms": "runtime_s"}, "in s"), ({"memory_mb": "cores"}, "'memory_mb'")):
        with pytest.raises(ShotsError, match=words):
            recommend_many(regressor, rows.rename(columns=columns), PLAIN)
    for column in ("app", "memory_mb", "runtime_ms"):
        with pytest.raises(ShotsError, match="two or more columns are called"):
            recommend_many(regressor, pd.concat([rows, rows[[column]]], axis=1), PLAIN)


def test_the_summary_is_what_the_rows_come_to(regressor: FlashRegressor, many: Made) -> None:
    rows = many(25, 12)
    rows.loc[rows["app"] == "app-0004", "memory_mb"] = 1.0
    plan = recommend_many(regressor, rows, PLAIN)
    frame, told = plan.to_pandas(), plan.summary
    counts = frame["status"].value_counts().to_dict()
    for name in ("recommended", "stay", "declined", "bad"):
        assert getattr(told, name) == counts.get(name, 0)
    assert told.pairs == len(frame) == 25
    moved = frame[frame["status"] == "recommended"]
    saved = (moved["today_usd_per_million"] - moved["usd_per_million"]).sum()
    assert told.saving_usd == pytest.approx(saved)
    assert told.priced == moved["today_usd_per_million"].notna().sum()
    assert told.measured + told.likely + told.uncertain == told.recommended + told.stay


def test_every_row_says_why(regressor: FlashRegressor, many: Made) -> None:
    plan = recommend_many(regressor, many(60, 13), PLAIN).to_pandas()
    assert plan["reason"].notna().all()
    assert plan.loc[plan["status"] == "stay", "reason"].str.contains("none that may be used instead").all()
    saved = plan[(plan["status"] == "recommended") & (plan["saving"] > 0.1)]
    assert saved["reason"].str.startswith("saves ").all()
    for _, row in saved.iterrows():
        assert f"{100 * row['saving']:.0f} %" in row["reason"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"objective": "joy"}, "objective"),
        ({"max_slowdown": 0.5}, "max_slowdown"),
        ({"part_pairs": 0}, "part_pairs"),
        ({"target": "app"}, "three different names"),
        ({"today_prefix": ""}, "today_prefix"),
    ],
)
def test_settings_check_themselves(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        FleetSettings(**arguments)


def test_settings_that_differ_are_told_apart() -> None:
    frame = pd.DataFrame({"memory_mb": [128, 256], "usd_per_hour": [0.1, 0.2]})
    every = [
        FleetSettings(),
        FleetSettings(objective="runtime"),
        FleetSettings(price=LambdaPrice()),
        FleetSettings(price=LambdaPrice.arm()),
        FleetSettings(price=LambdaPrice(usd_per_request=0.0)),
        FleetSettings(price=PriceTable.from_frame(frame)),
        FleetSettings(price=PriceTable.from_frame(frame.assign(usd_per_hour=[0.1, 0.3]))),
        FleetSettings(max_slowdown=1.5),
        FleetSettings(platforms=("a",)),
    ]
    told = [str(one.to_dict()) for one in every]
    assert len(set(told)) == len(every)
    assert FleetSettings(price=PriceTable.from_frame(frame)).to_dict() == every[5].to_dict()
