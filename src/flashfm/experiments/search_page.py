"""What the search experiment left, as rows, as Markdown and as pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flashfm.baselines import PREDICTORS, SEARCHERS
from flashfm.baselines.search import PICKS
from flashfm.errors import DataError
from flashfm.experiments import evaluation
from flashfm.experiments.ours import VARIANTS
from flashfm.experiments.printed import PRINTED, TITLES
from flashfm.experiments.results import Row, read_arrays
from flashfm.experiments.table1 import best_of, common, stored
from flashfm.experiments.table1_page import spread
from flashfm.reporting import score_dots

DATASET = "cloudbandit"
SHOTS = (1, 2, 3, 5)
METHODS = (*(method.name for method in PREDICTORS), *reversed(VARIANTS))
SEARCHED = (*(searcher.name for searcher in SEARCHERS), "flashfm")
GROUPS = {"leave-dataset-out": 0, "leave-algorithm-out": 1}
"""Kind of split -> part of a workload's name, `dataset-algorithm`, that groups."""
RANDOM, DESIGNED, REGRET, COVERAGE, WIDTH = (
    "APE, random shots",
    "APE, designed shots",
    "regret",
    "coverage",
    "interval width",
)
"""Metrics of the rows; the width is upper over lower end, less one."""
TARGETS = {
    RANDOM: {1: 0.275, 2: 0.220, 3: 0.200},
    DESIGNED: {1: 0.240, 2: 0.210, 3: 0.190},
    REGRET: {1: 0.20, 2: 0.095, 3: 0.080, 5: 0.050},
}
"""What our model has to reach on CloudBandit, at most."""
DRAWS = 10_000
PLAIN = "by application"
LEAST_DRAWN = 1e-3
"""Regret below this is drawn there; the axis is logarithmic."""


@dataclass(frozen=True)
class Places:
    """Where what a run leaves is kept, each part in a folder of its own; a quick run has other folders."""

    root: Path
    quick: bool

    def of(self, part: str) -> Path:
        """Folder of `table1`, `models`, `designed`, `regret`, `coverage` or a kind of `GROUPS`."""
        return self.root / part / "quick" if self.quick else self.root / part

    @property
    def models(self) -> Path:
        """Our models of the data set's splits."""
        return self.of("models") / DATASET


def assemble(places: Places) -> tuple[list[Row], dict[str, Any]]:
    """Rows and what is said beside them, from what lies there.

    Raises:
        DataError: nothing is there, or a file is damaged.
    """
    apps = evaluation.pair_apps(DATASET)
    rows: list[Row] = []
    differences: list[dict[str, Any]] = []
    best: list[dict[str, Any]] = []
    parts: list[tuple[str, Path, tuple[int, ...], str | None]]
    parts = [(RANDOM, places.of("table1") / DATASET, SHOTS, None), (DESIGNED, places.of("designed"), SHOTS, None)]
    parts += [(RANDOM, places.of(kind), (1, 2, 3), kind) for kind in GROUPS]
    for metric, folder, shots, split in parts:
        for k in shots:
            tested = {method: found for method in METHODS if (found := stored(folder / method, k))}
            for method, found in tested.items():
                row = evaluation.summarise(DATASET, method, k, list(found.values()), metric)
                rows.append(row if split is None else replace(row, split=f"{len(found)} {split}"))
            best += [b | {"metric": metric, "split": split or PLAIN} for b in best_of(DATASET, k, tested)]
            for rival in tested:
                if rival != "flashfm" and (both := common(tested, "flashfm", rival)):
                    mean, low, high = evaluation.paired_difference(*both, apps=apps, draws=DRAWS)
                    of = {"metric": metric, "shots": k, "rival": rival, "split": split or PLAIN}
                    differences.append(of | {"mean": mean, "low": low, "high": high, "splits": len(both[0])})
    curves = {name: curve for name in SEARCHED if (curve := _curves(places.of("regret") / name))}
    for name, curve in curves.items():
        rows += _regret_rows(name, curve)
    differences += _regret_differences(curves, apps)
    best += _least_regret(curves)
    for name in TITLES:
        rows += _coverage_rows(name, places.of("coverage") / name)
    if not rows:
        raise DataError(f"{places.root}: no scores, curves or intervals there; run without --only-assemble first")
    rules = Counter(str(arrays["rule"]) for arrays in curves.get("flashfm", {}).values())
    designed = [
        read_arrays(path)["designed"].tolist() for path in sorted((places.of("designed") / "flashfm").glob("*-k5.npz"))
    ]
    return rows, {
        "ours_minus_rival": differences,
        "best": best,
        "titles": TITLES,
        "rules": dict(rules),
        "designed": designed,
        "targets": {metric: {str(k): v for k, v in of.items()} for metric, of in TARGETS.items()},
        "printed": dict(PRINTED[DATASET]),
    }


