"""The protocol of configuration search: data sets, splits, shots and queries that every method is judged on alike.

Splits are by application, shots are nested random sets of each pair (or the designed list of the training pairs), and
queries are all other observed configurations. `run` keeps one file for each (data set, method, split, K), so a sweep
goes on where it was stopped and several processes may share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from flashfm.applications.segments import REAL
from flashfm.datasets.files import write_whole
from flashfm.datasets.sources import load_cloudbandit, load_measured, load_sizeless
from flashfm.datasets.splits import Split, by_application, shot_sets
from flashfm.datasets.table import MeasurementTable
from flashfm.errors import DataError, DataMissingError
from flashfm.experiments.results import Row
from flashfm.tasks.config_search import Fitted, Method, Observations

SHOTS = (1, 2, 3)
SETS, QUICK_SETS = 100, 20
SPLITS, QUICK_SPLITS = 20, 5
DATASETS = ("lambda", "openwhisk", "sizeless-selfhosted", "cloudbandit", "measured")
"""`lambda` and `openwhisk` are the platforms of the measured data set, `measured` is all of it."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Absolute percentage errors of one method on the test pairs of one split, with K shots."""

    pair: Int[np.ndarray, " query"]
    """Position of the pair among those of the data set."""
    config: Int[np.ndarray, " query"]
    """Position of the asked configuration in the grid."""
    ape: Float[np.ndarray, " query"]
    """|predicted / observed - 1|, in [0, inf)."""
    seconds: float
    """Training and prediction."""


def load(name: str) -> Observations:
    """A data set of the experiments, by its name in `DATASETS`; the hand-written applications are left out (`real`).

    Raises:
        DataMissingError: the file is not on this machine.
        DataError: no data set has that name.
    """
    return Observations.from_table(table(name, real=False))


def table(name: str, *, real: bool) -> MeasurementTable:
    """The rows of a data set; of the measured one, either those of generated or those of hand-written applications."""
    if name == "cloudbandit":
        return load_cloudbandit()
    if name == "sizeless-selfhosted":
        return load_sizeless()
    if name not in DATASETS:
        raise DataError(f"no experiment data set is called {name!r}; expected one of {', '.join(DATASETS)}")
    measured = load_measured()
    frame = measured.frame
    chosen = frame["app"].isin(REAL) == real
    if name != "measured":
        chosen &= frame["platform"].str.startswith(name)
    columns = ["memory_mb"] if name == "lambda" else ["memory_mb", "cpu_shares"]
    rows = frame[chosen].drop(columns=[] if len(columns) == 2 else ["cpu_shares"])
    return MeasurementTable.from_frame(rows, config_columns=columns, card=measured.card)


def splits(data: Observations, n: int = SPLITS) -> list[Split]:
    """The first `n` of the protocol's 20 splits."""
    return list(by_application(data.apps))[:n]


def positions(data: Observations, apps: Iterable[str]) -> list[int]:
    """Positions of the pairs of some applications, as of a part of a split."""
    chosen = set(apps)
    return [i for i, (app, _) in enumerate(data.pairs) if app in chosen]


def score(
    fitted: Fitted,
    data: Observations,
    test: Iterable[int],
    k: int,
    *,
    sets: int = SETS,
    designed: Sequence[int] | None = None,
) -> tuple[Int[np.ndarray, " query"], Int[np.ndarray, " query"], Float[np.ndarray, " query"]]:
    """Errors of a trained method on pairs that it has not seen.

    Args:
        fitted: what is judged.
        data: the pairs.
        test: positions of the pairs to test on.
        k: shots of each.
        sets: how many random sets of shots.
        designed: configurations in the order in which they are to be measured; the first `k` that a pair has replace
            the random sets.

    Returns:
        Pair, configuration and absolute percentage error of each query.
    """
    pairs, configs, errors = [], [], []
    observed = data.observed
    for i in test:
        known = observed[i]
        if known.size <= k:
            continue
        if designed is None:
            chosen = known[shot_sets(data.pairs[i], known.size, shots=max(k, 5), sets=sets)[:, :k]]
        else:
            chosen = np.array([[c for c in designed if c in known][:k]], dtype=np.int64)
            if chosen.shape[1] < k:
                continue
        runtime = fitted.predict(data.shots(np.full(len(chosen), i), chosen))
        ape = np.abs(runtime / np.exp(data.log_runtime[i]) - 1)
        asked = np.zeros_like(ape, dtype=bool)
        asked[:, known] = True
        np.put_along_axis(asked, chosen, False, axis=1)
        _, config = np.nonzero(asked)
        pairs.append(np.full(config.size, i))
        configs.append(config)
        errors.append(ape[asked])
    if not pairs:
        raise DataError(f"no pair of the test part has more than {k} configurations to be asked about")
    return np.concatenate(pairs), np.concatenate(configs), np.concatenate(errors)


