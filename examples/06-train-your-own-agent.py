"""Train an agent of somebody else's, DDPG of Stable-Baselines3, to scale an application; beside it a static one.

    pip install stable-baselines3
    python examples/06-train-your-own-agent.py

It shows how the parts fit together, on one application and for half a minute. That is too short for a good agent: the
static limits earn more, and another seed may end worse than it began. Rewards are centred for training: DDPG is known
to be unsteady, and more so where all returns are positive.
"""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
import torch
from stable_baselines3 import DDPG
from stable_baselines3.common.noise import NormalActionNoise

import flashfm.envs

STEPS = 7500
Policy = Callable[[np.ndarray], np.ndarray]


def judge(name: str, env: gymnasium.Env, begin: Callable[[np.ndarray], Policy], episodes: int = 6) -> None:
    """Mean reward and share of steps that miss the SLO, in the same episodes for each policy."""
    rewards, missed = [], []
    for seed in range(episodes):
        observation, _ = env.reset(seed=seed)
        policy, over = begin(observation), False
        while not over:
            observation, reward, _, over, info = env.step(policy(observation))
            rewards.append(reward)
            missed.append(info["slo_violated"])
    print(f"{name}: reward {np.mean(rewards):.3f}, {np.mean(missed):.0%} of the steps miss the SLO")


def as_it_was_deployed(first: np.ndarray) -> Policy:
    """Keep the limits and replicas that an episode begins with; observations and actions share their scale."""
    kept = first[[0, 1, 8]]
    return lambda _: kept


def main() -> None:
    torch.set_num_threads(1)
    env, test = (gymnasium.make(flashfm.envs.AUTOSCALING, pairs=1, alpha=0.5) for _ in range(2))
    agent = DDPG(
        "MlpPolicy",
        gymnasium.wrappers.TransformReward(env, lambda reward: reward - 0.6),
        gamma=0.9,
        batch_size=128,
        learning_starts=300,
        train_freq=3,
        gradient_steps=1,
        action_noise=NormalActionNoise(np.zeros(3), np.full(3, 0.2)),
        policy_kwargs={"net_arch": [64, 64]},
        seed=0,
    )

    def learned(_: np.ndarray) -> Policy:
        return lambda observation: agent.predict(observation, deterministic=True)[0]

    judge("static", test, as_it_was_deployed)
    judge("DDPG before training", test, learned)
    agent.learn(STEPS)
    judge(f"DDPG after {STEPS} steps", test, learned)


if __name__ == "__main__":
    main()
