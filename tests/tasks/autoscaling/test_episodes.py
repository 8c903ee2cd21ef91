"""Beginning episodes: which pairs and trade-offs, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch

from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.episodes import Episodes, bounded
from flashfm.tasks.autoscaling.scenario import TRAINING, Scenario, default, split


@pytest.fixture(scope="module")
def few() -> Scenario:
    return split(default())[0].take(np.arange(5))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the type checks of tests, which users do not have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_default_pairs_are_those_to_train_on() -> None:
    apps = set(Episodes().scenario.apps)
    assert len(apps) == TRAINING
    assert not apps & set(split(default())[1].apps)
    assert Episodes(3).scenario.apps == Episodes().scenario.apps[:3]
    other = Episodes(3, pairs_seed=1).scenario
    assert other.apps == Episodes(3).scenario.apps
    assert other.params.slo_s.tolist() != Episodes(3).scenario.params.slo_s.tolist()


def test_no_pair_comes_again_before_each_has_come(few: Scenario) -> None:
    _, pairs = Episodes(few).begin(np.random.default_rng(0), 13, None)
    counts = np.bincount(pairs, minlength=5)
    assert counts.tolist().count(3) == 3
    assert counts.tolist().count(2) == 2
    _, other = Episodes(few).begin(np.random.default_rng(1), 13, None)
    assert pairs.tolist() != other.tolist()


@pytest.mark.parametrize(("asked", "got"), [(2, [2, 2, 2]), ([4, 0, 4], [4, 0, 4]), (np.int64(1), [1, 1, 1])])
def test_pairs_can_be_asked_for(few: Scenario, asked: Any, got: list[int]) -> None:
    simulator, pairs = Episodes(few).begin(np.random.default_rng(0), 3, {"pair": asked})
    assert pairs.tolist() == got
    np.testing.assert_allclose(simulator.params.cpu_s, few.params.cpu_s[got], rtol=1e-6)


def test_trade_offs_are_drawn_for_each_environment(few: Scenario) -> None:
    simulator, _ = Episodes(few, alpha=(0.3, 0.6)).begin(np.random.default_rng(0), 50, None)
    assert ((simulator.alpha >= 0.3) & (simulator.alpha <= 0.6)).all()
    assert np.ptp(simulator.alpha) > 0.2
    fixed, _ = Episodes(few, alpha=0.7).begin(np.random.default_rng(0), 2, None)
    np.testing.assert_allclose(fixed.alpha, 0.7, rtol=1e-6)


def test_an_episode_has_the_length_that_was_asked_for(few: Scenario) -> None:
    simulator, _ = Episodes(few, steps=7).begin(np.random.default_rng(0), 2, None)
    simulator.reset()
    assert len(simulator.load) == 7


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"alpha": -0.1}, "alpha is -0.1"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"alpha": "half"}, "alpha is 'half'"),
        ({"alpha": True}, "alpha is True"),
        ({"alpha": (0.7, 0.3)}, "alpha is (0.7, 0.3)"),
        ({"alpha": (0.1, 0.2, 0.3)}, "alpha is (0.1, 0.2, 0.3)"),
        ({"actions": "absolute"}, "actions 'absolute'; expected one of limits, changes"),
        ({"kind": "jax"}, "arrays 'jax'"),
        ({"steps": 0}, "episode_steps 0"),
        ({"steps": 1.5}, "episode_steps 1.5"),
        ({"pairs": 0}, "pairs 0; expected a scenario, or a whole number from 1 to 800"),
        ({"pairs": 801}, "pairs 801"),
        ({"pairs": True}, "pairs True"),
        ({"pairs": None}, "pairs None"),
        ({"pairs_seed": -1}, "pairs_seed -1"),
    ],
)
def test_what_is_out_of_bounds_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=re.escape(says)):
        Episodes(**arguments)


def test_a_scenario_without_pairs_is_refused(few: Scenario) -> None:
    with pytest.raises(ModelError, match="at least one"):
        Episodes(few.take(np.arange(0)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pairs": 1}, "no reset option 'pairs'"),
        ({"pair": 5}, "there are pairs 0 to 4"),
        ({"pair": -1}, "there are pairs 0 to 4"),
        ({"pair": 1.0}, "expected a whole number"),
        ({"pair": [1, 2]}, "one for each of the 3 environments"),
        ({"pair": "first"}, "expected a whole number"),
    ],
)
def test_reset_options_that_mean_nothing_are_refused(few: Scenario, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=re.escape(says)):
        Episodes(few).begin(np.random.default_rng(0), 3, options)


@pytest.mark.parametrize("like", [np.zeros(1, dtype=np.float32), np.zeros(1), torch.zeros(1)])
def test_actions_are_clipped_and_checked(like: Any) -> None:
    found = bounded([[2.0, -3.0]], (1, 2), like)
    assert found.tolist() == [[1.0, -1.0]]
    assert (type(found), found.dtype) == (type(like), like.dtype)
    with pytest.raises(ModelError, match="NaN"):
        bounded([[0.0, float("nan")]], (1, 2), like)
    with pytest.raises(ModelError, match=re.escape("shape (2,); expected (1, 2)")):
        bounded([0.0, 0.0], (1, 2), like)
