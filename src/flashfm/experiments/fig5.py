"""Fig. 5 of the paper: how errors spread on what was trained on, on new applications, and in a new environment.

Each method is trained once, on `openwhisk-1` of the training applications, and asked with one shot about these pairs
(base), about other applications there (new application), and about the same applications on `openwhisk-3` (new
environment: the same configurations beside three busy neighbours instead of one). The example is the paper's own
application, airline booking, hand-written and measured on `lambda`, asked from three sizes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from flashfm.datasets.files import write_whole
from flashfm.experiments import evaluation, results
from flashfm.experiments.ours import Ours
from flashfm.experiments.results import Row
from flashfm.pretraining.paper import FlashMethod, PaperConfig, SizelessMethod
from flashfm.pretraining.supervised import PretrainConfig
from flashfm.reporting import error_cdf
from flashfm.reporting.comparisons import predicted_lines
from flashfm.tasks.config_search import Method, Observations

BASE, NEW_APP, NEW_ENV = "base", "new application", "new environment"
SITUATIONS = (BASE, NEW_APP, NEW_ENV)
PRINTED = {NEW_APP: 9.9, NEW_ENV: 16.0}
"""Factors on the median error that the paper prints for Sizeless."""
PRINTED_BASE = 0.04
"""Mean error of Sizeless on what it was trained on, as the paper prints it."""
EXAMPLE, FROM_MB = "airline-booking", (128.0, 512.0, 3008.0)
TRAINED_ON, MOVED_TO = "openwhisk-1", "openwhisk-3"
DRAWS = 1_000
"""Of the bootstrap of a factor."""
QUICK_PAPER = PaperConfig(epochs=5, sets_per_epoch=128)
QUICK_OURS = PretrainConfig(members=1, least_steps=60, most_steps=60, likeness_steps=20, likeness_tasks=100)

Errors = tuple[Int[np.ndarray, " _"], Float[np.ndarray, " _"]]
"""Pair and absolute percentage error of each query."""


def run(
    folder: Path, results_folder: Path, *, quick: bool = False, on_step: Callable[[int, int], object] = lambda *_: None
) -> Path:
    """Train what is missing below `folder`, then write `fig5.json`, its table and its three pictures.

    Args:
        folder: errors and curves of each method, and our pretrained models.
        results_folder: where results go.
        quick: a few training steps and 20 shot sets: figures without weight.
        on_step: told of the steps that are done and of all of them.

    Returns:
        Path of `fig5.json`.

    Raises:
        DataError: a file there is damaged, or a result cannot be written.
    """
    data = evaluation.load("openwhisk")
    split = evaluation.splits(data, 1)[0]
    places = {
        BASE: pairs_of(data, split.train, TRAINED_ON),
        NEW_APP: pairs_of(data, split.test, TRAINED_ON),
        NEW_ENV: pairs_of(data, split.train, MOVED_TO),
    }
    sets = evaluation.QUICK_SETS if quick else evaluation.SETS
    methods = _methods(folder / "models" / "openwhisk", quick)
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Errors]] = {}
    for done, method in enumerate(methods):
        path = folder / f"{method.name}.npz"
        if not path.exists():
            _judge(path, method, data, places, sets)
        found[method.name] = _read(path)
        on_step(done + 1, 2 * len(methods))
    curves = []
    for done, method in enumerate(_methods(folder / "models" / "lambda", quick)):
        path = folder / f"{method.name}-example.json"
        if not path.exists():
            _keep(path, _example(method))
        curves += json.loads(path.read_text())
        on_step(len(methods) + done + 1, 2 * len(methods))
    return _write(results_folder, found, pd.DataFrame(curves), split.name, sets, quick)


def pairs_of(data: Observations, apps: Sequence[str], platform: str) -> Int[np.ndarray, " pair"]:
    """Positions of the pairs of some applications on one platform."""
    chosen = set(apps)
    return np.array([i for i, (app, of) in enumerate(data.pairs) if app in chosen and of == platform], dtype=np.int64)


def factor(errors: Errors, base: Errors, *, draws: int | None = None, seed: int = 0) -> tuple[float, float, float]:
    """Ratio of the median error to that of the base, and its 95 % interval by bootstrap over applications of either."""
    rng = np.random.default_rng(seed)

    def drawn(of: Errors) -> Float[np.ndarray, " draw"]:
        groups = [of[1][of[0] == pair] for pair in np.unique(of[0])]
        picks = rng.integers(len(groups), size=(draws or DRAWS, len(groups)))
        return np.array([np.median(np.concatenate([groups[i] for i in pick])) for pick in picks])

    low, high = np.quantile(drawn(errors) / drawn(base), [0.025, 0.975])
    return float(np.median(errors[1]) / np.median(base[1])), float(low), float(high)


def _methods(store: Path, quick: bool) -> list[Method]:
    paper = QUICK_PAPER if quick else PaperConfig()
    ours = QUICK_OURS if quick else PretrainConfig()
    return [SizelessMethod(paper), FlashMethod(paper), Ours(store=store, config=ours)]


def _judge(
    path: Path, method: Method, data: Observations, places: Mapping[str, Int[np.ndarray, " _"]], sets: int
) -> None:
    fitted = method.fit(data.of_pairs(places[BASE]), shots=1, seed=0)
    columns: dict[str, np.ndarray] = {}
    for i, situation in enumerate(SITUATIONS):
        pair, _, ape = evaluation.score(fitted, data, places[situation].tolist(), 1, sets=sets)
        columns |= {f"pair_{i}": pair, f"ape_{i}": ape}
    write_whole(path, lambda file: np.savez_compressed(file, allow_pickle=False, **columns))


def _keep(path: Path, content: list[dict[str, Any]]) -> None:
    text = json.dumps(content).encode()
    write_whole(path, lambda file: file.write(text))


def _read(path: Path) -> dict[str, Errors]:
    with np.load(path, allow_pickle=False) as file:
        return {situation: (file[f"pair_{i}"], file[f"ape_{i}"]) for i, situation in enumerate(SITUATIONS)}


def _example(method: Method) -> list[dict[str, Any]]:
    """Predictions for the hand-written application from each of `FROM_MB`, one row for each size."""
    data = evaluation.load("lambda")
    train = data.of_apps(evaluation.splits(data, 1)[0].train)
    unseen = Observations.from_table(evaluation.table("lambda", real=True), like=data).of_apps([EXAMPLE])
    sizes = data.grid["memory_mb"].to_numpy(dtype=np.float64)
    given = np.array([[int(np.flatnonzero(sizes == size)[0])] for size in FROM_MB])
    predicted = method.fit(train, shots=1, seed=0).predict(unseen.shots(np.zeros(len(FROM_MB), dtype=np.int64), given))
    measured = np.exp(unseen.log_runtime[0])
    return [
        {
            "panel": method.name,
            "line": f"from {base:g} MB",
            "from_mb": base,
            "memory_mb": float(size),
            "runtime_ms": float(curve[c]),
            "measured_ms": float(measured[c]),
        }
        for base, curve in zip(FROM_MB, predicted, strict=True)
        for c, size in enumerate(sizes)
    ]


def _write(
    folder: Path,
    found: Mapping[str, Mapping[str, Errors]],
    curves: pd.DataFrame,
    split: str,
    sets: int,
    quick: bool,
) -> Path:
    rows, intervals = _rows(found)
    rows += _example_rows(curves)
    path = folder / "fig5.json"
    results.write(
        path,
        command="flashfm reproduce fig5" + (" --quick" if quick else ""),
        protocol=("quick: few training steps, figures without weight; " if quick else "")
        + f"one split by application ({split}), one shot, {sets} shot sets a pair; trained on {TRAINED_ON} of the"
        f" training applications; base: these pairs; new application: {TRAINED_ON} of the others; new environment:"
        f" {MOVED_TO} of the training applications; mean and median over all predictions, sd over pairs; factors on"
        f" the base's median; example: {EXAMPLE} on lambda, trained on the generated applications of the first split",
        seeds=[0],
        rows=rows,
        more={"factors": intervals, "example": curves.to_dict("records")},
    )
    note = f"{TRAINED_ON} → {MOVED_TO}, one shot, {sets} shot sets, one split"
    for name, rival in (("fig5.png", "flashfm"), ("fig5-flash.png", "FLASH-Sizeless")):
        shown = {f"{m}: {s}": found[m][s][1] for m in ("Sizeless", rival) for s in SITUATIONS}
        error_cdf(shown, folder / name, title="Errors on what is known and what is new", note=note)
    title = f"{EXAMPLE} on lambda, predicted from one measured size"
    predicted_lines(curves, folder / "fig5-example.png", title=title, note="hand-written, never trained on")
    return path


def _rows(found: Mapping[str, Mapping[str, Errors]]) -> tuple[list[Row], list[dict[str, Any]]]:
    rows, intervals = [], []
    for method, situations in found.items():
        for situation, (pair, ape) in situations.items():
            of_pairs = np.array([ape[pair == i].mean() for i in np.unique(pair)])
            middle, spread = float(np.median(ape)), float(of_pairs.std(ddof=1))
            rows.append(
                Row(
                    "openwhisk", method, "APE", float(ape.mean()), middle, spread, of_pairs.size, ape.size, 1, situation
                )
            )
        for situation in (NEW_APP, NEW_ENV):
            ratio, low, high = factor(situations[situation], situations[BASE])
            n = len(np.unique(situations[situation][0]))
            size = situations[situation][1].size
            rows.append(_factor_row(method, ratio, n, size, situation))
            intervals.append({"method": method, "split": situation, "factor": ratio, "low": low, "high": high})
    nan = float("nan")
    rows.append(Row("paper's", "Sizeless, as printed", "APE", PRINTED_BASE, nan, nan, 0, 0, 1, BASE))
    rows += [_factor_row("Sizeless, as printed", value, 0, 0, where, "paper's") for where, value in PRINTED.items()]
    return rows, intervals


def _factor_row(method: str, value: float, pairs: int, queries: int, situation: str, dataset: str = "openwhisk") -> Row:
    metric = "factor on the base's median APE"
    return Row(dataset, method, metric, value, value, float("nan"), pairs, queries, 1, situation)


def _example_rows(curves: pd.DataFrame) -> list[Row]:
    rows = []
    asked = curves[curves["memory_mb"] != curves["from_mb"]]
    for (method, line), group in asked.groupby(["panel", "line"], sort=False):
        ape = (group["runtime_ms"] / group["measured_ms"] - 1).abs()
        mean, middle = float(ape.mean()), float(ape.median())
        rows.append(Row(f"lambda, {EXAMPLE}", str(method), "APE", mean, middle, 0.0, 1, len(ape), 1, str(line)))
    return rows
