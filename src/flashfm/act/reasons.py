"""Why a configuration was chosen, in short sentences that each rest on figures.

Enters: the weighed candidates and what was chosen. Leaves: sentences; no decision is made here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from flashfm.act.decisions import TIE, Candidates, Confidence, Estimate, Neighbour, NoveltyLike, Weighed
from flashfm.act.prices import Price
from flashfm.act.words import label, millis, outcome_words, ratio, share, span, usd
from flashfm.records import Outcome


def why_choice(
    table: Weighed, chosen: int, price: Price | None, allowed: Bool[np.ndarray, " config"], order: list[int]
) -> list[str]:
    """What the choice takes and costs, and what it was preferred to."""
    fastest = int(table.runtime[:, 0].argmin())
    slowdown = float(table.runtime[chosen, 0] / table.runtime[fastest, 0])
    verb = "was measured at" if table.measured(chosen) else "is expected to take"
    against = (
        "the fastest" if chosen == fastest else f"{ratio(slowdown)} times the fastest ({label(table.config(fastest))})"
    )
    said = [f"{label(table.config(chosen))} {verb} {span(Estimate(*table.runtime[chosen].tolist()))}, {against}"]
    if table.cost is None or price is None:
        return said
    cost, n = table.cost[:, 0], int(allowed.sum())
    least = float(cost[allowed].min())
    near_least = "the least" if cost[chosen] <= least else f"within {share(TIE)} of the least"
    among = f", {near_least} of {n} configurations" if cost[chosen] <= least * (1 + TIE) and n > 1 else ""
    low, high = usd(table.cost[chosen, 1]), usd(table.cost[chosen, 2])
    said.append(f"a million runs cost {usd(cost[chosen])} USD ({low} to {high}) at the prices of {price.name}{among}")
    if order and table.goal[order[0], 0] < table.goal[chosen, 0]:
        near = order[0]
        gain = share(1 - table.goal[near, 0] / table.goal[chosen, 0])
        longer = table.runtime[near, 0] / table.runtime[chosen, 0]
        if table.objective == "cost" and longer > 1:
            said.append(f"{label(table.config(near))} is {gain} cheaper but takes {ratio(longer)} times as long")
        dearer = cost[near] / cost[chosen] if cost[chosen] > 0 else 0.0
        if table.objective == "runtime" and dearer > 1:
            said.append(f"{label(table.config(near))} is {gain} faster but costs {ratio(dearer)} times as much")
    return said


def why_limit(
    table: Weighed,
    limit_ms: float | None,
    max_slowdown: float | None,
    strict: bool,
    allowed: Bool[np.ndarray, " config"],
) -> list[str]:
    """Which limit was applied, how, and how many met it."""
    if limit_ms is None:
        return []
    times = "" if max_slowdown is None else f"{max_slowdown:g} times the fastest, "
    by = "even at the upper end of the interval" if strict else "by the expected run time"
    said = f"limit {times}{millis(limit_ms)}: {int(allowed.sum())} of {allowed.size} configurations meet it {by}"
    beyond = strict and max_slowdown is not None and int(allowed.sum()) == 1
    if beyond and table.runtime[int(np.flatnonzero(allowed)[0]), 2] > limit_ms:
        return [f"limit {times}{millis(limit_ms)}: none is sure to meet it, so the fastest expected is taken"]
    return [said]


def why_saving(
    table: Weighed,
    chosen: int,
    at: int | None,
    allowed: Bool[np.ndarray, " config"],
    saving: Estimate | None,
    confidence: Confidence,
) -> list[str]:
    """What moving from today's configuration brings."""
    if at is None:
        return []
    what = "cost" if table.objective == "cost" else "run time"
    if chosen == at:
        n = int(allowed.sum()) - 1
        others = f"none of the {n} others that may be used is" if n > 1 else "the one other that may be used is not"
        rest = f"{others} expected to save more than {share(TIE)} of the {what}" if n else "no other may be used"
        return [f"it is what runs today, and {rest}"]
    now = f"{label(table.config(at))}, today's configuration"
    said = []
    if saving is not None and saving.expected >= -TIE:
        bounds = f"{share(saving.expected)} ({share(saving.lower)} to {share(saving.upper)})"
        said.append(f"saves {bounds} of the {what} of {now}")
    elif saving is not None:
        more = f"{share(-saving.expected)} ({share(-saving.upper)} to {share(-saving.lower)})"
        said.append(f"{what} rises by {more} over {now}" + ", which does not meet the limit" * (not allowed[at]))
    if confidence == "uncertain" and saving is not None and saving.expected > 0:
        mend = "" if table.measured(chosen) else f"; measure {label(table.config(chosen))} once before you move"
        said.append(f"the intervals overlap, so the saving is not sure{mend}")
    other = table.other
    if other is not None and other[at, 0] > 0 and abs(other[chosen, 0] / other[at, 0] - 1) > TIE:
        verb, measure = ("takes", "long") if table.objective == "cost" else ("costs", "much")
        said.append(f"{verb} {ratio(other[chosen, 0] / other[at, 0])} times as {measure} as {label(table.config(at))}")
    return said


def why_else(
    prediction: Candidates,
    fails: Bool[np.ndarray, " config"],
    now: int | None,
    novelty: NoveltyLike | None,
    shots: int,
    nearest: Sequence[Neighbour],
) -> list[str]:
    """What was left out, and what is known of the application."""
    said = []
    if now is not None and fails[now]:
        ended = prediction.outcome[now] if prediction.failed[now] else Outcome.OUT_OF_MEMORY.value
        said.append(f"{label(prediction.config(now))}, today's configuration, fails: {outcome_words(ended)}")
    for outcome in Outcome:
        rows = [i for i, ended in enumerate(prediction.outcome) if ended == outcome.value and fails[i] and i != now]
        if rows and outcome is not Outcome.OK:
            names = "; ".join(label(prediction.config(i)) for i in rows[:3]) + "; …" * (len(rows) > 3)
            said.append(f"left out because of {outcome_words(outcome.value)}: {names}")
    bound = [i for i, ended in enumerate(prediction.outcome) if ended == Outcome.OK.value and fails[i] and i != now]
    if bound:
        said.append(f"left out because as much memory or more did not suffice: {label(prediction.config(bound[-1]))}")
    if novelty is not None and novelty.novel:
        said.append(
            f"the application is unlike all known ones (p = {novelty.p_value:.2g}): it rests on {shots} measured"
        )
    elif nearest:
        app, platform, distance = nearest[0]
        on = f" on {platform}" if platform else ""
        said.append(f"of the known applications, {app}{on} is most alike (distance {distance:.3g})")
    return said
