"""The two simplest answers to a few shots: copy the nearest one, or shift the average curve through them.

Enters: Observations of training pairs, then Shots of others. Leaves: run times in ms of every configuration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from flashfm.tasks.config_search import Observations, Shots

MAX_ROUNDS = 500
"""Rounds of the alternating fit; with few missing cells a handful is enough."""
TOLERANCE = 1e-12
"""Largest change of an effect after which the fit has converged."""


def additive_effects(
    log_runtime: Float[np.ndarray, "pair config"],
) -> tuple[Float[np.ndarray, " pair"], Float[np.ndarray, " config"]]:
    """Least-squares fit of log run time = level of the pair + effect of the configuration, cells missing.

    Args:
        log_runtime: NaN where not observed; every pair has an observation.

    Returns:
        Level of each pair, and effect of each configuration; an effect is 0 where nothing was observed. Levels and
        effects are known up to a constant, which is near to giving effects of mean 0.
    """
    seen = ~np.isnan(log_runtime)
    filled = np.where(seen, log_runtime, 0.0)
    per_pair, per_config = np.maximum(seen.sum(axis=1), 1), np.maximum(seen.sum(axis=0), 1)
    level = filled.sum(axis=1) / per_pair
    effect = np.zeros(log_runtime.shape[1])
    for _ in range(MAX_ROUNDS):
        before = effect
        effect = (filled - seen * level[:, None]).sum(axis=0) / per_config
        level = (filled - seen * effect).sum(axis=1) / per_pair
        if np.abs(effect - before).max(initial=0.0) < TOLERANCE:
            break
    return level, effect


def distances(features: Float[np.ndarray, "config feature"]) -> Float[np.ndarray, "config config"]:
    """Sum of the absolute differences of the features of each two configurations."""
    return np.asarray(np.abs(features[:, None, :] - features[None, :, :]).sum(axis=-1))


@dataclass(frozen=True)
class CopyNearest:
    """Every configuration runs as long as the measured one that is nearest in feature space.

    Of several that are equally near, the geometric mean, so that the order of the shots changes nothing.
    """

    name: str = "copy nearest shot"
    per_shots: bool = False

    def fit(self, train: Observations, *, shots: int, seed: int) -> FittedCopy:  # noqa: ARG002
        """Nothing is learnt but how far the configurations are from each other."""
        return FittedCopy(distances(train.features))


@dataclass(frozen=True, eq=False)
class FittedCopy:
    """Distances that `CopyNearest` copies along."""

    distance: Float[np.ndarray, "config config"]

    def predict(self, shots: Shots) -> Float[np.ndarray, "task config"]:
        """Run time in ms of every configuration of the grid, for each task."""
        away = self.distance[shots.config]
        nearest = away <= away.min(axis=1, keepdims=True) + 1e-9
        return np.asarray(np.exp((nearest * shots.log_runtime[:, :, None]).sum(axis=1) / nearest.sum(axis=1)))


@dataclass(frozen=True)
class AdditiveRatio:
    """The average curve of the training pairs, shifted by the mean log ratio of the shots to it."""

    name: str = "additive ratio"
    per_shots: bool = False

    def fit(self, train: Observations, *, shots: int, seed: int) -> FittedRatio:  # noqa: ARG002
        """Fit the effect of each configuration."""
        return FittedRatio(additive_effects(train.log_runtime)[1])


@dataclass(frozen=True, eq=False)
class FittedRatio:
    """Effects that `AdditiveRatio` adds to the level of the shots."""

    effect: Float[np.ndarray, " config"]

    def predict(self, shots: Shots) -> Float[np.ndarray, "task config"]:
        """Run time in ms of every configuration of the grid, for each task."""
        level = (shots.log_runtime - self.effect[shots.config]).mean(axis=1)
        return np.asarray(np.exp(level[:, None] + self.effect))
