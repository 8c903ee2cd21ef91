"""Which configuration to use, for many pairs at once: the arithmetic of decisions, without their words.

Enters: `Offers`, what each pair may be given and is expected to take there, an `Aim`, and today's configurations.
Leaves: `Chosen`, arrays with an entry for each pair. `flashfm.act.recommend` is this for one pair, with sentences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from flashfm.act.decisions import RUNS, TIE, Candidates, Confidence, plain_config
from flashfm.act.prices import MEMORY, Price, configuration_keys
from flashfm.errors import ModelError
from flashfm.records import Outcome

OBJECTIVES = ("cost", "runtime")
ENOUGH_SHOTS = 3
"""Measurements from which on a pair that is unlike all known ones is answered."""
OUTCOMES = tuple(outcome.value for outcome in Outcome)
"""Outcomes by their number in `Offers`; the first is `ok`."""
CONFIDENCES: tuple[Confidence, ...] = ("measured", "likely", "uncertain")
"""Confidences by their number in `Chosen`."""


class Verdict(IntEnum):
    """What came out for a pair."""

    CHOSEN = 0
    ALL_FAIL = 1
    NOVEL = 2
    NO_PRICE = 3
    OUT_OF_REACH = 4
    UNPRICED = 5
    """The prices know nothing of a configuration that the pair may be given."""


@dataclass(frozen=True)
class Aim:
    """What is to be small, at which prices, and within which limit.

    Raises:
        ModelError: an objective or a limit that is none, or both limits.
    """

    objective: str = "cost"
    """`cost` (cheapest) or `runtime` (fastest)."""
    price: Price | None = None
    """What a run costs; needed for `cost`."""
    max_slowdown: float | None = None
    """The most times the fastest expected run time, at least 1; the fastest itself always meets it."""
    max_runtime_ms: float | None = None
    """The longest run time in ms; this or `max_slowdown`, not both."""
    strict: bool = False
    """Whether the upper end of the interval must meet the limit, not only the expected value."""
    enough_shots: int = ENOUGH_SHOTS
    """How many measured configurations a novel pair needs."""

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ModelError(f"objective: expected one of {', '.join(OBJECTIVES)}, got {self.objective!r}")
        if self.max_slowdown is not None and self.max_runtime_ms is not None:
            raise ModelError("limits: expected max_slowdown or max_runtime_ms, got both; give one")
        if self.max_slowdown is not None and not (math.isfinite(self.max_slowdown) and self.max_slowdown >= 1):
            raise ModelError(
                "max_slowdown: expected a number of at least 1, as 1.2 for 20 % over the fastest,"
                f" got {self.max_slowdown:g}"
            )
        if self.max_runtime_ms is not None and not (math.isfinite(self.max_runtime_ms) and self.max_runtime_ms > 0):
            raise ModelError(f"max_runtime_ms: expected milliseconds above 0, got {self.max_runtime_ms:g}")


@dataclass(frozen=True, eq=False)
class Offers:
    """What is known and expected of many pairs in each of the same configurations."""

    configurations: pd.DataFrame
    """Shape (config, configuration column); empty cells where a column does not apply."""
    runtime: Float[np.ndarray, "pair config 3"]
    """In ms: expected, lower and upper end; `0 < lower <= expected <= upper` where a pair may use the configuration."""
    offered: Bool[np.ndarray, "pair config"]
    """Whether the pair may be given the configuration, or has tried it."""
    measured: Bool[np.ndarray, "pair config"]
    """Whether the run time was measured for this pair, not predicted."""
    outcome: Int[np.ndarray, "pair config"]
    """How it ended for this pair, a position in `OUTCOMES`; 0 also where it was never tried."""

    @classmethod
    def of(cls, prediction: Candidates) -> Offers:
        """The candidates of one pair."""
        runtime = np.stack([prediction.runtime_ms, prediction.lower_ms, prediction.upper_ms], axis=1)
        outcome = np.array([OUTCOMES.index(ended) for ended in prediction.outcome], dtype=np.int64)
        everywhere = np.ones(len(outcome), dtype=np.bool_)
        return cls(prediction.configurations, runtime[None], everywhere[None], prediction.measured[None], outcome[None])

    def __len__(self) -> int:
        return len(self.offered)


@dataclass(frozen=True, eq=False)
class Chosen:
    """What was decided for each pair; what follows `verdict` holds where that is `CHOSEN`."""

    verdict: Int[np.ndarray, " pair"]
    """Values of `Verdict`."""
    fails: Bool[np.ndarray, "pair config"]
    """Where the pair fails or, having run out of memory with as much or more, is bound to."""
    usable: Bool[np.ndarray, "pair config"]
    """Offered, and not failing."""
    cost: Float[np.ndarray, "pair config 3"] | None
    """USD for a million runs, NaN where not usable; None without prices."""
    limit_ms: Float[np.ndarray, " pair"]
    """The longest run time that is allowed; NaN without a limit."""
    allowed: Bool[np.ndarray, "pair config"]
    """Usable, and within the limit."""
    closest: Int[np.ndarray, " pair"]
    """The usable configuration that comes nearest to the limit; 0 where none is usable."""
    choice: Int[np.ndarray, " pair"]
    """The configuration to use."""
    now: Int[np.ndarray, " pair"]
    """Today's configuration; -1 where nobody said, or where it fails."""
    saving: Float[np.ndarray, "pair 3"]
    """Share of today's objective that the choice saves: expected and conservative ends; NaN where it cannot be said."""
    confidence: Int[np.ndarray, " pair"]
    """Positions in `CONFIDENCES`."""
    unpriced: Mapping[int, str] = field(default_factory=dict)
    """Configurations that the prices know nothing of, and what they say."""


