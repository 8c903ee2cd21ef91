"""Training and environment on a device: nothing is copied within an episode, and a GPU does what the CPU does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import on_device
from on_device import META, Apart

from flashfm.baselines.scaling import HpaVpa
from flashfm.models.agent_state import digest
from flashfm.models.ddpg import Batch, Ddpg, DdpgConfig
from flashfm.models.meta_learner import MetaLearnerConfig
from flashfm.pretraining import identification, lived, reinforcement
from flashfm.pretraining.autoscaling import AutoscalingConfig, pretrain
from flashfm.pretraining.end_to_end import EndToEndConfig, ThroughCritic
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.pretraining.lived import collect, collect_rules
from flashfm.pretraining.reinforcement import AgentConfig, Cached, Embeddings, train
from flashfm.tasks.autoscaling import dynamics
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION
from flashfm.tasks.autoscaling.scenario import Scenario, default
from flashfm.tasks.autoscaling.simulator import Simulator
from flashfm.tasks.autoscaling.vector_env import AutoscalingVectorEnv

PAIRS, TOKEN = 6, 2 * len(OBSERVATION) + len(ACTION) + 1
STEPS = 5
"""Of an episode on a device that nothing comes from, where each operation is worked out in Python."""
DDPG = DdpgConfig(hidden=(16, 16), returns=2)
AGENT = AgentConfig(DDPG, episodes=2, random_episodes=1, batch=16, updates=1, kept_episodes=2, without=0.2)
ENCODER = IdentificationConfig(MetaLearnerConfig(kind="set", hidden=16, layers=1, embed=4, dropout=0.0), 3, 4)


@pytest.fixture(scope="module")
def few() -> Scenario:
    return default(0).take(np.arange(0, 20 * PAIRS, 20))


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Apart:
    import torch._dynamo

    monkeypatch.setattr(torch, "Generator", on_device.GeneratorOfMeta)
    return Apart()


@pytest.fixture
def simulator(few: Scenario, apart: Apart, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """On a device that nothing comes from; at the start of each episode its load comes to it."""
    for module in (reinforcement, lived):
        monkeypatch.setattr(module, "EPISODE_STEPS", STEPS)
    found = few.simulator(actions="targets", device="meta", steps=STEPS)
    found._make_load = apart.but_for(found._make_load)
    return found


def through_critic() -> ThroughCritic:
    config = EndToEndConfig(MetaLearnerConfig(kind="set", hidden=8, layers=1, dropout=0.0, embed=4), pairs=2, every=2)
    return ThroughCritic(config, seed=0, device=META)


@pytest.mark.parametrize(
    "embeddings",
    [lambda: None, lambda: Cached(torch.zeros(3, PAIRS, 4, device=META)), through_critic],
    ids=["without embedding", "cached", "through the critic"],
)
def test_training_copies_nothing_within_an_episode(
    simulator: Simulator, apart: Apart, embeddings: Callable[[], Embeddings | None]
) -> None:
    shown = embeddings()
    with apart:
        agent = train(simulator, AGENT, seed=0, embeddings=shown)
    assert apart.seen > 100 * AGENT.episodes * STEPS
    assert {weight.device for weight in agent.kept.parameters()} == {META}


def test_episodes_for_the_encoder_are_not_copied(simulator: Simulator, apart: Apart) -> None:
    agent = Ddpg(1, len(OBSERVATION), len(ACTION), 0, AGENT.ddpg, META)
    with apart:
        by_agent = collect(simulator, agent.kept, 2, 0.1, 0, (0.3, 0.9))
        by_rules = collect_rules(simulator, [HpaVpa()], 0, (0.3, 0.9))
    assert by_agent.shape == (PAIRS, 2, STEPS, TOKEN)
    assert by_agent.device == by_rules.device == META


def test_an_encoder_learns_without_copies(apart: Apart) -> None:
    read, hidden = torch.zeros(PAIRS, 4, STEPS, TOKEN, device=META), torch.zeros(PAIRS, 7, device=META)
    with apart:
        encoder = identification.fit(read, hidden, ENCODER, seed=0, on_step=apart.close)
        found = identification.variants(encoder, read)
    assert apart.seen > 100
    assert (found.shape, found.device) == ((6, PAIRS, 4), META)


def test_an_environment_copies_nothing_within_an_episode(few: Scenario, apart: Apart) -> None:
    env = AutoscalingVectorEnv(4, few, alpha=(0.3, 0.9), arrays="torch", device="meta", episode_steps=STEPS)
    actions = torch.zeros(4, len(ACTION), device=META)
    with apart:
        env.reset(seed=0)
        apart.close()
        for _ in range(STEPS - 1):
            *seen, info = env.step(actions)
    assert {value.device for value in (*seen, *info.values())} == {META}


def branch(values: torch.Tensor) -> int:
    return 1 if (values > 0).any() else 0


@pytest.mark.parametrize(
    "copy", [lambda x: x[torch.tensor([0])], torch.Tensor.cpu, branch], ids=["to", "from", "asked"]
)
def test_a_copy_is_noticed(copy: Callable[[torch.Tensor], object], apart: Apart) -> None:
    """What the tests above missed, they would miss without a word."""
    values = torch.zeros(2, 3, device=META)
    apart.close()
    with apart, pytest.raises((AssertionError, RuntimeError, NotImplementedError), match=r"meta|Meta"):
        copy(values)


# -- a GPU -------------------------------------------------------------------------------------------------------------

no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU on this machine")


@pytest.mark.gpu
@no_gpu
def test_the_dynamics_are_those_of_the_cpu(few: Scenario) -> None:
    """With the same chance, step by step from the same state."""
    here, there = few.simulator(), few.simulator(device="cuda")
    here.reset(0)
    there.reset(0)
    rng = np.random.default_rng(0)

    def cuda(values: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        return [value.cuda() for value in values]

    state = here.state
    for row in range(1, 50):
        drawn = torch.from_numpy(rng.random((6, PAIRS)).astype(np.float32))
        limits = dynamics.Limits(0.1 + 3 * drawn[0], 200 + 4000 * drawn[1], 1 + (9 * drawn[2]).floor())
        draws = dynamics.Draws(drawn[3] - 0.5, drawn[4], drawn[5] - 0.5)
        rate = here.load.rate_per_s[row]
        moved = dynamics.State(*cuda(state)), dynamics.Limits(*cuda(limits)), rate.cuda(), dynamics.Draws(*cuda(draws))
        state, outcome = dynamics.step(here.params, state, limits, rate, draws)
        after, found = dynamics.step(there.params, *moved)
        for name in ("ready", "replicas", "cpu_cores", "cpu_use", "slo_latency"):
            torch.testing.assert_close(getattr(found, name).cpu(), getattr(outcome, name), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(after.backlog.cpu(), state.backlog, rtol=1e-3, atol=1e-2)


@pytest.mark.gpu
@no_gpu
def test_an_update_is_that_of_the_cpu() -> None:
    def learned(device: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        agent = Ddpg(1, 4, 2, 0, DdpgConfig(hidden=(16, 16)), torch.device(device))
        parts = [torch.rand(1, 32, width) for width in (4, 2, 1, 4, 0)]
        parts[2] = parts[2][..., 0]
        for _ in range(5):
            agent.learn(Batch(*(part.to(device) for part in parts)))
        return [weight.detach().cpu() for weight in (*agent.actor.parameters(), *agent.critic.parameters())]

    for here, there in zip(learned("cpu"), learned("cuda"), strict=True):
        torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@no_gpu
def test_an_agent_is_pretrained_there_and_comes_back_to_the_cpu(few: Scenario) -> None:
    config = AutoscalingConfig(agent=AGENT, identification=ENCODER, episodes=3)
    rules = {"HPA + VPA": HpaVpa()}
    model = pretrain(few, config, seed=1, rules=rules, device=torch.device("cuda"))
    assert {weight.device.type for weight in model.conditioned.parameters()} == {"cpu"}
    assert digest(pretrain(few, config, seed=1, rules=rules, device=torch.device("cuda"))) == digest(model)
    env = AutoscalingVectorEnv(PAIRS, few, arrays="torch", device="cuda", actions=model.actions)
    observation, _ = env.reset(seed=0)
    embedding = torch.zeros(PAIRS, 4)
    there = model.to(torch.device("cuda")).act(observation, embedding.cuda())
    torch.testing.assert_close(there.cpu(), model.act(observation.cpu(), embedding), rtol=1e-3, atol=1e-4)
