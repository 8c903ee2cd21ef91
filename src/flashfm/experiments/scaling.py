"""What all experiments on autoscaling share: how an autoscaler is judged.

Enters: a scenario and an autoscaler. Leaves: means over episodes for each pair, under loads and chance that are the
same for all autoscalers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flashfm.baselines.scaling import GRIDS, Controller, tune
from flashfm.models.agent import AgentModel
from flashfm.models.ddpg import Ddpg
from flashfm.tasks.autoscaling.dynamics import Limits
from flashfm.tasks.autoscaling.interface import Actions, violated
from flashfm.tasks.autoscaling.parameters import LONGEST_START, STEP_S
from flashfm.tasks.autoscaling.scenario import Scenario
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS, Simulator, Stepped

EPISODES = 4
"""Test episodes a pair."""
HOUR_S = 3600.0

METRICS = ("reward", "violations", "core_hours", "gib_hours", "killed")
"""Figures of `Judged` that tables show."""

Act = Callable[[Any, Simulator], Stepped]
"""Sees the last observation and the simulator, and makes its next step."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Means over the episodes of each pair; every field is [pair]."""

    reward: Float[np.ndarray, " pair"]
    """In [0, 1], at the alpha that was asked for."""
    violations: Float[np.ndarray, " pair"]
    """Share of steps whose p99 misses the objective or in which requests are left waiting."""
    late_violations: Float[np.ndarray, " pair"]
    """The same share of the steps after the first `LONGEST_START`, before which no order need have taken hold."""
    slo_latency: Float[np.ndarray, " pair"]
    slo_throughput: Float[np.ndarray, " pair"]
    cpu_use: Float[np.ndarray, " pair"]
    memory_use: Float[np.ndarray, " pair"]
    core_hours: Float[np.ndarray, " pair"]
    """An episode."""
    gib_hours: Float[np.ndarray, " pair"]
    """An episode."""
    killed: Float[np.ndarray, " pair"]
    """Mean share of the replicas that run out of memory."""

    def summary(self) -> dict[str, float]:
        """Means over pairs."""
        return {field.name: float(getattr(self, field.name).mean()) for field in fields(self)}


def cells(means: Mapping[str, float]) -> str:
    """The figures of `METRICS` as cells of a Markdown table."""
    return " | ".join(f"{means[metric]:.{2 if metric.endswith('hours') else 3}f}" for metric in METRICS)


@torch.no_grad()
def judge(
    scenario: Scenario,
    act: Act,
    *,
    alpha: float,
    actions: Actions = "limits",
    episodes: int = EPISODES,
    seed: int = 9,
    begin: Callable[[Simulator], object] = lambda _: None,
) -> Judged:
    """Run an autoscaler on each pair for some episodes, all at once.

    Args:
        scenario: the pairs.
        act: the autoscaler.
        alpha: weight of the SLO.
        actions: how its actions are meant.
        episodes: of each pair, in the order pair, episode.
        seed: of loads and chance.
        begin: told of the simulator once it is reset.
    """
    repeated = scenario.take(np.repeat(np.arange(len(scenario)), episodes))
    simulator = repeated.simulator(alpha=alpha, actions=actions, seed=seed)
    observation = simulator.reset()
    begin(simulator)
    rows = []
    for step in range(EPISODE_STEPS):
        stepped = act(observation, simulator)
        observation, outcome = stepped.observation, stepped.outcome
        broken = violated(outcome).to(stepped.reward.dtype)
        rows.append(
            torch.stack(
                [
                    stepped.reward,
                    broken,
                    broken * (step >= LONGEST_START) * (EPISODE_STEPS / (EPISODE_STEPS - LONGEST_START)),
                    outcome.slo_latency,
                    outcome.slo_throughput,
                    outcome.cpu_use,
                    outcome.memory_use,
                    outcome.cpu_cores * (EPISODE_STEPS * STEP_S / HOUR_S),
                    outcome.memory_mib / 1024 * (EPISODE_STEPS * STEP_S / HOUR_S),
                    outcome.service.killed,
                ]
            )
        )
    means = torch.stack(rows).mean(dim=0).reshape(-1, len(scenario), episodes).mean(dim=2).double().numpy()
    return Judged(*means)


def agent_acts(agent: Ddpg, embedding: Float[Tensor, "pair embed"] | None, episodes: int = EPISODES) -> Act:
    """An agent as an autoscaler: shown the embedding of each pair, or none.

    Args:
        agent: shared over all pairs.
        embedding: of each pair of the scenario that is judged.
        episodes: as `judge` is told.
    """

    def act(observation: Tensor, simulator: Simulator) -> Stepped:
        n = len(observation)
        shown = torch.zeros(n, agent.embed)
        if embedding is not None:
            shown = torch.cat([embedding.repeat_interleave(episodes, dim=0), torch.ones(n, 1)], dim=-1)
        return simulator.step(agent.act(observation[None], shown[None], kept=True)[0])

    return act


def model_acts(model: AgentModel, embedding: Float[Tensor, "pair embed"] | None, episodes: int = EPISODES) -> Act:
    """The pretrained agent as an autoscaler, shown the embedding of each pair or none.

    Args:
        model: the agent.
        embedding: of each pair.
        episodes: of each pair that are served at once.
    """
    shown = None if embedding is None else embedding.repeat_interleave(episodes, dim=0)
    return lambda observation, simulator: simulator.step(model.act(observation, shown))


def controller_acts(controller: Controller) -> Act:
    """A controller as an autoscaler; it has to be reset when an episode begins."""
    return lambda _, simulator: simulator.apply(decided(controller, simulator))


def decided(controller: Controller, simulator: Simulator) -> Limits:
    """What a controller wants next."""
    return controller.decide(simulator.state, simulator.outcome, simulator.load.rate_per_s[simulator.t])


def tuned(name: str, train_on: Scenario, alpha: float) -> tuple[Controller, dict[str, Any]]:
    """A controller with the setting of `GRIDS` that has the best reward, and that setting.

    Args:
        name: of the controller.
        train_on: pairs that every setting plays one episode of.
        alpha: weight of the SLO.
    """
    make, grid = GRIDS[name]
    best = tune(make, grid, lambda of: train_on.simulator(alpha=of, seed=1), alpha)[0].setting
    return make(**best), dict(best)
