"""The frontier: which settings are on it, what is compared along it, and all arms on a few pairs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flashfm.adapt.agent import FlashAgent
from flashfm.baselines.scaling import GRIDS, Hpa, HpaConfig, HpaVpa, HpaVpaConfig
from flashfm.baselines.scaling.tuning import settings
from flashfm.errors import DataError
from flashfm.experiments import scaling
from flashfm.experiments.frontier import WIDER, Alike, FrontierConfig, _after_an_episode, run
from flashfm.experiments.frontier_page import (
    AFTER,
    BEFORE,
    CONTROLLERS,
    FIGURES,
    Arm,
    Interval,
    against_best,
    compared,
    ratios,
    undominated,
)
from flashfm.experiments.scaling import Judged, controller_acts, judge
from flashfm.models import novelty
from flashfm.models.agent import AgentModel
from flashfm.models.agent_state import TOKEN, digest
from flashfm.models.ddpg import DdpgConfig, Network
from flashfm.models.trajectories import TrajectoryEncoder
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION
from flashfm.tasks.autoscaling.scenario import default, split

TINY = FrontierConfig(
    (0.3, 0.9),
    6,
    5,
    20,
    {
        name: (make, {key: (of[0], of[-1]) if i == 0 else of[:1] for i, (key, of) in enumerate(grid.items())})
        for name, (make, grid) in WIDER.items()
    },
)
"""Two settings of each controller."""
VALUES = st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5])
POINTS = arrays(np.float64, st.tuples(st.just(2), st.integers(1, 12)), elements=VALUES)


@given(POINTS)
def test_on_the_frontier_is_what_no_other_point_beats(points: np.ndarray) -> None:
    cores, violations = points
    kept = undominated(cores, violations)
    assert (np.diff(cores[kept]) > 0).all()
    assert (np.diff(violations[kept]) < 0).all()
    for i in range(len(cores)):
        no_worse = (cores <= cores[i]) & (violations <= violations[i])
        beaten = (no_worse & ((cores < cores[i]) | (violations < violations[i]))).any()
        assert (i in kept) <= (not beaten)
        assert beaten or any(points[:, i].tolist() == points[:, j].tolist() for j in kept)


def arm(core_hours: list[float], violations: list[float], pairs: int = 4, spread: float = 0.0) -> Arm:
    """The same figures in training and in the test, where they rise from pair to pair."""
    n, other = len(core_hours), np.zeros(len(core_hours))
    training = np.stack([violations, core_hours, other, violations, other], axis=1)
    tested = training[..., None] * (1 + spread * np.linspace(-1, 1, pairs))
    return Arm([{"alpha": 0.1 * i} for i in range(n)], training, np.arange(n), tested)


def test_the_best_setting_within_a_budget_is_the_dearest_of_the_frontier_that_fits() -> None:
    one = arm([8.0, 2.0, 4.0, 3.0], [0.1, 0.4, 0.2, 0.5])
    assert one.frontier.tolist() == [1, 2, 0]
    assert [one.within(budget) for budget in (1.0, 3.0, 4.0, 7.9, 100.0)] == [1, 1, 2, 2, 0]


def test_figures_are_compared_along_straight_lines_between_settings() -> None:
    theirs = arm([4.0, 8.0], [0.3, 0.1])
    ours = arm([6.0, 6.0, 20.0, 3.0, 6.0], [0.1, 0.2, 0.05, 0.05, 0.4])
    at_cores, at_violations = ratios(ours.tested, theirs.tested, draws=3)[:, 0]
    # at 6 core-hours they have 0.2; at 0.1 violations they take 8, at 0.2 they take 6
    assert at_cores.tolist() == pytest.approx([0.5, 1.0, 0.5, 0.0, 2.0])
    assert at_violations.tolist() == pytest.approx([0.75, 1.0, 0.0, 0.0, 1.5])


def test_intervals_hold_the_ratio_and_arms_that_share_their_luck_differ_by_none() -> None:
    theirs = arm([4.0, 8.0], [0.3, 0.1], pairs=50, spread=0.5)
    same = Interval.of(ratios(theirs.tested, theirs.tested, 200)[0, :, 1])
    assert (same.value, same.low, same.high) == pytest.approx((1.0, 1.0, 1.0)), "paired: the same pairs on both sides"
    ours = replace(theirs, tested=theirs.tested[..., ::-1])
    off = Interval.of(ratios(ours.tested, theirs.tested, 200)[0, :, 1])
    assert off.value == pytest.approx(1.0)
    assert off.low is not None
    assert off.high is not None
    assert off.low < 0.95
    assert off.high > 1.05


def test_what_is_never_reached_is_told_apart() -> None:
    arms = {BEFORE: arm([6.0], [0.2]), AFTER: arm([6.0], [0.05])}
    arms |= {name: arm([4.0, 8.0], [0.3, 0.1]) for name in CONTROLLERS}
    found = {(one["arm"], one["against"]): one for one in compared(arms, [0.5], 5)}
    assert found[BEFORE, "HPA"]["core_hours_at_equal_violations"] == pytest.approx(
        {"value": 1.0, "low": 1.0, "high": 1.0}
    )
    assert found[AFTER, "HPA"]["violations_at_equal_core_hours"]["value"] == pytest.approx(0.25)
    assert found[AFTER, "HPA"]["core_hours_at_equal_violations"]["high"] == 0, "HPA never has so few"
    best = against_best(arms, 5)[0]
    assert best["core_hours"] == 8.0
    assert best["violations_at_equal_core_hours"]["value"] == pytest.approx(0.5)
    assert best["core_hours_at_equal_violations"]["value"] == pytest.approx(0.75)
    few = against_best({**arms, AFTER: arm([9.0], [0.2])}, 5)[0]
    assert few["violations_at_equal_core_hours"]["value"] is None, "FLASH never takes so few"
    assert few["core_hours_at_equal_violations"]["value"] is None


def test_grids_hold_those_of_tuning_and_are_equally_large() -> None:
    for name in CONTROLLERS:
        tuned = GRIDS[name][1] if name in GRIDS else {}
        assert all({*values} <= {*WIDER[name][1][key]} for key, values in tuned.items())
    assert {len(settings(WIDER[name][1])) for name in CONTROLLERS} == {96}


def test_alike_gives_every_application_the_same() -> None:
    pairs = split(default(0))[1].take(np.arange(4))
    simulator = pairs.simulator(seed=1)
    simulator.reset()
    controller = Alike(cpu_cores=0.7, memory_mib=512.0, replicas=4.0)
    controller.reset(simulator)
    for _ in range(2):
        limits = controller.decide(simulator.state, simulator.outcome, simulator.load.rate_per_s[0])
        assert [of.tolist() for of in limits] == [pytest.approx([value] * 4) for value in (0.7, 512.0, 4.0)]


def test_an_earlier_episode_changes_what_is_remembered_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "EPISODE_STEPS", 20)
    monkeypatch.setattr(scaling, "LONGEST_START", 5)
    pairs = split(default(0))[1].take(np.arange(4))

    def judged(controller: Hpa | HpaVpa, *, lived: bool) -> Judged:
        begin = (lambda simulator: _after_an_episode(controller, simulator)) if lived else controller.reset
        return judge(pairs, controller_acts(controller), alpha=0.5, episodes=1, begin=begin)

    forgets = [judged(Hpa(HpaConfig(target=0.3)), lived=lived).summary() for lived in (False, True)]
    assert forgets[0] == forgets[1]
    remembers = [judged(HpaVpa(HpaVpaConfig(target=0.3)), lived=lived).summary() for lived in (False, True)]
    assert remembers[0] != remembers[1]


def test_all_arms_are_judged_and_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "EPISODE_STEPS", 4)  # of an episode, the first steps
    monkeypatch.setattr(scaling, "LONGEST_START", 1)
    out, told = tmp_path / "out", []
    path = run(out, tmp_path, config=TINY, on_step=lambda *done: told.append(done))
    content = json.loads(path.read_text())
    total = 2 * 2 + 2 * len(CONTROLLERS)
    assert told[-1] == (total, total)
    assert sorted(told) == told
    assert {(row["dataset"], row["method"], row["metric"]) for row in content["rows"]} == {
        (f"alpha {alpha}", name, metric)
        for alpha in TINY.alphas
        for name in (BEFORE, AFTER, *CONTROLLERS)
        for metric in FIGURES
    }
    for name in CONTROLLERS:
        tried = settings(TINY.grids[name][1])
        assert all(point["setting"] in tried for point in content["points"][name])
    assert len(content["compared"]) == 2 * 2 * len(CONTROLLERS)
    assert path.with_suffix(".md").read_text().count("| alpha 0.9 |") == 1 + 3 * 2
    assert path.with_suffix(".png").stat().st_size > 10_000

    kept = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    gone = next(name for name in kept if name.startswith("static-"))
    (out / gone).unlink()
    again = json.loads(run(out, tmp_path, config=TINY).read_text())
    figures = ("rows", "points", "compared", "against_best")
    assert [again[key] for key in figures] == [content[key] for key in figures]
    after = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    assert {name for name in kept if after[name] != kept[name]} == {gone}

    FlashAgent(other()).save_pretrained(tmp_path / "model")
    run(out, tmp_path, config=replace(TINY, model=str(tmp_path / "model")))
    added = {file.name for file in out.iterdir()} - {*kept}
    assert len(added) == 2, "another model is judged anew, controllers are not"
    assert all(name.startswith("FLASH") for name in added)

    for file in out.iterdir():
        file.write_bytes(b"PK")
    with pytest.raises(DataError, match="delete it and run again"):
        run(out, tmp_path, config=TINY)


def other() -> AgentModel:
    """An agent that was not trained."""
    config = DdpgConfig(hidden=(8,))
    shared, conditioned = (Network(1, len(OBSERVATION) + n, len(ACTION), config, bounded=True) for n in (0, 33))
    critic = Network(1, len(OBSERVATION) + 33 + len(ACTION), 1, config, bounded=False)
    far = novelty.fit(np.random.default_rng(0).normal(size=(40, 32)), np.arange(40), {1: np.ones((20, 32))})
    return AgentModel(shared, conditioned, critic, TrajectoryEncoder(TOKEN), far, "targets")


def test_a_digest_is_of_the_weights(tmp_path: Path) -> None:
    model = other()
    FlashAgent(model).save_pretrained(tmp_path / "model")
    assert FlashAgent.from_pretrained(tmp_path / "model").digest == digest(model)
    assert digest(model) != digest(other())
