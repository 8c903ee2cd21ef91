"""The default scenario: a thousand generated applications in drawn environments under drawn loads.

Enters: a seed. Leaves: pairs, and simulators of some of them. Applications of training and of testing are never mixed;
capacity bounds every load, so that what no autoscaler could serve is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from flashfm.datasets.rate_trace import RateTrace
from flashfm.tasks.autoscaling import loads, pairs
from flashfm.tasks.autoscaling.calibration import ApplicationCosts, load_costs
from flashfm.tasks.autoscaling.interface import Actions
from flashfm.tasks.autoscaling.loads import CLOCK_STEPS, LoadDistribution, LoadParams
from flashfm.tasks.autoscaling.pairs import PairDistribution
from flashfm.tasks.autoscaling.parameters import Params
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS, Chance, Load, Simulator

Kind = Literal["numpy", "torch"]
TRAINING = 800
"""Applications to pretrain on; the other 200 are to test on. Source: FLASH, section 3 (8:2)."""


@dataclass(frozen=True, eq=False)
class Scenario:
    """Some pairs and their loads, as float64 arrays."""

    apps: tuple[str, ...]
    """Application of each pair."""
    params: Params
    loads: LoadParams
    capacity_per_s: Float[np.ndarray, " env"]
    """Requests a second that the best configuration of each pair serves."""
    trace: RateTrace | None = None
    """Replayed in place of the drawn loads, scaled to their means; in bins of a step."""

    def __len__(self) -> int:
        return len(self.apps)

    def take(self, chosen: Int[np.ndarray, " chosen"]) -> Scenario:
        """Some of the pairs, in that order; a pair may be taken several times."""
        return Scenario(
            tuple(self.apps[i] for i in chosen),
            self.params.map(lambda a: a[chosen]),
            self.loads.map(lambda a: a[chosen]),
            self.capacity_per_s[chosen],
            self.trace,
        )

    def load(self, rng: np.random.Generator, steps: int = EPISODE_STEPS) -> tuple[np.ndarray, np.ndarray]:
        """The load of one episode, [step, env], and the step of the clock at which each pair begins."""
        start = rng.integers(CLOCK_STEPS, size=len(self)).astype(np.float64)
        if self.trace is None:
            drawn = loads.generate(self.loads, steps, rng, start)
        else:
            drawn = loads.replay(self.trace, steps, rng, self.loads.mean_per_s)
        return loads.clamp(drawn, self.capacity_per_s), start

    def simulator(
        self,
        *,
        alpha: Any = 0.5,
        actions: Actions = "limits",
        seed: int = 0,
        kind: Kind = "torch",
        steps: int = EPISODE_STEPS,
        device: str = "cpu",
    ) -> Simulator:
        """A simulator of all pairs.

        Args:
            alpha: weight of the SLO.
            actions: how actions are meant.
            seed: of chance and loads.
            kind: of the arrays, which are float32.
            steps: of an episode.
            device: of torch's arrays.
        """

        def array(values: np.ndarray) -> Any:
            if kind == "numpy":
                return values.astype(np.float32)
            import torch

            return torch.from_numpy(values).to(device=device, dtype=torch.float32)

        def make_load(chance: Chance) -> Load:
            rate, start = self.load(chance.loads, steps)
            return Load(array(rate), array(start))

        return Simulator(self.params.map(array), make_load, alpha=alpha, actions=actions, seed=seed)


def default(
    seed: int = 0,
    *,
    costs: Sequence[ApplicationCosts] | None = None,
    pair_distribution: PairDistribution | None = None,
    load_distribution: LoadDistribution | None = None,
) -> Scenario:
    """One pair for each application.

    Args:
        seed: of environments and loads.
        costs: of the applications; those that ship with the package by default.
        pair_distribution: of deployments and environments.
        load_distribution: of loads.
    """
    chosen = load_costs().costs if costs is None else costs
    rng = np.random.default_rng(seed)
    params, rate = pairs.draw(rng, chosen, pair_distribution)
    capacity = pairs.capacity_per_s(params)
    drawn = loads.draw(rng, len(chosen), load_distribution)
    scaled = replace(drawn, mean_per_s=np.minimum(rate, loads.MEAN_SHARE * capacity))
    return Scenario(tuple(one.name for one in chosen), params, scaled, capacity)


def split(scenario: Scenario, training: int = TRAINING, seed: int = 0) -> tuple[Scenario, Scenario]:
    """Pairs to train on and pairs to test on, parted at random; their applications differ, since names do."""
    order = np.random.default_rng([seed, 1]).permutation(len(scenario))
    return scenario.take(np.sort(order[:training])), scenario.take(np.sort(order[training:]))


def training_pairs(applications: int = TRAINING, environments: int = 1, seed: int = 0) -> Scenario:
    """What is trained on: the applications to train on, each in several deployments, environments and loads.

    Args:
        applications: how many, the first of those to train on.
        environments: that each is drawn in, at least 1.
        seed: of the first environment of each; the others have the seeds after it.
    """
    return joined([split(default(seed + i))[0].take(np.arange(applications)) for i in range(environments)])


def joined(scenarios: Sequence[Scenario]) -> Scenario:
    """The pairs of all of them, in order."""

    def each(part: str) -> dict[str, np.ndarray]:
        of = [getattr(one, part) for one in scenarios]
        return {f.name: np.concatenate([getattr(one, f.name) for one in of]) for f in fields(of[0])}

    return Scenario(
        sum((one.apps for one in scenarios), ()),
        Params(**each("params")),
        LoadParams(**each("loads")),
        np.concatenate([one.capacity_per_s for one in scenarios]),
        scenarios[0].trace,
    )
