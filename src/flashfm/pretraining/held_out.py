"""What a model says of pairs that it has not seen: forecasts for calibration, distances for novelty.

Enters: a model without calibration, and observations of other applications. Leaves: what `calibrate` and the parts of
novelty need, for each number of shots.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from flashfm.models import novelty
from flashfm.models.calibration import MAX_SHOTS, Held
from flashfm.models.flash import QUANTILES, FlashModel
from flashfm.tasks.config_search import Observations, Shots, draw
from flashfm.tasks.features import environment_values

_Distances = Float[np.ndarray, " _"]
Apart = dict[str, dict[int, list[_Distances]]]
"""Part of novelty -> K -> distances of held-out pairs, one array a fold."""


def forecasts(model: FlashModel, unseen: Observations, sets: int, rng: np.random.Generator) -> dict[int, Held]:
    """What the model says of unseen pairs, for each K that some pair has configurations for."""
    found = {}
    for k in range(MAX_SHOTS + 1):
        if k == 0:
            pair, chosen = np.arange(len(unseen)), np.empty((len(unseen), 0), dtype=np.int64)
        else:
            pair, chosen = draw(unseen, np.arange(len(unseen)), k, sets, rng)
        if not pair.size:
            continue
        shots = model.in_order(unseen.shots(pair, chosen))
        (mean, variance, _), correction, _ = model.raw(shots)
        if correction is None:
            correction = np.zeros((*mean.shape, 1 + len(QUANTILES)))
        observed = unseen.log_runtime[pair].copy()
        np.put_along_axis(observed, chosen, np.nan, axis=1)
        known = ~np.isnan(observed)
        owner = np.broadcast_to(pair[:, None], known.shape)
        found[k] = Held(owner[known], observed[known], mean[known], variance[known], correction[known])
    return found


def with_novelty(model: FlashModel, data: Observations, rng: np.random.Generator) -> FlashModel:
    """The model with references of its training pairs; distances of held-out pairs come with `with_held`."""
    references, bare, owners = [], [], []
    draws: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for k in range(1, min(MAX_SHOTS, max(map(len, data.observed))) + 1):
        pair, chosen = draw(data, np.arange(len(data)), k, 2, rng)
        if pair.size:
            draws[k] = pair, chosen
            shots = data.shots(pair, chosen)
            references.append(model.embed(shots))
            bare.append(model.embed(_without_metrics(shots)))
            owners.append(pair)
    owner, none = np.concatenate(owners), {1: references[0][:1]}
    told = environment_values(data.metrics, data.log_runtime, data.metric_names)
    return replace(
        model,
        novelty=novelty.fit(np.concatenate(references), owner, none),
        bare=novelty.fit(np.concatenate(bare), owner, none) if data.metric_names else None,
        environment=novelty.fit_environment(told, [app for app, _ in data.pairs], draws) if told.shape[-1] else None,
    )


def distances(model: FlashModel, unseen: Observations, rng: np.random.Generator) -> dict[str, dict[int, _Distances]]:
    """Distances of unseen pairs, for each part of novelty that the model has, and each K."""
    found: dict[str, dict[int, _Distances]] = {}
    if model.novelty is None:
        return found
    for k in range(1, MAX_SHOTS + 1):
        pair, chosen = draw(unseen, np.arange(len(unseen)), k, 5, rng)
        if not pair.size:
            continue
        shots = unseen.shots(pair, chosen)
        found.setdefault("novelty", {})[k] = model.novelty.distance(model.embed(shots))
        if model.bare is not None:
            found.setdefault("bare", {})[k] = model.bare.distance(model.embed(_without_metrics(shots)))
    return found


def with_held(model: FlashModel, apart: Apart) -> FlashModel:
    """The model with the distances of held-out pairs, joined over folds, by which p-values are told."""
    parts = {}
    for name, of_k in apart.items():
        lists = [np.concatenate(of_k[k]) for k in sorted(of_k)]
        enough = [values for values in lists if 2 * len(values) >= len(lists[0])]
        held = np.stack([_thinned(values, min(map(len, enough))) for values in enough])
        parts[name] = replace(getattr(model, name), held=held)
    return replace(model, **parts)


def _without_metrics(shots: Shots) -> Shots:
    return replace(shots, metrics=np.full_like(shots.metrics, np.nan))


def joined(found: list[Held]) -> Held:
    """Folds as one; their pairs stay apart."""
    numbers = [np.stack([np.full(h.pair.size, i), h.pair], axis=1) for i, h in enumerate(found)]
    _, pair = np.unique(np.concatenate(numbers), axis=0, return_inverse=True)
    columns = [
        np.concatenate([getattr(h, name) for h in found]) for name in ("observed", "mean", "variance", "correction")
    ]
    observed, mean, variance, correction = columns
    return Held(pair, observed, mean, variance, correction, once=len(found) == 1)


def _thinned(values: Float[np.ndarray, " distance"], n: int) -> Float[np.ndarray, " n"]:
    """`n` values at even ranks of the sorted ones."""
    return np.asarray(np.sort(values)[np.linspace(0, len(values) - 1, n).round().astype(np.int64)])