def run(
    method: Method,
    data: Observations,
    of: Sequence[Split],
    folder: Path,
    *,
    shots: Sequence[int] = SHOTS,
    sets: int = SETS,
    training_error: bool = False,
    on_done: Callable[[], object] = lambda: None,
) -> None:
    """Train and judge a method on each split, one file for each split and K below `folder`.

    Files that are there are kept, unless they are of other `sets` or lack the training error that is asked for.

    Args:
        method: what is judged.
        data: the data set.
        of: the splits.
        folder: where files go, such as `out/lambda/gp`.
        shots: each K.
        sets: random shot sets a pair.
        training_error: judge on the pairs that were trained on as well (the first 10 sets), beside the test pairs.
        on_done: called after each (split, K).
    """
    for number, split in enumerate(of):
        missing = missing_of(folder, number, shots, sets=sets, training_error=training_error)
        for k, found in judged(method, data, split, number, missing, sets=sets, training_error=training_error):
            keep(folder, number, k, found)
        for _ in shots:
            on_done()


def missing_of(folder: Path, number: int, shots: Sequence[int], *, sets: int, training_error: bool) -> list[int]:
    """Each K of a split whose file is not there as it is wanted."""
    return [k for k in shots if not _done(folder / f"{number:02d}-k{k}.npz", sets, training_error)]


def keep(folder: Path, number: int, k: int, found: Mapping[str, np.ndarray]) -> None:
    """Write what `judged` found with K shots on a split."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{number:02d}-k{k}.npz", lambda file: np.savez_compressed(file, allow_pickle=False, **found))


def judged(
    method: Method,
    data: Observations,
    split: Split,
    number: int,
    shots: Sequence[int],
    *,
    sets: int = SETS,
    training_error: bool = False,
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Train and judge a method on a split, without files; see `run`.

    Yields:
        Each K, and errors of each query.
    """
    fitted: Fitted | None = None
    spent = 0.0
    for k in shots:
        start = time.perf_counter()
        if fitted is None or method.per_shots:
            fitted = method.fit(data.of_apps(split.train), shots=k, seed=number)
            spent = time.perf_counter() - start
        yield k, _judge(fitted, data, split, k, sets, training_error, spent)


def _done(path: Path, sets: int, training_error: bool) -> bool:
    """Whether a file holds what would be judged; one that does not say its number of sets is taken as it is."""
    if not path.exists():
        return False
    with np.load(path, allow_pickle=False) as file:
        same = "sets" not in file or int(file["sets"]) == sets
        return same and (not training_error or "train_ape" in file)


def _judge(
    fitted: Fitted, data: Observations, split: Split, k: int, sets: int, training_error: bool, spent: float
) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for part, apps, n in (("test", split.test, sets), ("train", split.train, min(sets, 10))):
        if part == "test" or training_error:
            start = time.perf_counter()
            pair, config, ape = score(fitted, data, positions(data, apps), k, sets=n)
            found |= {f"{part}_pair": pair, f"{part}_config": config, f"{part}_ape": ape}
            spent += time.perf_counter() - start
    return found | {"seconds": np.array(spent), "sets": np.array(sets)}


def read(folder: Path, k: int, part: str = "test") -> list[Scores]:
    """What `run` found with K shots, in the order of the splits; `part` is `test` or `train`."""
    found = []
    for path in sorted(folder.glob(f"*-k{k}.npz")):
        with np.load(path, allow_pickle=False) as file:
            if f"{part}_ape" in file:
                pair, config, ape = (file[f"{part}_{name}"] for name in ("pair", "config", "ape"))
                found.append(Scores(pair, config, ape, float(file["seconds"])))
    return found


