"""The parts of `reproduce fig4`: what is trained and judged, each kept by itself.

Enters: pairs and settings. Leaves: arrays by name, and settings that were found. No files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from torch import Tensor

from flashfm.adapt.agent_finetune import FineTuneConfig
from flashfm.adapt.gate import GateConfig
from flashfm.baselines.scaling import Controller
from flashfm.experiments.adapting import (
    LIVED,
    Arrays,
    Grid,
    Lived,
    OnStep,
    Transfer,
    from_arrays,
    network_acts,
    to_arrays,
    transfer,
    tune_transfer,
    warm_up,
)
from flashfm.experiments.fig4_figures import OTHER
from flashfm.experiments.fig4_page import COLUMNS, FIXED, FLASH, OWN, SHARED
from flashfm.experiments.guarded import guarded
from flashfm.experiments.scaling import Judged, controller_acts, judge, tuned
from flashfm.experiments.single import ENVS, SINGLE, acts_each, train_each
from flashfm.models.agent import AgentModel
from flashfm.models.ddpg import PAPER, Ddpg
from flashfm.pretraining.checkpoints import Checkpoints
from flashfm.pretraining.reinforcement import AgentConfig, train
from flashfm.tasks.autoscaling.interface import Actions
from flashfm.tasks.autoscaling.scenario import Scenario

ALPHA = 0.5
ACTIONS: Actions = "targets"
WARMUPS = 3
AGENT = replace(SINGLE, episodes=120)
"""Of FIRM's agents: longer than `SINGLE`, since all else is compared with them."""
PAPERS = replace(
    AGENT, ddpg=PAPER, random_episodes=1, noise=(0.2, 0.2), hold=0.0, slowest=1.0, kept_episodes=120, thrift=0.0
)
"""Of FIRM's agents as in the paper: its settings of DDPG, batches of 64, noise that is drawn at each step and does
not fade, learning rates that do not fall, and a replay buffer that forgets nothing. Source: FLASH, table 5."""


@dataclass(frozen=True)
class Fig4Config:
    """How much is trained and judged."""

    pairs: int = 40
    """Unseen pairs that get an agent of their own, at least 2."""
    seeds: tuple[int, ...] = (0, 1)
    """Of these agents; their mean reward is what is called converged. Those of the first seed are moved."""
    agent: AgentConfig = AGENT
    envs: int = ENVS
    """Environments of a pair that agents are trained in at once, until they are moved."""
    tests: int = 100
    others: int = 10
    paper_pairs: int = 12
    """Unseen pairs, among the others, that also get an agent as in the paper."""
    paper_agent: AgentConfig = PAPERS
    controllers_on: int = 200
    """Training pairs that controllers are tuned on."""
    transfer_on: int = 12
    """Training pairs that transfer learning is tuned on, at least 2."""
    grid: Grid = field(default_factory=Grid)
    horizon: int = 60
    """Episodes of transfer learning."""
    draws: int = 5
    """Of the warm-ups of the pretrained agent, each under its own loads and chance."""
    tuned: int = 20
    """Episodes of fine-tuning behind a gate."""
    finetune: FineTuneConfig = field(default_factory=FineTuneConfig)
    gate: GateConfig = field(default_factory=GateConfig)

    @classmethod
    def of(cls, *, quick: bool) -> Fig4Config:
        """The whole experiment, or few pairs and short training."""
        if not quick:
            return cls()
        agent, paper = (replace(one, episodes=8, random_episodes=2, batch=32) for one in (AGENT, PAPERS))
        grid = Grid(actor_rate=(1e-3,), noise=(0.3, 0.1))
        return cls(6, (0, 1), agent, 2, 20, 5, 3, paper, 20, 3, grid, 8, 2, 6, FineTuneConfig(updates=20))


@dataclass(frozen=True, eq=False)
class Part:
    """What a part of the run gives."""

    arrays: Arrays
    settings: Any = None
    """Plain JSON."""


class _Newest(Checkpoints):
    """Writes nothing, but holds the newest agents, so that they can be judged while they are being trained."""

    agents: Mapping[str, Tensor]

    def write(self, parts: Mapping[str, Mapping[str, Tensor]], *, forget: Iterable[str] = ()) -> None:  # noqa: ARG002
        for name, of in parts.items():
            if name.startswith("agent-agent-"):
                self.agents = of


def converged(unseen: Scenario, c: Fig4Config, seed: int, on_step: OnStep) -> Part:
    """An agent for each pair, how it is judged, and how well it did at half and three quarters of its training."""
    newest, config, curve = _Newest(), c.agent, []
    at = curve_at(config)

    def note(done: int, total: int) -> None:
        if done in at:
            agents = from_arrays(newest.agents, config.ddpg)
            curve.append(judge(unseen, network_acts(agents.kept), alpha=ALPHA, actions=ACTIONS))
        on_step(done, total)

    simulator = unseen.take(np.repeat(np.arange(len(unseen)), c.envs)).simulator(actions=ACTIONS, seed=seed)
    agents = train(simulator, config, seed=seed, agents=len(unseen), on_step=note, checkpoints=newest)
    arrays = {"curve": np.stack([judged.reward for judged in curve])} | to_arrays(agents)
    return Part(arrays | _named(OWN, curve[-1]))


