"""Work of ranks that train an agent together, and ranks that are lost; a module that workers import."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine_items import Told
from torch import Tensor

from flashfm.baselines.scaling import HpaVpa
from flashfm.engine.group import Group
from flashfm.models.agent_state import digest
from flashfm.models.ddpg import Batch, Ddpg, DdpgConfig
from flashfm.pretraining.autoscaling import AutoscalingConfig, pretrain
from flashfm.pretraining.checkpoints import Checkpoints
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.pretraining.reinforcement import AgentConfig, train
from flashfm.pretraining.shares import mean_gradients
from flashfm.tasks.autoscaling.scenario import Scenario, default

DDPG = DdpgConfig(hidden=(16, 16))
AGENT = AgentConfig(DDPG, episodes=2, random_episodes=2, batch=16, updates=1, kept_episodes=2)
CONFIG = AutoscalingConfig(agent=AGENT, identification=IdentificationConfig(steps=5, tasks=8), episodes=2)


def pairs(n: int = 12) -> Scenario:
    """Of twelve the first half has none that is held out."""
    return default(0).take(np.arange(0, 10 * n, 10))


def made(group: Group, _told: Told) -> str:
    """What a rank ends with."""
    return digest(pretrain(pairs(), CONFIG, seed=1, group=group))


def weights(agent: Ddpg) -> list[float]:
    found: list[float] = torch.cat([weight.detach().flatten() for weight in agent.kept.parameters()]).tolist()
    return found


def mean(group: Group, _told: Told) -> list[float]:
    """Of gradients of ranks with 1, 3, 5 … pairs."""
    gradients = [torch.full((2,), 1.0 + group.rank), torch.full((1, 3), 10.0 + group.rank)]
    exchange = mean_gradients(group, 1 + 2 * group.rank)
    if exchange is not None:
        exchange(gradients)
    return [float(gradient.flatten()[-1]) for gradient in gradients]


def learned(group: Group, _told: Told) -> list[float]:
    """Weights after some updates on a rank's rows of batches that all have."""
    torch.manual_seed(0)
    agent = Ddpg(1, 4, 2, 3, DDPG)
    generator = torch.Generator().manual_seed(1)
    rows = 25
    part = group.part(rows)
    agent.exchange = mean_gradients(group, part.stop - part.start)
    for _ in range(20):
        parts = [torch.rand(1, rows, width, generator=generator) for width in (4, 2, 4, 3)]
        reward = torch.rand(1, rows, generator=generator)
        state, action, after, embedding = (values[:, part] for values in parts)
        agent.learn(Batch(state, action, reward[:, part], after, embedding))
    return weights(agent)


def share(scenario: Scenario, group: Group) -> Scenario:
    return scenario.take(np.arange(len(scenario))[group.part(len(scenario))])


class Dying(Checkpoints):
    """Of a rank that is killed, once, when it is about to keep what the others have kept by then or will."""

    def __init__(self, folder: Path, before: str) -> None:
        super().__init__(folder, 30.0)
        self._mark, self._before = folder.with_name(f"{folder.name}-died"), before

    def write(self, parts: Mapping[str, Mapping[str, Tensor]], *, forget: Iterable[str] = ()) -> None:
        if self._before in parts and not self._mark.exists():
            self._mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().write(parts, forget=forget)


def lost_at(folder: Path, before: str, group: Group, _told: Told) -> list[float]:
    """Training in which the last rank dies before it keeps a part."""
    last, own = group.rank == group.size - 1, folder / f"rank-{group.rank}"
    with Dying(own, before) if last else Checkpoints(own, 30.0) as checkpoints:
        simulator = share(pairs(), group).simulator(actions="targets", seed=group.rank)
        return weights(train(simulator, AGENT, seed=0, checkpoints=checkpoints, group=group))


def trained(folder: Path) -> str:
    """The files that hold the policy which is trained first; a file that is written again is another one."""
    return "".join(f"{path} {path.stat().st_ino}\n" for path in sorted(folder.glob("rank-*/shared-agent-2.*")))


class Deadly(HpaVpa):
    """Rules whose worker is killed, once, when they are asked first."""

    def __init__(self, mark: Path, folder: Path) -> None:
        super().__init__()
        self.mark, self._folder = mark, folder

    def decide(self, *seen: Any) -> Any:
        if not self.mark.exists():
            self.mark.write_text(trained(self._folder))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decide(*seen)
