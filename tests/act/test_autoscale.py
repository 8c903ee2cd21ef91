"""Scaling decisions: they are what the simulator makes of an action, say why in figures, and refuse what cannot be."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.act.autoscale import Nodes, ScalingDecision, Shown, Terms, decide, hold, see
from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.dynamics import CPU_CORES, MEMORY_MIB, REPLICAS, Limits, placed
from flashfm.tasks.autoscaling.interface import OBSERVATION, Actions, Recent, encode
from flashfm.tasks.autoscaling.scenario import Scenario, default

PAIRS = 40


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return default(0).take(np.arange(PAIRS))


def terms_of(scenario: Scenario) -> list[Terms]:
    p = scenario.params
    sizes = zip(p.nodes, p.node_cores, p.node_memory_mib, p.slo_s, strict=True)
    return [Terms(float(slo), 0.5, Nodes(int(n), float(cores), float(mib))) for n, cores, mib, slo in sizes]


def shown(cpu: float = 1.0, memory: float = 512.0, replicas: float = 4.0, **other: float) -> Shown:
    values = {"cores": 2.0, "resident": 200.0, "latency": 0.4, "killed": 0.0, **other}
    one = {name: np.array([value]) for name, value in values.items()}
    limits = Limits(np.array([cpu]), np.array([memory]), np.array([replicas]))
    return Shown(limits, Recent(one["cores"], one["resident"]), one["latency"], one["killed"])


def asked(cpu: float, memory: float, replicas: float) -> np.ndarray:
    """The action of kind `limits` that asks for these."""
    return encode(Limits(np.array([cpu]), np.array([memory]), np.array([replicas])))


def only(*arguments: Any) -> ScalingDecision:
    (decision,) = decide(*arguments)
    return decision


@pytest.mark.parametrize("kind", get_args(Actions))
def test_a_decision_is_what_the_simulator_makes_of_the_action(kind: Actions, scenario: Scenario) -> None:
    rng, terms = np.random.default_rng(0), terms_of(scenario)
    simulator = scenario.simulator(actions=kind, kind="numpy", seed=1)
    seen, before, off, n = simulator.reset(), None, 0, 0
    readable = np.ones(PAIRS, dtype=bool)
    action = np.zeros((PAIRS, 3))
    for t in range(40):
        if t % 8 == 0:
            action = rng.uniform(-1, 1, (PAIRS, 3))
        before = see(seen, before)
        # what is resident does not show where all replicas are killed or none serves
        readable &= (simulator.outcome.ready > 0) & (simulator.outcome.service.killed < 1)
        decisions = decide(action, kind, before, terms)
        seen = simulator.step(action.astype(np.float32)).observation
        mine = np.array([(of.cpu_cores, of.memory_mib, of.replicas) for of in decisions])[readable]
        real = np.stack([simulator.state.cpu_cores, simulator.state.memory_mib, simulator.outcome.replicas], 1)
        off += int((np.abs(mine / real[readable] - 1) > 1e-3).any(axis=1).sum())
        n += len(mine)
    assert n > 200
    assert off <= 0.005 * n  # of rounding in float32, at the edges of bands


def test_what_is_seen_is_what_monitoring_showed(scenario: Scenario) -> None:
    simulator = scenario.simulator(actions="limits", kind="numpy", seed=1)
    seen = see(simulator.reset())
    outcome, fine = simulator.outcome, simulator.outcome.service.killed < 1
    np.testing.assert_allclose(seen.limits.cpu_cores, simulator.state.cpu_cores, rtol=1e-4)
    np.testing.assert_allclose(seen.limits.memory_mib, simulator.state.memory_mib, rtol=1e-4)
    np.testing.assert_allclose(seen.limits.replicas, outcome.replicas, rtol=1e-4)
    np.testing.assert_allclose(seen.recent.cores, simulator.recent.cores, rtol=1e-3)
    np.testing.assert_allclose(seen.recent.memory_mib[fine], simulator.recent.memory_mib[fine], rtol=1e-3)
    near = np.abs(np.log10(scenario.params.slo_s / outcome.service.p99_s)) < 1.99
    assert near.sum() > PAIRS / 2
    np.testing.assert_allclose(seen.latency[near], (outcome.service.p99_s / scenario.params.slo_s)[near], rtol=1e-3)


def test_where_an_observation_is_not_finite_what_was_shown_stays(scenario: Scenario) -> None:
    observation = scenario.simulator(kind="numpy").reset()
    first = see(observation)
    observation[0, 3] = np.nan
    again = see(observation, first)
    assert again.limits.cpu_cores[0] == first.limits.cpu_cores[0]
    assert again.recent.memory_mib[0] == first.recent.memory_mib[0]
    assert np.isfinite(again.latency).all()


@settings(deadline=None)
@given(
    cpu=st.floats(*CPU_CORES),
    memory=st.floats(*MEMORY_MIB),
    replicas=st.floats(*REPLICAS),
    nodes=st.builds(Nodes, st.integers(1, 12), st.floats(0.5, 64.0), st.floats(600.0, 1e5)),
)
def test_decisions_stay_within_bounds_and_nodes(cpu: float, memory: float, replicas: float, nodes: Nodes) -> None:
    now = shown(cpu=min(0.5, nodes.cores))
    decision = only(asked(cpu, memory, replicas), "limits", now, [Terms(0.3, 0.5, nodes)])
    assert CPU_CORES[0] <= decision.cpu_cores <= min(CPU_CORES[1], nodes.cores) * (1 + 1e-9)
    assert MEMORY_MIB[0] <= decision.memory_mib <= min(MEMORY_MIB[1], nodes.memory_mib) * (1 + 1e-9)
    assert 1 <= decision.replicas <= REPLICAS[1]
    on_a_node = min(nodes.cores / decision.cpu_cores, nodes.memory_mib / decision.memory_mib)
    assert decision.replicas <= max(1, nodes.count * math.floor(on_a_node + 1e-3))


def test_placement_is_that_of_the_dynamics(scenario: Scenario) -> None:
    rng = np.random.default_rng(3)
    limits = Limits(
        np.exp(rng.uniform(*np.log(CPU_CORES), PAIRS)),
        np.exp(rng.uniform(*np.log(MEMORY_MIB), PAIRS)),
        np.round(rng.uniform(*REPLICAS, PAIRS)),
    )
    now = Shown(Limits(*[np.full(PAIRS, 0.2)] * 3), Recent(*[np.ones(PAIRS)] * 2), np.ones(PAIRS), np.zeros(PAIRS))
    decisions = decide(encode(limits), "limits", now, terms_of(scenario))
    real = placed(scenario.params, limits)
    wide = np.abs(np.log(limits.cpu_cores / 0.2)) > 0.1
    assert wide.sum() > PAIRS / 2
    np.testing.assert_allclose(np.array([of.replicas for of in decisions])[wide], real.replicas[wide])
    np.testing.assert_allclose([of.memory_mib for of in decisions], real.memory_mib)


def test_the_reason_rests_on_the_figures() -> None:
    decision = only(asked(1.05, 1024.0, 8.0), "limits", shown(), [Terms(0.3)])
    assert (decision.cpu_cores, decision.replicas, decision.held) == (1.0, 8, False)
    assert decision.memory_mib == pytest.approx(1024.0)
    assert decision.why == (
        "8 replicas (4 before) of 1 cores and 1024 MiB (512 before): the recent peak of demand of 2 cores takes 25 % of"
        " the cores, memory has 5.12 times its recent peak of 200 MiB, and the p99 was 120 ms against an SLO of 300 ms;"
        " limits within 10 % of what is asked for are kept"
    )
    assert json.loads(json.dumps(decision.to_dict()))["replicas"] == 8


def test_the_reason_names_bounds_kills_and_kept_targets() -> None:
    # cores between the bounds, memory over its peak and a share of the cores, each in the middle of its range
    targets = only(np.zeros((1, 3)), "targets", shown(cpu=0.6, memory=200 * math.sqrt(7.2), killed=0.25))
    assert "25 % of the replicas ran out of memory" in targets.why
    assert "limits within 20 % of what is asked for are kept" in targets.why
    assert (targets.cpu_cores, targets.memory_mib) == (0.6, 200 * math.sqrt(7.2))
    assert "40 % of the SLO" in targets.why
    crowded = only(asked(2.0, 512.0, 30.0), "limits", shown(), [Terms(0.3, 0.5, Nodes(3, 4.0, 4096.0))])
    assert crowded.replicas == 6
    assert "of 30 replicas asked for, 6 is what the nodes have room for" in crowded.why
    most = only(np.ones((1, 3)), "changes", shown(replicas=20.0))
    assert most.replicas == 32
    assert "of 50 replicas asked for, 32 is the most" in most.why


def test_a_decision_is_held_with_its_reason() -> None:
    decision = only(asked(1.0, 512.0, 3.0), "limits", shown())
    unread = np.zeros(len(OBSERVATION))
    unread[[2, 9]] = np.nan, np.inf
    again = hold(decision, unread)
    assert again.held
    assert again.same_limits(decision)
    assert again.why == "the observation is not finite (cpu_use, clock_sin): the last decision is held"
    assert not again.same_limits(replace(decision, replicas=4))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Terms(0.0), "SLO: 0 s; expected seconds above 0"),
        (lambda: Terms(-1.0), "SLO: -1 s"),
        (lambda: Terms(math.nan), "SLO: nan s"),
        (lambda: Terms(math.inf), "SLO: inf s"),
        (lambda: Terms(0.3, 1.5), r"alpha: 1.5; expected the weight of the SLO in \[0, 1\]"),
        (lambda: Terms(0.3, math.nan), "alpha: nan"),
        (lambda: Nodes(0, 4.0, 4096.0), "nodes: 0 of them"),
        (lambda: Nodes(1, 0.05, 4096.0), "expected at least 0.1 cores and 64 MiB"),
        (lambda: Nodes(1, 4.0, math.nan), "nan MiB each"),
        (
            lambda: only(np.zeros((1, 3)), "limits", shown(cpu=3.0), [Terms(0.3, 0.5, Nodes(5, 2.0, 4096.0))]),
            "CPU limit of 3 cores on nodes of 2 cores",
        ),
        (
            lambda: only(np.zeros((1, 3)), "limits", shown(memory=8000.0), [Terms(0.3, 0.5, Nodes(5, 2.0, 4096.0))]),
            "memory limit of 8000 MiB on nodes of 4096 MiB",
        ),
        (lambda: only(np.zeros((1, 3)), "limits", shown(), [Terms(0.3)] * 2), "terms of 2 pairs; expected those of 1"),
    ],
)
def test_what_cannot_be_gets_one_line(make: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words) as told:
        make()
    assert "\n" not in str(told.value)
