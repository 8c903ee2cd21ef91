"""Episodes for encoders: those of autoscalers of today read like those of a policy, and everybody's are mixed."""

from __future__ import annotations

import numpy as np
import torch

from flashfm.baselines.scaling import HpaVpa, in_use
from flashfm.pretraining.lived import collect_rules, shuffled
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION, decode
from flashfm.tasks.autoscaling.scenario import default
from flashfm.tasks.autoscaling.simulator import EPISODE_STEPS


def test_the_actions_of_rules_ask_for_what_came_to_be_in_force() -> None:
    few = default(0).take(np.arange(8))
    read = collect_rules(few.simulator(actions="targets", seed=3), [HpaVpa()], 0, (0.5, 0.5))
    assert read.shape == (8, 1, EPISODE_STEPS, 2 * len(OBSERVATION) + len(ACTION) + 1)
    simulator, rule = few.simulator(actions="targets", seed=3), HpaVpa()
    state = simulator.reset()
    rule.reset(simulator)
    for step in range(10):
        token = read[:, 0, step]
        torch.testing.assert_close(token[:, : len(OBSERVATION)], state)
        before, outcome, recent = simulator.state, simulator.outcome, simulator.recent
        state = simulator.apply(rule.decide(before, outcome, simulator.load.rate_per_s[simulator.t])).observation
        action = token[:, len(OBSERVATION) : len(OBSERVATION) + len(ACTION)]
        inside = (action.abs() < 0.999).all(dim=1)
        asked = decode(action, "targets", before, outcome, recent)
        torch.testing.assert_close(
            asked.replicas[inside] - 0.5, simulator.outcome.replicas[inside], rtol=1e-3, atol=0.51
        )
        torch.testing.assert_close(token[:, -len(OBSERVATION) :], state)


def test_each_of_those_in_use_plays_an_episode_with_a_trade_off_of_its_own() -> None:
    few = default(0).take(np.arange(4))
    read = collect_rules(few.simulator(actions="targets", seed=3), list(in_use().values()), 0, (0.3, 0.9))
    assert read.shape[1] == len(in_use()) == 3
    alpha = read[:, :, :, OBSERVATION.index("alpha")]
    assert (alpha.std(dim=2) < 1e-6).all(), "one for an episode"
    assert len(alpha[:, :, 0].unique()) == 12
    assert not torch.equal(read[:, 0], read[:, 1])


def test_shuffled_trajectories_are_the_same_ones_in_an_order_of_each_pair() -> None:
    read = torch.arange(6 * 5, dtype=torch.float32).reshape(6, 5, 1, 1)
    mixed = shuffled(read, 0)
    assert torch.equal(mixed[:, :, 0, 0].sort(dim=1).values, read[:, :, 0, 0])
    assert len({tuple((mixed[i, :, 0, 0] - 5 * i).tolist()) for i in range(6)}) > 1
    assert torch.equal(mixed, shuffled(read, 0))
