"""The buffer of trajectories: what is kept, what is read, and when an embedding is made anew."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.adapt.agent import Trajectory
from flashfm.adapt.trajectories import CAPACITY, EXPIRY_STEPS, TOP, TrajectoryBuffer
from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION


def lived(reward: float = 0.5, steps: int = 10, pairs: int = 1) -> Trajectory:
    return Trajectory(
        np.zeros((steps + 1, pairs, len(OBSERVATION))),
        np.zeros((steps, pairs, len(ACTION))),
        np.full((steps, pairs), reward),
    )


class Embedder:
    """Embeds by the mean rewards, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, *trajectories: Trajectory) -> np.ndarray:
        self.asked += 1
        rewards = [one.reward.mean() for one in trajectories]
        return np.array([[np.mean(rewards), len(rewards)]], np.float32)


def test_its_defaults_are_those_of_the_paper() -> None:
    assert (CAPACITY, EXPIRY_STEPS, TOP) == (32, 300, 3)


@settings(deadline=None)
@given(
    capacity=st.integers(1, 6),
    expiry=st.integers(1, 60),
    steps=st.integers(2, 12),
    events=st.lists(st.integers(0, 25), max_size=30),
)
def test_it_keeps_the_youngest_that_have_not_expired(capacity: int, expiry: int, steps: int, events: list[int]) -> None:
    """Each event is a pause of so many steps, and an episode."""
    buffer = TrajectoryBuffer(Embedder(), capacity=capacity, expiry_steps=expiry, top=capacity)
    ended: list[int] = []
    now = 0
    for i, pause in enumerate(events):
        buffer.elapse(pause)
        buffer.add(lived(i / 100, steps))
        now += pause + steps
        ended.append(now)
        young = [j / 100 for j, end in enumerate(ended) if now - end < expiry][-capacity:]
        assert [float(one.reward.mean()) for one in buffer.best] == pytest.approx(young[::-1])
        assert len(buffer) == len(young) <= capacity


def test_of_a_day_it_holds_three_episodes_and_of_short_ones_its_capacity() -> None:
    day, short = TrajectoryBuffer(Embedder()), TrajectoryBuffer(Embedder())
    for _ in range(40):
        day.add(lived(steps=100))
        short.add(lived(steps=2))
    assert (len(day), len(short)) == (3, CAPACITY)


@settings(deadline=None)
@given(rewards=st.lists(st.floats(0, 1), min_size=1, max_size=12), top=st.integers(1, 5))
def test_the_best_are_read(rewards: list[float], top: int) -> None:
    buffer = TrajectoryBuffer(Embedder(), top=top)
    for reward in rewards:
        buffer.add(lived(reward, steps=2))
    best = [float(one.reward.mean()) for one in buffer.best]
    assert best == pytest.approx(sorted(rewards, reverse=True)[:top])
    assert buffer.embedding is not None
    assert buffer.embedding[0].tolist() == pytest.approx([np.mean(best), len(best)], rel=1e-6)


def test_of_equal_ones_the_later_is_read() -> None:
    buffer = TrajectoryBuffer(Embedder(), top=1)
    first, second = lived(), lived()
    buffer.add(first)
    buffer.add(second)
    assert buffer.best == (second,)


def test_an_embedding_is_made_once_for_each_change() -> None:
    embed = Embedder()
    buffer = TrajectoryBuffer(embed, expiry_steps=50)
    assert buffer.embedding is None
    buffer.add(lived(0.2))
    assert buffer.embedding is buffer.embedding
    buffer.elapse(39)
    assert (buffer.embedding is not None, embed.asked) == (True, 1)
    buffer.add(lived(0.4))
    assert buffer.embedding[0, 0] == pytest.approx(0.3)
    buffer.elapse(1)
    assert buffer.embedding[0, 0] == pytest.approx(0.4)
    assert embed.asked == 3
    buffer.elapse(50)
    assert buffer.embedding is None
    assert (len(buffer), embed.asked) == (0, 3)


def test_what_does_not_fit_is_told() -> None:
    buffer = TrajectoryBuffer(Embedder())
    with pytest.raises(ModelError, match="a trajectory of 2 pairs; expected one pair"):
        buffer.add(lived(pairs=2))
    buffer.add(lived(steps=10))
    with pytest.raises(ModelError, match="a trajectory of 9 steps; expected 10"):
        buffer.add(lived(steps=9))
    assert len(buffer) == 1
    for wrong in ({"capacity": 0}, {"expiry_steps": 0}, {"top": 0}):
        with pytest.raises(ModelError, match="is 0; expected at least 1"):
            TrajectoryBuffer(Embedder(), **wrong)
