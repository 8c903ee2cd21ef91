"""Which configuration to use: a pure decision over predictions, with its reasons, or a refusal and what would help.

Enters: `Candidates` of one pair, prices, a limit, today's configuration. Leaves: `Recommendation` or `Declined`. No
model, no file and no randomness here: the same arguments give the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from flashfm.act import refusals
from flashfm.act.choose import CONFIDENCES, ENOUGH_SHOTS, OBJECTIVES, Aim, Chosen, Offers, Verdict, choose
from flashfm.act.decisions import Candidates, Declined, Estimate, Neighbour, NoveltyLike, Recommendation, Weighed
from flashfm.act.prices import Price, configuration_keys
from flashfm.act.reasons import why_choice, why_else, why_limit, why_saving
from flashfm.errors import ModelError

__all__ = ["ALTERNATIVES", "ENOUGH_SHOTS", "OBJECTIVES", "recommend"]

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
    aim = Aim(objective, price, max_slowdown, max_runtime_ms, strict, enough_shots)
    now = None if today is None else _locate(prediction, today)
    unlike = np.array([novelty is not None and novelty.novel])
    offers = Offers.of(prediction)
    found = choose(offers, aim, np.array([-1 if now is None else now]), unlike)
    refused = _refused(prediction, aim, found, novelty)
    if refused is not None:
        return refused
    rows = np.flatnonzero(found.usable[0])
    place = {int(row): i for i, row in enumerate(rows)}
    cost = None if found.cost is None else found.cost[0, rows]
    table = Weighed(prediction, rows, offers.runtime[0, rows], cost, objective)
    allowed, chosen = found.allowed[0, rows], place[int(found.choice[0])]
    at = place.get(int(found.now[0]))
    limit_ms = None if np.isnan(found.limit_ms[0]) else float(found.limit_ms[0])
    saving = None if np.isnan(found.saving[0]).any() else Estimate(*found.saving[0].tolist())
    confidence = CONFIDENCES[found.confidence[0]]
    order = [int(i) for i in np.argsort(table.goal[:, 0], kind="stable") if allowed[i] and i != chosen]
    shots = int(prediction.measured.sum())
    why = [
        *why_choice(table, chosen, price, allowed, order),
        *why_limit(table, limit_ms, max_slowdown, strict, allowed),
        *why_saving(table, chosen, at, allowed, saving, confidence),
        *why_else(prediction, found.fails[0], now, novelty, shots, nearest),
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


def _refused(prediction: Candidates, aim: Aim, found: Chosen, novelty: NoveltyLike | None) -> Declined | None:
    verdict = Verdict(int(found.verdict[0]))
    if verdict is Verdict.ALL_FAIL:
        return refusals.all_fail(len(prediction.outcome), prediction.outcome)
    if verdict is Verdict.NOVEL and novelty is not None:
        shots = int(prediction.measured.sum())
        return refusals.novel(novelty.p_value, novelty.distance, shots, aim.enough_shots)
    if verdict is Verdict.NO_PRICE:
        return refusals.no_price()
    if verdict is Verdict.UNPRICED:
        raise ModelError(next(iter(found.unpriced.values())))
    if verdict is Verdict.OUT_OF_REACH:
        i = int(found.closest[0])
        runtime = Estimate(*(float(v[i]) for v in (prediction.runtime_ms, prediction.lower_ms, prediction.upper_ms)))
        return refusals.out_of_reach(prediction.config(i), runtime, float(found.limit_ms[0]), strict=aim.strict)
    return None


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
        some = [prediction.config(i) for i in range(min(6, len(keys)))]
        raise ModelError(refusals.unknown_today(today, some, len(keys)))
    return keys.index(key)