def _curves(folder: Path) -> dict[int, dict[str, np.ndarray]]:
    """Number of the split -> `pair`, `regret` of shape (pair, run, pick) and, of our search, `rule`."""
    found = {int(path.stem): read_arrays(path) for path in sorted(folder.glob("*.npz"))}
    for number, arrays in found.items():
        if not {"pair", "picks", "regret"} <= set(arrays) or tuple(arrays["picks"]) != PICKS:
            raise DataError(f"{folder}/{number:02d}.npz: no regret after {PICKS} picks; delete it and run again")
    return found


def _regret_rows(name: str, curves: dict[int, dict[str, np.ndarray]]) -> list[Row]:
    of_splits = [arrays["regret"].mean(axis=1) for arrays in curves.values()]
    every = np.concatenate(of_splits)
    means = np.array([regret.mean(axis=0) for regret in of_splits])
    pairs = {int(pair) for arrays in curves.values() for pair in arrays["pair"]}
    runs = sum(arrays["regret"].shape[0] * arrays["regret"].shape[1] for arrays in curves.values())
    spread = means.std(axis=0, ddof=1) if len(means) > 1 else np.zeros(len(PICKS))
    split = f"{len(curves)} by application"
    return [
        Row(
            DATASET,
            name,
            REGRET,
            mean=float(every[:, j].mean()),
            median=float(np.median(every[:, j])),
            sd=float(spread[j]),
            n_pairs=len(pairs),
            n_queries=runs,
            shots=k,
            split=split,
        )
        for j, k in enumerate(PICKS)
    ]


def _regret_differences(
    curves: dict[str, dict[int, dict[str, np.ndarray]]], apps: Sequence[str] | None
) -> list[dict[str, Any]]:
    """Regret of our search minus that of each rival, with its 95 % interval by bootstrap over applications."""
    found = []
    for rival in [name for name in curves if name != "flashfm" and "flashfm" in curves]:
        shared = sorted(set(curves["flashfm"]) & set(curves[rival]))
        if not shared:
            continue
        pair = np.concatenate([curves[rival][number]["pair"] for number in shared])
        ours, theirs = (
            np.concatenate([curves[name][number]["regret"].mean(axis=1) for number in shared])
            for name in ("flashfm", rival)
        )
        of_pairs = np.array([(ours - theirs)[pair == one].mean(axis=0) for one in np.unique(pair)])
        drawn = evaluation.drawn_means(of_pairs, np.unique(pair).tolist(), apps, draws=DRAWS)
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        mean = of_pairs.mean(axis=0)
        found += [
            {"metric": REGRET, "shots": k, "rival": rival, "split": PLAIN}
            | {"mean": float(mean[j]), "low": float(low[j]), "high": float(high[j]), "splits": len(shared)}
            for j, k in enumerate(PICKS)
        ]
    return found


