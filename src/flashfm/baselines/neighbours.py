"""Nearest applications: the curves of the training pairs whose measurements resemble the shots most.

Enters: Observations of training pairs, then Shots of others. Leaves: run times in ms of every configuration. What makes
two pairs alike (level of run time, its shape over the shots, system metrics, share of run time spent on the CPU), how
many neighbours count and how fast they fade is chosen by leaving one application out of the training pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from flashfm.baselines.ratio import additive_effects
from flashfm.errors import ModelError
from flashfm.tasks.config_search import Observations, Shots
from flashfm.tasks.features import CLIP

TASKS_AT_ONCE = 200
SMALL = 1e-9
LEAST_SHARE = 1e-3
"""Share of run time on the CPU below which there is none."""
WEIGHTS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
OPTIONS: dict[str, tuple[float, ...]] = {
    "level": WEIGHTS,
    "shape": WEIGHTS,
    "metrics": WEIGHTS,
    "cpu_share": WEIGHTS,
    "neighbours": (3, 5, 8, 12, 20, 40),
    "fade": (0.3, 0.5, 0.8, 1.5),
    "blend": (0.0, 0.15, 0.3, 0.5, 0.7),
    "shrink": (0.0, 0.4, 0.8),
}
"""Values of `Likeness` that are tried, in this order."""
ROUNDS = 2
TUNING_TASKS = 800
"""Shot sets of training pairs that hyper-parameters are judged on, at most."""


@dataclass(frozen=True)
class Likeness:
    """Hyper-parameters that the inner cross-validation chooses."""

    level: float = 1.0
    """Weight of the difference in mean log run time of the shots."""
    shape: float = 10.0
    """Weight of the difference in log run time beyond its mean; without effect for one shot."""
    metrics: float = 1.0
    """Weight of the difference in the standardised logarithms of the metrics."""
    cpu_share: float = 10.0
    """Weight of the difference in the logarithm of CPU time (the metrics in ms) over run time."""
    neighbours: int = 12
    fade: float = 0.7
    """Bandwidth of the Gaussian weights, in distances to the last neighbour."""
    blend: float = 0.25
    """Share of the additive ratio in the answer."""
    shrink: float = 0.4
    """Variances of the neighbours' log run time by which the answer is lowered, as percentage errors reward."""


