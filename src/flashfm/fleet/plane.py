"""Where pairs lie in a model's embedding space, on a plane that its pretraining pairs fix.

Enters: a model and pairs with shots. Leaves: two coordinates for each. The plane is of the two principal components
of the pretraining pairs' embeddings, with and without metrics, each turned so that its largest entry is positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from flashfm.models.flash import FlashModel
from flashfm.models.novelty import NoveltyModel

DIGITS = 4
"""Of the coordinates that a plan's metadata hold."""
MOST_KNOWN = 2000
"""Pretraining pairs that a plan's metadata hold; of more, as many evenly spread."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane through the embedding space."""

    centre: Float[np.ndarray, " embed"]
    axes: Float[np.ndarray, "embed 2"]
    explained: float
    """Share of the variance of the pretraining pairs' embeddings that it has, in [0, 1]."""

    def project(self, embedding: Float[np.ndarray, "pair embed"]) -> Float[np.ndarray, "pair 2"]:
        """Coordinates of embeddings."""
        return np.asarray((embedding - self.centre) @ self.axes, dtype=np.float64)

    def to_dict(self, model: FlashModel) -> dict[str, Any]:
        """Where the pretraining pairs lie, as JSON: the mean of each one's embeddings, with metrics and without."""
        known = np.concatenate([self.project(_means(one)) for one in _references(model)])
        known = known[np.unique(np.linspace(0, len(known) - 1, min(MOST_KNOWN, len(known))).round().astype(np.int64))]
        return {"points": known.round(DIGITS).tolist(), "explained": round(self.explained, DIGITS)}


def plane_of(model: FlashModel) -> Plane | None:
    """The plane of a model; None where it has no embeddings, or they have but one dimension."""
    references = _references(model)
    if not model.nets or not references or references[0].reference.shape[1] < 2:
        return None
    reference = np.concatenate([one.reference for one in references]).astype(np.float64)
    centre = reference.mean(axis=0)
    values, vectors = np.linalg.eigh((reference - centre).T @ (reference - centre))
    axes = vectors[:, [-1, -2]]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    total = float(values.sum())
    return Plane(centre, axes, float(values[-2:].sum()) / total if total > 0 else 1.0)


def _references(model: FlashModel) -> list[NoveltyModel]:
    """What is known of the pretraining pairs' embeddings."""
    return [one for one in (model.novelty, model.bare) if one is not None]


def _means(known: NoveltyModel) -> Float[np.ndarray, "pair embed"]:
    """One embedding for each pretraining pair."""
    pair, number, count = np.unique(known.pair, return_inverse=True, return_counts=True)
    total = np.zeros((len(pair), known.reference.shape[1]))
    np.add.at(total, number, known.reference)
    return np.asarray(total / count[:, None])