def _least_regret(curves: dict[str, dict[int, dict[str, np.ndarray]]]) -> list[dict[str, Any]]:
    """The search of least regret after each number of picks, on the splits that all have."""
    shared = sorted(set.intersection(*map(set, curves.values()))) if curves else []
    if not shared:
        return []
    means = [
        np.concatenate([found[number]["regret"].mean(axis=1) for number in shared]).mean(axis=0)
        for found in curves.values()
    ]
    return [
        {"dataset": DATASET, "shots": k, "method": name, "splits": len(shared), "metric": REGRET, "split": PLAIN}
        for j, k in enumerate(PICKS)
        for name, of in zip(curves, means, strict=True)
        if of[j] == min(mean[j] for mean in means)
    ]


def _coverage_rows(name: str, folder: Path) -> list[Row]:
    splits = [read_arrays(path) for path in sorted(folder.glob("*.npz"))]
    rows = []
    for k in sorted({int(k) for arrays in splits for k in arrays["shots"]}):
        here = [{key: values[arrays["shots"] == k] for key, values in arrays.items()} for arrays in splits]
        here = [arrays for arrays in here if arrays["pair"].size]
        for metric, key, less in ((COVERAGE, "inside", 0.0), (WIDTH, "width", 1.0)):
            means = np.array([arrays[key].mean() - less for arrays in here])
            every = np.concatenate([arrays[key] for arrays in here]) - less
            rows.append(
                Row(
                    name,
                    "flashfm",
                    metric,
                    mean=float(means.mean()),
                    median=float(np.median(every)),
                    sd=float(means.std(ddof=1)) if len(means) > 1 else 0.0,
                    n_pairs=len({int(pair) for arrays in here for pair in arrays["pair"]}),
                    n_queries=int(sum(arrays["queries"].sum() for arrays in here)),
                    shots=k,
                    split=f"{len(here)} by application",
                )
            )
    return rows


def markdown(path: Path) -> str:
    """The page for people, from the result file alone."""
    content = json.loads(path.read_text())
    rows = content["rows"]
    cloud = [row for row in rows if row["dataset"] == DATASET]
    lines: list[str] = []
    for metric, title in (
        (RANDOM, "CloudBandit, random shots: mean absolute percentage error"),
        (DESIGNED, "CloudBandit, designed shots: mean absolute percentage error"),
        (REGRET, "CloudBandit, regret after K measured picks"),
    ):
        here = [row for row in cloud if row["metric"] == metric and row["split"].endswith(PLAIN)]
        best = [b for b in content["best"] if (b["metric"], b["split"]) == (metric, PLAIN)]
        lines += _section(title, here, best, content["targets"][metric])
        lines += _differences([d for d in content["ours_minus_rival"] if (d["metric"], d["split"]) == (metric, PLAIN)])
    for kind in GROUPS:
        here = [row for row in cloud if row["metric"] == RANDOM and row["split"].endswith(kind)]
        best = [b for b in content["best"] if (b["metric"], b["split"]) == (RANDOM, kind)]
        lines += _section(f"CloudBandit, {kind}, random shots: mean absolute percentage error", here, best, {})
    for metric, title in (
        (COVERAGE, "Share of queries within the 90 % interval, mean over unseen pairs"),
        (WIDTH, "Width of the interval: upper over lower end, less one"),
    ):
        here = [{**row, "method": content["titles"][row["dataset"]]} for row in rows if row["metric"] == metric]
        lines += _section(title, here, [], {}, head="data set")
    if content["rules"]:
        words = "; ".join(f"{rule} ({n})" for rule, n in content["rules"].items())
        lines += [f"Search rules that training pairs chose (number of splits): {words}.", ""]
    quick = " **A quick run: figures without weight.**" if content["quick"] else ""
    lines.append(
        f"`{content['command']}`, commit {content['commit']}.{quick} {content['protocol'].capitalize()}."
        " In brackets the standard deviation over splits, or the 95 % interval of a difference; bold: the least over"
        " the splits that all methods of a table have."
    )
    return "\n".join(lines) + "\n"


