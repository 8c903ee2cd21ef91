"""Search on CloudBandit: designed shots, regret after a few measurements, intervals, and unseen data and algorithms.

Enters: the protocol's data sets, models of each split. Leaves: one file for each part, method and split below a folder,
and from what lies there `search.json`, `search.md` and two pictures. Rules of our search are chosen on training pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from flashfm.adapt.design import designed_shots, expected_improvement
from flashfm.baselines import PREDICTORS, SEARCHERS, BestPortfolio, regret_curve
from flashfm.baselines.search import PICKS, FittedList, Searcher
from flashfm.datasets.files import write_whole
from flashfm.datasets.splits import Split, leave_one_group_out, shot_sets
from flashfm.errors import DataError, DataMissingError, ModelError
from flashfm.experiments import evaluation, results
from flashfm.experiments.ours import VARIANTS, Ours
from flashfm.experiments.printed import TITLES
from flashfm.experiments.search_page import DATASET, GROUPS, SHOTS, Places, assemble, draw, markdown
from flashfm.experiments.table1 import Table1Config, shots_of
from flashfm.models import hierarchical_gp
from flashfm.models.flash import FlashModel
from flashfm.models.local import LocalProcess
from flashfm.pretraining.supervised import PretrainConfig
from flashfm.tasks.config_search import Method, Observations, Shots

COVERED = (0, 1, 2, 3, 4, 5)
COVERAGE_SETS = 20
REPEATS = {"random search": 20, "Bayesian optimisation": 10}
"""Runs for each pair of what draws at random; their regret is averaged."""
INNER_FOLDS = 5


@dataclass(frozen=True)
class Rule:
    """How our search picks: `listed` configurations from the best-portfolio list, the rest by the posterior."""

    listed: int
    by: str
    """`improvement` (largest expected), or `bound`: lowest mean less `bravery` standard deviations."""
    bravery: float = 0.0

    def __str__(self) -> str:
        words = "expected improvement" if self.by == "improvement" else f"lowest mean - {self.bravery:g} sd"
        return f"{self.listed} listed, then {words}"


RULES = tuple(
    Rule(listed, by, bravery)
    for listed in (1, 2, 3)
    for by, bravery in (("improvement", 0.0), ("bound", 0.0), ("bound", 0.5), ("bound", 1.0))
)
"""What is chosen from, on training pairs."""


@dataclass(frozen=True)
class OurSearch:
    """Our model as a searcher: starts where training pairs regret least, goes on by the posterior of the prior process.

    The rule is that of least regret, mean over `PICKS`, on the training pairs themselves, each searched with a process
    that was fitted on other applications; no test pair has a say.
    """

    store: Path | None = None
    config: PretrainConfig = field(default_factory=PretrainConfig)
    rules: tuple[Rule, ...] = RULES
    name: str = "flashfm"

    def fit(self, train: Observations, seed: int) -> FittedOurSearch:
        """Pretrain, or read the model of this seed; choose the rule."""
        process = Ours("flashfm", self.store, self.config).model(train, seed).prior
        rule = choose_rule(process, train, self.rules, seed)
        return FittedOurSearch(process, BestPortfolio().fit(train, seed), rule, train.metrics.shape[2])


@dataclass(frozen=True, eq=False)
class FittedOurSearch:
    """`OurSearch` after training."""

    process: LocalProcess
    listed: FittedList
    rule: Rule
    metrics: int
    """How many metrics a shot has; a search does not look at them."""

    def next(
        self,
        measured_config: Int[np.ndarray, " measured"],
        measured_log_runtime: Float[np.ndarray, " measured"],
        candidates: Int[np.ndarray, " candidate"],
        rng: np.random.Generator,
    ) -> int:
        """The listed configurations first, then what the rule says of the posterior after all measurements.

        Raises:
            ModelError: every candidate was measured.
        """
        left = np.setdiff1d(candidates, measured_config)
        if measured_config.size < self.rule.listed or not left.size:
            return self.listed.next(measured_config, measured_log_runtime, candidates, rng)
        metrics = np.full((1, measured_config.size, self.metrics), np.nan)
        posterior = self.process.posterior(Shots(measured_config[None], measured_log_runtime[None], metrics))
        mean, variance = posterior.mean[0, left], posterior.variance[0, left]
        if self.rule.by == "improvement":
            return int(left[expected_improvement(mean, variance, float(measured_log_runtime.min())).argmax()])
        return int(left[(mean - self.rule.bravery * np.sqrt(variance)).argmin()])


def choose_rule(process: LocalProcess, train: Observations, rules: Sequence[Rule], seed: int) -> Rule:
    """The rule of least mean regret on training pairs, each searched without its application and those of its fold.

    Args:
        process: fitted on all of `train`; its hyper-parameters and likeness are kept.
        train: training pairs.
        rules: what to choose from; of equals the first.
        seed: of the folds.

    Raises:
        ModelError: fewer than two applications.
    """
    apps = sorted(train.apps)
    if len(apps) < 2:
        raise ModelError(f"{len(apps)} application to choose a search rule on; expected at least 2")
    order = np.random.default_rng(seed).permutation(len(apps))
    regret = np.zeros(len(rules))
    for fold in range(min(INNER_FOLDS, len(apps))):
        out = {apps[i] for i in order[fold :: min(INNER_FOLDS, len(apps))]}
        rest, asked = train.of_apps(set(apps) - out), train.of_apps(out)
        kernel = process.gp.kernel
        gp = hierarchical_gp.fit(train.features, rest.log_runtime, kernel.interactions, process.gp.config, kernel)
        inner = LocalProcess.of(gp, process.scaler, rest, process.likeness)
        listed = BestPortfolio().fit(rest, seed)
        for r, rule in enumerate(rules):
            searcher = FittedOurSearch(inner, listed, rule, train.metrics.shape[2])
            regret[r] += sum(float(regret_curve(searcher, asked, i).mean()) for i in range(len(asked)))
    return rules[int(regret.argmin())]


@dataclass(frozen=True)
class SearchConfig:
    """How much is run; the defaults are the protocol's."""

    splits: int = evaluation.SPLITS
    sets: int = evaluation.SETS
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    groups: int | None = None
    """Groups to leave out of each kind; all where None."""
    searchers: tuple[Searcher, ...] = SEARCHERS
    """Rivals of our search."""
    quick: bool = False

    @classmethod
    def of(cls, *, quick: bool, splits: int | None = None, groups: int | None = None) -> SearchConfig:
        """The protocol, or a few minutes' worth of it.

        Raises:
            DataError: a number of splits that the protocol does not have.
        """
        table = Table1Config.of(quick=quick, datasets=[DATASET], splits=splits)
        return cls(table.splits, table.sets, table.pretrain, 1 if quick and groups is None else groups, quick=quick)


