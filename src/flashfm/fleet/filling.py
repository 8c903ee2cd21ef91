"""Decisions into a plan: the rows of a draft, filled in many at a time.

Enters: what is expected of pairs, and an aim. Leaves: nothing; the draft that was given is filled in. What is decided
is `flashfm.act.choose`'s; only its figures and short reasons are written down here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from flashfm.act import Declined, Recommendation, refusals
from flashfm.act.choose import CONFIDENCES, OUTCOMES, Aim, Chosen, Verdict, choose
from flashfm.act.decisions import TIE, Estimate, plain_config, unsound
from flashfm.act.words import label, outcome_words, share
from flashfm.adapt.adapted import AdaptedRegressor
from flashfm.adapt.many import Batch
from flashfm.adapt.shots import ManyShots, PairShots
from flashfm.errors import ModelError
from flashfm.fleet.plan import BAD, DECLINED, RECOMMENDED, STAY, TODAY, Draft
from flashfm.fleet.today import Today
from flashfm.models.flash import FlashModel
from flashfm.records import Outcome
from flashfm.tasks.config_search import Shots

RUNTIME = ("runtime_ms", "lower_ms", "upper_ms")
USD = ("usd_per_million", "usd_per_million_lower", "usd_per_million_upper")
SAVING = ("saving", "saving_lower", "saving_upper")


def fill(draft: Draft, batch: Batch, today: Today, config: Int[np.ndarray, " every"], aim: Aim) -> None:
    """Decide for the pairs of a batch.

    Args:
        draft: is filled in.
        batch: pairs with shots, and what is expected of them.
        today: what runs.
        config: its position among the configurations that were read, for every pair of the draft; -1 where it is none.
        aim: what is to be small, and the limit.
    """
    offers, pair = batch.offers, batch.pair
    rows = np.arange(len(pair))
    said, number = today.said[pair], config[pair]
    place = np.where(said & (number >= 0), batch.places[number], -1)
    lost = said & ((place < 0) | ~offers.offered[rows, place])
    odd = offers.offered & (offers.outcome == 0)
    odd &= ~((offers.runtime[..., 1] > 0) & np.isfinite(offers.runtime[..., 2]))
    now = np.where(said, np.where(lost, -1, place), batch.shots.config[:, 0])
    found = choose(offers, aim, now, batch.novel)
    draft.numbers["p_value"][pair] = batch.p_value
    draft.fine_tuned[pair] = batch.fine_tuned
    known = now >= 0
    draft.configure(pair[known], offers.configurations, now[known], TODAY)
    chosen = (found.verdict == Verdict.CHOSEN) & ~lost & ~odd.any(axis=1)
    at, choice = np.flatnonzero(chosen), found.choice[chosen]
    draft.status[pair[at]] = np.where(choice == found.now[at], STAY, RECOMMENDED)
    draft.confidence[pair[at]] = found.confidence[at]
    draft.measured[pair[at]] = offers.measured[at, choice]
    draft.configure(pair[at], offers.configurations, choice)
    draft.several(RUNTIME, pair[at], offers.runtime[at, choice])
    draft.several(SAVING, pair[at], found.saving[at])
    runs = at[found.now[at] >= 0]
    draft.numbers[f"{TODAY}runtime_ms"][pair[runs]] = offers.runtime[runs, found.now[runs], 0]
    if found.cost is not None:
        draft.several(USD, pair[at], found.cost[at, choice])
        draft.numbers[f"{TODAY}usd_per_million"][pair[runs]] = found.cost[runs, found.now[runs], 0]
    _say(draft, batch, found, at, now, aim)
    for i in np.flatnonzero(~chosen & ~lost):
        _refuse(draft, batch, found, int(i), aim)
    for i in np.flatnonzero(lost):
        places = np.flatnonzero(offers.offered[i])
        some = [plain_config(offers.configurations.iloc[p].to_dict()) for p in places[:6]]
        words = refusals.unknown_today(today.of(int(pair[i])) or {}, some, len(places))
        draft.refuse(int(pair[i]), BAD, words)
    for i in np.flatnonzero(odd.any(axis=1)):
        first = int(odd[i].argmax())
        expected, lower, upper = offers.runtime[i, first].tolist()
        draft.refuse(int(pair[i]), BAD, unsound(int(offers.offered[i, :first].sum()), lower, expected, upper))


def _refuse(draft: Draft, batch: Batch, found: Chosen, i: int, aim: Aim) -> None:
    """Why one pair of a batch has no recommendation."""
    offers, pair, verdict = batch.offers, int(batch.pair[i]), Verdict(int(found.verdict[i]))
    given = offers.offered[i]
    if verdict is Verdict.UNPRICED:
        unknown = next(config for config in found.unpriced if found.usable[i, config])
        draft.refuse(pair, BAD, found.unpriced[unknown])
        return
    if verdict is Verdict.ALL_FAIL:
        declined = refusals.all_fail(int(given.sum()), [OUTCOMES[o] for o in offers.outcome[i, given]])
    elif verdict is Verdict.NOVEL:
        shots = int(offers.measured[i].sum())
        declined = refusals.novel(float(batch.p_value[i]), float(batch.distance[i]), shots, aim.enough_shots)
    elif verdict is Verdict.NO_PRICE:
        declined = refusals.no_price()
    else:
        closest = int(found.closest[i])
        config = plain_config(offers.configurations.iloc[closest].to_dict())
        runtime = Estimate(*offers.runtime[i, closest].tolist())
        declined = refusals.out_of_reach(config, runtime, float(found.limit_ms[i]), strict=aim.strict)
    draft.refuse(pair, DECLINED, declined.reason, declined.mend)


def _say(
    draft: Draft,
    batch: Batch,
    found: Chosen,
    at: Int[np.ndarray, " chosen"],
    now: Int[np.ndarray, " pair"],
    aim: Aim,
) -> None:
    """Why each recommended configuration is, in a few words, and what would make it surer."""
    offers = batch.offers
    names = [label(plain_config(row)) for row in offers.configurations.to_dict("records")]
    what = "cost" if aim.objective == "cost" else "run time"
    kept = f"none that may be used instead is expected to save more than {share(TIE)} of the {what}"
    pairs, choices, runs = batch.pair[at].tolist(), found.choice[at].tolist(), found.now[at].tolist()
    uncertain = (CONFIDENCES.index("uncertain") == found.confidence[at]) & ~offers.measured[at, found.choice[at]]
    misses = (found.now[at] >= 0) & ~found.allowed[at, found.now[at]]
    savings = found.saving[at].tolist()
    for j, (pair, choice, run, saved) in enumerate(zip(pairs, choices, runs, savings, strict=True)):
        if run == choice:
            draft.reason[pair] = kept
        elif run >= 0:
            draft.reason[pair] = saving_words(saved, what, names[run], misses=bool(misses[j]))
            if uncertain[j] and saved[0] > 0:
                draft.mend[pair] = f"measure {names[choice]} once before you move"
        elif (place := int(now[at[j]])) >= 0:
            outcome = int(offers.outcome[at[j], place])
            ended = OUTCOMES[outcome] if outcome else Outcome.OUT_OF_MEMORY.value
            draft.reason[pair] = f"{names[place]}, today's configuration, fails: {outcome_words(ended)}"


def saving_words(saved: Sequence[float], what: str, today: str, *, misses: bool) -> str:
    """What moving from today's configuration brings."""
    expected, lower, upper = saved
    beside = ", which does not meet the limit" * misses
    if expected != expected:
        return f"instead of {today}{beside}"
    if expected >= -TIE:
        return f"saves {share(expected)} ({share(lower)} to {share(upper)}) of the {what} of {today}{beside}"
    return f"{what} rises by {share(-expected)} ({share(-upper)} to {share(-lower)}) over {today}{beside}"


