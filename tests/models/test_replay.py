"""The replay buffer: what is drawn was added, and the oldest gives way; the tokens that an encoder reads."""

from __future__ import annotations

import torch

from flashfm.models.replay import Replay, tokens


def filled(episodes: int, kept: int = 3, steps: int = 4, envs: int = 2) -> Replay:
    """State e.t + env / 1000 at step t of episode e, and rewards alike."""
    replay = Replay(kept, steps, envs, 1, 1)
    mark = torch.arange(envs) / 1000
    for e in range(episodes):
        replay.begin((e + mark)[:, None])
        for t in range(steps):
            value = e + 0.1 * t + mark
            replay.add(value[:, None], value, (value + 0.1)[:, None])
    return replay


def test_what_is_drawn_is_a_step_that_was_added() -> None:
    replay = filled(5)
    env = torch.randint(2, (1, 500), generator=torch.Generator().manual_seed(0))
    state, action, reward, after = replay.draw(env, torch.Generator().manual_seed(1))
    torch.testing.assert_close(state[..., 0], reward)
    torch.testing.assert_close(action[..., 0], reward)
    torch.testing.assert_close(after[..., 0], reward + 0.1)
    torch.testing.assert_close((reward * 10).round() / 10 + env / 1000, reward)
    # the first two of five episodes gave way, and every step of the others is drawn
    assert set((reward * 10).round().int().flatten().tolist()) == {10 * e + t for e in (2, 3, 4) for t in range(4)}


def test_an_episode_in_progress_is_drawn_from_as_far_as_it_goes() -> None:
    replay = filled(3)
    replay.begin(torch.full((2, 1), 3.0))
    replay.add(torch.full((2, 1), 3.0), torch.full((2,), 3.0), torch.full((2, 1), 3.1))
    _, _, reward, _ = replay.draw(torch.zeros(1, 500, dtype=torch.int64), torch.Generator().manual_seed(0))
    assert set((reward * 10).round().int().flatten().tolist()) == {10, 11, 12, 13, 20, 21, 22, 23, 30}


def test_a_run_of_steps_stays_in_its_episode_and_weighs_its_rewards() -> None:
    replay = filled(2)
    replay.begin(torch.full((2, 1), 2.0))
    for t in range(2):
        replay.add(torch.full((2, 1), 2 + t / 10), torch.full((2,), 2 + t / 10), torch.full((2, 1), 2.1 + t / 10))
    generator = torch.Generator().manual_seed(0)
    state, _, reward, after = replay.draw(torch.zeros(1, 300, dtype=torch.int64), generator, steps=2, discount=0.5)
    first = state[..., 0]
    torch.testing.assert_close(after[..., 0], first + 0.2)
    torch.testing.assert_close(reward, (first + 0.5 * (first + 0.1)) / 1.5)
    assert set((first * 10).round().int().flatten().tolist()) == {0, 1, 2, 10, 11, 12, 20}


def test_episodes_that_are_put_back_are_drawn_as_they_were() -> None:
    """The newest three of five, in another place of the ring."""
    whole = filled(5)
    again = Replay(3, 4, 2, 1, 1)
    for done in (3, 4, 5):
        again.put(filled(done).newest())
    env = torch.randint(2, (3, 100), generator=torch.Generator().manual_seed(0))
    drawn = [replay.draw(env, torch.Generator().manual_seed(1), 2, 0.9) for replay in (whole, again)]
    for before, after in zip(*drawn, strict=True):
        assert torch.equal(before, after)


def test_a_token_is_state_action_reward_and_the_state_after() -> None:
    state = torch.arange(6.0).reshape(3, 1, 2)
    found = tokens(state, torch.full((2, 1, 1), 9.0), torch.tensor([[0.0], [1.0]]))
    torch.testing.assert_close(found[0], torch.tensor([[0.0, 1, 9, -2, 2, 3], [2, 3, 9, 1, 4, 5]]))
