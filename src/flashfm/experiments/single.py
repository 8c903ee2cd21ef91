"""FIRM's agents: one for each pair, trained side by side on that pair alone, and judged on any pairs.

Enters: a scenario and which of its pairs get an agent. Leaves: agents, and autoscalers that serve each pair of another
scenario by one of them.

Source: FIRM (Qiu et al., OSDI'20) trains an agent for each application; FLASH, section 4.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Int
from torch import Tensor

from flashfm.errors import ModelError
from flashfm.experiments.scaling import EPISODES, Act
from flashfm.models.ddpg import Ddpg, DdpgConfig
from flashfm.pretraining.reinforcement import AgentConfig, train
from flashfm.tasks.autoscaling.interface import Actions
from flashfm.tasks.autoscaling.scenario import Scenario
from flashfm.tasks.autoscaling.simulator import Simulator, Stepped

SINGLE = AgentConfig(ddpg=DdpgConfig(hidden=(64, 64)), episodes=80, batch=64, updates=1, alpha=(0.5, 0.5), without=0.0)
"""How an agent of one pair is trained: our stable setting of DDPG, from which agents get more reward than from the
paper's (`ddpg.PAPER`)."""
ENVS = 16
"""Environments of a pair, each under its own load and chance, in which its agent acts at once. An episode of training
is one in each of them."""


def train_each(
    scenario: Scenario,
    pairs: Int[np.ndarray, " agent"],
    *,
    config: AgentConfig = SINGLE,
    envs_each: int = ENVS,
    seed: int,
    actions: Actions = "targets",
    start: Ddpg | None = None,
    on_step: Callable[[int, int], object] = lambda *_: None,
) -> Ddpg:
    """Train an agent for each of some pairs, which sees nothing of the others.

    Args:
        scenario: the pairs.
        pairs: those that get an agent, in the order of the agents; a pair may come several times.
        config: of every agent; `without` is not read.
        envs_each: environments of each pair, at least 1.
        seed: of weights, exploration, loads and chance.
        actions: what actions mean.
        start: agents to go on from, one for each of `pairs`; they are changed.
        on_step: told of the episodes that are done and of all of them.

    Returns:
        As many agents as `pairs`, side by side in one `Ddpg`.

    Raises:
        ModelError: no pair, or no environment.
    """
    if not len(pairs) or envs_each < 1:
        raise ModelError(f"agents of single pairs: {len(pairs)} pairs, {envs_each} environments each; expected some")
    simulator = scenario.take(np.repeat(pairs, envs_each)).simulator(actions=actions, seed=seed)
    return train(simulator, config, seed=seed, agents=len(pairs), start=start, on_step=on_step)


def acts_each(agents: Ddpg, which: Int[np.ndarray, " pair"], episodes: int = EPISODES) -> Act:
    """Agents as an autoscaler of the pairs that are judged, which are shown no embedding.

    Args:
        agents: side by side.
        which: the agent that serves each pair of the scenario that is judged.
        episodes: as `judge` is told.
    """
    kept = agents.kept.take(which).requires_grad_(False)

    def act(observation: Tensor, simulator: Simulator) -> Stepped:
        seen = observation.reshape(len(which), episodes, -1)
        return simulator.step(kept(seen).reshape(len(observation), -1))

    return act
