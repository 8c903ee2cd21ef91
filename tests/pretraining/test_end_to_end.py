"""The encoder that is trained through the critic: what it reads, when it learns, and the agents trained with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flashfm.models.ddpg import Batch, Ddpg, DdpgConfig
from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.models.replay import Replay, tokens
from flashfm.pretraining.end_to_end import EndToEndConfig, ThroughCritic
from flashfm.pretraining.reinforcement import AgentConfig, train
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION
from flashfm.tasks.autoscaling.scenario import default

PAIRS, STEPS = 4, 6
STATE, ACTED = len(OBSERVATION), len(ACTION)


def small(kind: str = "gru", every: int = 1, pairs: int = PAIRS) -> ThroughCritic:
    meta = MetaLearnerConfig(kind=kind, hidden=8, layers=1, dropout=0.0, embed=4)  # type: ignore[arg-type]
    return ThroughCritic(EndToEndConfig(meta, pairs, every, learning_rate=1e-2), seed=0)


def lived(*rewards: list[float]) -> Replay:
    """Episodes in which each pair has the same reward at every step."""
    torch.manual_seed(0)
    replay = Replay(5, STEPS, PAIRS, STATE, ACTED)
    for of_pair in rewards:
        state, action = torch.randn(STEPS + 1, PAIRS, STATE), torch.randn(STEPS, PAIRS, ACTED)
        replay.put({"state": state, "action": action, "reward": torch.tensor(of_pair).expand(STEPS, PAIRS)})
    return replay


def test_nothing_is_shown_before_the_first_episode_and_then_the_best_recent_one() -> None:
    through, generator = small(), torch.Generator()
    none = through.shown(Replay(5, STEPS, PAIRS, STATE, ACTED), generator)
    assert none.tolist() == [[0.0] * 5] * PAIRS
    # the first episode is the best of all pairs, and too old to be read
    replay = lived([0.9] * 4, [0.1, 0.5, 0.2, 0.2], [0.2, 0.4, 0.2, 0.3], [0.3, 0.3, 0.1, 0.2])
    shown = through.shown(replay, generator)
    assert (shown[:, -1] == 1).all()
    for pair, episode in ((0, 3), (1, 1), (3, 2)):
        read = tokens(replay.state[episode], replay.action[episode], replay.reward[episode])[pair]
        with torch.no_grad():
            expected = through.encoder(read[None, None])[0]
        assert torch.allclose(shown[pair, :-1], expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["set", "gru"])
def test_an_update_trains_the_encoder_with_the_agent(kind: str) -> None:
    through, replay = small(kind), lived([0.2, 0.4, 0.6, 0.8])
    agent = Ddpg(1, STATE, ACTED, 5, DdpgConfig(hidden=(16, 16), embed_scale=1.0))
    env = (torch.arange(12) % PAIRS)[None]
    shown = through.shown(replay, torch.Generator())[env]
    states = torch.randn(2, 1, 12, STATE)
    batch = Batch(states[0], torch.randn(1, 12, ACTED), torch.rand(1, 12), states[1], shown)
    parts = {"encoder": through.encoder, "actor": agent.actor, "critic": agent.critic}
    before = {name: [one.detach().clone() for one in part.parameters()] for name, part in parts.items()}
    first = float(agent.critic_loss(batch).detach())
    for _ in range(30):
        through.learn(agent, batch, env, replay)
    for name, part in parts.items():
        moved = [not torch.equal(a, b) for a, b in zip(before[name], part.parameters(), strict=True)]
        assert any(moved), name
    batch = batch._replace(embedding=through.shown(replay, torch.Generator())[env])
    assert float(agent.critic_loss(batch).detach()) < first


def test_the_encoder_rests_between_its_turns_and_has_no_say_in_pairs_that_are_shown_nothing() -> None:
    through, replay = small(every=3, pairs=2), lived([0.2, 0.4, 0.6, 0.8])
    agent, generator = Ddpg(1, STATE, ACTED, 5, DdpgConfig(hidden=(16, 16))), torch.Generator()
    shown = through.shown(replay, generator)
    chosen, moved = [], []
    for _ in range(6):
        pairs = through.pairs(PAIRS, generator)
        env = pairs[torch.arange(12) % len(pairs)][None]
        before = [one.detach().clone() for one in through.encoder.parameters()]
        states = torch.randn(2, 1, 12, STATE)
        batch = Batch(states[0], torch.randn(1, 12, ACTED), torch.rand(1, 12), states[1], shown[env])
        through.learn(agent, batch, env, replay)
        chosen.append(len(pairs))
        moved.append(any(not torch.equal(a, b) for a, b in zip(before, through.encoder.parameters(), strict=True)))
    assert chosen == [4, 4, 2, 4, 4, 2]
    assert moved == [False, False, True, False, False, True]
    through.pairs(PAIRS, generator)
    through.pairs(PAIRS, generator)
    env = through.pairs(PAIRS, generator)[torch.arange(12) % 2][None]
    through.learn(agent, batch._replace(embedding=0 * batch.embedding), env, replay)
    gradients = [one.grad for one in through.encoder.parameters()]
    assert all(of is None or not of.any() for of in gradients)


def test_agents_are_trained_with_it_and_the_same_seed_gives_the_same() -> None:
    config = AgentConfig(DdpgConfig(hidden=(16, 16)), episodes=3, updates=1, batch=16, random_episodes=1)
    few = default(0).take(np.arange(6))

    def trained() -> tuple[Ddpg, ThroughCritic]:
        through = small(every=2, pairs=3)
        return train(few.simulator(seed=1), config, seed=0, embeddings=through), through

    (one, read), (other, also) = trained(), trained()
    assert one.embed == 5
    for a, b in zip(
        [*one.kept.parameters(), *read.encoder.parameters()],
        [*other.kept.parameters(), *also.encoder.parameters()],
        strict=True,
    ):
        assert torch.equal(a, b)
    fresh = small(every=2, pairs=3).encoder
    assert any(not torch.equal(a, b) for a, b in zip(read.encoder.parameters(), fresh.parameters(), strict=True))
