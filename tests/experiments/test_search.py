"""Our search against the lists, its rule from training pairs alone, coverage, and the page of the whole experiment."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flashfm.baselines import SEARCHERS, BestPortfolio, RandomSearch, Searcher, regret_curve
from flashfm.errors import DataError, DataMissingError, ModelError
from flashfm.experiments import evaluation
from flashfm.experiments.search import (
    RULES,
    FittedOurSearch,
    OurSearch,
    Rule,
    SearchConfig,
    choose_rule,
    covered,
    run,
)
from flashfm.experiments.search_page import DESIGNED, RANDOM, REGRET, Places
from flashfm.models.flash import FlashModel
from flashfm.pretraining.supervised import PretrainConfig
from flashfm.tasks.config_search import Observations

TAKEN = Rule(1, "bound")


@pytest.fixture
def ours(pretrained: FlashModel, world: Observations) -> FittedOurSearch:
    """A search by the process of `pretrained`."""
    return FittedOurSearch(pretrained.prior, BestPortfolio().fit(world, 0), TAKEN, world.metrics.shape[2])


@pytest.fixture(scope="module")
def world(observe: Callable[..., Observations], synthetic: Callable[..., pd.DataFrame]) -> Observations:
    """What `pretrained` was pretrained on."""
    return observe(synthetic(24))


@pytest.fixture(scope="module")
def workloads(observe: Callable[..., Observations], synthetic: Callable[..., pd.DataFrame]) -> Observations:
    """Twelve workloads of two data sets and six algorithms, named as CloudBandit names them; no metrics."""
    frame = synthetic(12, metrics=False)
    number = frame["app"].str[-3:].astype(int)
    frame["app"] = [f"{'left' if n % 2 else 'right'}-algorithm_{n // 2}" for n in number]
    return observe(frame)


def test_no_configuration_is_measured_twice_nor_one_that_the_pair_lacks(
    ours: FittedOurSearch, unseen: Observations
) -> None:
    candidates = np.array([0, 2, 3, 5])
    measured = np.empty(0, dtype=np.int64)
    rng = np.random.default_rng(0)
    for _ in range(4):
        chosen = ours.next(measured, unseen.log_runtime[3, measured], candidates, rng)
        assert chosen in candidates
        assert chosen not in measured
        measured = np.append(measured, chosen)
    with pytest.raises(ModelError, match="every configuration that may be measured was"):
        ours.next(measured, unseen.log_runtime[3, measured], candidates, rng)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_listed_configurations_come_first(
    rule: Rule, ours: FittedOurSearch, unseen: Observations, world: Observations
) -> None:
    searcher = replace(ours, rule=rule)
    listed = BestPortfolio().fit(world, 0)
    picks = range(1, rule.listed + 1)
    for pair in range(4):
        assert regret_curve(searcher, unseen, pair, picks=picks) == pytest.approx(
            regret_curve(listed, unseen, pair, picks=picks)
        )


def test_the_posterior_finds_what_the_first_measurement_tells(
    ours: FittedOurSearch, unseen: Observations, world: Observations
) -> None:
    """In this world the fastest of the other sizes follows from one measurement better than from a draw."""
    random = RandomSearch().fit(world, 0)
    regret = [
        np.mean([regret_curve(of, unseen, pair, picks=[2], seed=s) for pair in range(len(unseen)) for s in range(5)])
        for of in (ours, random)
    ]
    assert regret[0] < 0.5 * regret[1]


def test_the_rule_is_that_of_least_regret_on_held_out_training_pairs(
    pretrained: FlashModel, world: Observations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each training pair is asked once for each rule, by a process that does not know it."""
    asked: list[tuple[Rule, str]] = []

    def curve(searcher: FittedOurSearch, data: Observations, pair: int) -> np.ndarray:
        known = searcher.process.gp.profiles
        app = data.pairs[pair][0]
        asked.append((searcher.rule, app))
        row = world.log_runtime[world.pairs.index(data.pairs[pair])]
        assert not (np.abs(known - row).max(axis=1) < 1e-9).any()
        return np.array([0.1 if searcher.rule == RULES[5] else 0.2])

    monkeypatch.setattr("flashfm.experiments.search.regret_curve", curve)
    assert choose_rule(pretrained.prior, world, RULES, 0) == RULES[5]
    assert len(asked) == len(set(asked)) == len(RULES) * len(world)


def test_one_application_is_too_few_to_choose_a_rule(pretrained: FlashModel, world: Observations) -> None:
    with pytest.raises(ModelError, match="expected at least 2"):
        choose_rule(pretrained.prior, world.of_pairs(np.array([0])), RULES, 0)


def test_coverage_counts_the_queries_within_the_interval(pretrained: FlashModel, unseen: Observations) -> None:
    found = covered(pretrained, unseen, [0, 1, 2])
    assert found["shots"].tolist() == sorted([0, 1, 2, 3, 4, 5] * 3)
    at_none = found["shots"] == 0
    told = pretrained.forecast(unseen.shots(np.array([1]), np.empty((1, 0), dtype=np.int64)))
    inside = (told.lower[0] <= unseen.log_runtime[1]) & (unseen.log_runtime[1] <= told.upper[0])
    assert found["inside"][at_none][1] == pytest.approx(inside.mean())
    assert found["queries"][at_none].tolist() == [6, 6, 6]
    assert found["queries"][found["shots"] == 5].tolist() == [20, 20, 20]
    assert (found["width"] >= 1).all()