def run(
    root: Path,
    results_folder: Path,
    config: SearchConfig,
    *,
    on_step: Callable[[int, int], object] = lambda *_: None,
    only_assemble: bool = False,
) -> Path:
    """Run what is missing below `root`, then write the page of what lies there.

    Args:
        root: scores, models and regret curves go to folders of it; see `Places`. Those of `reproduce table1` are used.
        results_folder: where `search.json`, `search.md`, `search.png` and `search-shots.png` go.
        config: what to run.
        on_step: told of progress.
        only_assemble: train nothing.

    Returns:
        Path of `search.json`.

    Raises:
        DataError: CloudBandit is not on this machine, nothing lies below `root`, or a file is damaged.
    """
    places = Places(root, config.quick)
    to_do = [] if only_assemble else list(jobs(places, config))
    for done, job in enumerate(to_do):
        job()
        on_step(done + 1, len(to_do))
    rows, more = assemble(places)
    path = results_folder / "search.json"
    quick = "quick: little training, 20 shot sets and one split, figures without weight; " if config.quick else ""
    results.write(
        path,
        command="flashfm reproduce search" + (" --quick" if config.quick else ""),
        protocol=quick
        + "splits by application; random shots, or those of one list designed on training pairs; absolute percentage"
        " error, mean over queries, then pairs, then splits; regret is (best measured - best observed) / best observed,"
        " search rules chosen on training pairs; coverage is the share of queries within the 90 % interval; sd over"
        " split means; 95 % intervals of differences by bootstrap over applications",
        seeds=list(range(4)),
        rows=rows,
        more=more | {"quick": config.quick},
        markdown_of=markdown,
    )
    draw(path)
    return path


Job = Callable[[], object]


def jobs(places: Places, config: SearchConfig) -> Iterator[Job]:
    """What there is to do, split after split; each job keeps what it finds, or does nothing if that is there.

    Raises:
        DataMissingError: CloudBandit is not on this machine.
    """
    data = evaluation.load(DATASET)
    ours = [Ours(name, places.models, config.pretrain) for name in reversed(VARIANTS)]
    searchers: list[Searcher] = [*config.searchers, OurSearch(places.models, config.pretrain)]
    for number, split in enumerate(evaluation.splits(data, config.splits)):
        for method in [*PREDICTORS, *ours]:
            yield partial(_random, places, data, number, method, config.sets)
            yield partial(_designed, places, data, number, split, method, ours[0])
        for searcher in searchers:
            yield partial(_regret, places, data, number, split, searcher)
        for name in TITLES:
            yield partial(_coverage, places, name, number)
    for kind, part in GROUPS.items():
        groups = {app: app.split("-", 1)[part] for app in data.apps}
        left_out = list(leave_one_group_out(groups))[: config.groups]
        for name in ("hierarchical GP", "flashfm"):
            method = next(o for o in ours if o.name == name)
            store = Ours(method.name, places.of("models") / f"{DATASET} {kind}", config.pretrain)
            for number in range(len(left_out)):
                folder = places.of(kind) / method.name
                yield partial(
                    evaluation.run, store, data, left_out[: number + 1], folder, shots=(1, 2, 3), sets=config.sets
                )


