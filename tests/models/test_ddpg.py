"""DDPG: agents side by side are the same as agents alone, and a known problem is solved."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flashfm.models.ddpg import Batch, Ddpg, DdpgConfig, Network

SMALL = DdpgConfig(
    hidden=(32, 32), normalise=False, discount=0.0, reward_centre=0.0, reward_scale=1.0, average=0.05, actor_rate=3e-3
)


def batch(agents: int, n: int, generator: torch.Generator, embed: int = 0) -> Batch:
    state = torch.rand(agents, n, 2, generator=generator)
    action = 2 * torch.rand(agents, n, 1, generator=generator) - 1
    # the best action is the first number of the state
    reward = -((action[..., 0] - state[..., 0]) ** 2)
    return Batch(state, action, reward, torch.rand(agents, n, 2, generator=generator), torch.zeros(agents, n, embed))


def test_agents_side_by_side_compute_what_each_would_alone() -> None:
    torch.manual_seed(0)
    together = Network(3, 4, 2, SMALL, bounded=True)
    x = torch.randn(3, 5, 4)
    for i in range(3):
        alone = Network(1, 4, 2, SMALL, bounded=True)
        with torch.no_grad():
            for a, b in zip(alone.parameters(), together.parameters(), strict=True):
                a.copy_(b[i : i + 1])
        torch.testing.assert_close(alone(x[i : i + 1]), together(x)[i : i + 1])


@pytest.mark.parametrize("agents", [1, 3])
def test_an_agent_learns_what_pays(agents: int) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    agent = Ddpg(agents, 2, 1, 0, SMALL)
    for _ in range(800):
        agent.learn(batch(agents, 64, generator))
    state = torch.rand(agents, 50, 2, generator=generator)
    chosen = agent.act(state, torch.zeros(agents, 50, 0), kept=True)[..., 0]
    assert float((chosen - state[..., 0]).abs().mean()) < 0.12


def test_no_agent_learns_from_the_transitions_of_another() -> None:
    def trained(first: float) -> torch.Tensor:
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        agent = Ddpg(2, 2, 1, 0, SMALL)
        for _ in range(5):
            drawn = batch(2, 8, generator)
            drawn.reward[0] *= first
            agent.learn(drawn)
        return torch.cat([weight.detach().flatten(1) for weight in agent.actor.parameters()], dim=1)

    once, again = trained(1.0), trained(5.0)
    torch.testing.assert_close(once[1], again[1])
    assert not torch.equal(once[0], again[0])


def test_the_embedding_is_learned_last_and_its_gradient_comes_from_the_critic() -> None:
    torch.manual_seed(0)
    agent = Ddpg(1, 2, 1, 3, replace(SMALL, embed_scale=0.0))
    state = torch.rand(1, 4, 2)
    assert torch.equal(agent.act(state, torch.zeros(1, 4, 3)), agent.act(state, torch.ones(1, 4, 3)))
    embedding = torch.ones(1, 8, 3, requires_grad=True)
    drawn = batch(1, 8, torch.Generator().manual_seed(0), 3)._replace(embedding=embedding)
    other = Ddpg(1, 2, 1, 3, SMALL)
    other.learn(drawn, other.critic_loss(drawn))
    assert embedding.grad is not None
    assert embedding.grad.abs().sum() > 0


def test_learning_rates_can_be_slowed() -> None:
    agent = Ddpg(1, 2, 1, 0, SMALL)
    agent.slow_down(0.0)
    before = [weight.detach().clone() for weight in agent.actor.parameters()]
    agent.learn(batch(1, 8, torch.Generator().manual_seed(0)))
    for a, b in zip(before, agent.actor.parameters(), strict=True):
        torch.testing.assert_close(a, b)
