"""One update of our DDPG beside one of Stable-Baselines3's, at the same sizes, on one thread.

Both learn from replay buffers of as many transitions, filled with random numbers of the same kind. An update is: draw
the batch, step critic and actor, move both target networks; its time is that of a run of updates, as `DDPG.train` makes
them, over their number. What differs, beside the code:

- Ours has a moving average of the actor to keep up, Stable-Baselines3 has not. It draws noise for the next actions and
  cuts it to nothing, since its DDPG is a TD3 with some parts switched off, reads both losses off their tensors, and
  writes a line of its log, once for each run.
- "as in pretraining" is ours with what pretraining adds: layer normalisation, and returns of ten steps, which
  Stable-Baselines3 can have too: the arm with such returns stands beside it.
- Both step by PyTorch's Adam; Stable-Baselines3 leaves its defaults.
- Ours trains many agents side by side, one for each application: the time of an update of one of 16 such agents stands
  beside Stable-Baselines3's, which has to train them one after the other.

Prints milliseconds an update as the median over five rounds with their range, and the exponent of the time of an update
of all agents over their number.

    python benchmarks/ddpg_update.py [--json] [--write] [--quick]

`--write` keeps the figures in results/ddpg-update.json.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import gymnasium
import numpy as np
import torch
from _figures import Asked, Found, asked
from stable_baselines3 import DDPG
from stable_baselines3.common.logger import Logger

import flashfm.envs
from flashfm.models.ddpg import Batch, Ddpg, DdpgConfig
from flashfm.models.replay import Replay
from flashfm.pretraining.autoscaling import AutoscalingConfig
from flashfm.pretraining.reinforcement import Embeddings
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS

PAIRS, QUICK_PAIRS, EPISODES = 800, 40, 8
UPDATES, SECONDS = 50, 0.6
"""Updates of a run, and seconds of runs in a round."""
OURS, PRETRAINING, RIVAL, RETURNS = "flashfm", "flashfm, as in pretraining", "SB3", "SB3, returns of ten steps"
TARGET = {"at_least": 1.0}
AGENTS, QUICK_AGENTS = (1, 2, 4, 8, 16), (1, 4)


@dataclass(frozen=True)
class Size:
    """Of networks and batches."""

    hidden: tuple[int, int]
    batch: int

    def __str__(self) -> str:
        return f"{self.hidden[0]} x {self.hidden[1]}, batch {self.batch}"


PRETRAINED = Size((128, 128), AutoscalingConfig().agent.batch)
SIZES = (Size((64, 64), 64), Size((400, 300), 256), PRETRAINED)
"""The paper's mini-batch, the networks and the batch that SB3 has by default, and those of our agent."""


def ours(size: Size, pairs: int, config: DdpgConfig, agents: int = 1) -> Callable[[], None]:
    """A run of updates as `pretraining.reinforcement.train` makes them, of agents without embedding."""
    config, embeddings, generator = replace(config, hidden=size.hidden), Embeddings(), torch.Generator().manual_seed(0)
    agent = Ddpg(agents, len(OBSERVATION), len(ACTION), embeddings.width, config)
    kept = Replay(EPISODES, EPISODE_STEPS, pairs, len(OBSERVATION), len(ACTION))
    for _ in range(EPISODES):
        kept.put({name: torch.rand(values.shape) * 2 - 1 for name, values in kept.newest().items()})
    shown, each = embeddings.shown(kept, generator), pairs // agents
    first_of = each * torch.arange(agents)[:, None]

    def run() -> None:
        for _ in range(UPDATES):
            of = embeddings.pairs(each, generator)
            env = first_of + of[torch.randint(len(of), (agents, size.batch), generator=generator)]
            drawn = kept.draw(env, generator, config.returns, config.discount)
            embeddings.learn(agent, Batch(*drawn, shown[env]), env, kept)

    return run


def theirs(size: Size, pairs: int, returns: int) -> Callable[[], None]:
    agent = DDPG(
        "MlpPolicy",
        gymnasium.make(flashfm.envs.AUTOSCALING, pairs=1),
        buffer_size=pairs * EPISODES * EPISODE_STEPS,
        batch_size=size.batch,
        n_steps=returns,
        policy_kwargs={"net_arch": list(size.hidden)},
        seed=0,
        device="cpu",
    )
    agent.set_logger(Logger(folder=None, output_formats=[]))
    kept, rng = agent.replay_buffer, np.random.default_rng(0)
    assert kept is not None
    for array in (kept.observations, kept.next_observations, kept.actions, kept.rewards):
        array[:] = rng.uniform(-1, 1, array.shape)
    kept.dones[EPISODE_STEPS - 1 :: EPISODE_STEPS] = kept.timeouts[EPISODE_STEPS - 1 :: EPISODE_STEPS] = 1
    kept.full = True
    return lambda: agent.train(gradient_steps=UPDATES, batch_size=size.batch)


def side_by_side(found: Found, how: Asked, pairs: int, config: DdpgConfig) -> None:
    """Updates of many agents at once."""
    size, numbers = SIZES[0], QUICK_AGENTS if how.quick else AGENTS
    arms = {str(n): ours(size, pairs, config, n) for n in numbers} | {RIVAL: theirs(size, pairs, 1)}
    times = {name: [ms / UPDATES for ms in of] for name, of in how.time(arms, SECONDS, least=1).items()}
    found.grows("time of an update over agents side by side", {n: times[str(n)] for n in numbers})
    group = f"{size}, each of {numbers[-1]} agents"
    found.add({OURS: [ms / numbers[-1] for ms in times[str(numbers[-1])]], RIVAL: times[RIVAL]}, "ms", group)
    found.targets[found.compare(OURS, RIVAL, group)] = TARGET


def main() -> None:
    how = asked(__doc__)
    torch.set_num_threads(1)
    pairs = QUICK_PAIRS if how.quick else PAIRS
    pretraining = AutoscalingConfig().agent.ddpg
    plain = replace(pretraining, returns=1, normalise=False)
    found = Found()
    for size in SIZES:
        arms = {OURS: ours(size, pairs, plain), RIVAL: theirs(size, pairs, 1)}
        if size == PRETRAINED:
            arms |= {PRETRAINING: ours(size, pairs, pretraining), RETURNS: theirs(size, pairs, pretraining.returns)}
        times = how.time(arms, SECONDS, least=1)
        found.add({arm: [ms / UPDATES for ms in of] for arm, of in times.items()}, "ms", str(size))
        found.targets[found.compare(OURS, RIVAL, str(size))] = TARGET
        if size == PRETRAINED:
            found.targets[found.compare(PRETRAINING, RETURNS, str(size))] = TARGET
            found.compare(PRETRAINING, RIVAL, str(size))
    side_by_side(found, how, pairs, plain)
    transitions = pairs * EPISODES * EPISODE_STEPS
    found.tell(__file__, how, f"an update, of runs of {UPDATES}; {transitions} transitions, one thread", pairs=pairs)


if __name__ == "__main__":
    main()
