"""What a plan comes to, for people: sums, counts, and the few pairs that should be looked at.

Enters: a plan on disk, of any length. Leaves: a `Digest` of bounded size, from one pass over the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from flashfm.act.choose import CONFIDENCES
from flashfm.fleet.plan import STATUSES, TODAY
from flashfm.fleet.reading import PlanFile, numbers, texts
from flashfm.models.novelty import LEVEL

BINS = np.linspace(-1.0, 1.0, 41)
"""Ends of the histogram's classes: shares that are saved; what lies outside is in the outermost."""
MOST_REASONS = 1000
"""Different reasons that are told apart; the pairs of further ones are counted together."""
OTHER = "other reasons"
SEED = 0
_QUOTED, _NUMBER = r"'[^']*'", r"[-+]?\d+([.,]\d+)*(e[-+]?\d+)?"


class Foremost:
    """The rows of highest score of all that were added, and how many had a score."""

    def __init__(self, most: int) -> None:
        """Keep so many."""
        self.most = most
        self.count = 0
        self.score = np.empty(0)
        self._rows: pa.Table | None = None

    def add(self, table: pa.Table, score: Float[np.ndarray, " row"]) -> None:
        """Look at rows; a score that is no number counts as none."""
        at = np.flatnonzero(~np.isnan(score))
        self.count += len(at)
        at = at[np.argsort(-score[at], kind="stable")[: self.most]]
        if not at.size:
            return
        rows, scores = table.take(pa.array(at)), np.concatenate([self.score, score[at]])
        rows = rows if self._rows is None else pa.concat_tables([self._rows, rows])
        best = np.argsort(-scores, kind="stable")[: self.most]
        self._rows, self.score = rows.take(pa.array(best)).combine_chunks(), scores[best]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows, the foremost first."""
        return [] if self._rows is None else self._rows.to_pylist()


@dataclass
class Reason:
    """Pairs without a recommendation, for one reason."""

    count: int
    example: dict[str, Any]
    """The row of the first of them."""


@dataclass
class Digest:
    """What a plan comes to; sums of money are for a million runs of each pair."""

    pairs: int = 0
    counts: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    """Pairs by status and confidence."""
    priced: int = 0
    """Recommended pairs whose costs are known, today's and planned."""
    usd_today: float = 0.0
    usd_planned: float = 0.0
    dearer: int = 0
    """Of the priced, those that are expected to cost more than today."""
    usd_more: float = 0.0
    """How much more they cost."""
    compared: int = 0
    """Recommended pairs with a saving."""
    histogram: Int[np.ndarray, " bin"] = field(default_factory=lambda: np.zeros(len(BINS) - 1, dtype=np.int64))
    savings: Foremost = field(default_factory=lambda: Foremost(0))
    slower: Foremost = field(default_factory=lambda: Foremost(0))
    """By how many times today's run time the upper end is; those of which it is more."""
    costlier: Foremost = field(default_factory=lambda: Foremost(0))
    """The same of the cost."""
    novel: Foremost = field(default_factory=lambda: Foremost(0))
    """Recommended although they are unlike what the model was pretrained on; by the p-value's negative."""
    reasons: dict[str, dict[str, Reason]] = field(default_factory=lambda: {"declined": {}, "bad": {}})
    """Status -> reason without its figures -> pairs."""
    places: Foremost = field(default_factory=lambda: Foremost(0))
    """A sample of the pairs that have a place on the map; every one is as likely to be in it."""

    def of(self, status: str, confidence: str | None = None) -> int:
        """Pairs of a status, and perhaps of a confidence."""
        return sum(n for (s, c), n in self.counts.items() if s == status and confidence in (None, c))

    def by_reason(self, status: str) -> list[tuple[str, Reason]]:
        """Reasons, the most pairs first."""
        return sorted(self.reasons[status].items(), key=lambda item: -item[1].count)


