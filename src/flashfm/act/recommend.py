"""Which configuration to use: a pure decision over predictions, with its reasons, or a refusal and what would help.

Enters: `Candidates` of one pair, prices, a limit, today's configuration. Leaves: `Recommendation` or `Declined`. No
model, no file and no randomness here: the same arguments give the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from flashfm.act.decisions import (
    TIE,
    Candidates,
    Confidence,
    Declined,
    Estimate,
    Neighbour,
    NoveltyLike,
    Recommendation,
    Weighed,
)
from flashfm.act.prices import MEMORY, Price, configuration_keys
from flashfm.act.reasons import why_choice, why_else, why_limit, why_saving
from flashfm.act.words import label, millis, outcome_words, span
from flashfm.errors import ModelError
from flashfm.records import Outcome

OBJECTIVES = ("cost", "runtime")
ENOUGH_SHOTS = 3
"""Measurements from which on a pair that is unlike all known ones is answered."""
ALTERNATIVES = 3


def recommend(
    prediction: Candidates,
    *,
    objective: str = "cost",
    price: Price | None = None,
    max_slowdown: float | None = None,
    max_runtime_ms: float | None = None,
    strict: bool = False,
    today: Mapping[str, Any] | None = None,
    nearest: Sequence[Neighbour] = (),
    novelty: NoveltyLike | None = None,
    enough_shots: int = ENOUGH_SHOTS,
) -> Recommendation | Declined:
    """Choose the configuration that is best by expected value among those that meet the limit.

    Near-ties, within `TIE` of the best, go to the faster one where cost is the objective; where run time is, to the
    cheaper one, or to the smaller one without prices. Today's configuration stays if it is among them and moving
    surely saves neither cost nor time. A configuration that failed is never chosen, nor one with at most the memory of
    one that ran out of it.

    Args:
        prediction: run times of one pair in ms, with 90 % intervals.
        objective: `cost` (cheapest) or `runtime` (fastest).
        price: what a run costs; needed for `cost`.
        max_slowdown: the most times the fastest expected run time, at least 1; the fastest itself always meets it.
        max_runtime_ms: the longest run time in ms; give this or `max_slowdown`, not both.
        strict: the upper end of the interval must meet the limit, not only the expected value.
        today: the configuration in use, column -> value; savings are against it.
        nearest: known applications most alike, for the answer.
        novelty: how unlike the pair is to what the model knows.
        enough_shots: how many measured configurations a novel pair needs.

    Returns:
        `Declined` where every candidate failed, the pair is novel with too few measurements, there is no price for the
        objective, or no configuration meets the limit.

    Raises:
        ModelError: an objective or limit that is none, both limits, today's configuration is not among the candidates,
            or a configuration that `price` knows nothing of.
    """
    _check(objective, max_slowdown, max_runtime_ms)
    now = None if today is None else _locate(prediction, today)
    fails = _fails(prediction)
    usable = np.flatnonzero(~fails)
    if not usable.size:
        said = "; ".join(sorted({outcome_words(outcome) for outcome in prediction.outcome} - {"ok"}))
        return Declined(
            f"none of the {len(fails)} configurations ends well for this application ({said})",
            "measure larger configurations, or mend the application first",
        )
    shots = int(prediction.measured.sum())
    if novelty is not None and novelty.novel and shots < enough_shots and not prediction.measured[usable].all():
        return Declined(
            f"the application is unlike all that the model was pretrained on (p = {novelty.p_value:.2g},"
            f" distance {novelty.distance:.3g}), and {shots} measured configuration{'s' * (shots != 1)} cannot make up"
            f" for it; expected at least {enough_shots}",
            f"measure {enough_shots - shots} more, the next one as next_measurement() or `flashfm adapt` names it,"
            " and ask again",
        )
    if objective == "cost" and price is None:
        return Declined(
            "the objective is cost, and no prices were given",
            "give prices: aws-lambda, aws-lambda-arm or a table of yours; or ask for the objective runtime",
        )
    table = Weighed.of(prediction, usable, price, objective)
    limit_ms = max_runtime_ms if max_slowdown is None else max_slowdown * float(table.runtime[:, 0].min())
    allowed = np.ones(usable.size, dtype=np.bool_)
    if limit_ms is not None:
        bound = table.runtime[:, 2 if strict else 0]
        allowed = bound <= limit_ms * (1 + 1e-9)
        if max_slowdown is not None:
            allowed |= table.runtime[:, 0] == table.runtime[:, 0].min()
        if not allowed.any():
            return _out_of_reach(table, int(bound.argmin()), limit_ms, strict)
    at = None if now is None or fails[now] else int(np.flatnonzero(usable == now)[0])
    chosen = _choose(table, allowed, at)
    order = [int(i) for i in np.argsort(table.goal[:, 0], kind="stable") if allowed[i] and i != chosen]
    saving = None if at is None else _saving(table.goal, chosen, at)
    confidence = _confidence(table, chosen, at, saving, None if at is None or allowed[at] else limit_ms)
    why = [
        *why_choice(table, chosen, price, allowed, order),
        *why_limit(table, limit_ms, max_slowdown, strict, allowed),
        *why_saving(table, chosen, at, allowed, saving, confidence),
        *why_else(prediction, fails, now, novelty, shots, nearest),
    ]
    return Recommendation(
        choice=table.choice(chosen),
        objective=objective,
        today=None if at is None else table.choice(at),
        saving=saving,
        alternatives=tuple(table.choice(i) for i in order[:ALTERNATIVES]),
        nearest=tuple(nearest),
        why=tuple(why),
        confidence=confidence,
    )


def _check(objective: str, max_slowdown: float | None, max_runtime_ms: float | None) -> None:
    if objective not in OBJECTIVES:
        raise ModelError(f"objective: expected one of {', '.join(OBJECTIVES)}, got {objective!r}")
    if max_slowdown is not None and max_runtime_ms is not None:
        raise ModelError("limits: expected max_slowdown or max_runtime_ms, got both; give one")
    if max_slowdown is not None and not (math.isfinite(max_slowdown) and max_slowdown >= 1):
        raise ModelError(
            f"max_slowdown: expected a number of at least 1, as 1.2 for 20 % over the fastest, got {max_slowdown:g}"
        )
    if max_runtime_ms is not None and not (math.isfinite(max_runtime_ms) and max_runtime_ms > 0):
        raise ModelError(f"max_runtime_ms: expected milliseconds above 0, got {max_runtime_ms:g}")


def _locate(prediction: Candidates, today: Mapping[str, Any]) -> int:
    """The row of today's configuration."""
    columns = list(prediction.configurations.columns)
    unknown = [name for name in today if name not in columns]
    if unknown:
        raise ModelError(f"today: expected the configuration columns {', '.join(columns)}, got {unknown[0]!r} as well")
    asked = pd.DataFrame([{name: today.get(name) for name in columns}], columns=columns)
    keys = configuration_keys(prediction.configurations)
    key = configuration_keys(asked)[0]
    if key not in keys:
        some = "; ".join(label(prediction.config(i)) for i in range(min(6, len(keys))))
        raise ModelError(
            f"today: expected one of the {len(keys)} configurations, such as {some}; got {label(today) or 'nothing'}"
        )
    return keys.index(key)


