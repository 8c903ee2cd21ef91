"""Gradient boosting on features of the shots: what a strong tabular model makes of the same task.

Enters: Observations of training pairs, then Shots of others. Leaves: run times in ms of every configuration. The model
corrects the additive ratio: its target is the log run time beyond level + effect, with the level from the shots and
the effects from other applications (out of fold). Shots enter sorted by closeness to the asked configuration, so their
order changes nothing. LightGBM is imported when a model is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from flashfm.baselines.amdahl import Amdahl
from flashfm.baselines.ratio import additive_effects, distances
from flashfm.errors import ModelError
from flashfm.tasks.config_search import Observations, Shots

ROWS_AT_ONCE = 100_000
LEAST_SHARE = 1e-3
"""Share of run time on the CPU below which there is none."""


@dataclass(frozen=True)
class BoostingConfig:
    """Hyper-parameters, one set for all data: least error in cross-validation over the first split's training pairs."""

    trees: int = 300
    learning_rate: float = 0.04
    leaves: int = 31
    leaf_pairs: float = 2.0
    """Rows in a leaf at least, in average rows of a training pair; less overfits where pairs are few."""
    row_share: float = 0.6
    """Rows drawn for each tree."""
    feature_share: float = 0.5
    """Features drawn for each tree."""
    bags: int = 3
    """Models with other draws whose answers are averaged."""
    objective: str = "l1"
    """Loss of the log ratio, `l1` or `l2`.

    With one shot `l1` won on CloudBandit (.276 to .282), `l2` by .001 on Lambda.
    """
    inverse_weights: bool = True
    """Weigh rows by 1 / run time, so that the L1 loss finds the point of least percentage error and not the median.

    With one shot it won on CloudBandit (.312 to .334, before the other settings were tuned); on Lambda it made no
    difference.
    """
    shot_sets: int = 20
    """Sets of shots drawn of each training pair; all of them where there are no more."""
    queries: int = 20
    """Configurations asked for each set."""
    folds: int = 10
    """Parts of the applications for the out-of-fold effects."""


@dataclass(frozen=True)
class Boosting:
    """LightGBM on features of shots, their metrics and the asked configuration."""

    config: BoostingConfig = BoostingConfig()
    name: str = "LightGBM"
    per_shots: bool = True

    def fit(self, train: Observations, *, shots: int, seed: int) -> FittedBoosting:
        """Train on random shot sets of the training pairs.

        Raises:
            ModelError: LightGBM is not installed, there is one application only, or no pair has more than `shots`
                configurations.
        """
        try:
            import lightgbm
        except ImportError:
            raise ModelError("boosting needs LightGBM; install it with: pip install 'flashfm[baselines]'") from None
        rng = np.random.default_rng(seed)
        reader = ShotReader.fit(train)
        parts = list(_episodes(self.config, reader, train, shots, rng))
        if not parts:
            raise ModelError(f"no training pair has more than {shots} observed configurations; use fewer shots")
        rows, target, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
        options = self._options(leaf=max(1, round(self.config.leaf_pairs * len(target) / len(parts))))
        models = []
        for bag in range(self.config.bags):
            drawn = options | {"seed": int(rng.integers(2**31)) + bag}
            data = lightgbm.Dataset(rows, target, weight=weight / weight.mean(), params=drawn)
            models.append(lightgbm.train(drawn, data, num_boost_round=self.config.trees))
        return FittedBoosting(reader, additive_effects(train.log_runtime)[1], tuple(models))

    def _options(self, leaf: int) -> dict[str, Any]:
        return {
            "objective": self.config.objective,
            "learning_rate": self.config.learning_rate,
            "num_leaves": self.config.leaves,
            "min_data_in_leaf": leaf,
            "bagging_fraction": self.config.row_share,
            "bagging_freq": 1,
            "feature_fraction": self.config.feature_share,
            "num_threads": 1,
            "deterministic": True,
            "verbosity": -1,
        }


