"""One application for one day under the same load: the pretrained agent beside Kubernetes' autoscalers.

Enters: an agent, the name of a generated application, a trade-off. Leaves: what happened in each step, for each arm.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from flashfm.adapt.agent import FlashAgent, Trajectory
from flashfm.baselines.scaling import HpaVpa, HpaVpaConfig
from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.dynamics import StepOutcome
from flashfm.tasks.autoscaling.interface import violated
from flashfm.tasks.autoscaling.parameters import STEP_S
from flashfm.tasks.autoscaling.scenario import Scenario, default, split
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS, Simulator

STEPS_AN_HOUR = round(3600 / STEP_S)
LONGEST_H = 168.0
TUNED = HpaVpaConfig(target=0.1, vertical="both", day_s=3600.0, least_cpu_cores=1.0, least_memory_mib=64.0)
"""The best setting by reward at alpha 0.5 on training pairs, as `results/ablation-rl.json` has it."""

Steps = Float[np.ndarray, " step"]


@dataclass(frozen=True, eq=False)
class Day:
    """What happened to one arm; every field is [step]."""

    rate_per_s: Steps
    replicas: Steps
    cores: Steps
    memory_mib: Steps
    p99_s: Steps
    violated: Steps
    """1 where the SLO was missed."""
    killed: Steps
    """Share of the replicas that ran out of memory."""
    reward: Steps

    def summary(self) -> dict[str, float]:
        """Reward, share of steps that missed the SLO, and what was reserved in all."""
        hours = STEP_S / 3600
        return {
            "reward": float(self.reward.mean()),
            "violations": float(self.violated.mean()),
            "core_hours": float(self.cores.sum() * hours),
            "gib_hours": float(self.memory_mib.sum() / 1024 * hours),
            "killed": float(self.killed.mean()),
            "replicas": float(self.replicas.mean()),
        }


def unseen() -> Scenario:
    """Pairs that the shipped agent was not pretrained on."""
    return split(default(0))[1]


def simulate(
    agent: FlashAgent,
    app: str | None = None,
    *,
    alpha: float = 0.5,
    hours: float = 24.0,
    warm_ups: int = 1,
    seed: int = 0,
    against: HpaVpaConfig = TUNED,
) -> tuple[str, float, dict[str, Day]]:
    """Let both run the same application under the same load.

    Args:
        agent: the pretrained agent.
        app: one of the unseen applications; None takes the first.
        alpha: weight of the SLO, in [0, 1].
        hours: length; above 0, at most `LONGEST_H`.
        warm_ups: episodes that the agent sees of the application before, 0 to 3.
        seed: of loads and chance.
        against: the other arm.

    Returns:
        The application, its objective for the p99 in seconds, and the day of each arm, the agent's first.

    Raises:
        ModelError: one of them is out of its bounds.
    """
    if not 0 <= alpha <= 1:
        raise ModelError(f"simulate: alpha is {alpha:g}; expected the weight of the SLO in [0, 1]")
    if not 1 / STEPS_AN_HOUR <= hours <= LONGEST_H:
        raise ModelError(f"simulate: {hours:g} hours; expected {1 / STEPS_AN_HOUR:.3g} to {LONGEST_H:g}")
    if not 0 <= warm_ups <= 3:
        raise ModelError(f"simulate: {warm_ups} warm-up episodes; expected 0 to 3")
    pairs = unseen()
    chosen = app if app is not None else pairs.apps[0]
    if chosen not in pairs.apps:
        near = difflib.get_close_matches(chosen, pairs.apps, n=3)
        meant = f"did you mean {', '.join(near)}?" if near else f"there are {len(pairs)}, such as {pairs.apps[0]}"
        raise ModelError(f"simulate: no unseen application {chosen!r:.60}; {meant}")
    pair = pairs.take(np.array([pairs.apps.index(chosen)]))

    def simulator(steps: int, of: int) -> Simulator:
        return pair.simulator(alpha=alpha, actions=agent.actions, seed=of, kind="numpy", steps=steps)

    lived = [_live(agent, simulator(EPISODE_STEPS, 1000 * seed + 1 + i)) for i in range(warm_ups)]
    policy = agent.adapt(*lived) if lived else agent
    steps = round(hours * STEPS_AN_HOUR)
    ours, theirs = simulator(steps, 1000 * seed), simulator(steps, 1000 * seed)
    seen, controller = ours.reset(), HpaVpa(against)
    theirs.reset()
    controller.reset(theirs)
    rows: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    while not ours.done:
        stepped = ours.step(policy.act(seen))
        seen = stepped.observation
        rows[0].append(_row(ours, stepped.outcome, stepped.reward))
        rate = theirs.load.rate_per_s[theirs.t]
        other = theirs.apply(controller.decide(theirs.state, theirs.outcome, rate))
        rows[1].append(_row(theirs, other.outcome, other.reward))
    days = [Day(*np.stack(one, axis=1)) for one in rows]
    return chosen, float(pair.params.slo_s[0]), {"FLASH": days[0], "HPA + VPA": days[1]}


def _live(agent: FlashAgent, simulator: Simulator) -> Trajectory:
    """One episode of the agent without embedding."""
    seen, acted, rewarded = [simulator.reset()], [], []
    while not simulator.done:
        acted.append(agent.act(seen[-1]))
        stepped = simulator.step(acted[-1])
        seen.append(stepped.observation)
        rewarded.append(stepped.reward)
    return Trajectory(np.stack(seen), np.stack(acted), np.stack(rewarded))


def _row(simulator: Simulator, outcome: StepOutcome, reward: np.ndarray) -> np.ndarray:
    """Values of a step in the order of `Day`."""
    service = outcome.service
    values = (simulator.load.rate_per_s[simulator.t], outcome.replicas, outcome.cpu_cores, outcome.memory_mib)
    more = (service.p99_s, violated(outcome), service.killed, reward)
    return np.array([float(np.asarray(value)[0]) for value in (*values, *more)])
