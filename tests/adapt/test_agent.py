"""The pretrained agent: what it is shown decides, it survives saving, and bad input gets one line."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import flashfm
import flashfm.envs
from flashfm.act.autoscale import Nodes, Terms
from flashfm.adapt.agent import FlashAgent, Trajectory
from flashfm.artifact import checkpoint
from flashfm.errors import ArtifactError, ModelError
from flashfm.models import agent_state
from flashfm.models.ddpg import DdpgConfig
from flashfm.pretraining.autoscaling import AutoscalingConfig, pretrain
from flashfm.pretraining.identification import IdentificationConfig
from flashfm.pretraining.reinforcement import AgentConfig
from flashfm.tasks.autoscaling import scenario
from flashfm.tasks.autoscaling.interface import ACTION, OBSERVATION

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def agent() -> FlashAgent:
    config = AgentConfig(ddpg=DdpgConfig(hidden=(16, 16)), episodes=2, random_episodes=1, batch=16, updates=1)
    few = scenario.default(0).take(np.arange(6))
    whole = AutoscalingConfig(agent=config, identification=IdentificationConfig(steps=5, tasks=4), episodes=3)
    return FlashAgent(pretrain(few, whole, seed=0), "# A card\n")


def lived(envs: int = 3, steps: int = 10) -> Trajectory:
    return Trajectory(
        RNG.uniform(-1, 1, (steps + 1, envs, len(OBSERVATION))),
        RNG.uniform(-1, 1, (steps, envs, len(ACTION))),
        RNG.uniform(0, 1, (steps, envs)),
    )


def test_a_saved_agent_acts_as_before(agent: FlashAgent, tmp_path: Path) -> None:
    agent.save_pretrained(tmp_path / "agent")
    again = flashfm.FlashAgent.from_pretrained(tmp_path / "agent")
    assert (again.card, again.actions) == ("# A card\n", "targets")
    seen, episode = RNG.uniform(-1, 1, (3, len(OBSERVATION))), lived()
    np.testing.assert_array_equal(agent.act(seen), again.act(seen))
    np.testing.assert_array_equal(agent.adapt(episode).act(seen), again.adapt(episode).act(seen))


def test_trajectories_change_what_it_does(agent: FlashAgent) -> None:
    seen, first, second = RNG.uniform(-1, 1, (3, len(OBSERVATION))), lived(), lived()
    one, both = agent.adapt(first), agent.adapt(first, second)
    assert not np.array_equal(one.act(seen), agent.act(seen))
    assert not np.array_equal(one.act(seen), both.act(seen))
    assert np.abs(both.act(seen)).max() <= 1


def test_it_plays_the_environment(agent: FlashAgent) -> None:
    env = gymnasium.make(flashfm.envs.AUTOSCALING, actions=agent.actions, episode_steps=5)
    observation, _ = env.reset(seed=0)
    for _ in range(5):
        observation, reward, _, truncated, _ = env.step(agent.act(observation[None])[0])
        assert 0 <= reward <= 1
    assert truncated


def test_where_an_observation_is_not_finite_the_last_action_stays(agent: FlashAgent) -> None:
    knowing = agent.adapt(lived())
    seen = RNG.uniform(-1, 1, (3, len(OBSERVATION)))
    broken = seen[::-1].copy()
    broken[1, 4] = np.nan
    with pytest.raises(ModelError, match="pair 1 is not finite, and there is no last action"):
        knowing.act(broken)
    before, after = knowing.act(seen), knowing.act(broken)
    np.testing.assert_array_equal(after[1], before[1])
    assert not np.array_equal(after[0], before[0])


def test_decisions_are_what_its_actions_come_to_in_the_simulator(agent: FlashAgent) -> None:
    pairs = scenario.default(0).take(np.arange(3))
    simulator = pairs.simulator(actions=agent.actions, kind="numpy", seed=4, steps=6)
    seen, knowing = simulator.reset(), agent.adapt(lived())
    p = pairs.params
    terms = [Terms(float(p.slo_s[i]), 0.5, Nodes(int(p.nodes[i]), 3.9, 15_360.0)) for i in range(3)]
    while not simulator.done:
        decisions = knowing.decide(seen, terms)
        assert knowing.last_action is not None
        seen = simulator.step(knowing.last_action).observation
        np.testing.assert_allclose([of.cpu_cores for of in decisions], simulator.state.cpu_cores, rtol=1e-3)
        assert [of.replicas for of in decisions] == simulator.outcome.replicas.tolist()
        assert all("against an SLO of" in of.why and not of.held for of in decisions)


def test_terms_say_which_alpha_is_wanted(agent: FlashAgent) -> None:
    seen = RNG.uniform(-0.9, 0.9, (1, len(OBSERVATION)))
    thrifty = seen.copy()
    thrifty[0, -1] = 2 * 0.2 - 1
    told = agent.begin()
    told.decide(seen, [Terms(0.3, 0.2)])
    np.testing.assert_array_equal(told.last_action, agent.act(thrifty))
    assert not np.array_equal(told.last_action, agent.act(seen))


def test_where_an_observation_is_not_finite_the_last_decision_is_held(agent: FlashAgent) -> None:
    seen = RNG.uniform(-0.9, 0.9, (2, len(OBSERVATION)))
    broken = RNG.uniform(-0.9, 0.9, (2, len(OBSERVATION)))
    broken[0, 2] = np.nan
    fresh = agent.begin()
    with pytest.raises(ModelError, match="pair 0 is not finite, and there is no decision to hold"):
        fresh.decide(broken)
    first = fresh.decide(seen)
    for _ in range(2):
        again = fresh.decide(broken)
        assert (again[0].held, again[1].held) == (True, False)
        assert again[0].same_limits(first[0])
        assert again[0].why == "the observation is not finite (cpu_use): the last decision is held"


def test_it_remembers_what_it_did_when_it_gets_to_know_a_pair(agent: FlashAgent) -> None:
    seen = RNG.uniform(-0.9, 0.9, (1, len(OBSERVATION)))
    before = agent.begin()
    (decided,) = before.decide(seen)
    knowing = before.knowing(agent.embed(lived(envs=1)))
    (held,) = knowing.decide(seen * np.nan, [Terms(0.3)])
    assert held.same_limits(decided)
    assert knowing.embedding is not None
    assert before.embedding is None
    assert not np.array_equal(knowing.act(seen), before.act(seen))


def test_an_alpha_out_of_bounds_and_terms_of_other_pairs_are_told(agent: FlashAgent) -> None:
    seen = np.zeros((2, len(OBSERVATION)))
    seen[1, -1] = 1.5
    with pytest.raises(ModelError, match=r"the alpha of pair 1 is 1.25; expected the weight of the SLO in \[0, 1\]"):
        agent.act(seen)
    with pytest.raises(ModelError, match="the alpha of pair 1"):
        agent.begin().decide(seen)
    agent.begin().decide(seen, [Terms(0.3), Terms(0.3)])
    with pytest.raises(ModelError, match="terms of 1 pairs; expected those of 2"):
        agent.begin().decide(seen, [Terms(0.3)])


def test_a_pair_unlike_all_of_pretraining_may_be_served_without_its_embedding(agent: FlashAgent) -> None:
    known = agent.adapt(lived(), gate=True)
    reference = agent.model.novelty.reference
    embedding = np.concatenate([reference[:1], reference[1:2] + 100 * reference.std(), reference[2:3]])
    foreign = known.knowing(embedding.astype(np.float32))
    with_floor = FlashAgent(replace(agent.model, novelty=replace(agent.model.novelty, held=np.zeros((3, 40)))))
    gated = with_floor.adapt(lived(), gate=True).knowing(embedding.astype(np.float32))
    told = with_floor.begin().knowing(embedding.astype(np.float32))
    assert foreign.p_value is not None
    assert foreign.p_value[1] == foreign.p_value.min()
    assert gated.novel[1]
    assert told.novel[1]
    seen = RNG.uniform(-1, 1, (3, len(OBSERVATION)))
    np.testing.assert_array_equal(gated.act(seen)[1], agent.act(seen)[1])
    assert not np.array_equal(told.act(seen)[1], agent.act(seen)[1])
    trusting = replace(agent.model, novelty=replace(agent.model.novelty, held=np.full((3, 40), 1e9)))
    trusted = FlashAgent(trusting).adapt(lived(), gate=True).knowing(embedding.astype(np.float32))
    assert not trusted.novel.any()
    assert not np.array_equal(trusted.act(seen)[1], agent.act(seen)[1])


def test_wrong_shapes_are_told(agent: FlashAgent) -> None:
    with pytest.raises(ModelError, match="no trajectory"):
        agent.adapt()
    with pytest.raises(ModelError, match="expected the same"):
        agent.adapt(lived(steps=10), lived(steps=9))
    with pytest.raises(ModelError, match=r"expected 3 pairs and 16 features, got shape \(2, 16\)"):
        agent.adapt(lived()).act(np.zeros((2, len(OBSERVATION))))
    for wide in (0, 15, 17):
        with pytest.raises(ModelError, match=r"expected any number of pairs and 16 features, got shape \(2, "):
            agent.begin().decide(np.zeros((2, wide)))
    good = lived()
    with pytest.raises(ModelError, match="action of shape"):
        replace(good, action=good.action[1:])
    with pytest.raises(ModelError, match="reward holds NaN"):
        replace(good, reward=good.reward * np.nan)
    with pytest.raises(ModelError, match="at least 2"):
        lived(steps=1)


def test_a_damaged_agent_is_refused(agent: FlashAgent, tmp_path: Path) -> None:
    config, tensors = agent_state.to_state(agent.model)
    name = "shared.weights.0"
    wrong = [
        (config | {"observation": ["cpu"]}, tensors),
        (config | {"actions": "guesses"}, tensors),
        (config | {"encoder": {"kind": "set"}}, tensors),
        (config | {"extra": 1}, tensors),
        (config | {"shared": {"hidden": [10**9], "normalise": True}}, tensors),
        (config | {"shared": {"hidden": [], "normalise": True}}, tensors),
        ({key: value for key, value in config.items() if key != "conditioned"}, tensors),
        (config, {key: value for key, value in tensors.items() if key != name}),
        (config, tensors | {"other.tensor": tensors[name]}),
        (config, tensors | {name: tensors[name].astype(np.float64)}),
        (config, tensors | {name: tensors[name][:, 1:]}),
        (config, tensors | {"novelty.whiten": tensors["novelty.whiten"][1:]}),
        (config, tensors | {"novelty.held": tensors["novelty.held"] * np.nan}),
        (config, tensors | {"novelty.pair": tensors["novelty.pair"].astype(np.int32)}),
        (config, {key: value for key, value in tensors.items() if key != "novelty.held"}),
    ]
    for strange, arrays in wrong:
        with pytest.raises(ArtifactError, match="the saved agent is damaged"):
            agent_state.from_state(copy.deepcopy(strange), arrays)
    agent_state.from_state(config, tensors)
    checkpoint.save(tmp_path / "other", kind="config-search", config={}, tensors={}, card="")
    with pytest.raises(ArtifactError, match="kind 'config-search', expected 'autoscaling'"):
        FlashAgent.from_pretrained(tmp_path / "other")
