"""How often a model of one platform calls pairs novel: false alarms at home, and detections on another platform.

Enters: the measured data set. Leaves: shares of shot sets that are flagged at 5 %, for each model, where it is asked
and K. A model of `lambda` knows memory sizes alone: pairs of `openwhisk` are shown to it as they ran at one level of
CPU shares, at the two sizes that both platforms have. Between the two levels of contention there is a ceiling beside
it: a classifier that was trained on both, at 5 % false alarms on the same pairs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from flashfm.datasets.files import write_whole
from flashfm.errors import ModelError
from flashfm.experiments import evaluation
from flashfm.experiments.ours import Ours
from flashfm.models.flash import FlashModel
from flashfm.models.novelty import LEVEL
from flashfm.pretraining.supervised import PretrainConfig
from flashfm.tasks.config_search import Observations
from flashfm.tasks.features import environment_values

SHOTS = (1, 2, 3)
SETS = 8
"""Random shot sets a pair."""
SPLITS = (3, 4)
"""Numbers of the splits that are judged. The first three were looked at when the detector was designed."""
HOMES = ("lambda", "openwhisk-1", "openwhisk-3")
UNSEEN, KNOWN = "unseen applications", "applications it was trained on"
METRIC = f"flagged at {100 * LEVEL:g} %"
"""p-value below `LEVEL`, as the model says."""
MATCHED = f"flagged at {100 * LEVEL:g} % false alarms"
"""p-value below that of the lowest `LEVEL` of the unseen pairs of home: what the ceiling is to be compared with."""
CEILING = f"flagged at {100 * LEVEL:g} % false alarms by a classifier trained on both"
CONFIG = PretrainConfig(members=1)
"""One member: the embedding is the first one's anyhow."""


@dataclass(frozen=True)
class Flagged:
    """How many shot sets of some pairs are called novel, in one split."""

    home: str
    """Platform that was pretrained on."""
    asked: str
    """Platform of the pairs that are judged."""
    apps: str
    """`UNSEEN` or `KNOWN`."""
    shots: int
    share: float
    pairs: int
    queries: int
    metric: str


def run(
    folder: Path,
    *,
    splits: Sequence[int] = SPLITS,
    config: PretrainConfig = CONFIG,
    homes: Sequence[str] = HOMES,
    on_done: Callable[[], object] = lambda: None,
) -> list[Flagged]:
    """Pretrain and judge what is missing below `folder`, one file for each home and split."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Flagged] = []
    for home in homes:
        for number in splits:
            path = folder / f"{home}-{number:02d}.json"
            if not path.exists():
                _keep(path, _judge(home, number, Ours(store=folder / "models" / home, config=config)))
            found += [Flagged(**row) for row in json.loads(path.read_text())]
            on_done()
    return found


def p_values(model: FlashModel, data: Observations, k: int, seed: int = 0) -> Float[np.ndarray, "pair set"]:
    """p-values of each pair's random shot sets; pairs of fewer configurations are left out."""
    rng = np.random.default_rng(seed)
    able = [i for i, known in enumerate(data.observed) if known.size >= k]
    if not able:
        return np.empty((0, SETS))
    drawn = [rng.permutation(data.observed[i])[:k] for i in able for _ in range(SETS)]
    shots = data.shots(np.repeat(np.array(able, dtype=np.int64), SETS), np.array(drawn).reshape(-1, k))
    return model.judge(shots, model.compared(shots, model.embed(shots)))[0].reshape(-1, SETS)


def of_platform(data: Observations, platform: str, apps: Sequence[str]) -> Observations:
    """The pairs of one platform and some applications."""
    chosen = set(apps)
    return data.of_pairs(
        np.array([i for i, (app, of) in enumerate(data.pairs) if of == platform and app in chosen], dtype=np.int64)
    )


def as_lambda(openwhisk: Observations, like: Observations, cpu_shares: float) -> Observations:
    """Pairs of `openwhisk` at one level of CPU shares, laid out over the memory sizes of `lambda`."""
    runtime = np.full((len(openwhisk), len(like.grid)), np.nan)
    metrics = np.full((*runtime.shape, len(like.metric_names)), np.nan)
    names = [openwhisk.metric_names.index(name) for name in like.metric_names]
    sizes = like.grid["memory_mb"].to_numpy(dtype=np.float64)
    for c, (memory, share) in enumerate(openwhisk.grid[["memory_mb", "cpu_shares"]].to_numpy(dtype=np.float64)):
        at = np.flatnonzero(sizes == memory)
        if share == cpu_shares and at.size:
            runtime[:, at[0]] = openwhisk.log_runtime[:, c]
            metrics[:, at[0]] = openwhisk.metrics[:, c][:, names]
    return replace(like, pairs=openwhisk.pairs, log_runtime=runtime, metrics=metrics)