def digest(plan: PlanFile, rows: int, points: int) -> Digest:
    """Read a plan.

    Args:
        plan: on disk.
        rows: how many pairs of each kind are kept.
        points: how many places on the map are kept.

    Raises:
        DataFormatError, DataError: it is damaged or cannot be read.
    """
    found, rng = Digest(), np.random.default_rng(SEED)
    found.savings, found.slower, found.costlier, found.novel = (Foremost(rows) for _ in range(4))
    found.places = Foremost(points)
    for table in plan.batches():
        found.pairs += table.num_rows
        status = texts(table, "status")
        _count(found, status, texts(table, "confidence"))
        chosen = status == "recommended"
        before, after = numbers(table, f"{TODAY}usd_per_million"), numbers(table, "usd_per_million")
        saving, saved = numbers(table, "saving"), before - after
        priced = chosen & ~np.isnan(saved)
        found.priced += int(priced.sum())
        found.usd_today += float(before[priced].sum())
        found.usd_planned += float(after[priced].sum())
        dearer = priced & (saved < 0)
        found.dearer += int(dearer.sum())
        found.usd_more -= float(saved[dearer].sum())
        told = chosen & ~np.isnan(saving)
        found.compared += int(told.sum())
        found.histogram += np.histogram(np.clip(saving[told], BINS[0], BINS[-1]), BINS)[0]
        worth = np.where(np.isnan(saved), saving, saved) if not priced.any() else saved
        found.savings.add(table, _where(chosen & (worth > 0), worth))
        slower = numbers(table, "upper_ms") / numbers(table, f"{TODAY}runtime_ms")
        found.slower.add(table, _where(chosen & (slower > 1), slower))
        costlier = numbers(table, "usd_per_million_upper") / before
        found.costlier.add(table, _where(chosen & (costlier > 1), costlier))
        p_value = numbers(table, "p_value")
        found.novel.add(table, _where(chosen & (p_value < LEVEL), -p_value))
        for kind in ("declined", "bad"):
            _group(found.reasons[kind], table.filter(pa.array(status == kind)))
        if "map_x" in table.column_names:
            drawn = rng.random(table.num_rows)
            places = table.select(["status", "map_x", "map_y"])
            found.places.add(places, _where(~np.isnan(numbers(table, "map_x")), drawn))
    return found


def _where(chosen: Bool[np.ndarray, " row"], score: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    return np.where(chosen, score, np.nan)


def _count(found: Digest, status: np.ndarray, confidence: np.ndarray) -> None:
    for one in STATUSES:
        here = status == one
        rest = int(here.sum())
        for sure in CONFIDENCES:
            n = int((here & (confidence == sure)).sum())
            found.counts[one, sure] += n
            rest -= n
        found.counts[one, None] += rest


def _group(reasons: dict[str, Reason], table: pa.Table) -> None:
    if not table.num_rows:
        return
    plain = pc.fill_null(table["reason"], "no reason")
    kinds = pc.replace_substring_regex(pc.replace_substring_regex(plain, _QUOTED, "'…'"), _NUMBER, "…")
    for kind, at in _firsts(texts(pa.table({"kind": kinds}), "kind")):
        key = kind if kind in reasons or len(reasons) < MOST_REASONS else OTHER
        if key not in reasons:
            reasons[key] = Reason(0, table.slice(int(at[0]), 1).to_pylist()[0])
        reasons[key].count += len(at)


def _firsts(kinds: np.ndarray) -> Iterator[tuple[str, Int[np.ndarray, " row"]]]:
    """Each kind, in the order in which they first come, and the rows of it."""
    number = {kind: i for i, kind in enumerate(dict.fromkeys(kinds.tolist()))}
    of = np.array([number[kind] for kind in kinds.tolist()])
    order = np.argsort(of, kind="stable")
    bounds = np.searchsorted(of[order], np.arange(len(number) + 1))
    for kind, start, end in zip(number, bounds[:-1], bounds[1:], strict=True):
        yield kind, order[start:end]