def _section(
    title: str,
    rows: Sequence[dict[str, Any]],
    best: Sequence[dict[str, Any]],
    targets: dict[str, float],
    head: str = "method",
) -> list[str]:
    """A table: a row for each method, a column for each K."""
    if not rows:
        return []
    shots = sorted({row["shots"] for row in rows})
    lines = [f"### {title}", "", "| " + " | ".join([head, *(f"K={k}" for k in shots), "splits"]) + " |"]
    lines.append("|" + "---|" * (len(shots) + 2))
    bold = {(b["method"], b["shots"]) for b in best}
    for method in dict.fromkeys(row["method"] for row in rows):
        of_k = {row["shots"]: row for row in rows if row["method"] == method}
        texts = [f"{of_k[k]['mean']:.3f}{spread(of_k[k])}" if k in of_k else "–" for k in shots]
        texts = [f"**{text}**" if (method, k) in bold else text for k, text in zip(shots, texts, strict=True)]
        counts = "/".join(dict.fromkeys(row["split"].split()[0] for row in of_k.values()))
        lines.append(f"| {method} | " + " | ".join(texts) + f" | {counts} |")
    if targets:
        words = [f"{targets[str(k)]:.3f}" if str(k) in targets else "" for k in shots]
        lines.append("| *to reach* | " + " | ".join(words) + " | |")
    return [*lines, ""]


def _differences(differences: Sequence[dict[str, Any]]) -> list[str]:
    if not differences:
        return []
    shots = sorted({d["shots"] for d in differences})
    lines = [
        "| flashfm minus | " + " | ".join(f"K={k}" for k in shots) + " | splits |",
        "|" + "---|" * (len(shots) + 2),
    ]
    for rival in dict.fromkeys(d["rival"] for d in differences):
        of_k = {d["shots"]: d for d in differences if d["rival"] == rival}
        texts = [f"{d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]" if (d := of_k.get(k)) else "–" for k in shots]
        counts = "/".join(dict.fromkeys(str(d["splits"]) for d in of_k.values()))
        lines.append(f"| {rival} | " + " | ".join(texts) + f" | {counts} |")
    return [*lines, ""]


def draw(path: Path) -> list[Path]:
    """The pictures beside a result file: regret of searches, and errors with random and designed shots."""
    rows = [row for row in json.loads(path.read_text())["rows"] if row["dataset"] == DATASET]
    rows = [row for row in rows if row["split"].endswith(PLAIN)]
    regret = pd.DataFrame(row for row in rows if row["metric"] == REGRET)
    shots = pd.DataFrame(row for row in rows if row["metric"] in (RANDOM, DESIGNED))
    drawn = []
    if len(regret):
        frame = regret[["method", "shots", "mean", "sd"]].assign(mean=regret["mean"].clip(lower=LEAST_DRAWN))
        words = "how much slower than the fastest configuration the best of those measured is"
        title = "Search on CloudBandit: regret on unseen workloads, by the number of measurements"
        drawn.append(
            score_dots(
                frame,
                path.with_suffix(".png"),
                ours=["flashfm"],
                title=title,
                xlabel=words,
                note=_note(regret),
                size_px=(1600, 800),
            )
        )
    if len(shots):
        frame = shots[["method", "shots", "mean", "sd"]].assign(dataset=shots["metric"].str.removeprefix("APE, "))
        title = "CloudBandit: error on unseen workloads, with random and with designed shots"
        where = path.with_name(f"{path.stem}-shots.png")
        drawn.append(score_dots(frame, where, ours=VARIANTS, title=title, note=_note(shots), size_px=(1600, 900)))
    return drawn


def _note(rows: pd.DataFrame) -> str:
    """Says so where methods differ in their splits, for then their dots may too."""
    return "" if rows["split"].nunique() == 1 else "methods differ in their number of splits; see the table"