def choose(offers: Offers, aim: Aim, now: Int[np.ndarray, " pair"], novel: Bool[np.ndarray, " pair"]) -> Chosen:
    """Choose for each pair the configuration that is best by expected value among those that meet the limit.

    Args:
        offers: what each pair may be given.
        aim: what is to be small, and the limit.
        now: position of today's configuration; -1 where nobody said.
        novel: whether the pair is unlike all known ones.

    Raises:
        ModelError: the prices refuse what they know.
    """
    pairs = np.arange(len(offers))
    fails = _fails(offers)
    usable = offers.offered & ~fails
    few = offers.measured.sum(axis=1) < aim.enough_shots
    verdict = np.zeros(len(offers), dtype=np.int64)
    if aim.objective == "cost" and aim.price is None:
        verdict[:] = Verdict.NO_PRICE
    verdict[novel & few & (usable & ~offers.measured).any(axis=1)] = Verdict.NOVEL
    verdict[~usable.any(axis=1)] = Verdict.ALL_FAIL
    cost, unpriced = _costs(offers, usable & (verdict == Verdict.CHOSEN)[:, None], aim.price)
    if unpriced:
        unknown = usable[:, list(unpriced)].any(axis=1)
        verdict[unknown & (verdict == Verdict.CHOSEN)] = Verdict.UNPRICED

    runtime = np.where(usable[..., None], offers.runtime, np.inf)
    limit, allowed, closest = _within(runtime, usable, aim)
    verdict[(verdict == Verdict.CHOSEN) & ~allowed.any(axis=1)] = Verdict.OUT_OF_REACH
    priced = None if cost is None else np.where(np.isnan(cost), np.inf, cost)
    goal, other = (priced, runtime) if aim.objective == "cost" and priced is not None else (runtime, priced)
    at = np.where((now >= 0) & usable[pairs, now], now, -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        choice = _best(goal, other, allowed, at, _sizes(offers.configurations))
        saving = _saving(goal, choice, at)
        sure = _sure(goal, runtime[pairs, choice, 2], choice, at, saving[:, 1], allowed, limit)
    known = offers.measured[pairs, choice] & ((at < 0) | offers.measured[pairs, at])
    confidence = np.where(sure, np.where(known, 0, 1), 2)
    return Chosen(verdict, fails, usable, cost, limit, allowed, closest, choice, at, saving, confidence, unpriced)


def _fails(offers: Offers) -> Bool[np.ndarray, "pair config"]:
    failed = offers.outcome > 0
    out = offers.outcome == OUTCOMES.index(Outcome.OUT_OF_MEMORY)
    frame = offers.configurations
    if MEMORY not in frame or not out.any():
        return failed
    rest = configuration_keys(frame.drop(columns=MEMORY).assign(_=0))
    number = {key: i for i, key in enumerate(dict.fromkeys(rest))}
    same = np.array([number[key] for key in rest])
    memory = frame[MEMORY].to_numpy(dtype=np.float64, na_value=np.nan)
    below = (same[:, None] == same) & (memory <= memory[:, None])
    bound = (out.astype(np.float64) @ below.astype(np.float64)) > 0
    return np.asarray(failed | (bound & ~offers.measured))


def _costs(
    offers: Offers, usable: Bool[np.ndarray, "pair config"], price: Price | None
) -> tuple[Float[np.ndarray, "pair config 3"] | None, dict[int, str]]:
    """Cost of what is usable; it rises with run time, so its ends are those of the run time."""
    if price is None:
        return None, {}
    unpriced: dict[int, str] = {}
    rows, at = np.nonzero(usable)
    try:
        told = _per_run(price, offers, rows, at)
    except ModelError as error:
        for i in np.unique(at):
            try:
                price.per_run(offers.configurations.iloc[[i]].reset_index(drop=True), np.ones(1))
            except ModelError as reason:
                unpriced[int(i)] = str(reason)
        if not unpriced:
            raise ModelError(str(error)) from None
        keep = ~np.isin(at, list(unpriced))
        rows, at = rows[keep], at[keep]
        told = _per_run(price, offers, rows, at)
    cost = np.full(offers.runtime.shape, np.nan)
    cost[rows, at] = RUNS * told
    return cost, unpriced


def _per_run(
    price: Price, offers: Offers, rows: Int[np.ndarray, " one"], at: Int[np.ndarray, " one"]
) -> Float[np.ndarray, "one 3"]:
    configurations = offers.configurations.iloc[at].reset_index(drop=True)
    runtime = offers.runtime[rows, at]
    return np.stack([price.per_run(configurations, runtime[:, j]) for j in range(3)], axis=1)


def _within(
    runtime: Float[np.ndarray, "pair config 3"], usable: Bool[np.ndarray, "pair config"], aim: Aim
) -> tuple[Float[np.ndarray, " pair"], Bool[np.ndarray, "pair config"], Int[np.ndarray, " pair"]]:
    """The limit of each pair, what meets it, and what comes nearest to it."""
    bound = runtime[..., 2 if aim.strict else 0]
    closest = bound.argmin(axis=1)
    fastest = runtime[..., 0].min(axis=1)
    if aim.max_slowdown is not None:
        limit = np.where(np.isfinite(fastest), aim.max_slowdown * fastest, np.nan)
    elif aim.max_runtime_ms is not None:
        limit = np.full(len(runtime), aim.max_runtime_ms)
    else:
        return np.full(len(runtime), np.nan), usable, closest
    allowed = usable & (bound <= limit[:, None] * (1 + 1e-9))
    if aim.max_slowdown is not None:
        allowed |= usable & (runtime[..., 0] == fastest[:, None])
    return limit, allowed, closest


def _best(
    goal: Float[np.ndarray, "pair config 3"],
    other: Float[np.ndarray, "pair config 3"] | None,
    allowed: Bool[np.ndarray, "pair config"],
    at: Int[np.ndarray, " pair"],
    size: Int[np.ndarray, " config"],
) -> Int[np.ndarray, " pair"]:
    """The best allowed configuration, or today's where moving is for nothing.

    Of near-ties the least by the other measure counts, then by the goal, then by size, then the first.
    """
    pairs = np.arange(len(goal))
    expected = np.where(allowed, goal[..., 0], np.inf)
    near = allowed & (expected <= expected.min(axis=1, keepdims=True) * (1 + TIE))
    ranks = np.broadcast_to(size.astype(np.float64), expected.shape)
    left = near
    for measure in (ranks if other is None else other[..., 0], expected, ranks):
        least = np.where(left, measure, np.inf)
        left = left & (least == least.min(axis=1, keepdims=True))
    choice = left.argmax(axis=1)
    lower = [_saving(values, choice, at)[:, 1] for values in (goal, other) if values is not None]
    gains = np.any([one > 0 for one in lower], axis=0)
    stays = (at >= 0) & near[pairs, at] & ~gains
    return np.where(stays, at, choice)


def _saving(
    values: Float[np.ndarray, "pair config 3"], choice: Int[np.ndarray, " pair"], at: Int[np.ndarray, " pair"]
) -> Float[np.ndarray, "pair 3"]:
    """Share of today's value that the choice saves; NaN where nobody said what runs today, or where it may be 0."""
    pairs = np.arange(len(values))
    (expected, lower, upper), (expected_now, lower_now, upper_now) = values[pairs, choice].T, values[pairs, at].T
    share = 1 - np.stack([expected / expected_now, upper / lower_now, lower / upper_now], axis=1)
    share[lower_now <= 0] = np.nan
    share[choice == at] = 0.0
    share[at < 0] = np.nan
    return np.asarray(share)


def _sure(
    goal: Float[np.ndarray, "pair config 3"],
    upper_ms: Float[np.ndarray, " pair"],
    choice: Int[np.ndarray, " pair"],
    at: Int[np.ndarray, " pair"],
    saved: Float[np.ndarray, " pair"],
    allowed: Bool[np.ndarray, "pair config"],
    limit_ms: Float[np.ndarray, " pair"],
) -> Bool[np.ndarray, " pair"]:
    """Whether the choice is better than today's, or than the next best where nobody said what is used.

    Where today's misses the limit, better means to meet it.
    """
    pairs = np.arange(len(goal))
    others = goal[..., 0].copy()
    others[pairs, choice] = np.inf
    alone = goal[pairs, choice, 2] <= others.min(axis=1)
    against = (choice == at) | (saved > 0)
    misses = (at >= 0) & ~allowed[pairs, at]
    return np.asarray(np.where(misses, upper_ms <= limit_ms, np.where(at < 0, alone, against)))


def _sizes(configurations: pd.DataFrame) -> Int[np.ndarray, " config"]:
    """Rank of each configuration by its numbers, in order of the columns: what is smaller sorts first."""
    rows = configurations.to_dict("records")
    sizes = [tuple(float(v) for v in plain_config(row).values() if not isinstance(v, str)) for row in rows]
    rank = {size: i for i, size in enumerate(sorted(set(sizes)))}
    return np.array([rank[size] for size in sizes], dtype=np.int64)
