"""Table 1 of the paper: error on unseen applications of every method, with one to five shots, on four data sets.

Enters: data sets of the protocol. Leaves: one file for each (data set, method, split, K) below a folder, and from what
lies there `table1.json`, `table1.md` and `table1.png`. A stopped run goes on, and several may share the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from flashfm.adapt.fewshot import FlashRegressor
from flashfm.baselines import PREDICTORS
from flashfm.datasets.sources import load_measured
from flashfm.engine.base import Engine
from flashfm.engine.inline import INLINE
from flashfm.errors import DataError, DataMissingError
from flashfm.experiments import evaluation, results
from flashfm.experiments.evaluation import Scores
from flashfm.experiments.ours import VARIANTS, Ours
from flashfm.experiments.printed import FLASH, PRINTED, SIZELESS, TEST, TITLES, TRAIN, TRAINED
from flashfm.experiments.results import Row
from flashfm.experiments.table1_page import draw, markdown
from flashfm.models.flash import FlashModel
from flashfm.pretraining.paper import FlashMethod, PaperConfig, SizelessMethod
from flashfm.pretraining.supervised import PretrainConfig
from flashfm.tasks.config_search import Method, Observations

OnStep = Callable[[int, int], object]
"""Told of the steps that are done and of all of them."""
OURS = "flashfm"
METHODS = (SIZELESS, FLASH, *(method.name for method in PREDICTORS), *reversed(VARIANTS))
SHOTS = (1, 2, 3, 5)
DRAWS = 10_000
"""Of the bootstrap."""


@dataclass(frozen=True)
class Table1Config:
    """How much is run; the defaults are the protocol's."""

    datasets: tuple[str, ...] = tuple(TITLES)
    """Of `TITLES`."""
    splits: int = evaluation.SPLITS
    sets: int = evaluation.SETS
    paper: PaperConfig = field(default_factory=PaperConfig)
    """Of the paper's two systems."""
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    """Of our model."""
    quick: bool = False

    @classmethod
    def of(cls, *, quick: bool, datasets: Sequence[str] | None = None, splits: int | None = None) -> Table1Config:
        """The protocol, or a few minutes' worth of it.

        Raises:
            DataError: a data set is unknown, or a number of splits that the protocol does not have.
        """
        chosen = tuple(dict.fromkeys(datasets or TITLES))
        unknown = [name for name in chosen if name not in TITLES]
        if unknown:
            raise DataError(f"no data set of this table is called {unknown[0]!r}; expected {', '.join(TITLES)}")
        if splits is not None and not 1 <= splits <= evaluation.SPLITS:
            raise DataError(f"{splits} splits; the protocol has 1 to {evaluation.SPLITS}")
        if not quick:
            return cls(chosen, splits or evaluation.SPLITS)
        return cls(
            chosen,
            splits or 1,
            evaluation.QUICK_SETS,
            PaperConfig(epochs=5, sets_per_epoch=128),
            PretrainConfig(members=1, most_steps=200, least_steps=200, likeness_steps=30, likeness_tasks=100),
            quick=True,
        )

    def methods(self, models: Path) -> list[Method]:
        """Every method of the table; our pretrained models are kept in `models`."""
        paper: list[Method] = [SizelessMethod(self.paper), FlashMethod(self.paper)]
        return [*paper, *PREDICTORS, *(Ours(name, models, self.pretrain) for name in reversed(VARIANTS))]


def run(
    folder: Path,
    results_folder: Path,
    config: Table1Config,
    *,
    models: Path,
    on_step: OnStep = lambda *_: None,
    only_assemble: bool = False,
    engine: Engine = INLINE,
) -> Path:
    """Run what is missing below `folder`, then write the table of what lies there.

    Args:
        folder: files go to `<data set>/<method>/<split>-k<K>.npz`.
        results_folder: where `table1.json`, `table1.md` and `table1.png` go.
        config: what to run.
        models: where our pretrained models are kept, as `<data set>/<split>`.
        on_step: told of progress.
        only_assemble: train nothing.
        engine: where methods are trained and judged.

    Returns:
        Path of `table1.json`.

    Raises:
        DataError: nothing lies below `folder`, a file there is damaged, or a result cannot be written.
    """
    left_out = {} if only_assemble else _train(folder, config, models, on_step, engine)
    rows, more = assemble(folder, config.datasets)
    path = results_folder / "table1.json"
    quick = "quick: few training steps, 20 shot sets and one split, figures without weight; " if config.quick else ""
    results.write(
        path,
        command="flashfm reproduce table1" + (" --quick" if config.quick else ""),
        protocol=quick
        + "splits by application; nested random shots; queries are all other observed configurations; absolute"
        " percentage error, mean over queries, then pairs, then splits; sd over split means; training error over 10"
        " shot sets a pair; 95 % intervals by bootstrap over applications",
        seeds=list(range(4)),
        rows=rows,
        more=more | {"left_out": left_out, "quick": config.quick},
        markdown_of=markdown,
    )
    draw(path)
    return path


