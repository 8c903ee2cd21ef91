"""Figure 6: all arms on all cases, a run that goes on, and what the figures say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flashfm.applications.patches import Scenario as Update
from flashfm.baselines.scaling import GRIDS
from flashfm.experiments import scaling
from flashfm.experiments.fig6 import Fig6Config, run
from flashfm.experiments.fig6_page import (
    COLUMNS,
    FIXED,
    FLASH,
    KNOWN,
    NEW,
    OLD,
    OLD_FLASH,
    OTHER,
    OWN,
    SHARED,
    UPDATES,
    Arms,
    as_in_paper,
    by_update,
    differences,
    interval,
    losses,
)
from flashfm.experiments.single import SINGLE
from flashfm.models.ddpg import DdpgConfig

AGENT = replace(SINGLE, ddpg=DdpgConfig(hidden=(16, 16)), episodes=2, random_episodes=1, batch=8)
TINY = Fig6Config(tested=24, tuned_on=4, sources=3, draws=2, known=4, updated=1, agent=AGENT, envs=1)
KINDS = [kind.value for kind in Update]


def test_all_arms_are_judged_and_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grids = {name: (make, {k: v[:1] for k, v in grid.items()}) for name, (make, grid) in GRIDS.items()}
    monkeypatch.setattr(scaling, "GRIDS", grids)
    told: list[tuple[int, int]] = []
    path = run(tmp_path / "out", tmp_path, config=TINY, on_step=lambda *done: told.append(done))
    content = json.loads(path.read_text())
    assert told[-1] == (10, 10)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    everywhere = {*FIXED, SHARED, FLASH}
    wanted = {NEW: {*everywhere, OTHER}, KNOWN: {*everywhere, OTHER, OWN}}
    wanted |= {case: {*everywhere, OLD, OLD_FLASH, OWN} for case in (*KINDS, UPDATES)}
    arms: dict[str, set[str]] = {}
    for row in content["rows"]:
        arms.setdefault(row["dataset"], set()).add(row["method"])
    assert arms == wanted
    rewards = [row["mean"] for row in content["rows"] if row["metric"] == "reward"]
    assert all(0 < reward < 1 for reward in rewards)
    assert {row["metric"] for row in content["rows"]} == set(COLUMNS)
    assert list(content["updates"]) == KINDS
    page = path.with_suffix(".md").read_text()
    assert all(f"**Update: {kind}** (1 pair)" in page for kind in KINDS)
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")

    (tmp_path / "out" / "own.npz").unlink()
    monkeypatch.setattr(scaling, "GRIDS", {})  # what is there is not done again
    again = json.loads(run(tmp_path / "out", tmp_path, config=TINY).read_text())
    assert again["rows"] == content["rows"]


def arms_of(rewards: dict[str, dict[str, float]], pairs: int = 20) -> Arms:
    def values(reward: float) -> dict[str, np.ndarray]:
        spread = reward * np.linspace(0.9, 1.1, pairs)[None]
        return dict.fromkeys(COLUMNS, spread)

    return {arm: {case: values(reward) for case, reward in cases.items()} for arm, cases in rewards.items()}


def test_losses_differences_and_medians_follow_from_the_rewards() -> None:
    kinds = {UPDATES: 0.3}
    arms = arms_of(
        {
            FLASH: {NEW: 0.6, KNOWN: 0.6, **kinds},
            OTHER: {NEW: 0.45, KNOWN: 0.45},
            OWN: {KNOWN: 0.75, **kinds},
            OLD: kinds,
        }
    )
    tested = dict.fromkeys((NEW, KNOWN, UPDATES), np.arange(20))
    arms, tested = by_update(arms, tested, ["load"] * 8 + ["json-size"] * 12)
    assert arms[OLD]["json-size"]["reward"].shape == (1, 12)
    np.testing.assert_array_equal(tested["json-size"], np.arange(8, 20))
    assert "load" not in arms[OTHER]

    lost = {(one["case"], one["method"]): one for one in losses(arms, tested)}
    assert lost[KNOWN, OTHER]["mean"] == pytest.approx(0.4)
    assert lost[KNOWN, FLASH]["median"] == pytest.approx(0.2)
    assert lost[KNOWN, FLASH]["high"] == pytest.approx(0.2)
    assert lost[UPDATES, OLD]["mean"] == pytest.approx(0)

    ahead = {(one["case"], one["against"], one["metric"]): one for one in differences(arms, tested)}
    assert ahead[NEW, OTHER, "reward"]["mean"] == pytest.approx(0.15)
    assert 0 < ahead[NEW, OTHER, "reward"]["low"] < 0.15 < ahead[NEW, OTHER, "reward"]["high"]

    medians = {(one["case"], one["method"]): one for one in as_in_paper(arms, tested)}
    assert medians[KNOWN, OTHER]["reward_lower"] == pytest.approx(0.4)
    assert medians[UPDATES, OLD]["reward_lower"] == pytest.approx(0.6)
    assert medians[UPDATES, OLD]["p99_times"] == pytest.approx(0.4)


def test_an_interval_takes_the_entries_of_a_pair_together() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=30), 7)
    alone, together = interval(values, np.arange(210)), interval(values, np.repeat(np.arange(30), 7))
    assert alone["mean"] == together["mean"] == pytest.approx(values.mean())
    ratio = (together["high"] - together["low"]) / (alone["high"] - alone["low"])
    assert ratio == pytest.approx(np.sqrt(7), rel=0.1)
