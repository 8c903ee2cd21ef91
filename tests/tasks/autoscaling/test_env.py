"""The single environment: Gymnasium's contract, and what its docstring says."""

from __future__ import annotations

import inspect
import re
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import flashfm.envs
from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.env import AutoscalingEnv
from flashfm.tasks.autoscaling.interface import OBSERVATION
from flashfm.tasks.autoscaling.scenario import Scenario, default, split


@pytest.fixture(scope="module")
def few() -> Scenario:
    return split(default())[0].take(np.arange(5))


def played(env: gymnasium.Env[Any, Any], seed: int | None, actions: np.ndarray) -> list[Any]:
    observation, info = env.reset(seed=seed)
    return [(observation, info), *(env.step(action) for action in actions)]


def some_actions(steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, 3)).astype(np.float32)


@pytest.mark.parametrize("actions", ["limits", "changes", "targets"])
def test_gymnasium_finds_nothing_to_say(few: Scenario, actions: str) -> None:
    env = gymnasium.make(flashfm.envs.AUTOSCALING, pairs=few, actions=actions)
    check_env(env.unwrapped)


def test_episodes_are_truncated_after_their_steps(few: Scenario) -> None:
    env = AutoscalingEnv(few)
    _, *steps = played(env, 0, some_actions(100))
    assert [truncated for *_, truncated, _ in steps] == [False] * 99 + [True]
    assert not any(terminated for _, _, terminated, _, _ in steps)
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        env.step(some_actions(1)[0])
    short = AutoscalingEnv(few, episode_steps=3)
    assert [truncated for *_, truncated, _ in played(short, 0, some_actions(3))[1:]] == [False, False, True]


@pytest.mark.parametrize("actions", ["limits", "changes", "targets"])
def test_rewards_follow_from_what_is_seen_and_told(few: Scenario, actions: Any) -> None:
    env = AutoscalingEnv(few, alpha=(0.0, 1.0), actions=actions)
    for seed in range(5):
        for observation, reward, _, _, info in played(env, seed, some_actions(30, seed))[1:]:
            assert env.observation_space.contains(observation)
            alpha, kept = (observation[15] + 1) / 2, (observation[4:6].min() + 1) / 2
            expected = alpha * kept + (1 - alpha) * (info["cpu_use"] + info["memory_use"]) / 2
            assert reward == pytest.approx(expected, abs=1e-5)
            assert info["slo_violated"] == (kept < 0.999)


def test_observations_are_within_the_ranges_of_the_docstring(few: Scenario) -> None:
    text = str(AutoscalingEnv.__doc__)
    ranges = re.findall(r"\| \[(-?\d), (\d)\] +\|$", text, re.MULTILINE)
    low, high = np.array(ranges, dtype=float).T
    assert len(ranges) == len(OBSERVATION)
    env = AutoscalingEnv(few, alpha=(0.0, 1.0))
    for seed in range(5):
        seen = np.stack([step[0] for step in played(env, seed, some_actions(100, seed))])
        assert (seen >= low - 1e-6).all()
        assert (seen <= high + 1e-6).all()


def test_a_seed_fixes_everything_that_follows(few: Scenario) -> None:
    one, other = AutoscalingEnv(few, alpha=(0.2, 0.8)), AutoscalingEnv(few, alpha=(0.2, 0.8))
    for seed in (7, None):
        for a, b in zip(played(one, seed, some_actions(20)), played(other, seed, some_actions(20)), strict=True):
            assert np.array_equal(a[0], b[0])
            assert a[1:] == b[1:]
    first, again, third = (played(one, seed, some_actions(5))[-1][0] for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, third)


def test_the_pair_can_be_chosen(few: Scenario) -> None:
    env = AutoscalingEnv(few)
    assert [env.reset(options={"pair": i})[1]["pair"] for i in (3, 0, 4)] == [3, 0, 4]
    assert {env.reset(seed=seed)[1]["pair"] for seed in range(40)} == {0, 1, 2, 3, 4}


def test_more_replicas_of_the_paper_s_actions_are_more_replicas(few: Scenario) -> None:
    env = AutoscalingEnv(few, actions="limits")
    for replicas in (-1.0, 0.0, 1.0):
        env.reset(seed=0, options={"pair": 0})
        for _ in range(3):
            info = env.step(np.array([-1.0, -1.0, replicas], dtype=np.float32))[-1]
        assert info["replicas"] == round(32 ** ((replicas + 1) / 2))


def test_rendering_is_one_line(few: Scenario) -> None:
    env = AutoscalingEnv(few, render_mode="ansi")
    env.reset(seed=0, options={"pair": 2})
    env.step(some_actions(1)[0])
    shown = env.render()
    assert re.fullmatch(r"pair 2 step 1/100: .* of .* replicas ready, .* p99 \d+ ms (meets|misses) the SLO", str(shown))
    assert AutoscalingEnv(few).render() is None
    with pytest.raises(ModelError, match="render_mode 'human'; expected one of ansi"):
        AutoscalingEnv(few, render_mode="human")


def test_bad_actions_and_steps_without_an_episode_are_refused(few: Scenario) -> None:
    env = AutoscalingEnv(few)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(some_actions(1)[0])
    env.reset()
    with pytest.raises(ModelError, match="NaN"):
        env.step(np.full(3, np.nan))
    with pytest.raises(ModelError, match="shape"):
        env.step(np.zeros(2))


def test_the_docstring_names_every_observation_value_and_argument(few: Scenario) -> None:
    text = str(AutoscalingEnv.__doc__)
    table = text[text.index("## Observation space") : text.index("## Rewards")]
    assert re.findall(r"^ *\| \d+ +\| (\w+) ", table, re.MULTILINE) == list(OBSERVATION)
    _, info = AutoscalingEnv(few).reset()
    section = text[text.index("## Info") : text.index("## Arguments")]
    assert set(re.findall(r"`(\w+)`", section)) == set(info)
    arguments = list(inspect.signature(AutoscalingEnv).parameters)
    assert re.findall(r"^ *\| `(\w+)` +\|", text, re.MULTILINE) == arguments
    assert f"({len(OBSERVATION)},), float32" in text
