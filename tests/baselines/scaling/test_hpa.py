"""HPA by hand-worked cases: formula, tolerance, replicas that start, stabilisation and the bound on growth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clusters import calm, seen
from hypothesis import given
from hypothesis import strategies as st

from flashfm.baselines.scaling import Hpa, HpaConfig
from flashfm.baselines.scaling.hpa import desired


def begun(config: HpaConfig, replicas: float) -> Hpa:
    hpa = Hpa(config)
    hpa.reset(SimpleNamespace(outcome=seen(ready=replicas)[1]))
    return hpa


def decided(hpa: Hpa, **situation: float) -> float:
    state, outcome = seen(**situation)
    return float(hpa.decide(state, outcome, calm()[0]).replicas[0])


def wanted(current: float, ready: float, use: float, target: float) -> float:
    """Replicas for a utilisation of the ready ones."""
    return float(desired(np.array([current]), np.array([ready]), np.array([use * ready]), target)[0])


@pytest.mark.parametrize(
    ("replicas", "use", "target", "expected"),
    [
        (4, 0.90, 0.5, 8),  # 4 x 90 / 50 = 7.2
        (3, 1.00, 0.5, 6),  # exactly twice
        (10, 0.30, 0.6, 5),
        (4, 0.20, 0.8, 1),
        (5, 0.77, 0.7, 5),  # 1.1: just within the tolerance
        (5, 0.79, 0.7, 6),  # 1.13: 5.64
        (5, 0.63, 0.7, 5),  # 0.9: just within
        (5, 0.61, 0.7, 5),  # 0.87: 4.36, rounded up
        (8, 0.61, 0.7, 7),  # 6.97
        (3, 0.6699, 0.6, 3),  # 66 whole per cent over 60 is the tolerance and no more
        (3, 0.6701, 0.6, 4),
    ],
)
def test_replicas_are_the_ready_ones_times_utilisation_over_target(
    replicas: float, use: float, target: float, expected: float
) -> None:
    assert wanted(replicas, replicas, use, target) == expected


def test_replicas_that_start_count_as_idle_when_more_are_asked_for() -> None:
    # 4 x 90 / 50 = 7.2 for the ready ones; with four starting: 45 / 50 is within the tolerance
    assert wanted(8, 4, 0.9, 0.5) == 8
    # 6 starting: 36 / 50 turns the direction
    assert wanted(10, 4, 0.9, 0.5) == 10
    # 2 starting: 60 / 50 x 6 = 7.2
    assert wanted(6, 4, 0.9, 0.5) == 8
    # fewer are asked for: those that start are not counted, 4 x 20 / 50 = 1.6
    assert wanted(8, 4, 0.2, 0.5) == 2


def test_nothing_is_done_when_none_is_ready() -> None:
    assert float(desired(np.array([3.0]), np.array([0.0]), np.array([0.0]), 0.5)[0]) == 3


def test_growth_in_a_step_is_that_of_two_periods() -> None:
    # utilisation 100 % over a target of 10 % asks for ten times as many
    config = HpaConfig(target=0.1)
    assert decided(begun(config, 1), ready=1, cpu_use=1.0) == 10  # 1 -> 5 -> 10
    assert decided(begun(config, 2), ready=2, cpu_use=1.0) == 12  # 2 -> 6 -> 12
    assert decided(begun(config, 3), ready=3, cpu_use=1.0) == 14  # 3 -> 7 -> 14
    assert decided(begun(config, 10), ready=10, cpu_use=1.0) == 32  # 100 asked for, 40 allowed, 32 are the most


def test_replicas_fall_to_the_most_of_the_last_five_minutes() -> None:
    hpa = begun(HpaConfig(target=0.5), 8)
    assert decided(hpa, ready=8, cpu_use=0.5) == 8
    counts = [decided(hpa, ready=8, cpu_use=0.2) for _ in range(11)]  # 8 x 20 / 50 = 3.2 from now on
    # 8 was recommended twice in the first step; its second time is the last of twenty to leave the window
    assert counts == [8.0] * 9 + [4.0] * 2


def test_a_spike_starts_the_wait_anew() -> None:
    hpa = begun(HpaConfig(target=0.5), 8)
    counts = [decided(hpa, ready=8, cpu_use=use) for use in [0.2] * 6 + [0.36] + [0.2] * 10]
    # 8 x 36 / 50 = 5.76: six are the most of the five minutes after it
    assert counts[8] == 8
    assert counts[10:16] == [6.0] * 6
    assert counts[16] == 4


def test_the_larger_of_both_metrics_counts() -> None:
    config = HpaConfig(target=0.5, memory_target=0.5)
    assert decided(begun(config, 4), ready=4, cpu_use=0.5, memory_use=0.7) == 6
    assert decided(begun(config, 4), ready=4, cpu_use=0.7, memory_use=0.1) == 6
    assert decided(begun(HpaConfig(target=0.5), 4), ready=4, cpu_use=0.5, memory_use=0.7) == 4


def test_limits_are_left_alone() -> None:
    state, outcome = seen(cpu=0.7, memory=321.0)
    limits = begun(HpaConfig(), 4).decide(state, outcome, calm()[0])
    assert (float(limits.cpu_cores[0]), float(limits.memory_mib[0])) == (0.7, 321.0)


@given(
    situations=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 16), st.integers(0, 16)), min_size=1, max_size=12),
    target=st.floats(0.1, 0.95),
)
def test_replicas_stay_within_bounds(situations: list[Any], target: float) -> None:
    hpa = begun(HpaConfig(target=target), 4)
    for use, ready, starting in situations:
        count = decided(hpa, ready=float(ready), starting=float(max(starting, 1 - ready)), cpu_use=use)
        assert 1 <= count <= 32
        assert count == round(count)
