"""Novelty: how far an embedding lies from those of pretraining pairs, against how far unseen pairs usually lie.

Enters: embeddings. Leaves: distances and p-values. The distance is Mahalanobis's to the nearest reference embeddings,
under the covariance of all of them, shrunk to its diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

NEIGHBOURS = 5
SHRINK = 0.1
FLOOR = 0.01
"""Least variance of a direction, as a share of the mean: a unit that no pretraining pair wakes tells a foreign one."""
LEVEL = 0.05
"""p-value below which a pair is called novel."""


@dataclass(frozen=True, eq=False)
class NoveltyModel:
    """Reference embeddings of the pretraining pairs, and distances of pairs that were held out."""

    reference: Float[np.ndarray, "reference embed"]
    pair: Int[np.ndarray, " reference"]
    """Which pretraining pair each reference is of."""
    whiten: Float[np.ndarray, "embed embed"]
    """Maps embeddings to where Euclidean distances are Mahalanobis's."""
    held: Float[np.ndarray, "k held"]
    """Sorted distances of held-out pairs with K = 1, 2, … shots."""

    def distance(self, embedding: Float[np.ndarray, "task embed"]) -> Float[np.ndarray, " task"]:
        """Mean distance to the `NEIGHBOURS` nearest references."""
        return _nearest(self._between(embedding))

    def p_value(self, distance: Float[np.ndarray, " task"], k: int) -> Float[np.ndarray, " task"]:
        """Share of pairs like those of pretraining that lie at least as far out, with K shots; in (0, 1]."""
        held = self.held[min(k, len(self.held)) - 1]
        beyond = len(held) - np.searchsorted(held, distance, side="left")
        return np.asarray((1 + beyond) / (1 + len(held)))

    def nearest(self, embedding: Float[np.ndarray, " embed"], n: int) -> list[tuple[int, float]]:
        """The `n` pretraining pairs whose references lie nearest, and their distances."""
        distance = self._between(embedding[None])[0]
        found: dict[int, float] = {}
        for i in np.argsort(distance):
            if len(found) >= n:
                break
            found.setdefault(int(self.pair[i]), float(distance[i]))
        return list(found.items())

    def _between(self, embedding: Float[np.ndarray, "task embed"]) -> Float[np.ndarray, "task reference"]:
        a, (b, squared) = embedding @ self.whiten, self._whitened
        squares = (a**2).sum(axis=1)[:, None] + squared - 2 * a @ b.T
        return np.asarray(np.sqrt(np.maximum(squares, 0.0)))

    @cached_property
    def _whitened(self) -> tuple[Float[np.ndarray, "reference embed"], Float[np.ndarray, " reference"]]:
        """References where distances are Euclidean, and their squared lengths."""
        whitened = self.reference @ self.whiten
        return whitened, (whitened**2).sum(axis=1)


def whitening(reference: Float[np.ndarray, "reference embed"]) -> Float[np.ndarray, "embed embed"]:
    """Inverse square root of the shrunk covariance; what never varied counts as if it varied a little."""
    covariance = np.atleast_2d(np.cov(reference, rowvar=False))
    covariance = (1 - SHRINK) * covariance + SHRINK * np.diag(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance)
    inverse = 1 / np.sqrt(np.maximum(values, max(FLOOR * float(values.mean()), 1e-12)))
    return np.asarray((vectors * inverse) @ vectors.T)


def fit(
    reference: Float[np.ndarray, "reference embed"],
    pair: Int[np.ndarray, " reference"],
    held: dict[int, Float[np.ndarray, "held embed"]],
) -> NoveltyModel:
    """Fit on references, and on embeddings of held-out pairs for each K from 1, one a pair."""
    empty = NoveltyModel(reference, pair, whitening(reference), np.empty((0, 0)))
    distances = [np.sort(empty.distance(held[k])) for k in sorted(held)]
    return NoveltyModel(reference, pair, empty.whiten, np.stack(distances))


def _nearest(distance: Float[np.ndarray, "task reference"]) -> Float[np.ndarray, " task"]:
    k = min(NEIGHBOURS, distance.shape[1])
    return np.asarray(np.partition(distance, k - 1, axis=1)[:, :k].mean(axis=1))
