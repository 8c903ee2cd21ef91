"""Reinforcement learning of autoscaling agents: one shared over all pairs, or one for each.

Enters: a simulator of the pairs to train on, and embeddings of them, where there are any: computed before, or by an
encoder that learns through the critic (`end_to_end.py`). Leaves: a trained agent. What
chance does in an episode follows from seeds and the number of the episode, so that a run that was killed goes on from
its agent and its last episodes as if nothing had been. All tensors are on the device of the simulator's, and nothing
is copied to or from it within an episode. Workers of a group have a simulator of their share of the pairs each, and the
same agent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flashfm.engine.group import ALONE, Group
from flashfm.models.ddpg import Batch, Ddpg, DdpgConfig
from flashfm.models.replay import Replay
from flashfm.pretraining.checkpoints import Checkpoints
from flashfm.pretraining.shares import least, mean_gradients, own_part, own_seed
from flashfm.tasks.autoscaling.interface import ACTION, CPU_TARGET, OBSERVATION
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS, Simulator, Stepped, seed_of

OnStep = Callable[[int, int], object]
"""Told of the episodes that are done and of all of them."""


@dataclass(frozen=True)
class AgentConfig:
    """How an agent is trained."""

    ddpg: DdpgConfig = field(default_factory=DdpgConfig)
    episodes: int = 38
    """Of `EPISODE_STEPS` steps, in all environments at once."""
    updates: int = 2
    """Updates after each step of all environments."""
    batch: int = 512
    """Transitions an update, of each agent."""
    kept_episodes: int = 30
    """Episodes in the replay buffer."""
    random_episodes: int = 8
    """Episodes of random actions at the start, held as noise is; learning begins with the last of them."""
    noise: tuple[float, float] = (0.3, 0.05)
    """Standard deviation of the noise on actions, at the start and from `quiet_from` on."""
    quiet_from: float = 0.7
    """Share of the episodes after which noise is least."""
    slow_from: float = 0.3
    """Share of the episodes after which learning rates fall, to `slowest` at the end."""
    slowest: float = 0.05
    hold: float = 0.97
    """Chance that the noise of a pair stays as it was from one step to the next: what an order does shows late, and
    limits that change at every step show nothing."""
    alpha: tuple[float, float] = (0.3, 0.9)
    """Trade-offs drawn for each pair and episode."""
    thrift: float = 0.02
    """Learned from beside the reward, times 1 - alpha: the logarithm of the share of the cores in use. The reward alone
    hardly tells one spare core from five, while its noise is far larger, and policies end where chance has them."""
    without: float = 0.15
    """Share of the pairs of an episode that are shown no embedding, so that one agent also serves pairs without any."""


class Embeddings:
    """What an agent in training is shown of each pair beside its state: nothing, unless a subclass says otherwise."""

    width = 0
    """Numbers shown, with the 1 that says that there is an embedding."""

    def shown(self, replay: Replay, generator: torch.Generator) -> Float[Tensor, "env shown"]:  # noqa: ARG002
        """What is shown of each pair in the episode that begins.

        Args:
            replay: the episodes before it.
            generator: what decides.
        """
        return torch.zeros(replay.state.shape[2], 0, device=replay.state.device)

    def pairs(self, each: int, generator: torch.Generator) -> Int[Tensor, " chosen"]:
        """Pairs of each agent, by their place among its own, that the transitions of the next update come from."""
        return torch.arange(each, device=generator.device)

    def learn(self, agent: Ddpg, batch: Batch, env: Int[Tensor, "agent transition"], replay: Replay) -> None:  # noqa: ARG002
        """One update.

        Args:
            agent: that learns.
            batch: transitions.
            env: their pairs.
            replay: the episodes so far.
        """
        agent.learn(batch)


class Cached(Embeddings):
    """Embeddings that were computed before, of which each episode takes one at random.

    Args:
        variants: embeddings of each pair, on the device that is trained on.
    """

    def __init__(self, variants: Float[Tensor, "variant env embed"]) -> None:
        self.variants, self.width = variants, variants.shape[-1] + 1

    def shown(self, replay: Replay, generator: torch.Generator) -> Float[Tensor, "env shown"]:  # noqa: ARG002
        """One variant of each pair's embedding, and a 1."""
        (several, envs), device = self.variants.shape[:2], self.variants.device
        drawn = torch.randint(several, (envs,), generator=generator, device=device)
        chosen = self.variants[drawn, torch.arange(envs, device=device)]
        return torch.cat([chosen, torch.ones(envs, 1, device=device)], dim=-1)


