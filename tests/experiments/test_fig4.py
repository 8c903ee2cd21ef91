"""Figure 4: what the figures say, and a small run of all parts that goes on where it was stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flashfm.adapt.agent_finetune import FineTuneConfig
from flashfm.baselines.scaling import GRIDS
from flashfm.experiments import fig4, fig4_figures, fig4_parts, scaling
from flashfm.experiments.adapting import Grid
from flashfm.experiments.fig4_figures import OTHER
from flashfm.experiments.fig4_page import FLASH, OWN, SHARED
from flashfm.experiments.fig4_parts import AGENT, PAPERS, Fig4Config
from flashfm.experiments.guarded import Guarded
from flashfm.models.ddpg import DdpgConfig

SMALL = DdpgConfig(hidden=(16, 16))
TINY = Fig4Config(
    pairs=3,
    seeds=(0,),
    agent=replace(AGENT, ddpg=SMALL, episodes=4, random_episodes=1, batch=8),
    envs=1,
    tests=4,
    others=2,
    paper_pairs=2,
    paper_agent=replace(PAPERS, ddpg=replace(PAPERS.ddpg, hidden=(16, 16)), episodes=4, batch=8, kept_episodes=4),
    controllers_on=4,
    transfer_on=2,
    grid=Grid(actor_rate=(1e-3,), noise=(0.1,)),
    horizon=3,
    tuned=3,
    finetune=FineTuneConfig(updates=2, batch=8),
)


def test_all_parts_are_made_and_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grids = {name: (make, {k: v[:1] for k, v in grid.items()}) for name, (make, grid) in GRIDS.items()}
    monkeypatch.setattr(scaling, "GRIDS", grids)
    told: list[tuple[int, int]] = []
    path = fig4.run(tmp_path / "out", tmp_path, config=TINY, on_step=lambda *done: told.append(done))
    content = json.loads(path.read_text())
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    methods = {row["method"] for row in content["rows"]}
    assert {OWN, OTHER, SHARED, FLASH, "HPA + VPA"} <= methods
    assert all(0 < row["mean"] < 1 for row in content["rows"] if row["metric"] == "reward")
    assert {one["method"] for one in content["drops"]} >= {OTHER, SHARED, FLASH}
    assert "Adaptation" in path.with_suffix(".md").read_text()
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")

    next((tmp_path / "out").glob("guarded-*.npz")).unlink()
    monkeypatch.setattr(fig4_parts, "train_each", None)  # what is there is not done again
    again = json.loads(fig4.run(tmp_path / "out", tmp_path, config=TINY).read_text())
    assert (again["rows"], again["guard"]) == (content["rows"], content["guard"])


def test_drops_leave_out_an_agents_own_pair_and_intervals_hold_the_mean() -> None:
    converged = np.array([0.5, 0.8, 0.6, 0.7])
    moved = np.tile(converged / 2, (4, 1))
    np.fill_diagonal(moved, 99.0)
    tests = fig4_figures.ab_tests(4, 50, 3, 0)
    other, flash = fig4_figures.drops(converged, moved, {"FLASH": 0.9 * converged}, tests)
    assert other["method"] == OTHER
    np.testing.assert_allclose([other["mean"], other["tests"], other["low"], other["high"]], 0.5)
    np.testing.assert_allclose([flash["mean"], flash["tests"]], 0.1)


def test_tests_move_an_agent_to_other_pairs_only() -> None:
    one, others = fig4_figures.ab_tests(12, 200, 10, 3)
    assert others.shape == (200, 10)
    assert not (others == one[:, None]).any()
    assert all(len(set(row)) == 10 for row in others.tolist())
    assert set(one.tolist()) == set(range(12))


def test_episodes_until_a_reward_is_reached() -> None:
    rewards = np.array([[0.1, 0.9, 0.1], [0.5, 0.2, 0.2], [0.9, 0.2, 0.3]])
    np.testing.assert_array_equal(fig4_figures.reached(rewards, np.full(3, 0.5), 0), [1, 0, np.inf])
    np.testing.assert_array_equal(fig4_figures.reached(rewards, np.full(3, 0.5), 1), [1, 1, np.inf])


def test_costs_count_the_first_episodes_and_better_ones_make_up_for_nothing() -> None:
    lived = {"violations": np.array([[0.2, 0.2], [0.0, 0.4]]), "cpu_use": np.array([[0.1, 0.3], [0.5, 0.1]])}
    own = {"violations": np.array([0.1, 0.1]), "cpu_use": np.array([0.3, 0.3])}
    spent = fig4_figures.costs(np.array([2.0, 1.0]), lived, own)
    np.testing.assert_allclose(spent["violations"], [20, 20])
    np.testing.assert_allclose(spent["beyond"], [10, 10])
    np.testing.assert_allclose(spent["deficit"], [20, 0])


def test_ratios_of_means_and_their_intervals() -> None:
    even = fig4_figures.ratio(np.full(5, 6.0), np.full(5, 2.0))
    assert even == {"mean": 3.0, "low": 3.0, "high": 3.0}
    assert fig4_figures.ratio(np.ones(3), np.zeros(3)) == {"mean": None, "low": None, "high": None}


def test_the_guard_tells_what_was_missing_on_the_way() -> None:
    safe = {name: np.full((4, 2), 0.5) for name in ("reward", "violations", "cpu_use")}
    ours = safe | {"reward": np.array([[0.5, 0.5], [0.4, 0.5], [0.6, 0.6], [0.7, 0.6]])}
    of = Guarded(np.full((5, 2), 0.6), ours, safe, np.array([[0, 0], [1, 0], [2, 1], [2, 1]]))
    told = fig4_figures.guard(of, 0.05)
    assert told["most"] == pytest.approx(0.1)
    assert (told["behind"], told["beyond"]) == (0.0, 0.5)
    assert told["served"] == {"pretrained": 0.5, "fine-tuned": 0.5}
    assert told["gain_last"] == pytest.approx(0.3)


def test_smallest_settings_are_those_of_the_experiment() -> None:
    whole, quick = Fig4Config.of(quick=False), Fig4Config.of(quick=True)
    assert whole == Fig4Config()
    assert quick.pairs < whole.pairs
    assert len(quick.grid.settings) >= 2
    assert SMALL.hidden != whole.agent.ddpg.hidden
