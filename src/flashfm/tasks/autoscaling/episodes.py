"""How an environment for agents begins its episodes: which pairs, with which trade-off, and what it tells of a step.

Enters: what the caller of an environment asked for. Leaves: simulators and the values of `info`. The single environment
(`env.py`) and the vector of them (`vector_env.py`) share this, so that a vector of one does what the single one does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from array_api_compat import array_namespace, device
from jaxtyping import Int

from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.dynamics import StepOutcome
from flashfm.tasks.autoscaling.interface import Actions, violated
from flashfm.tasks.autoscaling.scenario import TRAINING, Kind, Scenario, default, split
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS, Simulator

Alpha = float | tuple[float, float]
"""Weight of the SLO, or the least and the most of it: then each pair of an episode draws its own."""


class Episodes:
    """Begins episodes.

    Args:
        pairs: what there is, or how many of the default pairs to train on.
        pairs_seed: of the default pairs.
        alpha: weight of the SLO in the reward, or the range that it is drawn from.
        actions: how actions are meant.
        steps: length of an episode.
        kind: of the arrays.
        device: of torch's arrays.

    Raises:
        ModelError: one of them is out of its bounds.
    """

    def __init__(
        self,
        pairs: Scenario | int = TRAINING,
        *,
        pairs_seed: int = 0,
        alpha: Alpha = 0.5,
        actions: Actions = "limits",
        steps: int = EPISODE_STEPS,
        kind: Kind = "numpy",
        device: str = "cpu",
    ) -> None:
        if actions not in get_args(Actions):
            raise ModelError(f"environment: actions {actions!r}; expected one of {', '.join(get_args(Actions))}")
        if kind not in get_args(Kind):
            raise ModelError(f"environment: arrays {kind!r}; expected one of {', '.join(get_args(Kind))}")
        if not _whole(steps) or steps < 1:
            raise ModelError(f"environment: episode_steps {steps!r}; expected a whole number of at least 1")
        self.alpha = _bounds(alpha)
        self.scenario = _scenario(pairs, pairs_seed)
        self.actions, self.steps, self.kind, self.device = actions, steps, kind, device

    def begin(
        self, rng: np.random.Generator, n: int, options: Mapping[str, Any] | None
    ) -> tuple[Simulator, Int[np.ndarray, " env"]]:
        """A simulator that has yet to be reset, and the pair of each of its environments.

        Pairs are shuffled and dealt out: none comes again before each has come once.

        Args:
            rng: what decides.
            n: number of environments.
            options: `pair`, a number or one for each environment, asks for pairs.

        Raises:
            ModelError: another option, or a pair that there is not.
        """
        known, options = len(self.scenario), options or {}
        unknown = sorted(set(options) - {"pair"})
        if unknown:
            raise ModelError(f"environment: no reset option {unknown[0]!r}; there is 'pair'")
        chosen = np.concatenate([rng.permutation(known) for _ in range(math.ceil(n / known))])[:n]
        if "pair" in options:
            chosen = self._asked(options["pair"], n)
        low, high = self.alpha
        alpha = low + (high - low) * rng.random(n)
        simulator = self.scenario.take(chosen).simulator(
            actions=self.actions,
            seed=int(rng.integers(2**62)),
            kind=self.kind,
            steps=self.steps,
            device=self.device,
        )
        simulator.alpha = alike(alpha, simulator.params.cpu_s)
        return simulator, chosen

    def _asked(self, pair: Any, n: int) -> Int[np.ndarray, " env"]:
        index = np.asarray(pair)
        if index.ndim > 1 or index.size not in (1, n) or index.dtype.kind not in "iu":
            of = "a whole number" if n == 1 else f"a whole number, or one for each of the {n} environments"
            raise ModelError(f"environment: option pair is {pair!r}; expected {of}")
        if index.min() < 0 or index.max() >= len(self.scenario):
            raise ModelError(f"environment: option pair is {pair!r}; there are pairs 0 to {len(self.scenario) - 1}")
        return np.broadcast_to(index.astype(np.int64).ravel(), n).copy()


def told(outcome: StepOutcome, rate_per_s: Any) -> dict[str, Any]:
    """What `info` tells of a step, by name, as arrays [env]; hidden parameters are not in it."""
    service = outcome.service
    return {
        "rate_per_s": rate_per_s,
        "served_per_s": service.served_per_s,
        "p50_s": service.p50_s,
        "p99_s": service.p99_s,
        "slo_violated": violated(outcome),
        "ready": outcome.ready,
        "replicas": outcome.replicas,
        "cores": outcome.cpu_cores,
        "memory_mib": outcome.memory_mib,
        "cpu_use": outcome.cpu_use,
        "memory_use": outcome.memory_use,
        "restarted": outcome.restarted,
        "killed": service.killed,
    }


def line(pair: int, t: int, steps: int, values: Mapping[str, Any]) -> str:
    """One line on a step of one environment, from what `told` gives of it."""
    met = "misses the SLO" if values["slo_violated"] else "meets the SLO"
    return (
        f"pair {pair} step {t}/{steps}: {values['rate_per_s']:.3g} requests/s, "
        f"{values['ready']:.0f} of {values['replicas']:.0f} replicas ready, {values['cores']:.3g} cores, "
        f"{values['memory_mib']:.0f} MiB, p99 {1e3 * values['p99_s']:.0f} ms {met}"
    )


def alike(values: Any, like: Any) -> Any:
    """Values as an array of the kind, type and device of another."""
    if isinstance(like, np.ndarray):
        return np.asarray(values, dtype=like.dtype)
    import torch

    return torch.as_tensor(values, dtype=like.dtype, device=like.device)


def bounded(action: Any, shape: tuple[int, ...], like: Any) -> Any:
    """Actions within [-1, 1].

    Args:
        action: of each environment.
        shape: that they must have, [env, action].
        like: an array whose kind, type and device they take.

    Raises:
        ModelError: another shape, or NaN on the CPU; to look for it elsewhere would be to wait for the device.
    """
    values = alike(action, like)
    if tuple(values.shape) != shape:
        raise ModelError(f"environment: actions of shape {tuple(values.shape)}; expected {shape}")
    if str(device(values)) == "cpu" and array_namespace(values).isnan(values).any():
        raise ModelError("environment: an action is NaN; expected numbers in [-1, 1]")
    return values.clip(min=-1.0, max=1.0)


def _scenario(pairs: Any, seed: Any) -> Scenario:
    if isinstance(pairs, Scenario):
        if not len(pairs):
            raise ModelError("environment: pairs holds none; expected a scenario of at least one")
        return pairs
    if not _whole(pairs) or not 1 <= pairs <= TRAINING:
        raise ModelError(f"environment: pairs {pairs!r}; expected a scenario, or a whole number from 1 to {TRAINING}")
    if not _whole(seed) or seed < 0:
        raise ModelError(f"environment: pairs_seed {seed!r}; expected a whole number of at least 0")
    return split(default(seed))[0].take(np.arange(pairs))


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _bounds(alpha: Any) -> tuple[float, float]:
    """Least and most of a weight of the SLO."""
    both = tuple(alpha) if isinstance(alpha, tuple | list) else (alpha, alpha)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in both)
    if len(both) != 2 or not numbers or not 0 <= both[0] <= both[1] <= 1:
        raise ModelError(
            f"environment: alpha is {alpha!r}; expected the weight of the SLO in [0, 1], or least and most of it"
        )
    return float(both[0]), float(both[1])
