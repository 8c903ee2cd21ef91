"""What each part of our model gives: encoder, embedding, network, metrics, several members, fine-tuning.

On measured `lambda`, which has rich metrics, and on CloudBandit, which has none. Each variant is trained and judged as
in Table 1, on the same splits, shots and queries, and stands beside the default as a paired difference.
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

from flashfm.adapt.finetune import fine_tune
from flashfm.datasets.files import write_whole
from flashfm.datasets.splits import Split, shot_sets
from flashfm.experiments import evaluation, results
from flashfm.experiments.ablations import Named, Steps, WithoutMetrics, difference, differences_table
from flashfm.experiments.ours import FittedOurs, Ours
from flashfm.experiments.results import Row
from flashfm.models.flash import FlashModel
from flashfm.models.meta_learner import Kind
from flashfm.pretraining.supervised import PretrainConfig
from flashfm.reporting import score_dots
from flashfm.tasks.config_search import Fitted, Method, Observations

DATASETS = ("lambda", "cloudbandit")
SPLITS, SHOTS = 1, (1, 2, 3)
TUNED_SHOTS, TUNED_PAIRS, TUNED_SETS = (2, 3, 5), 20, 5
DEFAULT = "default (GRU)"
KINDS: dict[str, Kind] = {"LSTM": "lstm", "transformer": "transformer", "set encoder": "set"}
NO_EMBEDDING, NO_NETWORK, NO_METRICS, ONE_MEMBER = "no embedding", "no network", "no metrics", "one member"
TUNED, NOT_TUNED = "fine-tuned", "not fine-tuned"
QUICK = PretrainConfig(members=2, least_steps=60, most_steps=60, likeness_steps=20, likeness_tasks=100)


def run(
    folder: Path, results_folder: Path, *, quick: bool = False, on_step: Callable[[int, int], object] = lambda *_: None
) -> Path:
    """Train and judge what is missing below `folder`, then write `ablation-sl.json`, its table and its picture.

    Args:
        folder: files go to `<data set>/<variant>/<split>-k<K>.npz`, models to `models`.
        results_folder: where results go.
        quick: one split, a few training steps and 20 shot sets: figures without weight.
        on_step: told of the steps that are done and of all of them.

    Returns:
        Path of `ablation-sl.json`.

    Raises:
        DataError: a file there is damaged, or a result cannot be written.
    """
    config = QUICK if quick else PretrainConfig()
    sets = evaluation.QUICK_SETS if quick else evaluation.SETS
    planned = {name: variants(folder / "models" / name, config, metrics=name != "cloudbandit") for name in DATASETS}
    n = 1 if quick else SPLITS
    steps = Steps(on_step, n * sum(len(SHOTS) * len(of) + len(TUNED_SHOTS) for of in planned.values()))
    rows: list[Row] = []
    differences: list[dict[str, Any]] = []
    mixes: list[dict[str, Any]] = []
    for dataset, methods in planned.items():
        data = evaluation.load(dataset)
        apps = [app for app, _ in data.pairs]
        splits = evaluation.splits(data, n)
        for method in methods:
            here = folder / dataset / method.name
            evaluation.run(method, data, splits, here, shots=SHOTS, sets=sets, on_done=steps)
        tuned, ours = folder / dataset / TUNED, Ours(store=folder / "models" / dataset / DEFAULT, config=config)
        _tune(tuned, ours, data, splits, steps)
        for number, split in enumerate(splits):
            calibration = ours.model(data.of_apps(split.train), number).calibration
            mix = {str(k): float(calibration.of("mix", k)) for k in (*SHOTS, max(TUNED_SHOTS))}
            mixes.append({"dataset": dataset, "split": split.name, "mix": mix})
        for k in SHOTS:
            found = {m.name: evaluation.read(folder / dataset / m.name, k)[:n] for m in methods}
            rows += [evaluation.summarise(dataset, name, k, scores) for name, scores in found.items()]
            differences += [
                difference(scores, found[DEFAULT], apps=apps, dataset=dataset, method=name, against=DEFAULT, shots=k)
                for name, scores in found.items()
                if name != DEFAULT
            ]
        for k in TUNED_SHOTS:
            after, before = evaluation.read(tuned, k)[:n], evaluation.read(tuned, k, "before")[:n]
            metric = f"APE of {TUNED_PAIRS} pairs"
            rows += [
                evaluation.summarise(dataset, NOT_TUNED, k, before, metric),
                evaluation.summarise(dataset, TUNED, k, after, metric),
            ]
            differences.append(
                difference(after, before, apps=apps, dataset=dataset, method=TUNED, against=NOT_TUNED, shots=k)
            )
    return _write(results_folder, rows, differences, mixes, n, sets, quick)


def variants(store: Path, config: PretrainConfig, *, metrics: bool) -> list[Method]:
    """The default and every variant of it; what is trained differently is kept in a folder of its own below `store`."""

    def ours(name: str, changed: PretrainConfig) -> Method:
        return Named(name, Ours(store=store / name, config=changed))

    network = config.network
    found = [ours(DEFAULT, config)]
    for name, kind in KINDS.items():
        found.append(ours(name, replace(config, network=replace(network, meta=replace(network.meta, kind=kind)))))
    found.append(ours(NO_EMBEDDING, replace(config, network=replace(network, use_embedding=False))))
    found.append(FirstMember(ONE_MEMBER, Ours(store=store / DEFAULT, config=config)))
    if metrics:
        found.append(WithoutMetrics(NO_METRICS, Ours(store=store / NO_METRICS, config=config)))
    found.append(Named(NO_NETWORK, Ours("flashfm without network", store / DEFAULT, config)))
    return found


@dataclass(frozen=True)
class FirstMember:
    """The first network of our model alone: trained anew with one, all that chance decides would change as well."""

    name: str
    ours: Ours
    per_shots: bool = False

    def fit(self, train: Observations, *, shots: int, seed: int) -> Fitted:
        """Train all of them, or read what was trained."""
        del shots
        model = self.ours.model(train, seed)
        return FittedOurs(replace(model, nets=model.nets[:1]), "flashfm")


def _tune(folder: Path, ours: Ours, data: Observations, splits: Sequence[Split], on_done: Callable[[], object]) -> None:
    """Errors with and without gradient steps, on the first test pairs of each split, one file for each K."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, split in enumerate(splits):
        model: FlashModel | None = None
        for k in TUNED_SHOTS:
            path = folder / f"{number:02d}-k{k}.npz"
            if not path.exists():
                model = model or ours.model(data.of_apps(split.train), number)
                _tune_one(path, model, data, split, k)
            on_done()