def fill_unmeasured(draft: Draft, model: FlashModel, read: ManyShots, today: Today, aim: Aim) -> None:
    """Answer for pairs of which nothing ended well; those alike get one answer."""
    width = len(model.metric_names)
    none = Shots(np.empty((1, 0), np.int64), np.empty((1, 0)), np.empty((1, 0, width)))
    lacking = np.flatnonzero(read.count == 0)
    known: dict[object, Any] = {}
    bounds = np.searchsorted(read.failed_pair, [lacking, lacking + 1])
    for pair, start, end in zip(lacking.tolist(), *bounds.tolist(), strict=True):
        if pair in read.problems:
            continue
        places, outcomes = read.failed_config[start:end], read.failed_outcome[start:end]
        now = today.of(pair)
        key = (tuple(places.tolist()), tuple(outcomes.tolist()), None if now is None else tuple(now.items()))
        if key not in known:
            failed = read.configurations.iloc[places].reset_index(drop=True)
            words = [OUTCOMES[o] for o in outcomes]
            adapted = AdaptedRegressor(
                model, PairShots(("", None), none, failed.assign(outcome=words) if words else failed)
            )
            try:
                known[key] = adapted.recommend(
                    aim.objective,
                    price=aim.price,
                    max_slowdown=aim.max_slowdown,
                    max_runtime_ms=aim.max_runtime_ms,
                    strict=aim.strict,
                    today=now,
                )
            except ModelError as error:
                known[key] = str(error)
        decision = known[key]
        if isinstance(decision, str):
            draft.refuse(pair, BAD, decision)
        elif isinstance(decision, Declined):
            draft.refuse(pair, DECLINED, decision.reason, decision.mend)
        else:
            _copy(draft, pair, decision)


def _copy(draft: Draft, pair: int, decision: Recommendation) -> None:
    """Say what was decided of one pair alone."""
    one = np.array([pair])
    draft.status[pair] = STAY if decision.stay else RECOMMENDED
    draft.confidence[pair] = CONFIDENCES.index(decision.confidence)
    draft.reason[pair] = decision.why[0]
    for prefix, choice in (("", decision.choice), (TODAY, decision.today)):
        if choice is None:
            continue
        frame = pd.DataFrame([{column.name: choice.config.get(column.name) for column in draft.space.columns}])
        draft.configure(one, frame, np.array([0]), prefix)
        draft.numbers[f"{prefix}runtime_ms"][pair] = choice.runtime_ms.expected
        if choice.usd_per_million is not None:
            draft.numbers[f"{prefix}usd_per_million"][pair] = choice.usd_per_million.expected
    told = ((RUNTIME, decision.choice.runtime_ms), (USD, decision.choice.usd_per_million), (SAVING, decision.saving))
    for names, estimate in told:
        if estimate is not None:
            draft.several(names, one, np.array([[estimate.expected, estimate.lower, estimate.upper]]))