@dataclass(frozen=True, eq=False)
class FittedBoosting:
    """Trained trees and how features are made for them."""

    reader: ShotReader
    effect: Float[np.ndarray, " config"]
    models: tuple[Any, ...]
    """LightGBM boosters."""

    def predict(self, shots: Shots) -> Float[np.ndarray, "task config"]:
        """Run time in ms of every configuration of the grid, for each task."""
        at_once = max(1, ROWS_AT_ONCE // len(self.effect))
        found = []
        for start in range(0, len(shots), at_once):
            part = slice(start, start + at_once)
            some = Shots(shots.config[part], shots.log_runtime[part], shots.metrics[part])
            rows, additive = self.reader.read(some, self.effect)
            flat = rows.reshape(-1, rows.shape[-1])
            beyond = np.mean([model.predict(flat, num_threads=1) for model in self.models], axis=0)
            found.append(np.exp(additive + beyond.reshape(additive.shape)))
        return np.concatenate(found)


@dataclass(frozen=True, eq=False)
class ShotReader:
    """Makes one row of features for each task and asked configuration."""

    features: Float[np.ndarray, "config feature"]
    distance: Float[np.ndarray, "config config"]
    in_ms: tuple[int, ...]
    """Which metrics are CPU times."""
    slowness: Float[np.ndarray, " config"] | None
    """Largest capacity over that of the configuration (see `Amdahl`), where CPU times are measured."""

    @classmethod
    def fit(cls, train: Observations) -> ShotReader:
        """Take the grid's features, and its capacity where the training pairs have CPU times."""
        in_ms = tuple(i for i, name in enumerate(train.metric_names) if name.endswith("_cpu_ms"))
        slowness = None
        if in_ms:
            try:
                slowness = Amdahl().fit(train, shots=1, seed=0).slowness
            except ModelError:
                slowness = None
        return cls(train.features, distances(train.features), in_ms, slowness)

    def read(
        self, shots: Shots, effect: Float[np.ndarray, " config"]
    ) -> tuple[Float[np.ndarray, "task config column"], Float[np.ndarray, "task config"]]:
        """Features, and the additive ratio that they correct.

        Args:
            shots: K of each task; metrics may be NaN, or none at all.
            effect: of each configuration, from other applications.
        """
        tasks, configs = len(shots), len(effect)
        level = (shots.log_runtime - effect[shots.config]).mean(axis=1)
        beyond = shots.log_runtime - effect[shots.config] - level[:, None]
        additive = level[:, None] + effect
        away = self.distance[shots.config]
        ties = np.broadcast_to(beyond[:, :, None], away.shape)
        order = np.lexsort((ties, np.round(away, 9)), axis=1)
        metrics = _logarithms(shots.metrics)
        shares = self._shares(shots)
        task = np.arange(tasks)[:, None]
        columns = [self.features[None], effect[None, :, None], level[:, None, None]]
        for k in range(shots.count):
            of = order[:, k]
            config = shots.config[task, of]
            log_runtime = shots.log_runtime[task, of]
            columns += [away[task, of, np.arange(configs)][..., None], beyond[task, of][..., None]]
            columns += [self.features[config], self.features[None] - self.features[config]]
            columns += [(effect - effect[config])[..., None], shares[task, of]]
            if self.slowness is not None:
                busy = np.exp(np.minimum(shares[task, of, 0], 0.0))
                scaled = np.log(1 - busy + busy * self.slowness / self.slowness[config])
                columns.append((log_runtime + scaled - additive)[..., None])
            if k == 0:
                columns += [metrics[task, of], metrics[task, of] - log_runtime[..., None]]
        if shots.count > 1:
            columns += [metrics.mean(axis=1)[:, None], shares.mean(axis=1)[:, None]]
        full = [np.broadcast_to(column, (tasks, configs, column.shape[-1])) for column in columns]
        return np.concatenate(full, axis=-1, dtype=np.float32), additive

    def _shares(self, shots: Shots) -> Float[np.ndarray, "task shot share"]:
        """Logarithm of CPU time over run time: of all CPU times together, then of each."""
        if not self.in_ms:
            return np.empty((*shots.config.shape, 0))
        each = shots.metrics[..., self.in_ms]
        together = np.concatenate([each.sum(axis=-1, keepdims=True), each], axis=-1)
        share = together / np.exp(shots.log_runtime)[..., None]
        return np.log(np.where(share < LEAST_SHARE, LEAST_SHARE, share))


def _episodes(
    config: BoostingConfig, reader: ShotReader, train: Observations, shots: int, rng: np.random.Generator
) -> Iterator[tuple[Float[np.ndarray, "row column"], Float[np.ndarray, " row"], Float[np.ndarray, " row"]],]:
    """Features, targets and weights of each training pair; all pairs weigh the same but for the inverse run times."""
    apps = sorted(train.apps)
    if len(apps) < 2:
        raise ModelError("boosting needs two training applications or more; add measurements of another one")
    folds = min(config.folds, len(apps))
    fold_of = {app: i % folds for i, app in enumerate(rng.permutation(apps).tolist())}
    fold = np.array([fold_of[app] for app, _ in train.pairs])
    for part in range(folds):
        effect = additive_effects(train.log_runtime[fold != part])[1]
        for i in np.flatnonzero(fold == part):
            known = np.flatnonzero(~np.isnan(train.log_runtime[i]))
            if known.size <= shots:
                continue
            chosen = _shot_sets(known, shots, config.shot_sets, rng)
            rows, additive = reader.read(train.shots(np.full(len(chosen), i), chosen), effect)
            asked = _queries(chosen, known, len(effect), config.queries, rng)
            target = (train.log_runtime[i] - additive)[asked]
            weight = np.exp(-np.clip(target, -2.3, 2.3)) if config.inverse_weights else np.ones_like(target)
            yield rows[asked], target, weight / len(target)


def _shot_sets(
    known: Int[np.ndarray, " known"], shots: int, sets: int, rng: np.random.Generator
) -> Int[np.ndarray, "set shot"]:
    if comb(known.size, shots) <= sets:
        return np.array(list(combinations(known.tolist(), shots)))
    return np.stack([rng.choice(known, shots, replace=False) for _ in range(sets)])


def _queries(
    chosen: Int[np.ndarray, "set shot"],
    known: Int[np.ndarray, " known"],
    configs: int,
    most: int,
    rng: np.random.Generator,
) -> Bool[np.ndarray, "set config"]:
    """Up to `most` observed configurations of each set that are no shots."""
    key = np.full((len(chosen), configs), np.inf)
    key[:, known] = rng.random((len(chosen), known.size))
    np.put_along_axis(key, chosen, np.inf, axis=1)
    rank = key.argsort(axis=1).argsort(axis=1)
    return np.asarray(np.isfinite(key) & (rank < most))


def _logarithms(metrics: Float[np.ndarray, "task shot metric"]) -> Float[np.ndarray, "task shot metric"]:
    return np.asarray(np.sign(metrics) * np.log1p(np.abs(metrics)))
