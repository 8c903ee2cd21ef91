"""Novelty: how far a pair lies from those of pretraining, against how far unseen pairs of their kind usually lie.

Enters: embeddings, and what tells an environment. Leaves: distances and p-values. An application is told by the
Mahalanobis distance of its embedding to the nearest references. An environment hardly shows there, since most of an
embedding is about what an application does; it shows in CPU share and switches per ms, compared with pretraining pairs
in the same configuration. Either part may call a pair novel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

NEIGHBOURS = 5
LEAST_PAIRS = 15
"""Pairs that a configuration needs before its environment is judged."""
NEAREST = 3
"""References of the same configuration that an environment is compared with."""
FINE = 1e-3
"""Added to a distance before its logarithm is taken."""
ABSENT = 1e6
"""Stands for a reference that was not observed: farther than any."""
SHRINK = 0.1
FLOOR = 0.01
"""Least variance of a direction, as a share of the mean: a unit that no pretraining pair wakes tells a foreign one."""
LEVEL = 0.05
"""p-value below which a pair is called novel."""
AT_ONCE = 64
"""Tasks that are compared with all references at a time: their distances stay in the processor's cache."""
BLOCK = 32
"""Distances of which only the least is looked at first."""
FAR = 1e150
"""Stands for a reference that only fills a block; its square is still a number."""


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
        a = embedding @ self.whiten
        read, squared = np.concatenate([a, np.ones((len(a), 1))], axis=1), (a**2).sum(axis=1)
        side, near = self._side, min(NEIGHBOURS, len(self.reference))
        found = np.empty(len(a))
        for start in range(0, len(a), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            squares = _least(read[part] @ side, near) + squared[part, None]
            found[part] = np.sqrt(np.maximum(squares, 0.0)).mean(axis=1)
        return found

    def p_value(self, distance: Float[np.ndarray, " task"], k: int) -> Float[np.ndarray, " task"]:
        """Share of pairs like those of pretraining that lie at least as far out, with K shots; in (0, 1]."""
        return _p_value(self.held[min(k, len(self.held)) - 1], distance)

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

    @cached_property
    def _side(self) -> Float[np.ndarray, "embed_and_one padded"]:
        """What whitened embeddings are multiplied with for squared distances, without their own squared lengths."""
        whitened, squared = self._whitened
        side = np.zeros((whitened.shape[1] + 1, _whole(len(whitened))))
        side[-1] = FAR**2
        side[:, : len(whitened)] = np.concatenate([-2 * whitened.T, squared[None]])
        return side


@dataclass(frozen=True, eq=False)
class EnvironmentModel:
    """`environment_values` of the pretraining pairs in each configuration, standardised there."""

    mean: Float[np.ndarray, "config value"]
    scale: Float[np.ndarray, "config value"]
    """0 in a configuration of too few pairs, where every shot counts as typical."""
    reference: Float[np.ndarray, "config pair value"]
    """`ABSENT` where a pair was not observed."""
    held: Float[np.ndarray, "k held"]
    """Sorted distances of pretraining pairs to the others, with K = 1, 2, … shots."""

    def distance(
        self, config: Int[np.ndarray, "task shot"], values: Float[np.ndarray, "task shot value"]
    ) -> Float[np.ndarray, " task"]:
        """Mean over the shots of the log distance to the nearest references; a missing value counts as typical."""
        scale = self.scale[config]
        off = np.where(scale > 0, (values - self.mean[config]) / np.where(scale > 0, scale, 1.0), np.nan)
        apart = np.zeros(config.shape)
        told = ~np.isnan(off).any(axis=2) & (self.reference.shape[1] > NEAREST)
        for c in np.unique(config[told]):
            rows = np.nonzero(told & (config == c))
            near = np.concatenate([_near_one(part, self._by_value[c]) for part in _parts(off[rows])] or [np.empty(0)])
            apart[rows] = np.where(near > ABSENT / 10, 0.0, near)
        return np.asarray(np.log(apart + FINE).mean(axis=1))

    @cached_property
    def _by_value(self) -> Float[np.ndarray, "config value padded"]:
        """References with one run of memory for each value."""
        configs, pairs, values = self.reference.shape
        padded = np.full((configs, values, _whole(pairs)), FAR)
        padded[..., :pairs] = self.reference.swapaxes(1, 2)
        return padded

    def p_value(self, distance: Float[np.ndarray, " task"], k: int) -> Float[np.ndarray, " task"]:
        """As `NoveltyModel.p_value`."""
        return _p_value(self.held[min(k, len(self.held)) - 1], distance)


def fit_environment(
    values: Float[np.ndarray, "pair config value"],
    apps: Sequence[str],
    draws: Mapping[int, tuple[np.ndarray, np.ndarray]],
) -> EnvironmentModel:
    """Fit on pretraining pairs, each held out in turn with its application for the distances that p-values are told by.

    Args:
        values: NaN where not observed.
        apps: application of each pair.
        draws: for each K, pairs and the configurations of their shots.
    """
    pairs, configs, width = values.shape
    mean, scale = np.zeros((configs, width)), np.zeros((configs, width))
    reference = np.full((configs, pairs, width), ABSENT)
    apart = np.zeros((pairs, configs))
    number = np.unique(np.array(apps), return_inverse=True)[1]
    for c in range(configs):
        seen = np.flatnonzero(~np.isnan(values[:, c]).any(axis=1))
        if len(seen) < LEAST_PAIRS:
            continue
        known = values[seen, c]
        mean[c], scale[c] = known.mean(axis=0), known.std(axis=0) + 0.05
        reference[c, seen] = (known - mean[c]) / scale[c]
        others = np.tile(reference[c], (len(seen), 1, 1))
        others[number[seen][:, None] == number] = ABSENT
        apart[seen, c] = _near(reference[c, seen], others)
    held = [
        np.sort(np.log(apart[pair[:, None], config] + FINE).mean(axis=1)) for _, (pair, config) in sorted(draws.items())
    ]
    least = min(map(len, held))
    ranks = [np.linspace(0, len(one) - 1, least).round().astype(np.int64) for one in held]
    return EnvironmentModel(
        mean, scale, reference, np.stack([one[rank] for one, rank in zip(held, ranks, strict=True)])
    )


def _near_one(
    values: Float[np.ndarray, "task value"], reference: Float[np.ndarray, "value padded"]
) -> Float[np.ndarray, " task"]:
    """Mean distance to the nearest references of one configuration."""
    squared = (reference[0] - values[:, :1]) ** 2
    for j in range(1, len(reference)):
        off = reference[j] - values[:, j : j + 1]
        off *= off
        squared += off
    return np.asarray(np.sqrt(_least(squared, NEAREST)).mean(axis=1))


def _parts(values: Float[np.ndarray, "task value"]) -> list[Float[np.ndarray, "part value"]]:
    return [values[start : start + AT_ONCE] for start in range(0, len(values), AT_ONCE)]


def _whole(n: int) -> int:
    """How many there are once the last block is full."""
    return -(-n // BLOCK) * BLOCK


def _least(values: Float[np.ndarray, "task padded"], n: int) -> Float[np.ndarray, "task n"]:
    """The `n` least of each row: they lie in the `n` blocks of the least minima."""
    tasks, width = values.shape
    if width // BLOCK <= n:
        return np.partition(values, n - 1, axis=1)[:, :n]
    blocks = values.reshape(tasks, BLOCK, width // BLOCK)
    best = np.argpartition(blocks.min(axis=1), n - 1, axis=1)[:, :n]
    within = np.take_along_axis(blocks, best[:, None, :], axis=2).reshape(tasks, -1)
    return np.partition(within, n - 1, axis=1)[:, :n]


def _near(
    values: Float[np.ndarray, "task value"], reference: Float[np.ndarray, "task pair value"]
) -> Float[np.ndarray, " task"]:
    """Mean distance to the nearest references; 0 where a value is missing or there are too few references."""
    if reference.shape[1] <= NEAREST:
        return np.zeros(len(values))
    squared = ((reference - np.nan_to_num(values)[:, None]) ** 2).sum(axis=-1)
    near = np.sqrt(np.partition(squared, NEAREST - 1, axis=1)[:, :NEAREST]).mean(axis=1)
    return np.asarray(np.where(np.isnan(values).any(axis=1) | (near > ABSENT / 10), 0.0, near))


def _p_value(held: Float[np.ndarray, " held"], distance: Float[np.ndarray, " task"]) -> Float[np.ndarray, " task"]:
    beyond = len(held) - np.searchsorted(held, distance, side="left")
    return np.asarray((1 + beyond) / (1 + len(held)))


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
