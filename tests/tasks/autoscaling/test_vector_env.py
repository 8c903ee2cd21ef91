"""The vector environment: the single one many times over, on NumPy's and torch's arrays."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

import flashfm.envs
from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.env import AutoscalingEnv
from flashfm.tasks.autoscaling.scenario import Scenario, default, split
from flashfm.tasks.autoscaling.simulator import Chance
from flashfm.tasks.autoscaling.vector_env import AutoscalingVectorEnv

CLOCK = [9, 10]


@pytest.fixture(scope="module")
def few() -> Scenario:
    return split(default())[0].take(np.arange(5))


@pytest.fixture
def even(few: Scenario, monkeypatch: pytest.MonkeyPatch) -> Scenario:
    """The pairs under steady loads, where chance decides nothing."""
    monkeypatch.setattr(Chance, "normal", lambda self, *shape: self.uniform(*shape) * 0)
    uniform = Chance.uniform
    monkeypatch.setattr(Chance, "uniform", lambda self, *shape: uniform(self, *shape) * 0 + 0.5)
    quiet = {name: np.zeros(5) for name in ("wave", "noise_sd", "burst_chance", "job_size")}
    return replace(few, loads=replace(few.loads, **quiet))


def some_actions(steps: int, envs: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, envs, 3)).astype(np.float32)


def test_a_vector_of_one_is_the_single_environment(few: Scenario) -> None:
    single, vector = AutoscalingEnv(few, alpha=(0.2, 0.9)), AutoscalingVectorEnv(1, few, alpha=(0.2, 0.9))
    alone, told = single.reset(seed=3)
    together, of_all = vector.reset(seed=3)
    assert np.array_equal(together[0], alone)
    for step, (action,) in enumerate(some_actions(100, 1)):
        alone, reward, terminated, truncated, told = single.step(action)
        together, rewards, terminations, truncations, of_all = vector.step(action[None])
        if step == 99:
            together, of_all = of_all["final_obs"], of_all["final_info"]
        assert np.array_equal(together[0], alone)
        assert (rewards[0], terminations[0], truncations[0]) == (reward, terminated, truncated)
        assert {name: values[0].item() for name, values in of_all.items()} == told


def test_a_batch_equals_its_pairs_one_by_one(even: Scenario) -> None:
    vector = AutoscalingVectorEnv(5, even)
    singles = [AutoscalingEnv(even) for _ in range(5)]
    together, _ = vector.reset(seed=0, options={"pair": range(5)})
    alone = [env.reset(seed=0, options={"pair": i})[0] for i, env in enumerate(singles)]
    seen = [i for i in range(together.shape[1]) if i not in CLOCK]
    np.testing.assert_allclose(together[:, seen], np.stack(alone)[:, seen], rtol=1e-6, atol=1e-6)
    for actions in some_actions(99, 5):
        together, rewards, *_ = vector.step(actions)
        for i, env in enumerate(singles):
            observation, reward, *_ = env.step(actions[i])
            np.testing.assert_allclose(together[i, seen], observation[seen], rtol=1e-6, atol=1e-6)
            assert rewards[i] == pytest.approx(reward, rel=1e-9)


def test_torch_gives_what_numpy_gives(even: Scenario) -> None:
    plain, other = AutoscalingVectorEnv(5, even), AutoscalingVectorEnv(5, even, arrays="torch")
    observation, _ = plain.reset(seed=1)
    tensor, _ = other.reset(seed=1)
    for actions in some_actions(20, 5):
        assert isinstance(tensor, torch.Tensor)
        assert tensor.dtype == torch.float32
        np.testing.assert_allclose(observation, tensor.numpy(), rtol=1e-3, atol=1e-3)
        observation, rewards, *_, info = plain.step(actions)
        tensor, rewarded, *flags, told = other.step(torch.from_numpy(actions))
        np.testing.assert_allclose(rewards, rewarded.numpy(), rtol=1e-3, atol=1e-3)
        assert all(flag.dtype == torch.bool for flag in flags)
        assert {name: values.shape for name, values in told.items()} == dict.fromkeys(info, (5,))


@pytest.mark.parametrize("arrays", ["numpy", "torch"])
def test_the_next_episode_begins_in_the_step_that_ends_one(few: Scenario, arrays: str) -> None:
    env = gymnasium.make_vec(
        flashfm.envs.AUTOSCALING, 5, vectorization_mode="vector_entry_point", pairs=few, arrays=arrays, episode_steps=4
    )
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    _, info = env.reset(seed=0)
    assert sorted(info["pair"].tolist()) == [0, 1, 2, 3, 4]
    orders = [info["pair"].tolist()]
    for step, actions in enumerate(some_actions(12, 5), start=1):
        observation, reward, terminated, truncated, info = env.step(actions)
        assert tuple(observation.shape) == (5, 16)
        assert float(reward.min()) > 0
        assert not terminated.any()
        assert truncated.tolist() == [step % 4 == 0] * 5
        assert ("final_obs" in info) == (step % 4 == 0)
        if step % 4 == 0:
            assert info["_final_obs"].all()
            assert len(info["final_obs"]) == 5
            assert not np.array_equal(np.stack(list(info["final_obs"])), np.asarray(observation))
            assert info["final_info"]["pair"].tolist() == orders[-1]
            orders.append(info["pair"].tolist())
            assert sorted(orders[-1]) == [0, 1, 2, 3, 4]
    assert len({tuple(order) for order in orders}) > 1


@pytest.mark.parametrize("arrays", ["numpy", "torch"])
def test_a_seed_fixes_everything_that_follows(few: Scenario, arrays: Any) -> None:
    def played(seed: int) -> np.ndarray:
        env = AutoscalingVectorEnv(7, few, alpha=(0.1, 0.9), arrays=arrays, episode_steps=5)
        env.reset(seed=seed)
        return np.stack([np.asarray(env.step(actions)[0]) for actions in some_actions(12, 7)])

    assert np.array_equal(played(5), played(5))
    assert not np.array_equal(played(5), played(6))


def test_gymnasium_s_wrappers_fit(few: Scenario) -> None:
    env = DictInfoToList(RecordEpisodeStatistics(AutoscalingVectorEnv(3, few, episode_steps=4)))
    env.reset(seed=0)
    rewards, lengths = np.zeros(3), []
    for actions in some_actions(4, 3):
        _, reward, *_, infos = env.step(actions)
        rewards += reward
        lengths += [info["episode"]["l"] for info in infos if "episode" in info]
    assert lengths == [4, 4, 4]
    assert [info["episode"]["r"] for info in infos] == pytest.approx(rewards)
    assert [set(info) - {"episode"} for info in infos] == [{*infos[0]["final_info"], "final_obs", "final_info"}] * 3


def test_spaces_are_those_of_the_single_environment_with_an_axis_in_front(few: Scenario) -> None:
    env, single = AutoscalingVectorEnv(4, few), AutoscalingEnv(few)
    assert env.single_observation_space == single.observation_space
    assert env.single_action_space == single.action_space
    assert env.observation_space.shape == (4, 16)
    assert env.action_space.shape == (4, 3)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)


def test_rendering_is_one_line_for_each(few: Scenario) -> None:
    env = AutoscalingVectorEnv(2, few, render_mode="ansi")
    env.reset(seed=0, options={"pair": [4, 1]})
    shown = env.render()
    assert shown is not None
    assert [line[:16] for line in shown] == ["pair 4 step 0/100"[:16], "pair 1 step 0/100"[:16]]


@pytest.mark.parametrize("arrays", ["numpy", "torch"])
def test_bad_actions_and_numbers_are_refused(few: Scenario, arrays: Any) -> None:
    with pytest.raises(ModelError, match="num_envs 0"):
        AutoscalingVectorEnv(0, few)
    env = AutoscalingVectorEnv(2, few, arrays=arrays)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros((2, 3)))
    env.reset()
    with pytest.raises(ModelError, match="NaN"):
        env.step(np.full((2, 3), np.nan))
    with pytest.raises(ModelError, match=re.escape("expected (2, 3)")):
        env.step(np.zeros(3))
    assert np.isfinite(np.asarray(env.step(np.full((2, 3), np.inf))[0])).all()


def test_the_docstring_names_every_argument() -> None:
    of_single = set(inspect.signature(AutoscalingEnv).parameters)
    own = [name for name in inspect.signature(AutoscalingVectorEnv).parameters if name not in of_single]
    assert re.findall(r"^ *\| `(\w+)` +\|", str(AutoscalingVectorEnv.__doc__), re.MULTILINE) == own