def _random(places: Places, data: Observations, number: int, method: Method, sets: int) -> None:
    folder = places.of("table1") / DATASET / method.name
    for ks, with_training in shots_of(method, data):
        splits = evaluation.splits(data, number + 1)
        evaluation.run(method, data, splits, folder, shots=ks, sets=sets, training_error=with_training)


def _designed(places: Places, data: Observations, number: int, split: Split, method: Method, ours: Ours) -> None:
    """Shots from the list that the training pairs' process designs, the same for all methods."""
    folder = places.of("designed") / method.name
    missing = {k: path for k in SHOTS if not (path := folder / f"{number:02d}-k{k}.npz").exists()}
    if not missing:
        return
    train = data.of_apps(split.train)
    listed = designed_shots(
        ours.model(train, number).prior.gp, (~np.isnan(train.log_runtime)).astype(float), max(SHOTS)
    )
    test = evaluation.positions(data, split.test)
    fitted = None
    for k, path in missing.items():
        if fitted is None or method.per_shots:
            fitted = method.fit(train, shots=k, seed=number)
        pair, config, ape = evaluation.score(fitted, data, test, k, designed=listed)
        _keep(path, test_pair=pair, test_config=config, test_ape=ape, seconds=np.array(0.0), designed=np.array(listed))


def _regret(places: Places, data: Observations, number: int, split: Split, searcher: Searcher) -> None:
    path = places.of("regret") / searcher.name / f"{number:02d}.npz"
    if path.exists():
        return
    fitted = searcher.fit(data.of_apps(split.train), number)
    test = evaluation.positions(data, split.test)
    found = [
        [regret_curve(fitted, data, i, seed=1000 * number + run) for run in range(REPEATS.get(searcher.name, 1))]
        for i in test
    ]
    rule = str(fitted.rule) if isinstance(fitted, FittedOurSearch) else ""
    _keep(path, pair=np.array(test), picks=np.array(PICKS), regret=np.array(found), rule=np.array(rule))


def _coverage(places: Places, name: str, number: int) -> None:
    """Of any data set whose model of this split is there: nothing is trained for it."""
    path, store = places.of("coverage") / name / f"{number:02d}.npz", places.of("models") / name
    if path.exists() or not (store / f"{number:02d}" / "config.json").exists():
        return
    try:
        data = evaluation.load(name)
    except DataMissingError:
        return
    split = evaluation.splits(data, number + 1)[number]
    model = Ours("flashfm", store).model(data.of_apps(split.train), number)
    _keep(path, **covered(model, data, evaluation.positions(data, split.test)))


def covered(model: FlashModel, data: Observations, test: Sequence[int]) -> dict[str, np.ndarray]:
    """How often intervals hold what was observed, for each test pair and K.

    Returns:
        `shots`, `pair`, `queries`, `inside` (share of queries within the 90 % interval) and `width` (mean of upper over
        lower end, a ratio), one entry for each pair and K.
    """
    rows = []
    observed = data.observed
    for k in COVERED:
        for i in test:
            known = observed[i]
            if known.size <= k:
                continue
            chosen = np.empty((1, 0), dtype=np.int64)
            if k:
                chosen = known[shot_sets(data.pairs[i], known.size, shots=max(k, 5), sets=COVERAGE_SETS)[:, :k]]
            told = model.forecast(data.shots(np.full(len(chosen), i), chosen))
            asked = np.zeros(told.point.shape, dtype=np.bool_)
            asked[:, known] = True
            np.put_along_axis(asked, chosen, False, axis=1)
            inside = (told.lower <= data.log_runtime[i]) & (data.log_runtime[i] <= told.upper)
            width = np.exp(told.upper - told.lower)[asked].mean()
            rows.append((k, i, asked.sum(), inside[asked].mean(), width))
    names = ("shots", "pair", "queries", "inside", "width")
    return dict(zip(names, np.array(rows, dtype=np.float64).reshape(-1, len(names)).T, strict=True))


def _keep(path: Path, **arrays: np.ndarray) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path.parent}: cannot be made: {error.strerror or error}") from None
    write_whole(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
