"""Many pairs at once: their shots in, what each may be given and is expected to take there out.

Enters: a pretrained model and `ManyShots`. Leaves: batches of pairs with the same number of shots. What a batch holds
of a pair is what `AdaptedRegressor` says of that pair alone: no pair is seen by another. Arrays in and out, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from flashfm.act.choose import ENOUGH_SHOTS, Offers
from flashfm.adapt.finetune import fine_tune_each
from flashfm.adapt.shots import ManyShots, extended
from flashfm.models.flash import FlashModel
from flashfm.models.novelty import LEVEL
from flashfm.tasks.config_search import Shots

AT_ONCE = 2048
"""Pairs of a batch; more take memory and no less time each."""
MOST_OTHERS = 32
"""Configurations outside of the grid that the pairs of a batch have together, where no pair alone has more."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Pairs with the same number of shots, at least one, and what is expected of each."""

    pair: Int[np.ndarray, " pair"]
    """Their numbers."""
    places: Int[np.ndarray, " known"]
    """Where each configuration of the `ManyShots` is in `offers`; -1 where it is not."""
    shots: Shots
    """Positions are those in `offers`."""
    offers: Offers
    p_value: Float[np.ndarray, " pair"]
    """How novel each pair is, in (0, 1]; NaN where the model cannot say."""
    distance: Float[np.ndarray, " pair"]
    """Of its embedding to those of pretraining; NaN where the model cannot say."""
    fine_tuned: Bool[np.ndarray, " pair"]
    embedding: Float[np.ndarray, "pair embed"] | None
    """By which pairs are compared with those of pretraining; None where the model cannot."""

    @property
    def novel(self) -> Bool[np.ndarray, " pair"]:
        """Which pairs are unlike those of pretraining."""
        return self.p_value < LEVEL


def adapt_each(model: FlashModel, read: ManyShots, *, fine_tune: bool | None = None) -> Iterator[Batch]:
    """Adapt to each pair that has a shot and no problem.

    Args:
        model: pretrained; it is not changed.
        read: what was measured of the pairs.
        fine_tune: as for `FlashRegressor.adapt`: take gradient steps; by default where a pair is novel and has enough
            shots.

    Yields:
        Batches, in an order that depends on nothing but `read`; each such pair is in one of them.
    """
    for pairs, others in _together(read, len(model.grid)):
        larger, places = extended(model, read.configurations, others)
        for k in np.unique(read.count[pairs]):
            alike = pairs[read.count[pairs] == k]
            for start in range(0, len(alike), AT_ONCE):
                chosen = alike[start : start + AT_ONCE]
                yield _batch(larger, read, chosen, int(k), places, len(model.grid), fine_tune)


def offered(model: FlashModel, shots: Shots, grid: int) -> Bool[np.ndarray, "task config"]:
    """Configurations that some pretraining pair was observed in together with those of a task's shots, and these.

    Args:
        model: its grid may have been extended.
        shots: K >= 1.
        grid: how many configurations come first; of those after them, a task is offered its own shots' alone.
    """
    together = model.together[shots.config]
    known = together.all(axis=1)
    strange = ~known.any(axis=1)
    known[strange] = together[strange].any(axis=1)
    known[:, grid:] = False
    known[np.arange(len(shots))[:, None], shots.config] = True
    return np.asarray(known)


def _together(read: ManyShots, grid: int) -> Iterator[tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " other"]]]:
    """Pairs to be answered together, and which configurations outside of the grid they have."""
    able = read.count > 0
    pair = np.concatenate([read.pair, read.failed_pair])
    config = np.concatenate([read.config, read.failed_config])
    beyond = (config >= grid) & able[pair]
    plain = able.copy()
    plain[pair[beyond]] = False
    if plain.any():
        yield np.flatnonzero(plain), np.empty(0, dtype=np.int64)
    sets: dict[int, set[int]] = {}
    for one, other in zip(pair[beyond].tolist(), config[beyond].tolist(), strict=True):
        sets.setdefault(one, set()).add(other)
    chosen: list[int] = []
    union: set[int] = set()
    for one, own in sorted(sets.items(), key=lambda item: (sorted(item[1]), item[0])):
        if chosen and len(union | own) > MOST_OTHERS:
            yield np.array(sorted(chosen)), np.array(sorted(union))
            chosen, union = [], set()
        chosen.append(one)
        union |= own
    if chosen:
        yield np.array(sorted(chosen)), np.array(sorted(union))


def _batch(
    model: FlashModel,
    read: ManyShots,
    pairs: Int[np.ndarray, " pair"],
    k: int,
    places: Int[np.ndarray, " known"],
    grid: int,
    fine_tune: bool | None,
) -> Batch:
    shots = read.of(pairs, k, places)
    forecast = model.forecast(shots)
    p_value, distance, embedding = np.full(len(pairs), np.nan), np.full(len(pairs), np.nan), None
    if model.novelty is not None and forecast.embedding is not None:
        embedding = model.compared(shots, forecast.embedding)
        p_value, distance = model.judge(shots, embedding)
    wanted = np.full(len(pairs), bool(fine_tune)) if fine_tune is not None else (p_value < LEVEL) & (k >= ENOUGH_SHOTS)
    told = {name: getattr(forecast, name) for name in ("point", "lower", "upper")}
    tuned = _tune(model, shots, np.flatnonzero(wanted), told)
    rows = np.arange(len(pairs))[:, None]
    given = offered(model, shots, grid)
    measured = np.zeros_like(given)
    measured[rows, shots.config] = True
    outcome = np.zeros(given.shape, dtype=np.int64)
    number = np.full(len(read.count), -1, dtype=np.int64)
    number[pairs] = np.arange(len(pairs))
    own = number[read.failed_pair] >= 0
    failed = number[read.failed_pair[own]], places[read.failed_config[own]]
    given[failed], outcome[failed] = True, read.failed_outcome[own]
    runtime = np.exp(np.stack([told["point"], told["lower"], told["upper"]], axis=-1))
    offers = Offers(model.grid, runtime, given, measured, outcome)
    return Batch(pairs, places, shots, offers, p_value, distance, tuned, embedding)


def _tune(
    model: FlashModel, shots: Shots, at: Int[np.ndarray, " wanted"], told: dict[str, Float[np.ndarray, "task config"]]
) -> Bool[np.ndarray, " task"]:
    """Put what tuned heads say in place of what is told of some tasks, and say of which."""
    tuned = np.zeros(len(shots), dtype=np.bool_)
    if not at.size:
        return tuned
    some = Shots(shots.config[at], shots.log_runtime[at], shots.metrics[at])
    each, better = fine_tune_each(model, some)
    tuned[at[better]] = True
    if better.any():
        forecast = each.forecast(some)
        for name, values in told.items():
            values[at[better]] = getattr(forecast, name)[better]
    return tuned
