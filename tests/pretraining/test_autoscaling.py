"""Pretraining of the autoscaling agent as a whole: policies and an encoder that fit together, the same for a seed.

A run that is killed ends as one that is not, byte for byte.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from flashfm.adapt.agent import FlashAgent
from flashfm.errors import ArtifactError
from flashfm.models.agent import AgentModel
from flashfm.models.ddpg import PAPER, DdpgConfig
from flashfm.pretraining.autoscaling import AutoscalingConfig, pretrain
from flashfm.pretraining.checkpoints import Checkpoints
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.pretraining.lived import collect
from flashfm.pretraining.reinforcement import AgentConfig, train
from flashfm.tasks.autoscaling import scenario
from flashfm.tasks.autoscaling.interface import ACTION
from flashfm.tasks.autoscaling.scenario import Scenario

AGENT = AgentConfig(ddpg=DdpgConfig(hidden=(16, 16)), episodes=2, random_episodes=1, batch=32)
QUICK = AutoscalingConfig(agent=AGENT, identification=IdentificationConfig(steps=5, tasks=8), episodes=4)
RING = replace(QUICK, agent=replace(AGENT, episodes=4, kept_episodes=2, batch=16, updates=1), episodes=2)
"""With a replay buffer that has to forget."""
SCRIPT = """
import sys
from pathlib import Path
from flashfm.adapt.agent import FlashAgent
from flashfm.pretraining.autoscaling import pretrain
from flashfm.pretraining.checkpoints import Checkpoints
from test_autoscaling import RING, pairs

with Checkpoints(Path(sys.argv[1])) as checkpoints:
    FlashAgent(pretrain(pairs(), RING, seed=1, checkpoints=checkpoints)).save_pretrained(sys.argv[2])
    checkpoints.remove()
"""


@cache
def pairs() -> Scenario:
    return scenario.default(0).take(np.arange(0, 120, 10))


@pytest.fixture(scope="module")
def few() -> Scenario:
    return scenario.default(0).take(np.arange(0, 200, 10))


@pytest.fixture(scope="module")
def model(few: Scenario) -> AgentModel:
    told: list[tuple[int, int]] = []
    found = pretrain(few, QUICK, seed=1, on_step=lambda *done: told.append(done))
    assert told[-1] == (8, 8)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    return found


def test_a_pair_acts_without_an_embedding_and_otherwise_with_one(few: Scenario, model: AgentModel) -> None:
    simulator = few.simulator(actions=model.actions, seed=2)
    lived = collect(simulator, model.shared, 1, 0.1, seed=0, alpha=(0.5, 0.5))
    embedding = model.embed(lived)
    assert embedding.shape == (len(few), QUICK.identification.meta.embed)
    observation = simulator.reset()
    alone, knowing = model.act(observation), model.act(observation, embedding)
    for action in (alone, knowing):
        assert action.shape == (len(few), len(ACTION))
        assert bool((action.abs() <= 1).all())
    assert not torch.equal(alone, knowing)
    assert not torch.equal(knowing, model.act(observation, embedding.flip(0)))


def test_a_seed_gives_the_same_model(few: Scenario, model: AgentModel) -> None:
    again = pretrain(few, QUICK, seed=1)
    for name in ("shared", "conditioned", "encoder"):
        for a, b in zip(getattr(model, name).parameters(), getattr(again, name).parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_settings_of_the_paper_train(few: Scenario) -> None:
    agent = train(few.simulator(seed=1), replace(AGENT, ddpg=PAPER), seed=0)
    assert all(bool(torch.isfinite(weight).all()) for weight in agent.kept.parameters())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("models") / "whole"
    FlashAgent(pretrain(pairs(), RING, seed=1)).save_pretrained(folder)
    return folder


class Stopped(Exception):
    """Stands for Ctrl-C."""


def test_a_run_that_is_stopped_after_every_episode_ends_as_one_that_is_not(tmp_path: Path, whole: Path) -> None:
    reached = 0

    def stop(done: int, total: int) -> None:
        nonlocal reached
        if reached < done < total:
            reached = done
            raise Stopped

    stops, model = 0, None
    while model is None:
        try:
            with Checkpoints(tmp_path / "kept") as checkpoints:
                model = pretrain(pairs(), RING, seed=1, on_step=stop, checkpoints=checkpoints)
        except Stopped:
            stops += 1
    assert stops == 2 * RING.agent.episodes
    FlashAgent(model).save_pretrained(tmp_path / "stopped")
    same(tmp_path / "stopped", whole)


@pytest.mark.slow
def test_a_run_that_is_killed_ends_byte_for_byte_as_one_that_is_not(tmp_path: Path, whole: Path) -> None:
    """SIGKILL, in the training of either policy; then the same command."""
    kept, words = tmp_path / "kept", [sys.executable, "-c", SCRIPT, str(tmp_path / "kept"), str(tmp_path / "killed")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    for part in ("shared-episode-3.*", "conditioned-episode-3.*"):
        process = subprocess.Popen(words, env=environment)
        while not list(kept.glob(part)):
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "killed").exists()
    subprocess.run(words, env=environment, check=True)
    assert not kept.exists()
    same(tmp_path / "killed", whole)


def same(one: Path, other: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.parametrize(
    ("changed", "seed", "part"),
    [
        ({"config": replace(QUICK, noise=0.2)}, 1, "config.noise"),
        ({"config": replace(QUICK, agent=replace(AGENT, batch=64))}, 1, "config.agent.batch 32, this one has 64"),
        ({"scenario": scenario.default(0).take(np.arange(7))}, 1, "pairs 12, this one has 7"),
        ({"scenario": scenario.default(1).take(np.arange(0, 120, 10))}, 1, "scenario"),
        ({}, 2, "seed 1, this one has 2"),
    ],
)
def test_checkpoints_of_another_run_are_refused_before_anything_is_done(
    tmp_path: Path, changed: dict[str, object], seed: int, part: str
) -> None:
    def stop(*_: int) -> None:
        raise Stopped

    def begin(on_step: object, seed: int, **changed: object) -> None:
        with Checkpoints(tmp_path) as checkpoints:
            pretrain(
                **{"scenario": pairs(), "config": QUICK} | changed, seed=seed, on_step=on_step, checkpoints=checkpoints
            )  # type: ignore[arg-type]

    with pytest.raises(Stopped):
        begin(stop, 1)
    with pytest.raises(ArtifactError, match=part):
        begin(lambda *_: None, seed, **changed)
