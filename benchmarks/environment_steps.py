"""Environment steps a second of the vector environment, beside the loops of Gymnasium and Stable-Baselines3.

All step the same environment with random actions, resets at the end of episodes included, on one core and without a
policy. Rivals: a plain loop over Gymnasium's single environment, `SyncVectorEnv`, and `DummyVecEnv` (how
Stable-Baselines3 runs environments), by whose single-environment loop ratios are. Prints environment steps a second as
the median over five rounds with their range, and the exponent of a step's time over the number of environments.

    python benchmarks/environment_steps.py [--json] [--write] [--quick]

`--write` keeps the figures in results/environment-steps.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import gymnasium
import numpy as np
import torch
from _figures import Asked, Found, asked
from stable_baselines3.common.vec_env import DummyVecEnv

import flashfm.envs
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS

SIZES, QUICK_SIZES = (1, 8, 64, 800, 4_096, 16_384), (1, 8, 800)
RIVAL_SIZES = (1, 8, 32)
COMPARED = (1, 800, 16_384)
EPISODES = 4
"""In a round; one where that takes long enough."""
LARGE = 800
"""Environments from which growth is fitted once more: below, what a step costs at least is most of it."""
LOOP, DUMMY, SYNC = "loop over one environment", "DummyVecEnv of {}", "SyncVectorEnv of {}"
RIVAL = DUMMY.format(1)
TARGET = {"at_least": 100.0}
"""Times the steps of the rival, of 800 environments on one core."""
UNIT = "environment steps/s"
Step = Callable[[], object]


def name_of(arrays: str, envs: int) -> str:
    return f"vector of {envs}, {arrays}"


def stepper(envs: int, arrays: str) -> Step:
    env = gymnasium.make_vec(
        flashfm.envs.AUTOSCALING, envs, vectorization_mode="vector_entry_point", arrays=arrays, alpha=(0.3, 0.9)
    )
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (envs, 3)).astype(np.float32)
    given = actions if arrays == "numpy" else torch.from_numpy(actions)
    return lambda: env.step(given)


def make() -> gymnasium.Env:
    return gymnasium.make(flashfm.envs.AUTOSCALING, alpha=(0.3, 0.9))


def loop() -> Step:
    env = make()
    env.reset(seed=0)
    action = np.random.default_rng(0).uniform(-1, 1, 3).astype(np.float32)

    def step() -> None:
        *_, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()

    return step


def rival(name: str, envs: int) -> Step:
    env = DummyVecEnv([make] * envs) if name == DUMMY else gymnasium.vector.SyncVectorEnv([make] * envs)
    env.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (envs, 3)).astype(np.float32)
    return lambda: env.step(actions)


def per_s(envs: int, step: Step, episodes: int) -> float:
    steps = EPISODE_STEPS * episodes
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return envs * steps / (time.perf_counter() - start)


def found_by(asked: Asked) -> Found:
    sizes, rival_sizes = (QUICK_SIZES, RIVAL_SIZES[:2]) if asked.quick else (SIZES, RIVAL_SIZES)
    runs: dict[str, tuple[int, int, Step]] = {LOOP: (1, EPISODES, loop())}
    for name in (DUMMY, SYNC):
        runs |= {name.format(n): (n, EPISODES if n == 1 else 1, rival(name, n)) for n in rival_sizes}
    for arrays in ("numpy", "torch"):
        runs |= {name_of(arrays, n): (n, EPISODES if n <= LARGE else 1, stepper(n, arrays)) for n in sizes}
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(asked.rounds):
        for name, (envs, episodes, step) in runs.items():
            rates[name].append(per_s(envs, step, 1 if asked.quick else episodes))
    found = Found()
    found.add(rates, UNIT)
    for arrays in ("numpy", "torch"):
        for envs in (n for n in COMPARED if n in sizes):
            ratio = found.compare(name_of(arrays, envs), RIVAL)
            if arrays == "numpy" and envs == LARGE:
                found.targets[ratio] = TARGET
        grow(found, arrays, {n: rates[name_of(arrays, n)] for n in sizes})
        if len(sizes) > len(QUICK_SIZES):
            grow(found, f"{arrays}, from {LARGE}", {n: rates[name_of(arrays, n)] for n in sizes if n >= LARGE})
    for name in (DUMMY, SYNC):
        grow(found, name.split()[0], {n: rates[name.format(n)] for n in rival_sizes})
    for other in (LOOP, SYNC.format(8)):
        found.compare(name_of("numpy", LARGE), other)
    return found


def grow(found: Found, what: str, rates: dict[int, list[float]]) -> None:
    found.grows(f"time of a step over environments, {what}", {n: [n / rate for rate in of] for n, of in rates.items()})


def main() -> None:
    how = asked(__doc__)
    torch.set_num_threads(1)
    found_by(how).tell(__file__, how, "random actions, resets included, one thread", pairs=800)


if __name__ == "__main__":
    main()
