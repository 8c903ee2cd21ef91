"""The model that ships with the package, `serverless-memory`: pretrained on all generated applications, with its card.

What the card says was measured on applications that the model in question had not seen: for the scores, models of five
splits by application, each tested on the fifth that it was not trained on; for the hand-written applications, the
shipped model itself. Leaves: the model's folder, and `results/serverless-memory.json` with what it rests on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flashfm import api
from flashfm.applications.catalogue import resolve
from flashfm.applications.segments import segment_class
from flashfm.artifact.card import CardData, GroupError, NoveltyRates, Score, render
from flashfm.datasets.splits import shot_sets
from flashfm.experiments import evaluation, results
from flashfm.experiments.ours import Ours
from flashfm.models.flash import FlashModel
from flashfm.models.novelty import LEVEL
from flashfm.pretraining.supervised import PretrainConfig
from flashfm.tasks.config_search import Observations

NAME = "serverless-memory"
SPLITS, SETS = 5, 20
SHOTS = (0, 1, 2, 3, 5)
QUICK = PretrainConfig(most_steps=200, members=1, likeness_steps=30)
PROTOCOL = (
    "Mean absolute percentage error over queries, then over pairs; five splits by application, each pair tested by a"
    " model that has not seen its application; random shots, all other measured configurations asked; sd over splits."
    " Hand-written applications: the shipped model."
)


def run(
    folder: Path, results_folder: Path, *, quick: bool = False, on_step: Callable[[int, int], object] = lambda *_: None
) -> Path:
    """Pretrain, judge and write the model to `folder/serverless-memory`.

    Args:
        folder: for the models; those of splits that are there already are kept.
        results_folder: for `serverless-memory.json`.
        quick: one split and a much shorter training.
        on_step: told of parts done and parts in all.

    Returns:
        The result file.
    """
    data = evaluation.load("measured")
    config = QUICK if quick else PretrainConfig()
    chosen = evaluation.splits(data, 1 if quick else SPLITS)
    parts = len(chosen) + 1
    store = Ours(store=folder / "splits", config=config)
    frames = []
    for i, split in enumerate(chosen):
        model = store.model(data.of_apps(split.train), i)
        frames.append(judged(model, data.of_apps(split.test)).assign(split=i))
        on_step(i + 1, parts)
    unseen = pd.concat(frames, ignore_index=True)
    command = f"flashfm reproduce {NAME}" + (" --quick" if quick else "")
    table = evaluation.table("measured", real=False)
    known = CardData(NAME, "config-search", api.SUMMARY, command=command, commit=results.commit(), protocol=PROTOCOL)
    shipped = api.run(table, config=config, seed=0, card=known)
    hand_written = Observations.from_table(evaluation.table("measured", real=True), like=Observations.from_table(table))
    real = judged(shipped.model.model, hand_written)
    card = _scored(shipped.card, unseen, real)
    shipped.model.card = render(card)
    shipped.model.save_pretrained(folder / NAME)
    on_step(parts, parts)
    rows = [*_rows("measured", "unseen applications", unseen), *_rows("measured", "hand-written applications", real)]
    size = sum(path.stat().st_size for path in (folder / NAME).iterdir())
    more = {
        "bytes": size,
        "seconds": card.seconds,
        "groups": [vars(row) for row in card.by_application],
        "segments": [vars(row) for row in card.by_segment],
    }
    path = results_folder / f"{NAME}.json"
    results.write(path, command=command, protocol=PROTOCOL, seeds=[0], rows=rows, more=more)
    return path


def judged(model: FlashModel, data: Observations, shots: Iterable[int] = SHOTS) -> pd.DataFrame:
    """Every query of every pair: `app`, `platform`, `shots`, `ape`, `inside` its interval, and `p_value` of novelty."""
    parts = []
    observed = data.observed
    for k in shots:
        for i, pair in enumerate(data.pairs):
            known = observed[i]
            if known.size <= k:
                continue
            sets = (
                known[shot_sets(pair, known.size, shots=max(k, 1), sets=SETS)[:, :k]]
                if k
                else np.empty((1, 0), np.int64)
            )
            known_of = data.shots(np.full(len(sets), i), sets)
            told = model.forecast(known_of)
            asked = np.zeros(told.point.shape, dtype=np.bool_)
            asked[:, known] = True
            np.put_along_axis(asked, sets, False, axis=1)
            y = np.broadcast_to(data.log_runtime[i], told.point.shape)
            p_value = np.nan
            if model.novelty is not None and told.embedding is not None:
                p_value = float((model.judge(known_of, model.compared(known_of, told.embedding))[0] < LEVEL).mean())
            columns: dict[str, Any] = {
                "ape": np.abs(np.exp(told.point - y)[asked] - 1),
                "inside": ((told.lower <= y) & (y <= told.upper))[asked],
            }
            parts.append(pd.DataFrame(columns).assign(app=pair[0], platform=pair[1] or "", shots=k, flagged=p_value))
    return pd.concat(parts, ignore_index=True)


def bound_of(app: str) -> str:
    """What an application of ours mostly waits for, `cpu`, `disk`, `network` or `time`; `mixed` without a majority."""
    kinds = Counter(segment_class(part.kind).bound for part in resolve(app).segments)
    (first, n), *_ = kinds.most_common(1)
    return first if 2 * n > sum(kinds.values()) else "mixed"


def _of_pairs(frame: pd.DataFrame) -> pd.DataFrame:
    keys = [name for name in ("split", "app", "platform", "shots") if name in frame]
    return frame.groupby(keys, as_index=False).agg(
        ape=("ape", "mean"),
        median=("ape", "median"),
        inside=("inside", "mean"),
        flagged=("flagged", "mean"),
        n=("ape", "size"),
    )


def _rows(dataset: str, part: str, frame: pd.DataFrame) -> list[results.Row]:
    rows = []
    pairs = _of_pairs(frame)
    for (platform, k), group in [
        *pairs.groupby(["platform", "shots"]),
        *((("all", k), g) for k, g in pairs.groupby("shots")),
    ]:
        of_split = group.groupby("split") if "split" in group else None
        for metric, column in (("APE", "ape"), ("coverage", "inside"), ("flagged as novel", "flagged")):
            values = group[column].dropna()
            if values.empty:
                continue
            means = of_split[column].mean() if of_split is not None else values
            spread = float(means.std()) if len(means) > 1 else 0.0
            middle = float(group["median"].mean()) if column == "ape" else float(values.median())
            rows.append(
                results.Row(
                    f"{dataset}, {platform}",
                    part,
                    metric,
                    float(values.mean()),
                    middle,
                    spread,
                    len(group),
                    int(group["n"].sum()),
                    int(k),
                )
            )
    return rows


def _scored(card: CardData, unseen: pd.DataFrame, real: pd.DataFrame) -> CardData:
    """The card with what was measured."""
    scores = [
        Score(row.dataset, row.method, row.shots or 0, row.mean, row.median, row.sd, row.n_pairs)
        for part, frame in (("unseen applications", unseen), ("hand-written applications", real))
        for row in _rows("measured", part, frame)
        if row.metric == "APE"
    ]
    bound = {app: bound_of(app) for app in unseen["app"].unique()}
    segments = {app: {part.kind for part in resolve(app).segments} for app in bound}
    kinds = sorted({kind for of in segments.values() for kind in of})
    groups = [(name, {app for app in bound if bound[app] == name}) for name in sorted(set(bound.values()))]
    by_segment = [(kind, {app for app in segments if kind in segments[app]}) for kind in kinds]
    alarms = _of_pairs(unseen[unseen["shots"] > 0])["flagged"].mean()
    return replace(
        card,
        scores=tuple(scores),
        by_application=tuple(
            _group(f"mostly {name}" if name != "mixed" else name, unseen, apps) for name, apps in groups
        ),
        by_segment=tuple(_group(f"with {kind}", unseen, apps) for kind, apps in by_segment),
        novelty=NoveltyRates(LEVEL, float(alarms), None),
    )


def _group(name: str, unseen: pd.DataFrame, apps: set[str]) -> GroupError:
    pairs = _of_pairs(unseen[unseen["app"].isin(apps)])

    def mean(k: int) -> float | None:
        values = pairs.loc[pairs["shots"] == k, "ape"]
        return float(values.mean()) if len(values) else None

    inside = pairs.loc[pairs["shots"] > 0, "inside"]
    return GroupError(
        name, int(pairs[["app", "platform"]].drop_duplicates().shape[0]), mean(1), mean(3), float(inside.mean())
    )
