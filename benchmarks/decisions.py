"""Latency of what is asked while a system runs: decisions and embeddings of the agent, answers of the regressor.

Both models are those that ship. The agent's arms are those of `flashfm reproduce overhead-rl`: a decision from a NumPy
observation to an action, with no embedding (FIRM), with the embedding that is kept, and the paper's way, which runs its
GRU at each decision; an embedding of one trajectory of 100 steps; and a decision in units with its reasons. The
regressor's are those of `flashfm reproduce overhead-sl`, which has the paper's two systems as initialised, and the
whole of what a user asks of one pair: adapt, predict and recommend. Prints milliseconds as the median over five rounds
with their range, and the exponent of the time of one call over the pairs in it.

    python benchmarks/decisions.py [--json] [--write] [--quick]

`--write` keeps the figures in results/decisions.json.
"""

from __future__ import annotations

from functools import partial

import gymnasium
import numpy as np
import torch
from _figures import Asked, Found, asked

import flashfm
import flashfm.envs
from flashfm.act.autoscale import Terms
from flashfm.adapt.agent import AdaptedAgent, FlashAgent
from flashfm.experiments import evaluation, overhead_rl, overhead_sl
from flashfm.tasks.autoscaling.interface import OBSERVATION

SECONDS = 0.3
PAIRS, QUICK_PAIRS = (1, 10, 100, 1_000, 10_000, 100_000), (1, 10, 1_000)
WITH_REASONS = 1_000
"""Pairs up to which decisions are told with reasons."""
TERMS = Terms(slo_s=0.5, alpha=0.7)
DECIDE = "FlashAgent.decide, with reasons"
WHOLE, ADAPT, EMBED = "flashfm, adapt, predict and recommend", "flashfm, adapt", "flashfm, its embedding"


def agent_arms(found: Found, how: Asked, agent: FlashAgent, observation: np.ndarray) -> None:
    for group, arms in overhead_rl.acting(agent).items():
        found.add(how.time(arms, SECONDS), "ms", group)
        for arm in arms:
            if arm != overhead_rl.BASES[group]:
                found.compare(arm, overhead_rl.BASES[group], group)
            if (group, arm) in overhead_rl.TARGETS_MS:
                found.targets[f"{group}: {arm}"] = {"at_most": overhead_rl.TARGETS_MS[group, arm]}
    decide = partial(agent.begin().decide, observation, [TERMS])
    found.add(how.time({DECIDE: decide}, SECONDS), "ms", overhead_rl.DECISION)


def agent_growth(found: Found, how: Asked, agent: FlashAgent, observation: np.ndarray) -> None:
    """One call for many pairs."""
    pairs = QUICK_PAIRS if how.quick else PAIRS

    def served(n: int) -> tuple[AdaptedAgent, np.ndarray]:
        return agent.begin(), np.repeat(observation, n, axis=0)

    for what, most in (("decisions", pairs[-1]), ("decisions with reasons", WITH_REASONS)):
        arms = {}
        for n in pairs:
            if n <= most:
                acting, seen = served(n)
                reasons = what != "decisions"
                arms[str(n)] = partial(acting.decide, seen, [TERMS] * n) if reasons else partial(acting.act, seen)
        times = how.time(arms, SECONDS / 2)
        found.add({f"{what} of {int(n):,} at once": of for n, of in times.items()}, "ms")
        found.grows(f"time of a call over pairs, {what}", {int(n): of for n, of in times.items()})


def regressor_arms(found: Found, how: Asked, regressor: flashfm.FlashRegressor) -> None:
    data = evaluation.load("measured")
    for group, arms in overhead_sl.inference(data, regressor.model).items():
        found.add(how.time(arms, SECONDS), "ms", group)
        for arm in (overhead_sl.TENSORS, overhead_sl.PUBLIC):
            found.compare(arm, overhead_sl.FLASH, group)
    first, places = np.array([0]), data.observed[0][None, :1]
    frame, shots = overhead_sl.frame_of(data, first, places[:, 0]), data.shots(first, places)

    def whole() -> object:
        adapted = regressor.adapt(frame)
        adapted.predict()
        return adapted.recommend()

    arms = {WHOLE: whole, ADAPT: partial(regressor.adapt, frame), EMBED: partial(regressor.model.embed, shots)}
    found.add(how.time(arms, SECONDS), "ms", overhead_sl.ONE)


def main() -> None:
    how = asked(__doc__)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    agent = FlashAgent.from_pretrained("autoscaling")
    env = gymnasium.make(flashfm.envs.AUTOSCALING, pairs=1, actions=agent.actions)
    observation = np.asarray(env.reset(seed=0)[0], np.float32).reshape(1, len(OBSERVATION))
    found = Found()
    agent_arms(found, how, agent, observation)
    agent_growth(found, how, agent, observation)
    regressor_arms(found, how, flashfm.FlashRegressor.from_pretrained("serverless-memory"))
    found.tell(__file__, how, "medians of calls, warm, one thread")


if __name__ == "__main__":
    main()