@dataclass(frozen=True)
class NearestApplications:
    """Weighted mean of the log curves of the k nearest training pairs, shifted to the mean of the shots."""

    name: str = "nearest applications"
    per_shots: bool = True

    def fit(self, train: Observations, *, shots: int, seed: int) -> FittedNeighbours:
        """Keep the training pairs and choose how to compare with them.

        Raises:
            ModelError: there are fewer than three training applications.
        """
        if len(train.apps) < 3:
            raise ModelError(f"nearest applications need at least 3 of them, got {len(train.apps)}; add measurements")
        fitted = FittedNeighbours.of(train)
        rng = np.random.default_rng(seed)
        able = [(i, known) for i, known in enumerate(train.observed) if known.size > shots]
        if not able:
            return fitted
        times = max(1, min(20, TUNING_TASKS // len(able)))
        chosen = [able[i] for i in rng.permutation(len(able))[:TUNING_TASKS] for _ in range(times)]
        pair = np.array([i for i, _ in chosen])
        config = np.stack([rng.choice(known, shots, replace=False) for _, known in chosen])
        return replace(fitted, likeness=_tune(fitted, train, pair, train.shots(pair, config)))


@dataclass(frozen=True, eq=False)
class MetricScaler:
    """Location and scale of the logarithm of each metric."""

    centre: Float[np.ndarray, " metric"]
    scale: Float[np.ndarray, " metric"]

    @classmethod
    def fit(cls, metrics: Float[np.ndarray, "pair config metric"]) -> MetricScaler:
        """Fit on training pairs; a metric that is never there or never varies keeps scale 1."""
        values = _compressed(metrics).reshape(metrics.shape[0] * metrics.shape[1], metrics.shape[2])
        seen = ~np.isnan(values)
        count = np.maximum(seen.sum(axis=0), 1)
        centre = np.where(seen, values, 0.0).sum(axis=0) / count
        spread = np.sqrt(np.where(seen, (values - centre) ** 2, 0.0).sum(axis=0) / count)
        return cls(centre, np.where(spread > SMALL, spread, 1.0))

    def transform(self, metrics: Float[np.ndarray, "*rows metric"]) -> Float[np.ndarray, "*rows metric"]:
        """Standardised logarithms within ±`CLIP`, NaN where missing."""
        return np.asarray(np.clip((_compressed(metrics) - self.centre) / self.scale, -CLIP, CLIP))


@dataclass(frozen=True, eq=False)
class FittedNeighbours:
    """Training pairs with their gaps filled, and how to compare with them."""

    curves: Float[np.ndarray, "pair config"]
    """Log run time, where missing the additive fit."""
    effect: Float[np.ndarray, " config"]
    metrics: Float[np.ndarray, "pair config metric"]
    """Standardised logarithms, NaN where missing."""
    cpu_share: Float[np.ndarray, "pair config"]
    """Logarithm of CPU time over run time, NaN where missing."""
    scaler: MetricScaler
    in_ms: tuple[int, ...]
    """Which metrics are CPU times."""
    likeness: Likeness

    @classmethod
    def of(cls, train: Observations) -> FittedNeighbours:
        """Lay out the training pairs."""
        level, effect = additive_effects(train.log_runtime)
        filled = np.where(np.isnan(train.log_runtime), level[:, None] + effect, train.log_runtime)
        scaler = MetricScaler.fit(train.metrics)
        in_ms = tuple(i for i, name in enumerate(train.metric_names) if name.endswith("_cpu_ms"))
        cpu_share = _cpu_share(train.metrics, train.log_runtime, in_ms)
        return cls(filled, effect, scaler.transform(train.metrics), cpu_share, scaler, in_ms, Likeness())

    def predict(self, shots: Shots) -> Float[np.ndarray, "task config"]:
        """Run time in ms of every configuration of the grid, for each task."""
        return np.concatenate([_predict(self, part, self.differences(part), self.likeness) for part in _parts(shots)])

    def differences(self, shots: Shots) -> dict[str, Float[np.ndarray, "task pair"]]:
        """Mean squared difference to each training pair, for each kind of likeness."""
        theirs = self.curves[:, shots.config]
        gap = shots.log_runtime - theirs
        mean = gap.mean(axis=-1)
        found = {"level": mean**2, "shape": ((gap - mean[..., None]) ** 2).mean(axis=-1)}
        if shots.metrics.shape[-1]:
            apart = (self.scaler.transform(shots.metrics) - self.metrics[:, shots.config]) ** 2
            found["metrics"] = _mean_seen(apart.reshape(*apart.shape[:2], -1))
        if self.in_ms:
            share = _cpu_share(shots.metrics, shots.log_runtime, self.in_ms)
            found["cpu_share"] = _mean_seen((share - self.cpu_share[:, shots.config]) ** 2)
        return {name: value.T for name, value in found.items()}


def _tune(fitted: FittedNeighbours, train: Observations, pair: Int[np.ndarray, " task"], shots: Shots) -> Likeness:
    """Coordinate descent over `OPTIONS` on the error of training pairs, neighbours being other applications only."""
    app = np.array([app for app, _ in train.pairs])
    own = app[pair][:, None] == app
    others = int((~own).sum(axis=1).min())
    differences = [fitted.differences(part) for part in _parts(shots)]
    joined = {name: np.concatenate([part[name] for part in differences]) for name in differences[0]}
    log_truth = train.log_runtime[pair].copy()
    np.put_along_axis(log_truth, shots.config, np.nan, axis=1)
    truth = np.exp(log_truth)

    def error(likeness: Likeness) -> float:
        runtime = _predict(fitted, shots, joined, replace(likeness, neighbours=min(likeness.neighbours, others)), own)
        return float(np.nanmean(np.abs(runtime / truth - 1), axis=1).mean())

    best = fitted.likeness
    least = error(best)
    for name in list(OPTIONS) * ROUNDS:
        if name in ("level", "shape", "metrics", "cpu_share") and name not in joined:
            continue
        for value in OPTIONS[name]:
            candidate = replace(best, **{name: value})  # type: ignore[arg-type]
            if candidate != best and (found := error(candidate)) < least:
                best, least = candidate, found
    return replace(best, neighbours=min(best.neighbours, others))


def _predict(
    fitted: FittedNeighbours,
    shots: Shots,
    differences: Mapping[str, Float[np.ndarray, "task pair"]],
    likeness: Likeness,
    left_out: Bool[np.ndarray, "task pair"] | None = None,
) -> Float[np.ndarray, "task config"]:
    squared = sum((getattr(likeness, name) * value for name, value in differences.items()), start=np.array(0.0))
    distance = np.sqrt(squared if left_out is None else np.where(left_out, np.inf, squared))
    n = min(likeness.neighbours, distance.shape[1])
    order = np.argpartition(distance, n - 1, axis=1)[:, :n]
    near = np.take_along_axis(distance, order, axis=1)
    scale = np.maximum(likeness.fade * near.max(axis=1, keepdims=True), SMALL)
    weight = np.exp(-0.5 * (near / scale) ** 2) + SMALL
    weight /= weight.sum(axis=1, keepdims=True)
    at_shots = fitted.curves[order[:, :, None], shots.config[:, None, :]]
    shift = (shots.log_runtime[:, None] - at_shots).mean(axis=2)
    curve = fitted.curves[order] + shift[:, :, None]
    mean = np.einsum("tn,tnc->tc", weight, curve)
    variance = np.einsum("tn,tnc->tc", weight, curve**2) - mean**2
    additive = (shots.log_runtime - fitted.effect[shots.config]).mean(axis=1)[:, None] + fitted.effect
    blended = (1 - likeness.blend) * mean + likeness.blend * additive
    return np.asarray(np.exp(blended - likeness.shrink * np.maximum(variance, 0.0)))


def _parts(shots: Shots) -> Iterator[Shots]:
    for start in range(0, len(shots), TASKS_AT_ONCE):
        part = slice(start, start + TASKS_AT_ONCE)
        yield Shots(shots.config[part], shots.log_runtime[part], shots.metrics[part])


def _cpu_share(
    metrics: Float[np.ndarray, "*rows metric"], log_runtime: Float[np.ndarray, "*rows"], in_ms: tuple[int, ...]
) -> Float[np.ndarray, "*rows"]:
    with np.errstate(divide="ignore"):
        return np.asarray(np.maximum(np.log(metrics[..., in_ms].sum(axis=-1)) - log_runtime, np.log(LEAST_SHARE)))


def _compressed(metrics: Float[np.ndarray, "*rows metric"]) -> Float[np.ndarray, "*rows metric"]:
    return np.asarray(np.sign(metrics) * np.log1p(np.abs(metrics)))


def _mean_seen(values: Float[np.ndarray, "pair task each"]) -> Float[np.ndarray, "pair task"]:
    """Mean of what is not NaN; 0, which is no difference, where all is."""
    seen = ~np.isnan(values)
    return np.asarray(np.where(seen, values, 0.0).sum(axis=-1) / np.maximum(seen.sum(axis=-1), 1))
