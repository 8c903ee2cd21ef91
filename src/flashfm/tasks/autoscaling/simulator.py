"""A batch of pairs under load, stepped together: parameters, loads, state and chance in one place.

Enters: parameters and loads as arrays. Leaves: observations, rewards and outcomes, arrays of the same kind. What is
random is drawn from one generator that the caller seeds; the rules are those of `dynamics.py` and `interface.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from flashfm.tasks.autoscaling import dynamics
from flashfm.tasks.autoscaling.dynamics import CPU_CORES, MEMORY_MIB, REPLICAS, Draws, Limits, State, StepOutcome
from flashfm.tasks.autoscaling.interface import Actions, Recent, decode, observe, remember, reward
from flashfm.tasks.autoscaling.loads import CLOCK_STEPS
from flashfm.tasks.autoscaling.parameters import Params

EPISODE_STEPS = 100
"""Source: FLASH, table 5."""


def seed_of(*numbers: int) -> int:
    """A seed for each tuple of whole numbers, at least 0; what is drawn under different ones is unrelated."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class Chance:
    """Random numbers of a simulator, as arrays of its kind.

    Args:
        like: an array whose kind, type and device the numbers take.
        seed: of the generator.
    """

    def __init__(self, like: Any, seed: int) -> None:
        self._numpy = isinstance(like, np.ndarray)
        self._like = like
        self.loads = np.random.default_rng(seed)
        """What loads are drawn from."""
        if self._numpy:
            self._rng = np.random.default_rng(seed)
        else:
            import torch

            self._generator = torch.Generator(device=like.device).manual_seed(seed)

    def normal(self, *shape: int) -> Any:
        """Standard normal numbers."""
        if self._numpy:
            return self._rng.standard_normal(shape).astype(self._like.dtype)
        import torch

        kind = {"generator": self._generator, "dtype": self._like.dtype, "device": self._like.device}
        return torch.randn(shape, **kind)

    def uniform(self, *shape: int) -> Any:
        """Uniform numbers in [0, 1)."""
        if self._numpy:
            return self._rng.random(shape).astype(self._like.dtype)
        import torch

        kind = {"generator": self._generator, "dtype": self._like.dtype, "device": self._like.device}
        return torch.rand(shape, **kind)


class Stepped(NamedTuple):
    """What one step of a simulator gives."""

    observation: Any
    """After the step, [env, feature]."""
    reward: Any
    """In [0, 1], [env]."""
    outcome: StepOutcome


@dataclass(frozen=True)
class Load:
    """Requests a second of each step for each pair, and where on the clock each begins."""

    rate_per_s: Any
    """[step, env]: row 0 is what came before the first decision."""
    clock: Any
    """Step of the clock at row 0, [env]."""

    def __len__(self) -> int:
        return int(self.rate_per_s.shape[0]) - 1


MakeLoad = Callable[[Chance], Load]


class Simulator:
    """Steps a batch of pairs through episodes.

    Args:
        params: of the pairs; their array kind, type and device is that of everything else.
        make_load: gives the load of an episode, drawn from the chance that it is handed.
        alpha: weight of the SLO, a number or an array [env], in [0, 1].
        actions: how actions are meant.
        seed: of chance.
    """

    def __init__(
        self, params: Params, make_load: MakeLoad, *, alpha: Any = 0.5, actions: Actions = "limits", seed: int = 0
    ) -> None:
        self.params, self.actions, self.alpha, self.seed = params, actions, alpha, seed
        self.chance = Chance(params.cpu_s, seed)
        self._make_load = make_load
        self.state: State
        self.outcome: StepOutcome
        self.recent: Recent
        self.load: Load
        self.t = 0

    def __len__(self) -> int:
        return len(self.params)

    def reset(self, episode: int | None = None) -> Any:
        """Begin an episode in limits and replicas that somebody chose without care; gives the first observation.

        Args:
            episode: its number, at least 0, which with the simulator's seed decides all of its chance; None goes on
                with the chance of the episode before.
        """
        if episode is not None:
            self.chance = Chance(self.params.cpu_s, seed_of(self.seed, episode))
        xp, p = array_namespace(self.params.cpu_s), self.params
        self.load, self.t = self._make_load(self.chance), 0
        u = self.chance.uniform(len(p), 4)
        cpu = 0.5 * 4.0 ** u[:, 0]
        memory = 1.0 * p.memory_base_mib * 4.0 ** u[:, 1] + 100.0
        busy = 0.3 + 0.8 * u[:, 2]
        replicas = xp.ceil(self.load.rate_per_s[0] * p.cpu_s / p.node_speed / cpu / busy).clip(*REPLICAS)
        limits = Limits(cpu.clip(*CPU_CORES), memory.clip(*MEMORY_MIB), replicas)
        self.state = dynamics.start(p, limits, u[:, 3])
        return self._advance(limits, 0).observation

    def step(self, action: Any) -> Stepped:
        """Act, [env, 3] in [-1, 1], and serve the next step."""
        return self.apply(decode(action, self.actions, self.state, self.outcome, self.recent))

    def apply(self, limits: Limits) -> Stepped:
        """Set limits, and serve the next step."""
        self.t += 1
        return self._advance(limits, self.t)

    @property
    def done(self) -> bool:
        """Whether the load of the episode has ended."""
        return self.t >= len(self.load)

    def _advance(self, limits: Limits, row: int) -> Stepped:
        n = len(self.params)
        draws = Draws(self.chance.normal(n), self.chance.uniform(n), self.chance.normal(n))
        rate, before = self.load.rate_per_s[row], self.load.rate_per_s[max(row - 1, 0)]
        self.state, self.outcome = dynamics.step(self.params, self.state, limits, rate, draws)
        self.recent = remember(self.recent if row else None, self.outcome)
        clock = (self.load.clock + row) * (2 * math.pi / CLOCK_STEPS)
        seen = observe(self.params.slo_s, self.state, self.outcome, rate, before, clock, self.alpha)
        return Stepped(seen, reward(self.outcome, self.alpha), self.outcome)