def test_all_parts_are_run_kept_and_put_on_one_page(
    workloads: Observations, small: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> Observations:
        if name != "cloudbandit":
            raise DataMissingError(f"data set {name!r} is not on this machine")
        return workloads

    monkeypatch.setattr(evaluation, "load", load)
    searchers: tuple[Searcher, ...] = (SEARCHERS[0], *SEARCHERS[3:])
    config = replace(
        SearchConfig.of(quick=True),
        sets=2,
        pretrain=replace(small, members=1, least_for_network=99),
        searchers=searchers,
    )
    told: list[tuple[int, int]] = []
    path = run(tmp_path, tmp_path / "results", config, on_step=lambda *step: told.append(step))
    assert told[-1][0] == told[-1][1] == len(told)
    content = json.loads(path.read_text())
    rows = {(r["method"], r["metric"], r["shots"], r["split"]): r for r in content["rows"]}
    once = "1 by application"
    assert ("flashfm", RANDOM, 5, once) in rows
    assert ("LightGBM", DESIGNED, 3, once) in rows
    assert ("flashfm", RANDOM, 3, "1 leave-dataset-out") in rows
    assert ("hierarchical GP", RANDOM, 1, "1 leave-algorithm-out") in rows
    assert {k for method, metric, k, _ in rows if (method, metric) == ("flashfm", "coverage")} == {0, 1, 2, 3, 4, 5}
    curves = [rows["flashfm", REGRET, k, once]["mean"] for k in (1, 2, 3, 5)]
    assert curves == sorted(curves, reverse=True)
    assert rows["flashfm", REGRET, 1, once]["mean"] == pytest.approx(
        rows["best-portfolio list", REGRET, 1, once]["mean"]
    )
    assert rows["random search", REGRET, 1, once]["n_queries"] == 20 * rows["flashfm", REGRET, 1, once]["n_queries"]
    assert sum(content["rules"].values()) == 1
    assert len(content["designed"][0]) == 5
    page = path.with_suffix(".md").read_text()
    assert "| *to reach* | 0.275 | 0.220 | 0.200 |" in page
    assert "leave-algorithm-out" in page
    for picture in (path.with_suffix(".png"), path.with_name("search-shots.png")):
        assert picture.stat().st_size > 10_000

    kept = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.npz")}
    again = run(tmp_path, tmp_path / "results", config)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.npz")} == kept
    assert json.loads(again.read_text())["rows"] == content["rows"]


def test_groups_left_out_hold_all_workloads_of_a_data_set_or_algorithm(
    workloads: Observations, small: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[str, set[str]]] = []

    def note(method: object, data: Observations, of: list[object], folder: Path, **_: object) -> None:
        trained.extend((folder.parent.name, set(split.test)) for split in of[-1:])  # type: ignore[attr-defined]

    monkeypatch.setattr(evaluation, "load", lambda _: workloads)
    monkeypatch.setattr(evaluation, "run", note)
    from flashfm.experiments import search

    for job in search.jobs(Places(tmp_path, quick=False), SearchConfig(splits=0)):
        job()
    by_data = [apps for kind, apps in trained if kind == "leave-dataset-out"]
    by_algorithm = [apps for kind, apps in trained if kind == "leave-algorithm-out"]
    assert len(by_data) == 2 * 2
    assert all(len({app.split("-")[0] for app in apps}) == 1 and len(apps) == 6 for apps in by_data)
    assert len(by_algorithm) == 2 * 6
    assert all(len({app.split("-")[1] for app in apps}) == 1 and len(apps) == 2 for apps in by_algorithm)


def test_nothing_there_and_damaged_files_are_said(tmp_path: Path) -> None:
    config = SearchConfig.of(quick=False)
    with pytest.raises(DataError, match="run without --only-assemble first"):
        run(tmp_path, tmp_path / "results", config, only_assemble=True)
    folder = tmp_path / "regret" / "flashfm"
    folder.mkdir(parents=True)
    (folder / "00.npz").write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"00\.npz: not what this experiment writes"):
        run(tmp_path, tmp_path / "results", config, only_assemble=True)
    np.savez(folder / "00.npz", pair=np.array([0]), picks=np.array([1, 2]), regret=np.zeros((1, 1, 2)))
    with pytest.raises(DataError, match="no regret after"):
        run(tmp_path, tmp_path / "results", config, only_assemble=True)


def test_a_quick_run_has_folders_of_its_own(tmp_path: Path) -> None:
    assert Places(tmp_path, quick=True).models != Places(tmp_path, quick=False).models
    assert Places(tmp_path, quick=False).of("regret") == tmp_path / "regret"
    assert Places(tmp_path, quick=True).of("table1") == tmp_path / "table1" / "quick"


def test_our_search_trains_on_what_it_is_given(workloads: Observations, small: PretrainConfig) -> None:
    searcher = OurSearch(config=replace(small, least_for_network=99), rules=RULES[:2])
    fitted = searcher.fit(workloads.of_pairs(np.arange(8)), 0)
    assert isinstance(searcher, Searcher)
    assert fitted.rule in RULES[:2]
    assert len(fitted.process.gp.profiles) == 8


@pytest.mark.data
def test_the_lists_regret_on_cloudbandit_is_what_our_search_starts_from(tmp_path: Path) -> None:
    """The head of the best-portfolio list leaves .36 on the first split, and the second entry .13."""
    try:
        data = evaluation.load("cloudbandit")
    except DataMissingError as error:
        pytest.skip(str(error))
    (split,) = evaluation.splits(data, 1)
    listed = BestPortfolio().fit(data.of_apps(split.train), 0)
    test = [i for i, (app, _) in enumerate(data.pairs) if app in split.test]
    mean = np.mean([regret_curve(listed, data, i, picks=[1, 2]) for i in test], axis=0)
    assert mean == pytest.approx([0.358, 0.132], abs=0.001)