def _fails(prediction: Candidates) -> Bool[np.ndarray, " config"]:
    """Where the pair fails or, having run out of memory with as much or more, is bound to."""
    fails = prediction.failed.copy()
    frame = prediction.configurations
    if MEMORY not in frame or not fails.any():
        return fails
    rest = configuration_keys(frame.drop(columns=MEMORY).assign(_=0))
    memory = frame[MEMORY].to_numpy(dtype=np.float64, na_value=np.nan)
    for i in np.flatnonzero(fails):
        if prediction.outcome[i] == Outcome.OUT_OF_MEMORY.value:
            same = np.array([key == rest[i] for key in rest], dtype=np.bool_)
            fails |= same & (memory <= memory[i]) & ~prediction.measured
    return fails


def _choose(table: Weighed, allowed: Bool[np.ndarray, " config"], at: int | None) -> int:
    """The best allowed row, or today's where moving is for nothing."""
    goal, other = table.goal, table.other
    near = np.flatnonzero(allowed & (goal[:, 0] <= goal[allowed, 0].min() * (1 + TIE)))

    def rank(i: int) -> tuple[Any, ...]:
        return (other[i, 0] if other is not None else table.size(i), goal[i, 0], table.size(i))

    chosen = min((int(i) for i in near), key=rank)
    if at is not None and at in near and at != chosen:
        savings = [_saving(values, chosen, at) for values in (goal, other) if values is not None]
        if not any(saving is not None and saving.lower > 0 for saving in savings):
            return at
    return chosen


def _saving(values: Float[np.ndarray, "config 3"], chosen: int, at: int) -> Estimate | None:
    """Share of today's value that the choice saves; None where today's may be 0."""
    if chosen == at:
        return Estimate(0.0, 0.0, 0.0)
    (expected, lower, upper), (expected_now, lower_now, upper_now) = values[chosen].tolist(), values[at].tolist()
    if lower_now <= 0:
        return None
    return Estimate(1 - expected / expected_now, 1 - upper / lower_now, 1 - lower / upper_now)


def _confidence(
    table: Weighed, chosen: int, at: int | None, saving: Estimate | None, missed_ms: float | None
) -> Confidence:
    """How sure it is that the choice is better than today's, or than the next best where nobody said what is used.

    Where today's misses the limit of `missed_ms`, better means to meet it.
    """
    if missed_ms is not None:
        sure = bool(table.runtime[chosen, 2] <= missed_ms)
    elif at is None:
        others = np.delete(table.goal, chosen, axis=0)
        sure = not len(others) or bool(table.goal[chosen, 2] <= others[:, 0].min())
    else:
        sure = chosen == at or (saving is not None and saving.lower > 0)
    if not sure:
        return "uncertain"
    return "measured" if table.measured(chosen) and (at is None or table.measured(at)) else "likely"


def _out_of_reach(table: Weighed, closest: int, limit_ms: float, strict: bool) -> Declined:
    runtime, name = table.runtime[closest], label(table.config(closest))
    said = (
        f"may take up to {millis(runtime[2])}" if strict else f"is expected to take {span(Estimate(*runtime.tolist()))}"
    )
    needed = runtime[2] if strict else runtime[0]
    looser = " or ask for the expected value alone," if strict and runtime[0] <= limit_ms else ""
    return Declined(
        f"no configuration {'surely ' * strict}runs within {millis(limit_ms)}: the closest, {name}, {said}",
        f"allow {math.ceil(needed)} ms,{looser} or measure {name}",
    )
