"""Environment steps a second of the vector environment, beside Stable-Baselines3's loop over the single environment.

All step the same environment with random actions, resets at the end of episodes included, on one core and without a
policy. Rivals: `DummyVecEnv` of one (how Stable-Baselines3 runs an environment) and Gymnasium's `SyncVectorEnv` of 8.
Prints environment steps a second as the median over five rounds with their range, and the ratio to `DummyVecEnv`, whose
turn comes in each round.

    python benchmarks/environment_steps.py [--json] [--write]

`--write` keeps the figures in results/environment-steps.json.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

import flashfm.envs
from flashfm.experiments.results import Row, write

ROUNDS = 5
SIZES = (1, 64, 800, 16_384)
RIVAL = "DummyVecEnv of 1"
LEAST_STEPS = 400
Step = Callable[[], object]


def stepper(envs: int, arrays: str) -> Step:
    env = gymnasium.make_vec(
        flashfm.envs.AUTOSCALING, envs, vectorization_mode="vector_entry_point", arrays=arrays, alpha=(0.3, 0.9)
    )
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (envs, 3)).astype(np.float32)
    given = actions if arrays == "numpy" else torch.from_numpy(actions)
    return lambda: env.step(given)


def rivals() -> dict[str, tuple[int, Step]]:
    def make() -> gymnasium.Env:
        return gymnasium.make(flashfm.envs.AUTOSCALING, alpha=(0.3, 0.9))

    rng = np.random.default_rng(0)
    one, eight = DummyVecEnv([make]), gymnasium.vector.SyncVectorEnv([make] * 8)
    one.reset()
    eight.reset(seed=0)
    of_one, of_eight = (rng.uniform(-1, 1, (n, 3)).astype(np.float32) for n in (1, 8))
    return {RIVAL: (1, lambda: one.step(of_one)), "SyncVectorEnv of 8": (8, lambda: eight.step(of_eight))}


def per_s(envs: int, step: Step) -> float:
    steps = LEAST_STEPS if envs < 1000 else LEAST_STEPS // 4
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return envs * steps / (time.perf_counter() - start)


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def keep(rates: dict[str, list[float]], ratios: dict[str, list[float]]) -> None:
    rows = [
        Row(
            dataset="none",
            method=name,
            metric=metric,
            mean=statistics.mean(values),
            median=statistics.median(values),
            sd=statistics.stdev(values),
            n_pairs=800,
            n_queries=ROUNDS,
        )
        for metric, of in (("environment steps/s", rates), (f"ratio to {RIVAL}", ratios))
        for name, values in of.items()
    ]
    write(
        Path(__file__).parents[1] / "results" / "environment-steps.json",
        command="python benchmarks/environment_steps.py --write",
        protocol=f"{ROUNDS} rounds, all of them in turn in each; random actions, resets included, one thread",
        seeds=[0],
        rows=rows,
        more={"target_steps_per_s": 1e6, "target_envs": 800},
    )


def main() -> None:
    torch.set_num_threads(1)
    runs = rivals() | {
        f"vector of {envs}, {arrays}": (envs, stepper(envs, arrays)) for arrays in ("numpy", "torch") for envs in SIZES
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, (envs, step) in runs.items():
            rates[name].append(per_s(envs, step))
    ratios = {
        name: [ours / rival for ours, rival in zip(values, rates[RIVAL], strict=True)]
        for name, values in rates.items()
        if name != RIVAL
    }
    if "--write" in sys.argv:
        keep(rates, ratios)
    result = {
        "steps_per_s": {name: spread(values) for name, values in rates.items()},
        f"ratio_to_{RIVAL}": {name: spread(values) for name, values in ratios.items()},
    }
    if "--json" in sys.argv:
        print(json.dumps(result))
        return
    for heading, of in result.items():
        print(heading)
        for name, found in of.items():
            print(f"  {name}: {short(found['median'])} ({short(found['low'])} to {short(found['high'])})")


if __name__ == "__main__":
    main()
