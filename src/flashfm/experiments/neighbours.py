"""Whether similar applications lie close: how often the nearest known one has the same dominant segment.

Enters: a pretrained model and pairs that it has not seen. Leaves: shares of like neighbours, and what chance gives.
The dominant segment of an application is the one that takes longest. A segment's time is not measured by itself, so it
is estimated: on `lambda` at 1,024 MB, run time is fitted as the sum over an application's segments of a time for each
kind and one more for each unit of work, none negative, by least squared relative error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from flashfm.applications.catalogue import resolve
from flashfm.applications.segments import POOL, segment_class
from flashfm.applications.spec import SegmentSpec
from flashfm.errors import ModelError
from flashfm.models.flash import FlashModel
from flashfm.tasks.autoscaling.segment_costs import nonnegative
from flashfm.tasks.config_search import Observations

KINDS = tuple(POOL)
NOT_WORK = ("quality", "level")
"""Numbers of a segment that are settings rather than amounts."""
SHOTS, SETS = 3, 5
AT_MB = 1024.0
DRAWS = 1_000
"""Permutations of the labels."""


@dataclass(frozen=True)
class Likeness:
    """How often the nearest known application is alike, and what chance gives."""

    share: float
    chance: float
    chance_low: float
    chance_high: float
    """95 % of the permutations lie between these."""
    sd: float
    """Of the share, over pairs."""
    pairs: int
    queries: int


def work(segment: SegmentSpec) -> float:
    """Amount of work, the product of a segment's amounts; the side of a picture counts twice, of a matrix thrice."""
    amount = 1.0
    for name, value in segment.params.items():
        if isinstance(value, int | float) and name not in NOT_WORK:
            power = 1 if name != "side" else 2 if segment.kind.startswith("image") else 3
            amount *= float(value) ** power
    return amount


def dominant_segments(lambda_data: Observations) -> tuple[dict[str, str], float]:
    """Application -> kind of its dominant segment; and the median relative error of the fit.

    Args:
        lambda_data: observations of generated applications on `lambda`.
    """
    at = int(np.flatnonzero(lambda_data.grid["memory_mb"].to_numpy(dtype=np.float64) == AT_MB)[0])
    runtime = np.exp(lambda_data.log_runtime[:, at])
    names = [app for app, _ in lambda_data.pairs]
    specs = {name: resolve(name).segments for name in names}
    known = ~np.isnan(runtime)
    design = np.stack([sum((_columns(s) for s in specs[name]), np.zeros(2 * len(KINDS))) for name in names])
    times = nonnegative(design[known] / runtime[known, None], np.ones(int(known.sum())))
    error = float(np.median(np.abs(design[known] @ times / runtime[known] - 1)))
    longest = {name: max(parts, key=lambda s: float(_columns(s) @ times)).kind for name, parts in specs.items()}
    return longest, error


def nearest_apps(model: FlashModel, unseen: Observations, seed: int = 0) -> list[tuple[str, list[str]]]:
    """The application of each pair that has enough configurations, and the nearest known one for each set of shots.

    All pairs of the application itself are left out of what is known, on whatever platform they ran.

    Raises:
        ModelError: the model knows no other application.
    """
    found: list[tuple[str, list[str]]] = []
    rng = np.random.default_rng(seed)
    if model.novelty is None:
        return found
    for i, (app, _) in enumerate(unseen.pairs):
        known = unseen.observed[i]
        if known.size < SHOTS:
            continue
        own = sum(name == app for name, _ in model.known)
        if own == len(model.known):
            raise ModelError(f"the model knows no application but {app!r}; expected one to be compared with")
        drawn = np.stack([rng.permutation(known)[:SHOTS] for _ in range(SETS)])
        near = []
        for embedding in model.embed(unseen.shots(np.full(SETS, i), drawn)):
            names = [model.known[pair][0] for pair, _ in model.novelty.nearest(embedding, own + 1)]
            near.append(next(name for name in names if name != app))
        found.append((app, near))
    return found


def likeness(near: Sequence[tuple[str, list[str]]], label: Mapping[str, str], seed: int = 0) -> Likeness:
    """Share of neighbours with the same label; chance is that of labels dealt anew among the applications."""
    names = sorted(label)
    place = {name: i for i, name in enumerate(names)}
    _, codes = np.unique([label[name] for name in names], return_inverse=True)
    asked = np.array([place[app] for app, others in near for _ in others])
    found = np.array([place[other] for _, others in near for other in others])
    pair = np.repeat(np.arange(len(near)), [len(others) for _, others in near])
    alike = (codes[asked] == codes[found]).astype(np.float64)
    of_pairs = np.bincount(pair, alike) / np.bincount(pair)
    rng = np.random.default_rng(seed)
    dealt = np.array([(c[asked] == c[found]).mean() for c in (rng.permutation(codes) for _ in range(DRAWS))])
    low, high = np.quantile(dealt, [0.025, 0.975])
    spread = float(of_pairs.std(ddof=1)) if len(near) > 1 else 0.0
    return Likeness(float(of_pairs.mean()), float(dealt.mean()), float(low), float(high), spread, len(near), alike.size)


def bound(kind: str) -> str:
    """What a kind of segment mostly waits for: `cpu`, `disk`, `network` or `time`."""
    return segment_class(kind).bound


def _columns(segment: SegmentSpec) -> Float[np.ndarray, " column"]:
    columns = np.zeros(2 * len(KINDS))
    at = 2 * KINDS.index(segment.kind)
    columns[at], columns[at + 1] = 1.0, work(segment)
    return columns