def _tune_one(path: Path, model: FlashModel, data: Observations, split: Split, k: int) -> None:
    test = [i for i in evaluation.positions(data, split.test) if data.observed[i].size > k][:TUNED_PAIRS]
    pairs, configs = [], []
    errors: dict[str, list[Float[np.ndarray, " _"]]] = {"test": [], "before": []}
    for i in test:
        known = data.observed[i]
        for drawn in shot_sets(data.pairs[i], known.size, shots=max(k, 5), sets=TUNED_SETS)[:, :k]:
            shots = data.shots(np.array([i]), known[drawn][None])
            asked = np.setdiff1d(known, known[drawn])
            for part, told in (("before", model), ("test", fine_tune(model, shots))):
                predicted = FittedOurs(told, "flashfm").predict(shots)[0, asked]
                errors[part].append(np.abs(predicted / np.exp(data.log_runtime[i, asked]) - 1))
            pairs.append(np.full(asked.size, i))
            configs.append(asked)
    pair: Int[np.ndarray, " query"] = np.concatenate(pairs)
    columns = {"seconds": np.array(0.0)}
    for part, found in errors.items():
        columns |= {
            f"{part}_pair": pair,
            f"{part}_config": np.concatenate(configs),
            f"{part}_ape": np.concatenate(found),
        }
    write_whole(path, lambda file: np.savez_compressed(file, allow_pickle=False, **columns))


def _write(
    folder: Path,
    rows: list[Row],
    differences: list[dict[str, Any]],
    mixes: list[dict[str, Any]],
    splits: int,
    sets: int,
    quick: bool,
) -> Path:
    path = folder / "ablation-sl.json"
    results.write(
        path,
        command="flashfm reproduce ablation-sl" + (" --quick" if quick else ""),
        protocol=("quick: few training steps, figures without weight; " if quick else "")
        + f"the first {splits} splits by application, {sets} nested random shot sets a pair, all other observed"
        " configurations asked; mean over queries, then pairs, then splits; sd over split means; differences are"
        " paired, variant minus default, with their 95 % interval by bootstrap over applications; fine-tuning:"
        f" {TUNED_PAIRS} test pairs a split, {TUNED_SETS} shot sets; `mix` is the weight that calibration gave the"
        " default's network: where it is 0, nothing about the network or fine-tuning can make a difference",
        seeds=list(range(splits)),
        rows=rows,
        more={"differences": differences, "mix": mixes},
    )
    page = path.with_suffix(".md")
    page.write_text(page.read_text() + "\n" + differences_table(json.loads(path.read_text())["differences"]))
    shown = [row for row in rows if row.metric == "APE"]
    score_dots(
        pd.DataFrame([{**vars(row), "sd": row.sd if splits > 1 else np.nan} for row in shown]),
        folder / "ablation-sl.png",
        ours=[DEFAULT],
        title="What each part gives",
        note=f"{splits} split" + "s" * (splits > 1),
    )
    return path