def train(
    simulator: Simulator,
    config: AgentConfig,
    *,
    seed: int,
    agents: int = 1,
    embeddings: Embeddings | None = None,
    start: Ddpg | None = None,
    on_step: OnStep = lambda *_: None,
    checkpoints: Checkpoints | None = None,
    name: str = "agent",
    group: Group = ALONE,
) -> Ddpg:
    """Train by DDPG on all pairs of a simulator at once.

    Args:
        simulator: of torch arrays, on whose device all is done; its alpha is drawn anew for each episode.
        config: settings.
        seed: of weights, exploration and draws from the replay buffer.
        agents: one for each equal run of environments, in order; 1 shares one agent.
        embeddings: what the agent is shown of each pair; None for an agent without any.
        start: an agent to go on from, which is changed, on the same device; None begins anew.
        on_step: told of progress.
        checkpoints: training goes on from what is kept there under `name`, and is kept after each episode.
        name: of this training among the checkpoints of a run.
        group: whose ranks train one agent together, each on a simulator of its own share of the pairs and with its part
            of each batch; the gradient is the mean over all pairs, and every rank has the same agent.

    Raises:
        ArtifactError: the checkpoints are damaged.
        DataError: a checkpoint cannot be written.
    """
    device = simulator.params.cpu_s.device
    checkpoints, generator = checkpoints or Checkpoints(), torch.Generator(device)
    chance: dict[str, Any] = {"generator": generator, "device": device}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        embeddings = embeddings or Embeddings()
        agent = start or Ddpg(agents, len(OBSERVATION), len(ACTION), embeddings.width, config.ddpg, device)
    envs, each = len(simulator), len(simulator) // agents
    batch_size = (agents, own_part(config.batch, group))
    agent.exchange = mean_gradients(group, envs)
    replay = Replay(config.kept_episodes, EPISODE_STEPS, envs, len(OBSERVATION), len(ACTION), device)
    first_of = each * torch.arange(agents, device=device)[:, None]
    random = config.random_episodes if start is None else 0
    done = _go_on(checkpoints, name, agent, replay, config, group)
    if done:
        on_step(done, config.episodes)
    for episode in range(done, config.episodes):
        generator.manual_seed(
            own_seed(seed_of(seed, episode, 1), group)
        )  # 1, since the simulator may have the same seed
        agent.slow_down(_share(config, episode))
        low, high = config.alpha
        simulator.alpha = low + (high - low) * torch.rand(envs, **chance)
        embedding = _hidden(embeddings.shown(replay, generator), config.without, generator)
        state = simulator.reset(episode)
        replay.begin(state)
        noise = _noise(config, episode)
        of_env = 1.5 * noise * torch.rand(envs, 1, **chance)
        held = 2 * torch.rand(envs, len(ACTION), **chance) - 1
        off = torch.randn(envs, len(ACTION), **chance)
        for t in range(EPISODE_STEPS):
            stays = torch.rand(envs, 1, **chance) < config.hold
            if episode < random:
                held = torch.where(stays, held, 2 * torch.rand(envs, len(ACTION), **chance) - 1)
                action = held
            else:
                action = agent.act(_split(state, agents), _split(embedding, agents)).reshape(envs, -1)
                off = torch.where(stays, off, torch.randn(envs, len(ACTION), **chance))
                action = action + of_env * off
            action = action.clamp(-1.0, 1.0)
            stepped = simulator.step(action)
            state = stepped.observation
            replay.add(action, stepped.reward + _thrift(stepped, simulator.alpha, config.thrift), state)
            if episode >= random - 1 and (episode > 0 or t + 1 >= config.ddpg.returns):
                for _ in range(config.updates):
                    of = embeddings.pairs(each, generator)
                    env = first_of + of[torch.randint(len(of), batch_size, **chance)]
                    before, acted, rewarded, after = replay.draw(
                        env, generator, config.ddpg.returns, config.ddpg.discount
                    )
                    batch = Batch(before, acted, rewarded, after, embedding[env])
                    embeddings.learn(agent, batch, env, replay)
        _keep(checkpoints, name, agent, replay, config, episode + 1, group)
        on_step(episode + 1, config.episodes)
    agent.exchange = None
    return agent


