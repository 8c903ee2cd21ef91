"""Fine-tuning of the pretrained agent behind a gate: HPA and VPA serve a pair until something else has earned it.

Enters: pairs, the pretrained agent, and what makes the safe controller. Leaves: the reward of the fine-tuned policies
after every episode, judged without exploration, what happened in the episodes, and what the safe controller alone would
have had in the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flashfm.adapt.agent import FlashAgent, Trajectory
from flashfm.adapt.agent_finetune import FineTuneConfig, FineTuner
from flashfm.adapt.gate import SAFE, Gate, GateConfig
from flashfm.baselines.scaling import Controller
from flashfm.experiments.adapting import NOISE, Lived, OnStep, Recorder, Rewards, live
from flashfm.experiments.scaling import EPISODES, controller_acts, decided, judge
from flashfm.models.agent import AgentModel
from flashfm.tasks.autoscaling.dynamics import Limits
from flashfm.tasks.autoscaling.interface import as_targets, decode
from flashfm.tasks.autoscaling.scenario import Scenario
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS, Simulator, Stepped

EMBEDDED, TUNED = SAFE + 1, SAFE + 2
"""Policies of the gate beside the safe one: the pretrained agent, and the one that is fine-tuned from it."""


@dataclass(frozen=True, eq=False)
class Guarded:
    """What became of pairs while a policy was fine-tuned for each."""

    reward: Rewards
    """Judged after 0, 1, ... episodes: of the fine-tuned policy, or of what it is to begin from, as far as it is
    known; whether the gate lets it serve or not."""
    lived: Lived
    """Whoever served."""
    safe: Lived
    """Of the safe controller alone, under the same loads and chance."""
    served: Int[np.ndarray, "episode pair"]
    """Which policy of the gate did."""


def guarded(
    scenario: Scenario,
    model: AgentModel,
    controller: Callable[[], Controller],
    *,
    alpha: float,
    seed: int,
    episodes: int,
    config: FineTuneConfig | None = None,
    gate: GateConfig | None = None,
    on_step: OnStep = lambda *_: None,
) -> Guarded:
    """Serve pairs by whatever the gate chooses, and fine-tune on what was lived through.

    The first episode that the gate gives to the pretrained agent is the warm-up of that pair, by the policy without
    embedding; fine-tuning begins once all pairs have had theirs, and learns from the earlier episodes as well.

    Args:
        scenario: the pairs.
        model: the agent; its actions are targets.
        controller: makes the safe controller.
        alpha: weight of the SLO.
        seed: of loads, chance and exploration.
        episodes: of each pair.
        config: of fine-tuning.
        gate: of the gate.
        on_step: told of the episodes that are done and of all of them.
    """
    pairs, agent, generator = len(scenario), FlashAgent(model), torch.Generator().manual_seed(seed)
    recorder = Recorder(scenario, alpha=alpha, actions=model.actions, seed=seed)
    safe, chooser = controller(), Gate(pairs, TUNED + 1, gate)
    known = np.zeros(pairs, bool)
    embedding = np.zeros((pairs, model.encoder.meta.config.embed), np.float32)
    tuner: FineTuner | None = None
    past: list[Trajectory] = []
    rewards, served = [_judged(scenario, model, embedding, known, tuner, alpha)], []

    def act(observation: Tensor, who: Int[np.ndarray, " pair"]) -> Tensor:
        unknown = model.act(observation)
        unknown = (unknown + NOISE * torch.randn(unknown.shape, generator=generator)).clamp(-1.0, 1.0)
        action = torch.where(_column(known), model.act(observation, torch.from_numpy(embedding)), unknown)
        if tuner is None:
            return action
        explored = torch.from_numpy(tuner.act(observation.numpy(), explore=True))
        return torch.where(_column(who == TUNED), explored, action)

    for episode in range(episodes):
        who = chooser.choose()
        if tuner is None:
            who = np.minimum(who, EMBEDDED)
        lived = _serve(recorder, safe, who, act)
        chooser.tell(who, lived.reward.mean(axis=0, dtype=np.float64))
        fresh = (who == EMBEDDED) & ~known
        if fresh.any():
            embedding[fresh] = agent.embed(lived)[fresh]
        known |= fresh
        past.append(lived)
        if tuner is None and known.all():
            tuner = FineTuner(model, embedding, EPISODE_STEPS, config=config, seed=seed)
        if tuner is not None:
            for one in past:
                tuner.learn(one)
            past = []
        served.append(who)
        rewards.append(_judged(scenario, model, embedding, known, tuner, alpha))
        on_step(episode + 1, episodes)

    alone, beside = controller(), Recorder(scenario, alpha=alpha, actions=model.actions, seed=seed)
    live(beside, controller_acts(alone), episodes, begin=alone.reset)
    return Guarded(np.stack(rewards), recorder.lived, beside.lived, np.stack(served))


@torch.no_grad()
def _serve(
    recorder: Recorder,
    safe: Controller,
    who: Int[np.ndarray, " pair"],
    act: Callable[[Tensor, Int[np.ndarray, " pair"]], Tensor],
) -> Trajectory:
    """An episode in which each pair has its own policy; what the controller did is noted as targets."""
    states, actions, rewards = [recorder.reset()], [], []
    safe.reset(recorder)
    by_safe = torch.from_numpy(who == SAFE)
    for _ in range(EPISODE_STEPS):
        theirs, action = decided(safe, recorder), act(states[-1], who)
        ours = decode(action, recorder.actions, recorder.state, recorder.outcome, recorder.recent)
        action = torch.where(by_safe[:, None], as_targets(theirs, recorder.recent), action)
        stepped = recorder.apply(Limits(*(torch.where(by_safe, a, b) for a, b in zip(theirs, ours, strict=True))))
        states.append(stepped.observation)
        actions.append(action)
        rewards.append(stepped.reward)
    return Trajectory(*(torch.stack(part).numpy() for part in (states, actions, rewards)))


def _judged(
    scenario: Scenario,
    model: AgentModel,
    embedding: Float[np.ndarray, "pair embed"],
    known: Bool[np.ndarray, " pair"],
    tuner: FineTuner | None,
    alpha: float,
) -> Float[np.ndarray, " pair"]:
    shown, there = (torch.from_numpy(np.repeat(of, EPISODES, axis=0)) for of in (embedding, known))

    def act(observation: Tensor, simulator: Simulator) -> Stepped:
        if tuner is None:
            action = torch.where(there[:, None], model.act(observation, shown), model.act(observation))
        else:
            seen = observation.reshape(len(known), EPISODES, -1).numpy()
            each = [tuner.act(seen[:, i], explore=False) for i in range(EPISODES)]
            action = torch.from_numpy(np.stack(each, axis=1)).reshape(len(observation), -1)
        return simulator.step(action)

    return judge(scenario, act, alpha=alpha, actions=model.actions).reward


def _column(values: Bool[np.ndarray, " pair"]) -> Bool[Tensor, "pair 1"]:
    return torch.from_numpy(values)[:, None]
