"""The environment as part of what a model has to find out: hidden, given and wrong; novelty; neighbours.

One model over all measured platforms, on splits by application. `hidden`: it is not told the platform, so the two
levels of contention differ only by what the shots show. An empty `cpu_shares` tells `lambda` from `openwhisk`: what is
really hidden is how busy the neighbours are. `given`: the platform is one more configuration column. `wrong`: that
model, told the other level of contention. Each also without embedding, and without metrics: the prior compares metrics
too, so without its embedding a model still sees them. `one model a platform`: as it says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from flashfm.datasets.table import MeasurementTable
from flashfm.experiments import evaluation, neighbours, novelty, results
from flashfm.experiments.ablations import Named, Steps, WithoutMetrics, difference, differences_table
from flashfm.experiments.evaluation import Scores
from flashfm.experiments.neighbours import Likeness
from flashfm.experiments.novelty import Flagged
from flashfm.experiments.ours import Ours
from flashfm.experiments.results import Row
from flashfm.pretraining.supervised import PretrainConfig
from flashfm.reporting import score_dots
from flashfm.tasks.config_search import Fitted, Method, Observations, Shots

PLATFORMS = ("lambda", "openwhisk-1", "openwhisk-3")
COLUMN = "environment"
"""The configuration column by which a model is given its platform."""
SPLITS, SHOTS = 2, (1, 2, 3)
HIDDEN, GIVEN, WRONG, ALONE = "hidden", "given", "wrong", "one model a platform"
NO_EMBEDDING, NO_METRICS = "no embedding", "no metrics"
QUICK = PretrainConfig(members=1, least_steps=60, most_steps=60, likeness_steps=20, likeness_tasks=100)
EVERY = "openwhisk, mean over shares and contention"
ALIKE = "nearest application is alike"


@dataclass(frozen=True)
class Arm:
    """One method on one view of the data."""

    name: str
    data: Observations
    method: Method


def run(
    folder: Path, results_folder: Path, *, quick: bool = False, on_step: Callable[[int, int], object] = lambda *_: None
) -> Path:
    """Train and judge what is missing below `folder`, then write `environment.json`, its table and its picture.

    Args:
        folder: files go to `errors/<arm>/<split>-k<K>.npz`, `novelty/` and `models/`.
        results_folder: where results go.
        quick: one split, a few training steps and 20 shot sets: figures without weight.
        on_step: told of the steps that are done and of all of them.

    Returns:
        Path of `environment.json`.

    Raises:
        DataError: a file there is damaged, or a result cannot be written.
        ModelError: LightGBM, which the ceiling of novelty needs, is not installed.
    """
    config = QUICK if quick else PretrainConfig()
    sets = evaluation.QUICK_SETS if quick else evaluation.SETS
    n, of_novelty = (1, novelty.SPLITS[:1]) if quick else (SPLITS, novelty.SPLITS)
    base = evaluation.load("measured")
    chosen = arms(base, folder / "models", config)
    step = Steps(on_step, len(chosen) * n * len(SHOTS) + len(of_novelty) * len(novelty.HOMES) + n)
    splits = evaluation.splits(base, n)
    found: dict[str, dict[int, list[Scores]]] = {}
    for arm in chosen:
        here = folder / "errors" / arm.name
        evaluation.run(arm.method, arm.data, splits, here, shots=SHOTS, sets=sets, on_done=step)
        found[arm.name] = {k: [mapped(s, arm.data, base) for s in evaluation.read(here, k)[:n]] for k in SHOTS}
    flagged = novelty.run(
        folder / "novelty", splits=of_novelty, config=QUICK if quick else novelty.CONFIG, on_done=step
    )
    store = Ours(store=folder / "models" / HIDDEN, config=config)
    label, error = neighbours.dominant_segments(evaluation.load("lambda"))
    near = []
    for number, split in enumerate(splits):
        model = store.model(base.of_apps(split.train), number)
        near += neighbours.nearest_apps(model, base.of_apps(split.test), number)
        step()
    alike = {
        f"{ALIKE}, dominant segment": neighbours.likeness(near, label),
        f"{ALIKE}, what it waits for": neighbours.likeness(
            near, {a: neighbours.bound(kind) for a, kind in label.items()}
        ),
    }
    return _write(results_folder, base, found, flagged, alike, error, n, sets, quick)


def arms(base: Observations, store: Path, config: PretrainConfig) -> list[Arm]:
    """Every arm, each with its models in a folder of its own below `store`; `wrong` has those of `given`."""
    blind = replace(config, network=replace(config.network, use_embedding=False))
    told = given(evaluation.table("measured", real=False))
    swap = swapped_places(told)
    found = []
    for suffix, settings in (("", config), (f", {NO_EMBEDDING}", blind), (f", {NO_METRICS}", config)):
        hidden: Method = Ours(store=store / f"{HIDDEN}{suffix}", config=settings)
        informed: Method = Ours(store=store / f"{GIVEN}{suffix}", config=settings)
        if suffix == f", {NO_METRICS}":
            hidden, informed = WithoutMetrics(HIDDEN, hidden), WithoutMetrics(GIVEN, informed)
        found += [
            Arm(f"{HIDDEN}{suffix}", base, Named(f"{HIDDEN}{suffix}", hidden)),
            Arm(f"{GIVEN}{suffix}", told, Named(f"{GIVEN}{suffix}", informed)),
            Arm(f"{WRONG}{suffix}", told, Swapped(f"{WRONG}{suffix}", informed, swap)),
        ]
    for platform in PLATFORMS:
        name = f"{ALONE}, {platform}"
        found.append(Arm(name, _of_platform(platform), Named(name, Ours(store=store / name, config=config))))
    return found


def given(table: MeasurementTable) -> Observations:
    """The same measurements with the platform as a configuration column."""
    frame = table.frame
    columns = [name for name in ("memory_mb", "cpu_shares") if name in frame]
    return Observations.from_table(
        MeasurementTable.from_frame(frame.assign(**{COLUMN: frame["platform"]}), config_columns=[*columns, COLUMN])
    )


def swapped_places(told: Observations) -> Int[np.ndarray, " config"]:
    """For each configuration the place of the same one at the other level of contention; its own on `lambda`."""
    other = {PLATFORMS[1]: PLATFORMS[2], PLATFORMS[2]: PLATFORMS[1]}
    turned = told.grid.assign(**{COLUMN: [other.get(name, name) for name in told.grid[COLUMN]]})
    places = {key: i for i, key in enumerate(told.space.keys(told.grid))}
    return told.space.locate(told.space.check(turned), places)


@dataclass(frozen=True, eq=False)
class Swapped:
    """A method that is told a wrong configuration of every shot and query, always the same one for the same."""

    name: str
    method: Method
    places: Int[np.ndarray, " config"]
    """An exchange: twice is back."""
    per_shots: bool = False

    def fit(self, train: Observations, *, shots: int, seed: int) -> Fitted:
        """Train on what is right."""
        return _FittedSwapped(self.method.fit(train, shots=shots, seed=seed), self.places)


@dataclass(frozen=True, eq=False)
class _FittedSwapped:
    fitted: Fitted
    places: Int[np.ndarray, " config"]

    def predict(self, shots: Shots) -> Float[np.ndarray, "task config"]:
        """As `Fitted.predict`."""
        return self.fitted.predict(replace(shots, config=self.places[shots.config]))[:, self.places]


def mapped(scores: Scores, data: Observations, base: Observations) -> Scores:
    """The same errors, with pairs and configurations counted as in `base`."""
    pair = {name: i for i, name in enumerate(base.pairs)}
    place = {key: i for i, key in enumerate(base.space.keys(base.grid))}
    pairs = np.array([pair[name] for name in data.pairs])
    columns = base.space.check(data.grid)
    configs = base.space.locate(columns, place)
    return replace(scores, pair=pairs[scores.pair], config=configs[scores.config])


def _of_platform(platform: str) -> Observations:
    table = evaluation.table("lambda" if platform == "lambda" else "openwhisk", real=False)
    rows = table.frame[table.frame["platform"] == platform]
    return Observations.from_table(MeasurementTable.from_frame(rows, config_columns=table.config_columns))


def _on(scores: Sequence[Scores], pairs: Int[np.ndarray, " _"]) -> list[Scores]:
    """Only the queries of some pairs."""
    kept = [(s, np.isin(s.pair, pairs)) for s in scores]
    return [replace(s, pair=s.pair[at], config=s.config[at], ape=s.ape[at]) for s, at in kept if at.any()]


def _errors(base: Observations, found: dict[str, dict[int, list[Scores]]]) -> tuple[list[Row], list[dict[str, Any]]]:
    rows, differences = [], []
    apps = [app for app, _ in base.pairs]
    for platform in PLATFORMS:
        pairs = np.array([i for i, (_, of) in enumerate(base.pairs) if of == platform])
        for k in SHOTS:
            rival = _on(found[HIDDEN][k], pairs)
            for name, of_k in found.items():
                scores = _on(of_k[k], pairs)
                if not scores:
                    continue
                method = ALONE if name.startswith(ALONE) else name
                rows.append(evaluation.summarise(platform, method, k, scores))
                if name != HIDDEN:
                    differences.append(
                        difference(scores, rival, apps=apps, dataset=platform, method=method, against=HIDDEN, shots=k)
                    )
    return rows, differences


def _novelty_rows(flagged: Sequence[Flagged]) -> list[Row]:
    rows = []
    groups: dict[tuple[str, str, str, str, int], list[Flagged]] = {}
    splits = {home: sum(row.home == row.asked == home and row.shots == 1 for row in flagged) for home in PLATFORMS}
    for row in flagged:
        groups.setdefault((row.home, row.metric, row.asked, row.apps, row.shots), []).append(row)
        if row.home == "lambda" != row.asked:
            groups.setdefault((row.home, row.metric, EVERY, row.apps, row.shots), []).append(row)
    for (home, metric, asked, apps, k), found in groups.items():
        shares = np.array([row.share for row in found])
        spread = float(shares.std(ddof=1)) if len(found) > 1 else 0.0
        rows.append(
            Row(
                asked,
                f"model of {home}",
                metric,
                float(shares.mean()),
                float(np.median(shares)),
                spread,
                sum(row.pairs for row in found),
                sum(row.queries for row in found),
                k,
                f"{splits[home]}, {apps}",
            )
        )
    return rows


def _alike_rows(alike: dict[str, Likeness]) -> list[Row]:
    rows = []
    for metric, found in alike.items():
        for method, share, spread in ((HIDDEN, found.share, found.sd), ("chance", found.chance, float("nan"))):
            rows.append(
                Row("measured", method, metric, share, share, spread, found.pairs, found.queries, neighbours.SHOTS)
            )
    return rows


def _write(
    folder: Path,
    base: Observations,
    found: dict[str, dict[int, list[Scores]]],
    flagged: Sequence[Flagged],
    alike: dict[str, Likeness],
    error: float,
    splits: int,
    sets: int,
    quick: bool,
) -> Path:
    rows, differences = _errors(base, found)
    path = folder / "environment.json"
    results.write(
        path,
        command="flashfm reproduce environment" + (" --quick" if quick else ""),
        protocol=("quick: few training steps, figures without weight; " if quick else "")
        + f"the first {splits} splits by application of all platforms, {sets} nested random shot sets a pair, all other"
        " observed configurations of the pair asked; mean over queries, then pairs, then splits; differences are"
        " paired, minus `hidden`, with their 95 % interval by bootstrap over applications; an empty cpu_shares tells"
        " lambda from openwhisk, so what is hidden is the level of contention; `wrong` is told openwhisk-3 for"
        " openwhisk-1 and"
        f" the reverse; novelty: {novelty.SETS} random shot sets a pair, splits {novelty.SPLITS}, sd over them;"
        " neighbours: dominant segment by run times fitted to segments"
        f" (median error {100 * error:.0f} %), chance by permutation of labels",
        seeds=list(range(splits)),
        rows=[*rows, *_novelty_rows(flagged), *_alike_rows(alike)],
        more={
            "differences": differences,
            "novelty": [vars(row) for row in flagged],
            "neighbours": {name: vars(of) for name, of in alike.items()},
        },
    )
    page = path.with_suffix(".md")
    page.write_text(page.read_text() + "\n" + differences_table(json.loads(path.read_text())["differences"]))
    score_dots(
        pd.DataFrame([{**vars(row), "sd": row.sd if splits > 1 else np.nan} for row in rows]),
        folder / "environment.png",
        ours=[HIDDEN],
        title="The environment: hidden, given and wrong",
        note=f"{splits} split" + "s" * (splits > 1),
        size_px=(1200, 1000),
    )
    return path