def summarise(dataset: str, method: str, k: int, of: Sequence[Scores], metric: str = "APE") -> Row:
    """Mean and median over pairs of each pair's mean and median error; the spread is that of the splits' means."""
    per_split = [_of_pairs(scores) for scores in of]
    split_means = [float(means.mean()) for means, _ in per_split]
    medians = np.concatenate([medians for _, medians in per_split])
    return Row(
        dataset,
        method,
        metric,
        mean=float(np.mean(split_means)),
        median=float(np.mean(medians)),
        sd=float(np.std(split_means, ddof=1)) if len(of) > 1 else 0.0,
        n_pairs=len({int(i) for scores in of for i in np.unique(scores.pair)}),
        n_queries=sum(scores.ape.size for scores in of),
        shots=k,
        split=f"{len(of)} by application",
        seconds=float(np.mean([scores.seconds for scores in of])),
    )


def _of_pairs(scores: Scores) -> tuple[Float[np.ndarray, " pair"], Float[np.ndarray, " pair"]]:
    order = np.argsort(scores.pair, kind="stable")
    _, starts = np.unique(scores.pair[order], return_index=True)
    groups = np.split(scores.ape[order], starts[1:])
    return np.array([g.mean() for g in groups]), np.array([np.median(g) for g in groups])


def paired_difference(
    ours: Sequence[Scores],
    rival: Sequence[Scores],
    *,
    apps: Sequence[str] | None,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean difference in error, ours minus the rival's, with its 95 % interval by bootstrap over applications.

    Args:
        ours: of each split.
        rival: of the same splits and queries.
        apps: application of each pair of the data set, as `pair_apps` gives them.
        draws: of the bootstrap.
        seed: of the draws.

    Raises:
        DataError: the two were judged on other queries, or on pairs that the data set does not have.
    """
    differences: dict[int, list[float]] = {}
    for a, b in zip(ours, rival, strict=True):
        if not np.array_equal(a.pair, b.pair) or not np.array_equal(a.config, b.config):
            raise DataError(
                "the two methods were not judged on the same queries; run both again with the same settings"
            )
        order = np.argsort(a.pair, kind="stable")
        unique, starts = np.unique(a.pair[order], return_index=True)
        for pair, group in zip(unique, np.split((a.ape - b.ape)[order], starts[1:]), strict=True):
            differences.setdefault(int(pair), []).append(float(group.mean()))
    of_pairs = np.array([np.mean(values) for values in differences.values()])
    means = drawn_means(of_pairs[:, None], list(differences), apps, draws=draws, seed=seed)
    low, high = np.quantile(means[:, 0], [0.025, 0.975])
    return float(of_pairs.mean()), float(low), float(high)


def pair_apps(name: str) -> list[str] | None:
    """The application of each pair of a data set, in the order of its pairs; None where it is not on this machine.

    Raises:
        DataError: no data set has that name.
    """
    try:
        return [app for app, _ in load(name).pairs]
    except DataMissingError:
        return None


def drawn_means(
    of_pairs: Float[np.ndarray, "pair value"],
    pairs: Sequence[int],
    apps: Sequence[str] | None,
    *,
    draws: int,
    seed: int = 0,
) -> Float[np.ndarray, "draw value"]:
    """Means over pairs in each draw of a bootstrap; a draw takes applications, each with all of its pairs.

    Pairs of one application on several platforms are alike, so they come and go together.

    Args:
        of_pairs: one row for each pair.
        pairs: their positions in the data set, each once.
        apps: application of each pair of the data set; None takes each pair for an application of its own, as it is
            where there is one platform.
        draws: how many.
        seed: of the draws.

    Raises:
        DataError: a position that the data set does not have.
    """
    if apps is not None and max(pairs, default=0) >= len(apps):
        raise DataError(
            f"scores are of pair {max(pairs)}, but the data set has {len(apps)} pairs; run again with this data set"
        )
    places: dict[str | int, int] = {}
    place = [places.setdefault(pair if apps is None else apps[pair], len(places)) for pair in pairs]
    count = np.bincount(place)
    total = np.zeros((len(count), of_pairs.shape[1]))
    np.add.at(total, place, of_pairs)
    drawn = np.random.default_rng(seed).integers(len(count), size=(draws, len(count)))
    return np.asarray(total[drawn].sum(axis=1) / count[drawn].sum(axis=1)[:, None])