def _thrift(stepped: Stepped, alpha: Float[Tensor, " env"], weight: float) -> Float[Tensor, " env"]:
    """What is learned from beside the reward."""
    used: Tensor = stepped.outcome.cpu_use.clamp(min=CPU_TARGET[0])
    return weight * (1 - alpha) * used.log()


def _hidden(
    embedding: Float[Tensor, "env shown"], without: float, generator: torch.Generator
) -> Float[Tensor, "env shown"]:
    """Zeros in place of the embedding for a share of the pairs."""
    if not embedding.shape[1]:
        return embedding
    drawn = torch.rand(len(embedding), 1, generator=generator, device=embedding.device)
    return embedding * (drawn >= without).float()


def _split(values: Float[Tensor, "env feature"], agents: int) -> Float[Tensor, "agent each feature"]:
    return values.reshape(agents, len(values) // agents, values.shape[-1])


def _noise(config: AgentConfig, episode: int) -> float:
    first, last = config.noise
    past = max(0, episode - config.random_episodes) / max(1, config.episodes - config.random_episodes)
    return max(last, first * (1 - past / config.quiet_from))


def _share(config: AgentConfig, done: int) -> float:
    past = max(0.0, done / config.episodes - config.slow_from) / (1 - config.slow_from)
    return max(config.slowest, 1 - past)


_NETWORKS = ("actor", "critic", "target_actor", "target_critic", "kept")


def _keep(
    checkpoints: Checkpoints, name: str, agent: Ddpg, replay: Replay, config: AgentConfig, done: int, group: Group
) -> None:
    """Keep the agent and its newest episode, and no more of the older ones than the replay buffer has.

    Nothing is forgotten before all ranks have kept what follows, so that whenever one is lost there is an episode from
    which all of them can go on.
    """
    ended = done == config.episodes
    newest = {} if ended else {f"{name}-episode-{done}": replay.newest()}
    checkpoints.write({f"{name}-agent-{done}": _tensors(agent), **newest})
    least(group, done)
    old = range(1, done if ended else done - config.kept_episodes + 1)
    agents = [f"{name}-agent-{number}" for number in range(1, done)]
    checkpoints.write({}, forget=[*agents, *(f"{name}-episode-{number}" for number in old)])


def _go_on(checkpoints: Checkpoints, name: str, agent: Ddpg, replay: Replay, config: AgentConfig, group: Group) -> int:
    """Put agent and replay buffer where all ranks kept them last; gives the number of episodes that are done."""
    kept = (done for done in range(config.episodes, 0, -1) if f"{name}-agent-{done}" in checkpoints)
    done = least(group, next(kept, 0))
    if done:
        with checkpoints.fitting(name):
            _restore(agent, checkpoints[f"{name}-agent-{done}"])
            needed = range(max(1, done - config.kept_episodes + 1), done + 1)
            for number in needed if done < config.episodes else ():
                replay.put(checkpoints[f"{name}-episode-{number}"])
    return done


def _tensors(agent: Ddpg) -> dict[str, Tensor]:
    """Weights and what the optimisers remember; learning rates follow from the number of the episode."""
    found = {f"{part}.{key}": value for part in _NETWORKS for key, value in getattr(agent, part).state_dict().items()}
    for i, optimiser in enumerate(agent._optimisers):
        for weight, remembered in optimiser.state_dict()["state"].items():
            found |= {f"adam.{i}.{weight}.{key}": value for key, value in remembered.items()}
    return found


def _restore(agent: Ddpg, tensors: dict[str, Tensor]) -> None:
    """Inverse of `_tensors`."""
    for part in _NETWORKS:
        own = {key.removeprefix(f"{part}."): value for key, value in tensors.items() if key.startswith(f"{part}.")}
        getattr(agent, part).load_state_dict(own)
    for i, optimiser in enumerate(agent._optimisers):
        remembered: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"adam.{i}."):
                _, _, weight, what = key.split(".")
                remembered.setdefault(int(weight), {})[what] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": remembered})
