"""Why there is no recommendation, and what would help.

Enters: figures of one pair. Leaves: `Declined`, or the words of an error; no decision is made here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flashfm.act.decisions import Config, Declined, Estimate
from flashfm.act.words import label, millis, outcome_words, span


def all_fail(configurations: int, outcomes: Iterable[str]) -> Declined:
    """No configuration ends well; `outcomes` is how each of them ended."""
    said = "; ".join(sorted({outcome_words(outcome) for outcome in outcomes} - {"ok"}))
    return Declined(
        f"none of the {configurations} configurations ends well for this application ({said})",
        "measure larger configurations, or mend the application first",
    )


def novel(p_value: float, distance: float, shots: int, enough_shots: int) -> Declined:
    """The pair is unlike all known ones, and too little of it was measured."""
    return Declined(
        f"the application is unlike all that the model was pretrained on (p = {p_value:.2g},"
        f" distance {distance:.3g}), and {shots} measured configuration{'s' * (shots != 1)} cannot make up"
        f" for it; expected at least {enough_shots}",
        f"measure {enough_shots - shots} more, the next one as next_measurement() or `flashfm adapt` names it,"
        " and ask again",
    )


def no_price() -> Declined:
    """Costs were asked for, and there is no price."""
    return Declined(
        "the objective is cost, and no prices were given",
        "give prices: aws-lambda, aws-lambda-arm or a table of yours; or ask for the objective runtime",
    )


def out_of_reach(config: Config, runtime_ms: Estimate, limit_ms: float, *, strict: bool) -> Declined:
    """No configuration meets the limit; `config` comes nearest to it."""
    name = label(config)
    said = f"may take up to {millis(runtime_ms.upper)}" if strict else f"is expected to take {span(runtime_ms)}"
    needed = runtime_ms.upper if strict else runtime_ms.expected
    looser = " or ask for the expected value alone," if strict and runtime_ms.expected <= limit_ms else ""
    return Declined(
        f"no configuration {'surely ' * strict}runs within {millis(limit_ms)}: the closest, {name}, {said}",
        f"allow {math.ceil(needed)} ms,{looser} or measure {name}",
    )


def unknown_today(today: Mapping[str, Any], known: Sequence[Config], configurations: int) -> str:
    """Today's configuration is none of those that may be chosen, of which `known` are some."""
    some = "; ".join(label(config) for config in known)
    return (
        f"today: expected one of the {configurations} configurations, such as {some}; got {label(today) or 'nothing'}"
    )