def _keep(path: Path, rows: Sequence[Flagged]) -> None:
    text = json.dumps([asdict(row) for row in rows]).encode()
    write_whole(path, lambda file: file.write(text))


def _judge(home: str, number: int, store: Ours) -> list[Flagged]:
    data = evaluation.load("lambda" if home == "lambda" else "openwhisk")
    split = evaluation.splits(data, number + 1)[number]
    model = store.model(of_platform(data, home, split.train), number)
    found = []
    asked = [(home, UNSEEN, of_platform(data, home, split.test))]
    if home == "lambda":
        other = evaluation.load("openwhisk")
        unseen = set(split.test)
        for platform in HOMES[1:]:
            for cpu_shares in sorted(set(other.grid["cpu_shares"])):
                for apps, kept in ((UNSEEN, unseen), (KNOWN, set(split.train))):
                    there = of_platform(other, platform, [app for app in other.apps if app in kept])
                    asked.append((f"{platform}, {cpu_shares:g} shares", apps, as_lambda(there, data, cpu_shares)))
    else:
        away = HOMES[3 - HOMES.index(home)]
        asked += [(away, UNSEEN, of_platform(data, away, split.test))]
        asked += [(away, KNOWN, of_platform(data, away, split.train))]
    for k in SHOTS:
        at_home = p_values(model, asked[0][2], k)
        for platform, apps, pairs in asked:
            told = p_values(model, pairs, k)
            for metric, level in ((METRIC, LEVEL), (MATCHED, float(np.quantile(at_home, LEVEL)))):
                if told.size and not (metric == MATCHED and platform == home):
                    share = float((told < level).mean())
                    found.append(Flagged(home, platform, apps, k, share, len(told), told.size, metric))
    if home != "lambda":
        found += _ceiling(data, home, away, split.train, split.test)
    return found


def _ceiling(data: Observations, home: str, away: str, train: Sequence[str], test: Sequence[str]) -> list[Flagged]:
    """Detections by a classifier that knows both platforms, at `LEVEL` false alarms on the pairs of home."""
    try:
        import lightgbm
    except ImportError:
        raise ModelError(
            "the ceiling of novelty needs LightGBM; install it with: pip install 'flashfm[baselines]'"
        ) from None
    parts = [_values(of_platform(data, platform, train)) for platform in (home, away)]
    rows = np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])
    label = np.repeat([0, 1], [part.shape[0] * part.shape[1] for part in parts])
    booster = lightgbm.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1, "seed": 0, "deterministic": True},
        lightgbm.Dataset(rows, label),
        num_boost_round=200,
    )
    score = {}
    for platform in (home, away):
        there = _values(of_platform(data, platform, test))
        told = np.asarray(booster.predict(there.reshape(-1, there.shape[-1]), raw_score=True))
        score[platform] = told.reshape(there.shape[:2])
    rng = np.random.default_rng(0)
    found = []
    for k in SHOTS:
        chosen: Int[np.ndarray, "set shot"] = np.stack([rng.permutation(len(data.grid))[:k] for _ in range(SETS)])
        summed = {platform: values[:, chosen].sum(axis=-1) for platform, values in score.items()}
        threshold = np.quantile(summed[home], 1 - LEVEL)
        share = float((summed[away] > threshold).mean())
        found.append(Flagged(home, away, UNSEEN, k, share, len(summed[away]), summed[away].size, CEILING))
    return found


def _values(data: Observations) -> Float[np.ndarray, "pair config value"]:
    """All that a shot says: configuration, run time, metrics, and what tells an environment."""
    spread = np.broadcast_to(data.features, (*data.log_runtime.shape, data.features.shape[1]))
    telling = environment_values(data.metrics, data.log_runtime, data.metric_names)
    return np.concatenate([spread, data.log_runtime[..., None], np.log1p(data.metrics), telling], axis=-1)
