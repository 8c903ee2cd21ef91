"""Calibration on pairs that the model has not seen: how far to shift and mix the point, how wide the interval is.

Enters: forecasts of calibration pairs and what was observed. Leaves: one `Calibration` with a value for each K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

NOMINAL = 0.90
"""Share of observations that intervals are to cover."""
TAIL = (1 + NOMINAL) / 2
"""Share of observations that each end of an interval is to leave on its right side."""
LEVELS = 101
"""Levels from `TAIL` to 1 that are tried."""
FEW = 12
"""Pairs below which the finite-sample correction is made in any case."""
MAX_SHOTS = 5
"""Shots for which there are values of their own; more are treated as these."""
SHIFTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Values for K = 0 to `MAX_SHOTS` shots."""

    shift: Float[np.ndarray, " k"]
    """c in exp(mean - c variance), the prior's part of the point."""
    mix: Float[np.ndarray, " k"]
    """How much of the head's correction is added, in [0, 1]."""
    below: Float[np.ndarray, " k"]
    """Deviations by which the lower end is moved down (up, where negative)."""
    above: Float[np.ndarray, " k"]
    """Deviations by which the upper end is moved up."""

    def of(self, name: str, k: int) -> float:
        """The value `name` for K shots."""
        return float(getattr(self, name)[min(k, MAX_SHOTS)])


@dataclass(frozen=True, eq=False)
class Held:
    """Forecasts and observations of calibration pairs with K shots, one entry a query."""

    pair: np.ndarray
    """Number of the pair; pairs count alike however many queries they have."""
    observed: Float[np.ndarray, " query"]
    """Log run time."""
    mean: Float[np.ndarray, " query"]
    variance: Float[np.ndarray, " query"]
    correction: Float[np.ndarray, "query output"]
    """The head's outputs; zeros without one."""
    once: bool = True
    """Whether the pairs were held out once, so that the quantile needs a correction for how few they are; the models
    of folds that take turns are trained on fewer pairs than the final one, which widens their intervals as well."""

    @cached_property
    def weight(self) -> Float[np.ndarray, " query"]:
        """One over the queries of the pair, normalised to sum 1."""
        _, number, counts = np.unique(self.pair, return_inverse=True, return_counts=True)
        weight = 1.0 / counts[number]
        return np.asarray(weight / weight.sum())


def calibrate(held: dict[int, Held], normal: Sequence[float]) -> Calibration:
    """Choose shift and mix by error, the same for all K > 0, and margins by split-conformal prediction.

    The error is the mean absolute percentage error, as a share of the least that each K reaches.
    The margins are the conformal quantiles of how far observations fall outside of the interval, at each end for
    itself, in posterior deviations (conformalised quantile regression, Romano et al. 2019), pairs weighted alike. The
    level of the quantile is the least at which each pair is covered, on average, by the others. With one query a pair
    this is the usual quantile at (n + 1) / n; with many, which differ within a pair, that rule is too careful.

    Args:
        held: for each K that could be judged; a K between or beyond takes the values of the nearest smaller one.
        normal: lower, middle and upper quantile of the standard normal, which the head's outputs are added to.
    """
    values = {name: np.zeros(MAX_SHOTS + 1) for name in ("shift", "mix", "below", "above")}
    # without shots the point of least percentage error lies near zero, of no use to anybody: the median is given
    points = {0: (0.0, 0.0)}
    shared = _point([held[k] for k in held if k > 0])
    last: tuple[float, float, float, float] = (*points[0], 0.0, 0.0)
    for k in range(MAX_SHOTS + 1):
        shift, mix = points.get(k, shared)
        margins = _margins(held[k], normal, mix) if k in held else last[2:]
        last = (shift, mix, *margins)
        for name, value in zip(values, last, strict=True):
            values[name][k] = value
    return Calibration(**values)


def _point(held: Sequence[Held]) -> tuple[float, float]:
    """Shift and mix of least percentage error over all given K, each K's error in shares of its least."""
    if not held:
        return 1.0, 0.0
    mixes = MIXES if any(np.any(one.correction) for one in held) else (0.0,)
    grid = [(shift, mix) for mix in mixes for shift in SHIFTS]
    errors = np.array([[_error(one, *choice) for choice in grid] for one in held])
    return grid[int((errors / np.maximum(errors.min(axis=1, keepdims=True), 1e-9)).mean(axis=0).argmin())]


def _error(held: Held, shift: float, mix: float) -> float:
    point = held.mean - shift * held.variance + mix * held.correction[:, 0]
    return float(held.weight @ np.abs(np.exp(point - held.observed) - 1))


def _margins(held: Held, normal: Sequence[float], mix: float) -> tuple[float, float]:
    """How far the ends of the interval have to be moved out, in posterior deviations."""
    weight, deviation = held.weight, np.sqrt(held.variance)
    lower = held.mean + deviation * (normal[0] + mix * held.correction[:, 1])
    upper = held.mean + deviation * (normal[2] + mix * held.correction[:, 3])
    apart = held.once or np.unique(held.pair).size < FEW
    below, above = (
        _quantile(out, weight, _level(out, weight, held.pair) if apart else TAIL)
        for out in ((lower - held.observed) / deviation, (held.observed - upper) / deviation)
    )
    return below, above


def _level(values: Float[np.ndarray, " query"], weight: Float[np.ndarray, " query"], pair: np.ndarray) -> float:
    """Least level from `TAIL` whose quantile of all other pairs would leave out no more than 1 - `TAIL` of a pair."""
    order = np.argsort(values)
    values, weight, pair = values[order], weight[order], pair[order]
    beyond = np.linspace(1 - TAIL, 0.0, LEVELS)
    """Weight that lies beyond the quantile."""
    missed, pairs = np.zeros(LEVELS), np.unique(pair)
    for one in pairs:
        own = pair == one
        of_others = np.where(own, 0.0, weight).cumsum()
        reached = np.searchsorted(of_others, of_others[-1] - beyond - 1e-12)
        missed += 1 - np.searchsorted(values[own], values[reached], side="right") / own.sum()
    # divided by one more than there are: a new pair is judged by all of them, each of them by one less
    few = missed / (len(pairs) + 1) <= 1 - TAIL + 1e-9
    return 1 - float(beyond[few.argmax()]) if few.any() else 1.0


def _quantile(values: Float[np.ndarray, " query"], weight: Float[np.ndarray, " query"], level: float) -> float:
    """Smallest value whose weight from below is at least `level`."""
    order = np.argsort(values)
    reached = np.searchsorted(np.cumsum(weight[order]), level - 1e-12)
    return float(values[order[min(int(reached), len(order) - 1)]])