Asked = tuple[Method, list[int], bool]
"""A method, the numbers of shots, and whether the training error is wanted."""


@dataclass(frozen=True, eq=False)
class Job:
    """Methods on one split of a data set: one, or all of ours, which share what is pretrained."""

    dataset: str
    number: int
    """Of the split."""
    asked: tuple[Asked, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """What a job gave."""

    scores: list[tuple[str, int, dict[str, np.ndarray]]]
    """Method, number of shots and errors."""
    pretrained: FlashModel | None = None


def _train(folder: Path, config: Table1Config, models: Path, on_step: OnStep, engine: Engine) -> dict[str, str]:
    """Split after split, so that what is stopped early holds all methods; returns why data sets were left out."""
    loaded: dict[str, Observations] = {}
    left_out: dict[str, str] = {}
    for name in config.datasets:
        try:
            loaded[name] = evaluation.load(name)
        except DataMissingError as error:
            left_out[name] = str(error)
    jobs = {
        f"{name}, split {number}, {asked[0][0].name}": Job(name, number, asked)
        for number in range(config.splits)
        for name, data in loaded.items()
        for asked in _grouped(config, data, models / name, number)
    }
    total = sum(len(ks) for job in jobs.values() for _, ks, _ in job.asked)
    missing = {name: left for name, job in jobs.items() if (left := _missing(folder, job, config.sets)).asked}
    done = total - sum(len(ks) for job in missing.values() for _, ks, _ in job.asked)
    on_step(done, total)
    for name, found in engine.run(partial(_work, loaded, config.sets), missing):
        job = missing[name]
        if found.pretrained is not None:
            FlashRegressor(found.pretrained).save_pretrained(models / job.dataset / f"{job.number:02d}")
        for method, k, errors in found.scores:
            evaluation.keep(folder / job.dataset / method, job.number, k, errors)
        done += len(found.scores)
        on_step(done, total)
    return left_out


def _grouped(config: Table1Config, data: Observations, models: Path, number: int) -> list[tuple[Asked, ...]]:
    """Each method by itself, and ours together, with what is kept of them."""
    kept = models / f"{number:02d}"
    model = FlashRegressor.from_pretrained(kept).model if (kept / "config.json").exists() else None
    grouped: list[tuple[Asked, ...]] = []
    ours: list[Asked] = []
    for method in config.methods(models):
        shots = shots_of(method, data)
        if isinstance(method, Ours):
            ours += [(replace(method, store=None, given=model), *of) for of in shots]
        else:
            grouped.append(tuple((method, *of) for of in shots))
    return [*grouped, tuple(ours)]


def _missing(folder: Path, job: Job, sets: int) -> Job:
    """A job without what is there."""
    left: list[Asked] = []
    for method, shots, with_training in job.asked:
        where = folder / job.dataset / method.name
        missing = evaluation.missing_of(where, job.number, shots, sets=sets, training_error=with_training)
        left += [(method, missing, with_training)] if missing else []
    return replace(job, asked=tuple(left))


def _work(loaded: dict[str, Observations], sets: int, job: Job, _told: OnStep) -> Found:
    """One job, without files."""
    data = loaded[job.dataset]
    split = evaluation.splits(data, job.number + 1)[job.number]
    found = Found([])
    for method, shots, with_training in job.asked:
        if isinstance(method, Ours) and method.given is None:
            model = found.pretrained or method.model(data.of_apps(split.train), job.number)
            found, method = replace(found, pretrained=model), replace(method, given=model)
        for k, errors in evaluation.judged(
            method, data, split, job.number, shots, sets=sets, training_error=with_training
        ):
            found.scores.append((method.name, k, errors))
    return found


def shots_of(method: Method, data: Observations) -> list[tuple[list[int], bool]]:
    """Each K that leaves something to ask, and whether the training error is wanted."""
    most = max(map(len, data.observed))
    several = [k for k in SHOTS if k < most]
    further = [] if method.name in (SIZELESS, FLASH) else [k for k in several if k not in TRAINED]
    return [([k for k in several if k in TRAINED], True), (further, False)]


def stored(folder: Path, k: int, part: str = "test") -> dict[int, Scores]:
    """What `evaluation.run` left in a folder for K shots: number of the split -> scores.

    Raises:
        DataError: a file is damaged.
    """
    found = {}
    for path in sorted(folder.glob(f"*-k{k}.npz")):
        arrays = results.read_arrays(path)
        if f"{part}_ape" in arrays:
            pair, config, ape = (arrays[f"{part}_{name}"] for name in ("pair", "config", "ape"))
            found[int(path.name.partition("-")[0])] = Scores(pair, config, ape, float(arrays.get("seconds", np.nan)))
    return found


def assemble(folder: Path, datasets: Sequence[str]) -> tuple[list[Row], dict[str, Any]]:
    """Rows of the table, and what is said beside them, from the files below a folder.

    Raises:
        DataError: there are none, a file is damaged, or two methods were judged on other queries.
    """
    rows: list[Row] = []
    differences, reductions, best = [], [], []
    for name in datasets:
        apps = evaluation.pair_apps(name)
        for k in SHOTS:
            tested = {m: found for m in METHODS if (found := stored(folder / name / m, k))}
            rows += [evaluation.summarise(name, m, k, list(found.values()), TEST) for m, found in tested.items()]
            for method in METHODS if k in TRAINED else ():
                if trained := stored(folder / name / method, k, "train"):
                    rows.append(evaluation.summarise(name, method, k, list(trained.values()), TRAIN))
            best += best_of(name, k, tested)
            differences += [
                {"dataset": name, "shots": k, "method": OURS, "rival": rival, **_difference(*both, apps=apps)}
                for rival in tested
                if rival != OURS and (both := common(tested, OURS, rival))
            ]
            if both := common(tested, FLASH, SIZELESS):
                reductions.append({"dataset": name, "shots": k, **reduction(*both, apps=apps)})
    if not rows:
        raise DataError(f"{folder}: no scores of {', '.join(datasets)} there; run without --only-assemble first")
    rows.sort(key=lambda row: (list(datasets).index(row.dataset), row.metric, METHODS.index(row.method)))
    noise = load_measured().card.get("noise", {})
    return rows, {
        "titles": {name: TITLES[name] for name in datasets},
        "printed": {name: PRINTED[name] for name in datasets},
        "noise_floor_lambda": noise,
        "best": best,
        "ours_minus_rival": differences,
        "flash_against_sizeless": reductions,
    }


def common(tested: dict[str, dict[int, Scores]], *names: str) -> list[list[Scores]]:
    """Scores of several methods on the splits that all of them have; empty where there are none."""
    if any(name not in tested for name in names):
        return []
    shared = sorted(set.intersection(*(set(tested[name]) for name in names)))
    return [[tested[name][number] for number in shared] for name in names] if shared else []


def best_of(dataset: str, k: int, tested: dict[str, dict[int, Scores]]) -> list[dict[str, Any]]:
    """The method of least error on the splits that all methods have; several that are equal."""
    scores = common(tested, *tested) if tested else []
    if not scores:
        return []
    means = [evaluation.summarise(dataset, m, k, of, TEST).mean for m, of in zip(tested, scores, strict=True)]
    return [
        {"dataset": dataset, "shots": k, "method": method, "splits": len(scores[0])}
        for method, mean in zip(tested, means, strict=True)
        if mean == min(means)
    ]


def _difference(ours: list[Scores], rival: list[Scores], *, apps: Sequence[str] | None) -> dict[str, Any]:
    mean, low, high = evaluation.paired_difference(ours, rival, apps=apps, draws=DRAWS)
    return {"mean": mean, "low": low, "high": high, "splits": len(ours)}


def reduction(ours: Sequence[Scores], rival: Sequence[Scores], *, apps: Sequence[str] | None) -> dict[str, Any]:
    """By how much of the rival's mean error ours is less, in percent, and its 95 % interval.

    Args:
        ours: of each split.
        rival: of the same splits and queries.
        apps: application of each pair of the data set, as `evaluation.pair_apps` gives them.

    Returns:
        `percent_less`, with `low` and `high` by bootstrap over applications; `per_split`, the figure of each split, and
        `sd`, their standard deviation.

    Raises:
        DataError: a pair that the data set does not have.
    """
    a, b = _of_pairs(ours), _of_pairs(rival)
    errors = np.array([(np.mean(a[pair]), np.mean(b[pair])) for pair in a])
    drawn = evaluation.drawn_means(errors, list(a), apps, draws=DRAWS)
    low, high = np.quantile(_less(drawn), [0.025, 0.975])
    of_splits = [
        _less(np.array([[np.mean([v for vs in _of_pairs([s]).values() for v in vs]) for s in both]]))[0]
        for both in zip(ours, rival, strict=True)
    ]
    return {
        "percent_less": float(_less(errors.mean(axis=0)[None])[0]),
        "low": float(low),
        "high": float(high),
        "sd": float(np.std(of_splits, ddof=1)) if len(of_splits) > 1 else 0.0,
        "per_split": [round(float(value), 2) for value in of_splits],
        "splits": len(of_splits),
    }


def _less(means: Float[np.ndarray, "draw two"]) -> Float[np.ndarray, " draw"]:
    return np.asarray(100 * (1 - means[:, 0] / means[:, 1]))


def _of_pairs(of: Sequence[Scores]) -> dict[int, list[float]]:
    """Mean error of each pair in each split that tests it."""
    found: dict[int, list[float]] = {}
    for scores in of:
        pairs, index = np.unique(scores.pair, return_inverse=True)
        means = np.bincount(index, scores.ape) / np.bincount(index)
        for pair, mean in zip(pairs, means, strict=True):
            found.setdefault(int(pair), []).append(float(mean))
    return found
