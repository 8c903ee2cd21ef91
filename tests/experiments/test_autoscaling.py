"""The experiment that makes the agent that ships: what it judges, writes and saves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flashfm.adapt.agent import FlashAgent
from flashfm.experiments.autoscaling import ALPHAS, ARMS, CHECKPOINTS, NAME, ShippedConfig, run
from flashfm.experiments.scaling import METRICS
from flashfm.models.ddpg import DdpgConfig
from flashfm.pretraining.autoscaling import AutoscalingConfig
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.pretraining.reinforcement import AgentConfig

AGENT = AgentConfig(ddpg=DdpgConfig(hidden=(16, 16)), episodes=2, random_episodes=1, batch=16, updates=1)
TINY = ShippedConfig(
    12, 2, 8, AutoscalingConfig(agent=AGENT, identification=IdentificationConfig(steps=5, tasks=4), episodes=3)
)


def test_the_agent_is_judged_and_saved_with_its_card(tmp_path: Path) -> None:
    path = run(tmp_path / "out", tmp_path, config=TINY)
    content = json.loads(path.read_text())
    assert {(row["dataset"], row["method"], row["metric"]) for row in content["rows"]} == {
        (f"alpha {alpha}", arm, metric) for alpha in ALPHAS for arm in ARMS for metric in METRICS
    }
    assert sum(kind["pairs"] for kind in content["by_kind"]) == 3 * 8
    agent = FlashAgent.from_pretrained(tmp_path / "out" / NAME)
    assert "12 generated applications" in agent.card
    assert path.with_suffix(".md").read_text() in agent.card
    assert "8 unseen applications" in agent.card
    assert [one.name for one in (tmp_path / "out").iterdir()] == [NAME]


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", tmp_path, config=TINY, on_step=stop)
    assert [one.name for one in (tmp_path / "out").iterdir()] == [CHECKPOINTS]
    told: list[int] = []
    path = run(tmp_path / "out", tmp_path, config=TINY, on_step=lambda done, _: told.append(done))
    assert told == [2, 5, 6, 7]
    assert json.loads(path.read_text())["pretraining_seconds"] > 0
    assert [one.name for one in (tmp_path / "out").iterdir()] == [NAME]
