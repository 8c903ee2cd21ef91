"""Decisions for many pairs at once are those for each alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.act import Candidates, Declined, LambdaPrice, PriceTable, recommend
from flashfm.act.choose import CONFIDENCES, OUTCOMES, Aim, Offers, Verdict, choose
from flashfm.errors import ModelError

SIZES = [128.0, 256.0, 512.0, 1024.0, 1024.0, 3008.0]
GRID = pd.DataFrame({"memory_mb": SIZES, "cpu_shares": [np.nan, np.nan, 256.0, 256.0, np.nan, 512.0]})
TABLE = PriceTable.from_frame(pd.DataFrame({"memory_mb": SIZES[:4] + SIZES[5:], "usd_per_hour": [1, 1, 2.0, 4, 0]}))


@dataclass(frozen=True)
class Novelty:
    p_value: float = 0.01
    distance: float = 4.0
    novel: bool = True


def some(seed: int, pairs: int = 25) -> Offers:
    """Pairs with near-ties, failures and few candidates among them."""
    rng = np.random.default_rng(seed)
    base = np.exp(rng.normal(5, 1, (pairs, 1)))
    steps = rng.choice([1.0, 1.004, 1.02, 1.5, 3.0], (pairs, len(GRID)))
    spread = np.exp(rng.choice([0.0, 0.01, 0.2], (pairs, len(GRID))))
    runtime = np.stack([base * steps, base * steps / spread, base * steps * spread], axis=-1)
    by_memory = rng.random(pairs) < 0.3
    runtime[by_memory] /= np.array(SIZES)[:, None]
    offered = rng.random((pairs, len(GRID))) < 0.8
    offered[np.arange(pairs), rng.integers(len(GRID), size=pairs)] = True
    outcome = np.where(rng.random(offered.shape) < 0.2, rng.integers(1, len(OUTCOMES), offered.shape), 0)
    measured = offered & (outcome == 0) & (rng.random(offered.shape) < 0.3)
    return Offers(GRID, runtime, offered, measured, np.where(offered, outcome, 0))


@settings(max_examples=16)
@given(
    st.integers(0, 10_000),
    st.sampled_from(
        [
            Aim(price=LambdaPrice()),
            Aim(price=TABLE),
            Aim(),
            Aim("runtime"),
            Aim("runtime", LambdaPrice(), max_slowdown=1.02),
            Aim(price=LambdaPrice(), max_slowdown=1.0, strict=True),
            Aim(price=TABLE, max_runtime_ms=150.0),
            Aim(price=LambdaPrice(), max_runtime_ms=90.0, strict=True),
        ]
    ),
)
def test_each_of_many_is_decided_as_alone(seed: int, aim: Aim) -> None:
    offers = some(seed)
    rng = np.random.default_rng(seed + 1)
    now = np.array([rng.choice([-1, *np.flatnonzero(given)]) for given in offers.offered])
    novel = rng.random(len(offers)) < 0.3
    found = choose(offers, aim, now, novel)
    for i in range(len(offers)):
        at = np.flatnonzero(offers.offered[i])
        columns = (offers.runtime[i, at, j] for j in range(3))
        ended = tuple(OUTCOMES[o] for o in offers.outcome[i, at])
        one = Candidates(GRID.iloc[at].reset_index(drop=True), *columns, offers.measured[i, at], ended)
        alone = recommend(
            one,
            objective=aim.objective,
            price=aim.price,
            max_slowdown=aim.max_slowdown,
            max_runtime_ms=aim.max_runtime_ms,
            strict=aim.strict,
            today=None if now[i] < 0 else one.config(int(np.flatnonzero(at == now[i])[0])),
            novelty=Novelty() if novel[i] else None,
        )
        if isinstance(alone, Declined):
            assert found.verdict[i] != Verdict.CHOSEN
            continue
        assert found.verdict[i] == Verdict.CHOSEN
        choice = int(found.choice[i])
        assert alone.config == one.config(int(np.flatnonzero(at == choice)[0]))
        assert alone.stay == (choice == found.now[i])
        assert alone.confidence == CONFIDENCES[found.confidence[i]]
        saving = None if alone.saving is None else list(alone.saving.to_dict().values())
        assert (saving is None) == bool(np.isnan(found.saving[i]).any())
        assert saving is None or found.saving[i].tolist() == saving
        if alone.choice.usd_per_million is not None:
            assert found.cost is not None
            assert found.cost[i, choice].tolist() == list(alone.choice.usd_per_million.to_dict().values())


def test_a_configuration_without_a_price_is_a_matter_of_its_pairs() -> None:
    offers = some(3)
    partial = PriceTable.from_frame(pd.DataFrame({"memory_mb": SIZES[:3], "usd_per_second": [1, 2, 3]}))
    found = choose(offers, Aim(price=partial), np.full(len(offers), -1), np.zeros(len(offers), dtype=np.bool_))
    assert sorted(found.unpriced) == [3, 4, 5]
    assert all("no price for memory_mb=" in words for words in found.unpriced.values())
    touched = found.usable[:, 3:].any(axis=1)
    assert (found.verdict[touched] == Verdict.UNPRICED).all()
    assert (found.verdict[~touched & found.usable.any(axis=1)] == Verdict.CHOSEN).all()
    one = Candidates(GRID, *offers.runtime[0].T, np.zeros(6, dtype=np.bool_), ("ok",) * 6)
    with pytest.raises(ModelError, match="no price for memory_mb=1024"):
        recommend(one, price=partial)


def test_a_price_that_refuses_at_random_is_an_error() -> None:
    class Odd:
        name = "odd"

        def per_run(self, configurations: pd.DataFrame, runtime_ms: np.ndarray) -> np.ndarray:
            if len(configurations) > 1:
                raise ModelError("odd: only one at a time")
            return np.ones(len(configurations))

    offers = some(4)
    with pytest.raises(ModelError, match="only one at a time"):
        choose(offers, Aim(price=Odd()), np.full(len(offers), -1), np.zeros(len(offers), dtype=np.bool_))


@pytest.mark.parametrize("arguments", [{"objective": "joy"}, {"max_slowdown": 0.9}, {"max_runtime_ms": np.inf}])
def test_an_aim_checks_itself(arguments: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        replace(Aim(), **arguments)
