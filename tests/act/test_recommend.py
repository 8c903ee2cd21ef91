"""Recommendations: what is chosen, what never is, and what is said about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flashfm.act import Candidates, Declined, LambdaPrice, PriceTable, Recommendation, recommend
from flashfm.errors import ModelError

SIZES = [128, 256, 512, 1024, 2048, 3008]
PRICE = LambdaPrice()


@dataclass(frozen=True)
class Novelty:
    p_value: float
    distance: float
    novel: bool


NOVEL = Novelty(0.004, 5.2, True)


def function(cpu_ms: float, wait_ms: float, *, measured: int = 3008, width: float = 0.18, **more: Any) -> Candidates:
    """A function of some CPU time and some waiting where the CPU quota is memory / 1769, one size measured."""
    runtime = wait_ms + cpu_ms / np.minimum(1, np.array(SIZES) / 1769)
    known = np.array(SIZES) == measured
    spread = np.where(known, 0.02, width)
    columns = {"runtime_ms": runtime, "lower_ms": runtime * np.exp(-spread), "upper_ms": runtime * np.exp(spread)}
    return Candidates.from_frame(
        pd.DataFrame({"memory_mb": SIZES, **columns, "measured": known, **more}), ["memory_mb"]
    )


def chosen(answer: Recommendation | Declined) -> Recommendation:
    assert isinstance(answer, Recommendation), answer
    return answer


def declined(answer: Recommendation | Declined) -> Declined:
    assert isinstance(answer, Declined), answer
    assert answer.reason
    assert answer.mend
    return answer


@st.composite
def candidates(draw: st.DrawFn) -> Callable[[], Candidates]:
    """Not yet made, for shape checks must not run while examples are drawn."""
    n = draw(st.integers(1, 8))
    memory = draw(st.lists(st.sampled_from([64 * 2**i for i in range(9)]), min_size=n, max_size=n, unique=True))
    runtime = np.array(draw(st.lists(st.floats(1.0, 1e5), min_size=n, max_size=n)))
    spread = np.array(draw(st.lists(st.floats(0.0, 1.0), min_size=n, max_size=n)))
    measured = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    ended = draw(
        st.lists(st.sampled_from(["ok", "ok", "ok", "out_of_memory", "timeout", "error"]), min_size=n, max_size=n)
    )
    frame = pd.DataFrame({"memory_mb": memory})
    return partial(
        Candidates, frame, runtime, runtime * np.exp(-spread), runtime * np.exp(spread), measured, tuple(ended)
    )


OBJECTIVES = st.sampled_from(["cost", "runtime"])


@given(candidates(), OBJECTIVES, st.integers(0, 7))
def test_a_configuration_that_failed_is_never_recommended(
    drawn: Callable[[], Candidates], objective: str, now: int
) -> None:
    prediction = drawn()
    today = prediction.config(now % len(prediction.outcome))
    answer = recommend(prediction, objective=objective, price=PRICE, today=today)
    failed = [prediction.config(i) for i, bad in enumerate(prediction.failed) if bad]
    if len(failed) == len(prediction.outcome):
        declined(answer)
        return
    if isinstance(answer, Declined):
        assert "out_of_memory" in prediction.outcome
        return
    assert answer.config not in failed
    assert all(choice.config not in failed for choice in answer.alternatives)
    json.dumps(answer.to_dict(), allow_nan=False)


@given(candidates(), OBJECTIVES, st.floats(1.0, 1e5), st.floats(1.0, 3.0), st.booleans(), st.booleans())
def test_the_limit_holds(
    drawn: Callable[[], Candidates], objective: str, runtime: float, slowdown: float, absolute: bool, strict: bool
) -> None:
    prediction = drawn()
    limits = {"max_runtime_ms": runtime} if absolute else {"max_slowdown": slowdown}
    answer = recommend(prediction, objective=objective, price=PRICE, strict=strict, **limits)
    if isinstance(answer, Declined):
        declined(answer)
        return
    slack = 1 + 1e-6
    for choice in (answer.choice, *answer.alternatives):
        if absolute:
            bound = choice.runtime_ms.upper if strict else choice.runtime_ms.expected
            assert bound <= runtime * slack
        else:
            assert choice.slowdown <= slowdown * slack
            if strict and choice.slowdown > 1:
                assert choice.runtime_ms.upper <= slowdown * choice.runtime_ms.expected / choice.slowdown * slack


@given(candidates(), st.integers(0, 7))
def test_cost_is_least_and_run_time_is_least(drawn: Callable[[], Candidates], now: int) -> None:
    prediction = drawn()
    prediction = replace(prediction, outcome=("ok",) * len(prediction.outcome))
    today = prediction.config(now % len(prediction.outcome))
    cost = 1e6 * PRICE.per_run(prediction.configurations, prediction.runtime_ms)
    for given_today in (None, today):
        cheap = chosen(recommend(prediction, price=PRICE, today=given_today))
        assert cheap.choice.usd_per_million is not None
        assert cheap.choice.usd_per_million.expected <= 1.0101 * cost.min()
        fast = chosen(recommend(prediction, objective="runtime", today=given_today))
        assert fast.choice.runtime_ms.expected <= 1.0101 * prediction.runtime_ms.min()
        assert fast.choice.usd_per_million is None


@given(candidates(), OBJECTIVES, st.sampled_from([2.0**k for k in (-20, -3, -1, 1, 2, 11)]), st.integers(0, 7))
def test_the_scale_of_prices_changes_nothing(
    drawn: Callable[[], Candidates], objective: str, c: float, now: int
) -> None:
    prediction = drawn()
    today = prediction.config(now % len(prediction.outcome))
    dear = LambdaPrice(c * PRICE.usd_per_gb_second, c * PRICE.usd_per_request)
    one = recommend(prediction, objective=objective, price=PRICE, today=today)
    other = recommend(prediction, objective=objective, price=dear, today=today)
    assert type(one) is type(other)
    if isinstance(one, Recommendation) and isinstance(other, Recommendation):
        assert one.config == other.config
        assert one.saving == other.saving
        assert [a.config for a in one.alternatives] == [b.config for b in other.alternatives]


@given(candidates(), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(drawn: Callable[[], Candidates], random: Any) -> None:
    prediction = drawn()
    n = len(prediction.outcome)
    order = list(range(n))
    random.shuffle(order)
    index = np.array(order)
    shuffled = Candidates(
        prediction.configurations.iloc[index].reset_index(drop=True),
        prediction.runtime_ms[index],
        prediction.lower_ms[index],
        prediction.upper_ms[index],
        prediction.measured[index],
        tuple(prediction.outcome[i] for i in order),
    )
    one, other = recommend(prediction, price=PRICE), recommend(shuffled, price=PRICE)
    if isinstance(one, Declined):
        declined(other)
    else:
        assert one.config == chosen(other).config


@given(candidates(), st.integers(0, 7))
def test_the_saving_holds_the_expected_one_and_says_when_it_is_sure(drawn: Callable[[], Candidates], now: int) -> None:
    prediction = drawn()
    answer = recommend(prediction, price=PRICE, today=prediction.config(now % len(prediction.outcome)))
    assume(isinstance(answer, Recommendation) and answer.saving is not None)
    answer = chosen(answer)
    assert answer.saving is not None
    assert answer.saving.lower <= answer.saving.expected <= answer.saving.upper
    if answer.stay:
        assert answer.saving.lower == answer.saving.upper == 0
        assert answer.confidence in ("measured", "likely")
    elif answer.saving.lower > 0:
        assert answer.confidence in ("measured", "likely")
    else:
        assert answer.confidence == "uncertain"


def test_cost_with_everything_said() -> None:
    answer = chosen(
        recommend(function(60, 40), price=PRICE, today={"memory_mb": 3008}, nearest=[("app-17", "lambda", 0.42)])
    )
    assert answer.config == {"memory_mb": 128}
    assert answer.confidence == "likely"
    assert answer.saving is not None
    expected, now = 40 + 60 * 1769 / 128, 100.0
    ratio = (0.125 * 0.870 * 16.6667 + 0.2) / (3008 / 1024 * 0.1 * 16.6667 + 0.2)
    assert answer.choice.runtime_ms.expected == pytest.approx(expected)
    assert answer.choice.slowdown == pytest.approx(expected / now, rel=1e-4)
    assert answer.saving.expected == pytest.approx(1 - ratio, rel=1e-6)
    assert answer.nearest == (("app-17", "lambda", 0.42),)
    assert list(answer.why) == [
        "128 MB is expected to take 869 ms (726 to 1041), 8.69 times the fastest (2048 MB)",
        "a million runs cost 2.01 USD (1.71 to 2.37) at the prices of AWS Lambda (x86, us-east-1),"
        " the least of 6 configurations",
        "saves 61 % (53 % to 67 %) of the cost of 3008 MB, today's configuration",
        "takes 8.69 times as long as 3008 MB",
        "of the known applications, app-17 on lambda is most alike (distance 0.42)",
    ]
    assert [choice.config["memory_mb"] for choice in answer.alternatives] == [256, 512, 1024]


def test_the_limit_and_how_it_was_applied() -> None:
    loose = chosen(recommend(function(60, 40), price=PRICE, max_slowdown=1.5))
    assert loose.config == {"memory_mb": 1024}
    assert any(
        "limit 1.5 times the fastest, 150 ms: 3 of 6 configurations meet it by the expected" in w for w in loose.why
    )
    sure = chosen(recommend(function(60, 40), price=PRICE, max_slowdown=1.5, strict=True))
    assert sure.config == {"memory_mb": 2048}
    assert any("2 of 6 configurations meet it even at the upper end" in words for words in sure.why)
    none = chosen(recommend(function(60, 40, measured=0), price=PRICE, max_slowdown=1.1, strict=True))
    assert none.choice.slowdown == 1
    wide = chosen(recommend(function(60, 40, measured=0), price=PRICE, max_runtime_ms=160.0))
    assert wide.config == {"memory_mb": 1024}


def test_a_limit_that_nothing_meets_names_the_closest() -> None:
    answer = declined(recommend(function(60, 40), price=PRICE, max_runtime_ms=90.0))
    assert "within 90 ms: the closest, 2048 MB, is expected to take 100 ms (83.5 to 120)" in answer.reason
    assert "allow 100 ms" in answer.mend
    answer = declined(recommend(function(60, 40), price=PRICE, max_runtime_ms=101.0, strict=True))
    assert "no configuration surely runs within 101 ms: the closest, 3008 MB, may take up to 102 ms" in answer.reason
    assert "ask for the expected value alone" in answer.mend


def test_today_that_misses_the_limit_is_left() -> None:
    answer = chosen(recommend(function(60, 40), price=PRICE, max_runtime_ms=300.0, today={"memory_mb": 128}))
    assert answer.config == {"memory_mb": 512}
    assert answer.confidence == "likely"
    assert any("rises by 13 %" in words and "does not meet the limit" in words for words in answer.why)


def test_what_runs_today_stays_where_nothing_is_better() -> None:
    answer = chosen(recommend(function(2, 100, measured=128), price=PRICE, today={"memory_mb": 128}))
    assert answer.stay
    assert answer.confidence == "measured"
    assert any(
        "none of the 5 others that may be used is expected to save more than 1 % of the cost" in w for w in answer.why
    )
    flat = function(60, 40, measured=3008)
    as_fast = chosen(recommend(flat, objective="runtime", today={"memory_mb": 3008}))
    assert as_fast.stay, "2048 MB is as fast, but nothing is surely saved by moving"
    cheaper = chosen(recommend(flat, objective="runtime", price=PRICE, today={"memory_mb": 3008}))
    assert cheaper.config == {"memory_mb": 2048}, "it is as fast and surely costs less"


def test_near_ties() -> None:
    busy = function(60, 1)
    answer = chosen(recommend(busy, price=PRICE))
    assert answer.config == {"memory_mb": 1024}, "as cheap as 128 MB within 1 %, and much faster"
    assert any("128 MB is 1.0 % cheaper but takes 7.93 times as long" in words for words in answer.why)
    assert chosen(recommend(busy, objective="runtime")).config == {"memory_mb": 2048}, "as fast as 3008 MB, and smaller"


def test_a_saving_that_is_not_sure_is_said_to_be_so() -> None:
    answer = chosen(recommend(function(60, 40, width=0.9), price=PRICE, today={"memory_mb": 256}))
    assert answer.config == {"memory_mb": 128}
    assert answer.confidence == "uncertain"
    assert any("measure 128 MB once before you move" in words for words in answer.why)


def test_measured_is_said() -> None:
    answer = chosen(recommend(function(60, 40, measured=128), price=PRICE))
    assert answer.choice.measured
    assert answer.why[0].startswith("128 MB was measured at 869 ms")


def test_less_memory_than_what_ran_out_of_it_is_left_out() -> None:
    ended = ["ok", "out_of_memory", "ok", "ok", "ok", "ok"]
    answer = chosen(recommend(function(60, 40, outcome=ended), price=PRICE, today={"memory_mb": 256}))
    assert answer.config == {"memory_mb": 512}
    assert answer.today is None
    assert answer.saving is None
    assert "256 MB, today's configuration, fails: out of memory" in answer.why
    assert "left out because as much memory or more did not suffice: 128 MB" in answer.why
    measured = chosen(recommend(function(60, 40, outcome=ended, measured=128), price=PRICE))
    assert measured.config == {"memory_mb": 128}, "what was measured to end well does"
    slow = chosen(recommend(function(60, 40, outcome=["timeout", *["ok"] * 5]), price=PRICE))
    assert slow.config == {"memory_mb": 256}
    assert "left out because of timeout: 128 MB" in slow.why


def test_what_is_declined() -> None:
    assert "(timeout)" in declined(recommend(function(1, 1, outcome=["timeout"] * 6), price=PRICE)).reason
    assert "no prices" in declined(recommend(function(1, 1))).reason
    novel = declined(recommend(function(1, 1), price=PRICE, novelty=NOVEL))
    assert "p = 0.004" in novel.reason
    assert "1 measured configuration cannot" in novel.reason
    assert novel.mend.startswith("measure 2 more")
    assert novel.to_dict() == {"decision": "declined", "reason": novel.reason, "mend": novel.mend}
    enough = chosen(recommend(function(1, 1), price=PRICE, novelty=NOVEL, enough_shots=1))
    assert any("unlike all known" in words for words in enough.why)
    chosen(recommend(function(1, 1), price=PRICE, novelty=replace(NOVEL, novel=False)))
    chosen(recommend(function(1, 1, width=0.0), price=PRICE, novelty=replace(NOVEL, novel=False)))


def test_a_novel_application_that_was_measured_everywhere_is_answered() -> None:
    every = replace(function(60, 40, width=0.02), measured=np.ones(6, dtype=np.bool_))
    assert chosen(recommend(every, price=PRICE, novelty=NOVEL, enough_shots=9)).confidence == "measured"


def test_configurations_of_any_columns() -> None:
    frame = pd.DataFrame(
        {
            "kind": ["a", "a", "b"],
            "nodes": [2, 4, 2],
            "cores": [8.0, 8.0, np.nan],
            "runtime_ms": [4000.0, 2100.0, 3000.0],
            "lower_ms": [3900.0, 2000.0, 3100.0],
            "upper_ms": [4100.0, 2200.0, 3300.0],
        }
    )
    prices = PriceTable.from_frame({"kind": ["a", "b"], "nodes": [2, 2], "usd_per_hour": [1.0, 2.0]})
    prediction = Candidates.from_frame(frame, ["kind", "nodes", "cores"])
    assert prediction.lower_ms[2] == 3000.0, "an interval is widened to hold its expected value"
    with pytest.raises(ModelError, match="no price for kind=a, nodes=4"):
        recommend(prediction, price=prices)
    prices = PriceTable.from_frame({"kind": ["a", "a", "b"], "nodes": [2, 4, 2], "usd_per_hour": [1.0, 2.1, 1.2]})
    answer = chosen(recommend(prediction, price=prices, today={"kind": "a", "nodes": 2.0, "cores": 8}))
    assert answer.config == {"kind": "b", "nodes": 2}
    assert answer.why[0].startswith("kind=b, nodes=2 is expected to take 3000 ms")
    shares = pd.DataFrame(
        {"memory_mb": [512], "cpu_shares": [256], "runtime_ms": 9.0, "lower_ms": 8.0, "upper_ms": 10.0}
    )
    single = chosen(recommend(Candidates.from_frame(shares, ["memory_mb", "cpu_shares"]), price=PRICE))
    assert single.why[0] == "512 MB with 256 CPU shares is expected to take 9 ms (8 to 10), the fastest"
    assert single.confidence == "likely"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"objective": "balanced"}, "objective: expected one of cost, runtime, got 'balanced'"),
        ({"max_slowdown": 0.9}, "at least 1"),
        ({"max_slowdown": float("nan")}, "at least 1"),
        ({"max_runtime_ms": 0.0}, "above 0"),
        ({"max_runtime_ms": 5.0, "max_slowdown": 2.0}, "got both"),
        ({"today": {"memory_mb": 100}}, "expected one of the 6 configurations, such as 128 MB; .*got 100 MB"),
        ({"today": {"memory": 128}}, "expected the configuration columns memory_mb, got 'memory'"),
        ({"today": {}}, "got nothing"),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        recommend(function(60, 40), price=PRICE, **arguments)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"runtime_ms": 0.0}, "row 1: expected 0 < lower_ms"),
        ({"upper_ms": float("inf")}, "row 1"),
        ({"runtime_ms": float("nan")}, "row 1"),
        ({"outcome": "slow"}, "row 1, column 'outcome': expected one of ok, .*got 'slow'"),
    ],
)
def test_predictions_that_are_refused(change: dict[str, Any], said: str) -> None:
    frame = pd.DataFrame({"memory_mb": [1], "runtime_ms": [2.0], "lower_ms": [1.0], "upper_ms": [3.0], **change})
    with pytest.raises(ModelError, match=said):
        Candidates.from_frame(frame, ["memory_mb"])
    with pytest.raises(ModelError, match="no column 'lower_ms'"):
        Candidates.from_frame(frame.drop(columns="lower_ms"), ["memory_mb"])
    with pytest.raises(ModelError, match="at least one row"):
        Candidates.from_frame(frame.head(0), ["memory_mb"])


def test_the_run_time_of_a_failed_configuration_may_be_unknown() -> None:
    frame = pd.DataFrame({"memory_mb": [1, 2], "runtime_ms": [np.nan, 2.0], "outcome": ["error", None]})
    frame = frame.assign(lower_ms=frame["runtime_ms"], upper_ms=frame["runtime_ms"])
    assert chosen(recommend(Candidates.from_frame(frame, ["memory_mb"]), price=PRICE)).config == {"memory_mb": 2}