def curve_at(config: AgentConfig) -> tuple[int, ...]:
    """Episodes after which agents are judged: half, three quarters, all."""
    return config.episodes // 2, 3 * config.episodes // 4, config.episodes


def matrix(unseen: Scenario, agents: Ddpg, actions: Actions) -> Arrays:
    """Every agent on every pair: `OTHER|metric`, [agent, pair]."""
    every = range(len(unseen))
    served = [judge(unseen, acts_each(agents, np.full(len(every), a)), alpha=ALPHA, actions=actions) for a in every]
    return {f"{OTHER}|{metric}": np.stack([getattr(one, metric) for one in served]) for metric in COLUMNS}


def moved(unseen: Scenario, agents: Ddpg) -> Part:
    """Each agent on every pair."""
    return Part(matrix(unseen, agents, ACTIONS))


def papers(unseen: Scenario, c: Fig4Config, on_step: OnStep) -> Part:
    """FIRM's agents as in the paper, on their own pairs and on each other's."""
    every, seed = np.arange(len(unseen)), c.seeds[0] + 20
    agents = train_each(
        unseen, every, config=c.paper_agent, envs_each=c.envs, seed=seed, actions="limits", on_step=on_step
    )
    return Part(matrix(unseen, agents, "limits"))


def fixed(train_on: Scenario, unseen: Scenario) -> Part:
    """Controllers with the best of their settings on training pairs."""
    arrays: Arrays = {}
    settings: dict[str, Any] = {}
    for name in FIXED:
        controller, settings[name] = tuned(name, train_on, ALPHA)
        arrays |= _named(name, judge(unseen, controller_acts(controller), alpha=ALPHA, begin=controller.reset))
    return Part(arrays, settings)


def tuning(train_on: Scenario, c: Fig4Config, on_step: OnStep) -> Part:
    """All settings of transfer learning on training pairs, the best first; each pair gets the agent of another."""
    every, seed, before = np.arange(len(train_on)), c.seeds[0] + 30, c.agent.episodes
    agents = train_each(train_on, every, config=c.agent, envs_each=c.envs, seed=seed, on_step=on_step)
    tried = tune_transfer(
        train_on,
        agents,
        np.roll(every, 1),
        c.grid,
        replace(c.agent, episodes=c.horizon),
        alpha=ALPHA,
        actions=ACTIONS,
        seed=seed + 1,
        on_step=lambda done, total: on_step(before + done, total),
    )
    return Part({}, tried)


def moved_and_trained(unseen: Scenario, agents: Ddpg, best: Mapping[str, Any], c: Fig4Config, on_step: OnStep) -> Part:
    """To each pair the agent of another, drawn at random, which trains on."""
    setting = Transfer(**{name: value for name, value in best.items() if name != "reward"})
    n = len(unseen)
    other = (np.arange(n) + np.random.default_rng(c.seeds[0]).integers(1, n, size=n)) % n
    rewards, lived = transfer(
        unseen,
        agents,
        other,
        setting,
        replace(c.agent, episodes=c.horizon),
        alpha=ALPHA,
        actions=ACTIONS,
        seed=c.seeds[0] + 40,
        judged_at=range(c.horizon + 1),
        on_step=on_step,
    )
    return Part({"judged": rewards[setting.acts]} | _noted("lived", lived))


def warmed(unseen: Scenario, model: AgentModel, c: Fig4Config) -> Part:
    """The pretrained agent without embedding and after warm-ups; the first draw meets the loads of transfer learning.

    `judged` is [draw, judged, pair], what was lived through [draw, episode, pair], `FLASH|metric` a mean over draws.
    """
    seeds = [c.seeds[0] + 40 + draw for draw in range(c.draws)]
    drawn = [warm_up(unseen, model, alpha=ALPHA, seed=seed, warmups=WARMUPS, episodes=c.horizon) for seed in seeds]
    arrays = {"judged": np.stack([[one.reward for one in judged] for judged, _ in drawn])}
    arrays |= {f"lived|{metric}": np.stack([lived[metric] for _, lived in drawn]) for metric in LIVED}
    first = [_named(FLASH, judged[1]) for judged, _ in drawn]
    means = {name: np.mean([one[name] for one in first], axis=0) for name in first[0]}
    return Part(arrays | means | _named(SHARED, drawn[0][0][0]))


def gated(unseen: Scenario, model: AgentModel, safe: Callable[[], Controller], c: Fig4Config, on_step: OnStep) -> Part:
    """The pretrained agent, fine-tuned behind a gate under the loads of transfer learning."""
    of = guarded(
        unseen,
        model,
        safe,
        alpha=ALPHA,
        seed=c.seeds[0] + 40,
        episodes=c.tuned,
        config=c.finetune,
        gate=c.gate,
        on_step=on_step,
    )
    return Part({"judged": of.reward, "served": of.served} | _noted("lived", of.lived) | _noted("safe", of.safe))


def _named(arm: str, judged: Judged) -> Arrays:
    return {f"{arm}|{of.name}": getattr(judged, of.name) for of in fields(judged)}


def _noted(name: str, lived: Lived) -> Arrays:
    return {f"{name}|{metric}": of for metric, of in lived.items()}
