"""The gate: the safe policy's reward is never missed by more than was allowed, and what is better comes to serve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.adapt.gate import SAFE, Gate, GateConfig
from flashfm.errors import ModelError

EPISODES = 40


def run(gate: Gate, means: np.ndarray, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Who served and what it earned, [episode, pair]."""
    rng = np.random.default_rng(0)
    served, earned = [], []
    for _ in range(EPISODES):
        who = gate.choose()
        reward = np.clip(means[np.arange(len(means)), who] + noise * rng.standard_normal(len(means)), 0, 1)
        gate.tell(who, reward)
        served.append(who)
        earned.append(reward)
    return np.stack(served), np.stack(earned)


@settings(max_examples=50, deadline=None)
@given(
    safe=st.floats(0.1, 0.8),
    others=st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=3),
    allowance=st.floats(0.0, 0.3),
)
def test_reward_is_never_missed_by_more_than_the_allowance(safe: float, others: list[float], allowance: float) -> None:
    config = GateConfig(allowance=allowance)
    least = (1 - config.worst) * safe
    means = np.array([[safe, *(least + (1 - least) * max(other, 0.0) for other in others)]])
    _, earned = run(Gate(1, means.shape[1], config), means)
    due = (1 - allowance) * safe * np.arange(1, EPISODES + 1)
    assert (np.cumsum(earned[:, 0]) >= due - 1e-9).all()


def test_the_better_policy_comes_to_serve_each_pair() -> None:
    means = np.array([[0.6, 0.68, 0.5], [0.6, 0.52, 0.7], [0.6, 0.5, 0.52]])
    served, _ = run(Gate(3, 3), means, noise=0.02)
    assert (served[0] == SAFE).all()
    late = served[EPISODES // 2 :]
    for pair, best in enumerate((1, 2, SAFE)):
        assert (late[:, pair] == best).mean() > 0.8


def test_without_an_allowance_nothing_unknown_is_tried() -> None:
    served, _ = run(Gate(1, 2, GateConfig(allowance=0.0)), np.array([[0.6, 0.9]]))
    assert (served == SAFE).all()


def test_what_has_changed_is_tried_anew() -> None:
    gate = Gate(1, 2)
    run(gate, np.array([[0.6, 0.53]]))
    assert gate.choose()[0] == SAFE
    gate.forget(1)
    served, _ = run(gate, np.array([[0.6, 0.8]]))
    assert (served[-5:] == 1).all()


def test_wrong_use_is_told() -> None:
    with pytest.raises(ModelError, match="0 pairs, 2 policies"):
        Gate(0, 2)
    with pytest.raises(ModelError, match=r"allowance 1;.* share in \[0, 1\)"):
        Gate(1, 2, GateConfig(allowance=1.0))
    gate = Gate(2, 2)
    with pytest.raises(ModelError, match="one for each of 2"):
        gate.tell(np.zeros(1, np.int64), np.zeros(2))
    with pytest.raises(ModelError, match="policies in 0 to 1"):
        gate.tell(np.array([0, 2]), np.zeros(2))
    with pytest.raises(ModelError, match="finite"):
        gate.tell(np.array([0, 1]), np.array([0.1, np.nan]))
