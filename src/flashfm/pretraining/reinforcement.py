"""Reinforcement learning of autoscaling agents: one shared over all pairs, or one for each.

Enters: a simulator of the pairs to train on, and embeddings of them, where there are any: computed before, or by an
encoder that learns through the critic (`end_to_end.py`). Leaves: a trained agent. What
chance does in an episode follows from seeds and the number of the episode, so that a run that was killed goes on from
its agent and its last episodes as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flashfm.models.ddpg import Batch, Ddpg, DdpgConfig
from flashfm.models.replay import Replay
from flashfm.pretraining.checkpoints import Checkpoints
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
        return torch.zeros(replay.state.shape[2], 0)

    def pairs(self, each: int, generator: torch.Generator) -> Int[Tensor, " chosen"]:  # noqa: ARG002
        """Pairs of each agent, by their place among its own, that the transitions of the next update come from."""
        return torch.arange(each)

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
        variants: embeddings of each pair.
    """

    def __init__(self, variants: Float[Tensor, "variant env embed"]) -> None:
        self.variants, self.width = variants, variants.shape[-1] + 1

    def shown(self, replay: Replay, generator: torch.Generator) -> Float[Tensor, "env shown"]:  # noqa: ARG002
        """One variant of each pair's embedding, and a 1."""
        several, envs = self.variants.shape[:2]
        chosen = self.variants[torch.randint(several, (envs,), generator=generator), torch.arange(envs)]
        return torch.cat([chosen, torch.ones(envs, 1)], dim=-1)


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
) -> Ddpg:
    """Train by DDPG on all pairs of a simulator at once.

    Args:
        simulator: of torch arrays; its alpha is drawn anew for each episode.
        config: settings.
        seed: of weights, exploration and draws from the replay buffer.
        agents: one for each equal run of environments, in order; 1 shares one agent.
        embeddings: what the agent is shown of each pair; None for an agent without any.
        start: an agent to go on from, which is changed; None begins anew.
        on_step: told of progress.
        checkpoints: training goes on from what is kept there under `name`, and is kept after each episode.
        name: of this training among the checkpoints of a run.

    Raises:
        ArtifactError: the checkpoints are damaged.
        DataError: a checkpoint cannot be written.
    """
    checkpoints, generator = checkpoints or Checkpoints(), torch.Generator()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        embeddings = embeddings or Embeddings()
        agent = start or Ddpg(agents, len(OBSERVATION), len(ACTION), embeddings.width, config.ddpg)
    envs, each = len(simulator), len(simulator) // agents
    replay = Replay(config.kept_episodes, EPISODE_STEPS, envs, len(OBSERVATION), len(ACTION))
    first_of = each * torch.arange(agents)[:, None]
    random = config.random_episodes if start is None else 0
    done = _go_on(checkpoints, name, agent, replay, config)
    if done:
        on_step(done, config.episodes)
    for episode in range(done, config.episodes):
        generator.manual_seed(seed_of(seed, episode, 1))  # 1, since the simulator may have the same seed
        agent.slow_down(_share(config, episode))
        low, high = config.alpha
        simulator.alpha = low + (high - low) * torch.rand(envs, generator=generator)
        embedding = _hidden(embeddings.shown(replay, generator), config.without, generator)
        state = simulator.reset(episode)
        replay.begin(state)
        noise = _noise(config, episode)
        of_env = 1.5 * noise * torch.rand(envs, 1, generator=generator)
        held = 2 * torch.rand(envs, len(ACTION), generator=generator) - 1
        off = torch.randn(envs, len(ACTION), generator=generator)
        for t in range(EPISODE_STEPS):
            stays = torch.rand(envs, 1, generator=generator) < config.hold
            if episode < random:
                held = torch.where(stays, held, 2 * torch.rand(envs, len(ACTION), generator=generator) - 1)
                action = held
            else:
                action = agent.act(_split(state, agents), _split(embedding, agents)).reshape(envs, -1)
                off = torch.where(stays, off, torch.randn(envs, len(ACTION), generator=generator))
                action = action + of_env * off
            action = action.clamp(-1.0, 1.0)
            stepped = simulator.step(action)
            state = stepped.observation
            replay.add(action, stepped.reward + _thrift(stepped, simulator.alpha, config.thrift), state)
            if episode >= random - 1 and (episode > 0 or t + 1 >= config.ddpg.returns):
                for _ in range(config.updates):
                    of = embeddings.pairs(each, generator)
                    env = first_of + of[torch.randint(len(of), (agents, config.batch), generator=generator)]
                    before, acted, rewarded, after = replay.draw(
                        env, generator, config.ddpg.returns, config.ddpg.discount
                    )
                    batch = Batch(before, acted, rewarded, after, embedding[env])
                    embeddings.learn(agent, batch, env, replay)
        _keep(checkpoints, name, agent, replay, config, episode + 1)
        on_step(episode + 1, config.episodes)
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
    return embedding * (torch.rand(len(embedding), 1, generator=generator) >= without).float()


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


def _keep(checkpoints: Checkpoints, name: str, agent: Ddpg, replay: Replay, config: AgentConfig, done: int) -> None:
    """Keep the agent and its newest episode, and no more of the older ones than the replay buffer has."""
    parts, ended = {f"{name}-agent": _tensors(agent) | {"done": torch.tensor(done)}}, done == config.episodes
    if not ended:
        parts[f"{name}-episode-{done}"] = replay.newest()
    gone = range(1, done) if ended else [done - config.kept_episodes]
    checkpoints.write(parts, forget=[f"{name}-episode-{number}" for number in gone])


def _go_on(checkpoints: Checkpoints, name: str, agent: Ddpg, replay: Replay, config: AgentConfig) -> int:
    """Put agent and replay buffer where they were kept last; gives the number of episodes that are done."""
    if f"{name}-agent" not in checkpoints:
        return 0
    found = checkpoints[f"{name}-agent"]
    with checkpoints.fitting(name):
        done = int(found.pop("done"))
        _restore(agent, found)
        kept = range(max(1, done - config.kept_episodes + 1), done + 1)
        for number in kept if done < config.episodes else ():
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
