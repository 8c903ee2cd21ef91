"""Amdahl's law: a part of the run time shrinks with capacity, the other does not (a + b / x, as Ernest fits it).

Enters: Observations of training pairs, then Shots of others. Leaves: run times in ms of every configuration. What the
shots cannot tell (one shot, or all of them at one capacity) is taken from the training pairs: their average share of
run time that does not shrink.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from flashfm.errors import ModelError
from flashfm.tasks.config_search import Observations, Shots

SHARES = np.linspace(0.0, 1.0, 41)
"""Shares of run time at the largest capacity that do not shrink, of which the training pairs choose one."""
CLIPS = 25
"""Values at which capacity may be clipped, of which the training pairs choose one."""
SAME = 1e-9
"""Relative determinant below which shots are at one capacity."""


@dataclass(frozen=True)
class Amdahl:
    """Fit run time = a + b / x, with a and b not negative, to the shots of each pair, by least squares of ratios.

    x is a numeric configuration column, clipped where more of it gives no more speed (on AWS Lambda memory beyond
    1,769 MB, one vCPU, does not help one thread). Which column, and the clip, is what fits the training pairs best.
    """

    capacity: str | None = None
    """Column that speeds up; None takes the one that fits the training pairs best."""
    name: str = "Amdahl fit"
    per_shots: bool = False

    def fit(self, train: Observations, *, shots: int, seed: int) -> FittedAmdahl:  # noqa: ARG002
        """Choose the column, its clip and the average share.

        Raises:
            ModelError: no positive numeric configuration column has two values, or not the one that was named.
        """
        best = min(
            (FittedAmdahl(slowness, 0.0) for slowness in _candidates(train, self.capacity)),
            key=lambda fitted: _own_error(fitted, train),
        )
        share = min(SHARES, key=lambda share: _one_shot_error(best.slowness, share, train.log_runtime))
        return FittedAmdahl(best.slowness, float(share))


@dataclass(frozen=True, eq=False)
class FittedAmdahl:
    """Capacity of each configuration, and what is assumed where the shots are at one capacity."""

    slowness: Float[np.ndarray, " config"]
    """Largest capacity over that of the configuration, >= 1."""
    share: float
    """Share of the run time at the largest capacity that does not shrink, in [0, 1]."""

    def predict(self, shots: Shots) -> Float[np.ndarray, "task config"]:
        """Run time in ms of every configuration of the grid, for each task."""
        fixed, shrinking = self.terms(shots.log_runtime, self.slowness[shots.config])
        return np.asarray(fixed[:, None] + shrinking[:, None] * self.slowness)

    def terms(
        self, log_runtime: Float[np.ndarray, "task shot"], slowness: Float[np.ndarray, "task shot"]
    ) -> tuple[Float[np.ndarray, " task"], Float[np.ndarray, " task"]]:
        """The terms a and b / (largest capacity) of each task in ms; shots with NaN are left out."""
        seen = ~np.isnan(log_runtime)
        # The equations are divided by the run time, so that errors are relative: 1 = a u + b v.
        u = np.where(seen, np.exp(-np.where(seen, log_runtime, 0.0)), 0.0)
        v = u * slowness
        uu, uv, vv, su, sv = ((u * u).sum(1), (u * v).sum(1), (v * v).sum(1), u.sum(1), v.sum(1))
        det = uu * vv - uv**2
        shape = self.share * u + (1 - self.share) * v
        scale = shape.sum(1) / (shape**2).sum(1)
        free = det > SAME * uu * vv
        safe = np.where(free, det, 1.0)
        a, b = (su * vv - sv * uv) / safe, (sv * uu - su * uv) / safe
        flat, steep = su / uu, sv / vv
        outside = (a < 0) | (b < 0)
        flat_fits = su * flat >= sv * steep
        a = np.where(outside, np.where(flat_fits, flat, 0.0), a)
        b = np.where(outside, np.where(flat_fits, 0.0, steep), b)
        return np.where(free, a, scale * self.share), np.where(free, b, scale * (1 - self.share))


def _candidates(train: Observations, name: str | None) -> list[Float[np.ndarray, " config"]]:
    numeric = {
        column.name: train.grid[column.name].to_numpy(dtype=np.float64)
        for column in train.space.columns
        if not column.levels and 0 < column.low < column.high
    }
    if not numeric or (name is not None and name not in numeric):
        raise ModelError(
            f"an Amdahl fit needs {'a positive numeric configuration column' if name is None else f'{name!r}'} with two"
            f" values or more; the positive numeric ones are {', '.join(numeric) or 'none'}"
        )
    found = []
    for chosen in [name] if name is not None else list(numeric):
        values = numeric[chosen]
        for other in numeric.values():
            values = np.where(np.isnan(values), other, values)
        values = np.where(np.isnan(values), np.nanmax(values), values)
        known = np.unique(values)
        for clip in np.geomspace(known[1], known[-1], CLIPS) if known.size > 2 else known[1:]:
            clipped = np.minimum(values, clip)
            found.append(clipped.max() / clipped)
    return found


def _own_error(fitted: FittedAmdahl, train: Observations) -> float:
    """Mean absolute percentage error on the observations that the two terms were fitted to."""
    slowness = np.broadcast_to(fitted.slowness, train.log_runtime.shape)
    fixed, shrinking = fitted.terms(train.log_runtime, slowness)
    return float(np.nanmean(np.abs((fixed[:, None] + shrinking[:, None] * slowness) / np.exp(train.log_runtime) - 1)))


def _one_shot_error(
    slowness: Float[np.ndarray, " config"], share: float, log_runtime: Float[np.ndarray, "pair config"]
) -> float:
    """Mean absolute percentage error of predicting each configuration from each single other one."""
    curve = np.log(share + (1 - share) * slowness)
    level = log_runtime - curve
    return float(np.nanmean(np.abs(np.exp(level[:, :, None] - level[:, None, :]) - 1)))
