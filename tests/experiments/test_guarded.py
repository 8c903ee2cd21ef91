"""Fine-tuning behind a gate: who serves, what is noted of a controller's doing, and what it would have had alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.adapt.agent_finetune import FineTuneConfig
from flashfm.adapt.gate import SAFE, GateConfig
from flashfm.baselines.scaling import HpaVpa
from flashfm.experiments.adapting import Recorder, live
from flashfm.experiments.guarded import EMBEDDED, TUNED, guarded
from flashfm.experiments.scaling import controller_acts
from flashfm.experiments.single import SINGLE
from flashfm.models.agent import AgentModel
from flashfm.models.ddpg import DdpgConfig
from flashfm.pretraining.autoscaling import AutoscalingConfig, pretrain
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.tasks.autoscaling.dynamics import CPU_CORES, REPLICAS, Limits, State, StepOutcome
from flashfm.tasks.autoscaling.interface import CPU_TARGET, MEMORY_HEADROOM, Recent, as_targets, decode
from flashfm.tasks.autoscaling.scenario import default


def model() -> AgentModel:
    agent = replace(SINGLE, ddpg=DdpgConfig(hidden=(16, 16)), episodes=2, random_episodes=1, batch=8)
    few = AutoscalingConfig(agent=agent, identification=IdentificationConfig(steps=5, tasks=4), episodes=3)
    return pretrain(default(0).take(np.arange(6)), few, seed=0)


@cache
def before() -> tuple[State, StepOutcome]:
    simulator = default(0).take(np.arange(1)).simulator()
    simulator.reset()
    return simulator.state, simulator.outcome


def between(bounds: tuple[float, float]) -> st.SearchStrategy[float]:
    return st.floats(float(np.log(bounds[0])), float(np.log(bounds[1]))).map(lambda value: float(np.exp(value)))


@settings(max_examples=50)
@given(
    cores=between(CPU_CORES),
    replicas=st.integers(int(REPLICAS[0]), int(REPLICAS[1])),
    memory_mib=between((100.0, 1000.0)),
    headroom=between(MEMORY_HEADROOM),
    used=between((CPU_TARGET[0], CPU_TARGET[-1])),
)
def test_targets_ask_for_the_limits_they_were_made_of(
    cores: float, replicas: int, memory_mib: float, headroom: float, used: float
) -> None:
    limits = Limits(*(torch.tensor([value], dtype=torch.float64) for value in (cores, memory_mib * headroom, replicas)))
    recent = Recent(limits.cpu_cores * limits.replicas * used, torch.tensor([memory_mib], dtype=torch.float64))
    state, outcome = before()
    # far from what is asked for: what is near stays as it was
    state = state._replace(cpu_cores=9 * limits.cpu_cores, memory_mib=9 * limits.memory_mib)
    asked = decode(as_targets(limits, recent), "targets", state, outcome, recent)
    assert float(asked.cpu_cores) == pytest.approx(cores, rel=1e-6)
    assert float(asked.memory_mib) == pytest.approx(memory_mib * headroom, rel=1e-6)
    # half a replica is added there, for rounding
    assert float(asked.replicas) == pytest.approx(replicas + 0.5, rel=1e-6)


def test_the_safe_controller_serves_until_others_can_be_afforded() -> None:
    scenario, episodes, told = default(0).take(np.arange(2)), 4, []
    of = guarded(
        scenario,
        model(),
        HpaVpa,
        alpha=0.5,
        seed=5,
        episodes=episodes,
        config=FineTuneConfig(updates=2, batch=8, critic_first=0),
        gate=GateConfig(allowance=0.1, worst=0.15),  # one safe episode pays for a try
        on_step=lambda *done: told.append(done),
    )
    assert told == [(i, episodes) for i in range(1, episodes + 1)]
    assert (of.served[0] == SAFE).all()
    np.testing.assert_allclose(of.lived["reward"][0], of.safe["reward"][0], rtol=1e-6)
    tried = of.served != SAFE
    assert tried.any()
    first = tried.argmax(axis=0)[tried.any(axis=0)]
    assert (of.served[first, np.flatnonzero(tried.any(axis=0))] == EMBEDDED).all()
    assert of.reward.shape == (episodes + 1, 2)
    assert of.served.max() <= TUNED

    controller, beside = HpaVpa(), Recorder(scenario, alpha=0.5, actions="limits", seed=5)
    live(beside, controller_acts(controller), episodes, begin=controller.reset)
    np.testing.assert_array_equal(beside.lived["reward"], of.safe["reward"])
