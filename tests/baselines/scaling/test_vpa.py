"""VPA: percentiles with their margins and confidence, kills for memory, and when limits are changed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from clusters import calm, seen

from flashfm.baselines.scaling import Vpa, VpaConfig, usage
from flashfm.baselines.scaling.vpa import Recommender, Updater

DAY = 86_400.0


def fed(config: VpaConfig, uses: list[float], **situation: float) -> Recommender:
    recommender = Recommender(config, np.zeros(1))
    for use in uses:
        recommender.record(usage(*seen(cpu_use=use, **situation)))
    return recommender


def begun(config: VpaConfig, replicas: float = 4.0) -> Vpa:
    vpa = Vpa(config)
    vpa.reset(SimpleNamespace(outcome=seen(ready=replicas)[1]))
    return vpa


def test_recommendations_are_percentiles_with_a_margin() -> None:
    uses = list(np.random.default_rng(0).uniform(0.1, 0.9, 600))
    config = VpaConfig(least_memory_mib=64.0)
    cpu, memory = fed(config, uses).recommend()
    p50, p90, p95 = np.quantile(uses, [0.5, 0.9, 0.95])
    days = 599 * 30 / DAY
    assert float(cpu.target[0]) == pytest.approx(1.15 * p90, rel=0.08)
    assert float(cpu.lower[0]) == pytest.approx(1.15 * p50 * (1 + 0.001 / days) ** -2, rel=0.08)
    assert float(cpu.upper[0]) == pytest.approx(min(1.15 * p95 * (1 + 1 / days), 4.0), rel=0.08)
    assert 1.15 * 250 <= float(memory.target[0]) <= 1.15 * (1.05 * 250 + 10)


def test_confidence_narrows_the_range() -> None:
    widths = []
    for steps in (2, 30, 300):
        cpu, _ = fed(VpaConfig(day_s=3000.0), [0.3] * steps).recommend()
        widths.append(float(cpu.upper[0] / cpu.lower[0]))
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] == pytest.approx(1 + 3000 / (299 * 30), rel=0.01)


def test_old_samples_count_half_as_much_after_a_day() -> None:
    # a tenth of a core for two days' worth, then four tenths: half the weight is reached after about half a day
    config = VpaConfig(day_s=3000.0)
    busy = [float(fed(config, [0.1] * 300 + [0.4] * n).recommend()[0].lower[0]) for n in (60, 140)]
    assert busy[0] < 0.2 < 0.4 < busy[1]


def test_memory_that_ran_out_is_taken_for_more() -> None:
    config = VpaConfig(memory_margin=0.0, least_memory_mib=64.0)
    for memory, needed in ((300.0, 400.0), (1000.0, 1200.0)):
        _, found = fed(config, [0.5], memory=memory, memory_use=1.0, killed=0.5).recommend()
        assert needed <= float(found.target[0]) <= 1.05 * needed + 10


def test_memory_is_judged_by_the_peak_of_a_window() -> None:
    recommender = Recommender(VpaConfig(memory_margin=0.0, least_memory_mib=64.0, day_s=300.0), np.zeros(1))
    targets = []
    for held in [0.9] + [0.2] * 200:
        recommender.record(usage(*seen(memory_use=held)))
        targets.append(float(recommender.recommend()[1].target[0]))
    assert all(450 <= target <= 480 for target in targets[:20])  # the first window, and one of two
    assert targets[-1] < 115  # twenty days later nine of ten windows have no more


def test_limits_are_changed_only_outside_the_range() -> None:
    state, outcome = seen(cpu_use=0.8, memory_use=0.8)
    inside = begun(VpaConfig()).decide(state, outcome, calm()[0])
    assert (float(inside.cpu_cores[0]), float(inside.memory_mib[0])) == (1.0, 500.0)
    vpa = begun(VpaConfig(day_s=300.0))
    for _ in range(3):
        state, outcome = seen(cpu_use=1.0, memory_use=0.8)
        changed = vpa.decide(state, outcome, calm()[0])
    assert 1.15 <= float(changed.cpu_cores[0]) <= 1.15 * 1.06
    assert 460 <= float(changed.memory_mib[0]) <= 490  # both are set at once


def test_limits_far_too_large_shrink_once_there_is_confidence() -> None:
    slow, fast = begun(VpaConfig()), begun(VpaConfig(day_s=900.0))
    for _ in range(60):
        state, outcome = seen(cpu_use=0.1, memory_use=0.3)
        left, cut = (vpa.decide(state, outcome, calm()[0]) for vpa in (slow, fast))
    assert float(left.cpu_cores[0]) == 1.0
    assert float(cut.cpu_cores[0]) < 0.13


def test_old_replicas_are_updated_when_they_are_off_the_target() -> None:
    recommender = fed(VpaConfig(day_s=3000.0), [0.7] * 200, memory_use=0.8)
    cpu, memory = recommender.recommend()
    updater = Updater(1500.0, np.zeros(1))
    now = (np.array([1.0]), np.array([500.0]))
    assert float(cpu.lower[0]) < 1.0 < float(cpu.upper[0])
    due = [bool(updater.due(now, cpu, memory, np.array([False]))[0]) for _ in range(52)]
    assert due == [False] * 50 + [True] * 2
    updater.updated(np.array([True]))
    assert not updater.due(now, cpu, memory, np.array([False]))[0]


def test_replicas_are_left_alone_and_the_least_is_kept() -> None:
    vpa = begun(VpaConfig(day_s=300.0, least_cpu_cores=0.5, least_memory_mib=222.0), replicas=7)
    for _ in range(60):
        state, outcome = seen(ready=7, cpu_use=0.01, memory_use=0.01)
        limits = vpa.decide(state, outcome, calm()[0])
    assert (float(limits.cpu_cores[0]), float(limits.memory_mib[0]), float(limits.replicas[0])) == (0.5, 222.0, 7.0)


@pytest.mark.parametrize("remembers", [True, False])
def test_earlier_episodes_of_the_same_pairs_count(remembers: bool) -> None:
    vpa, of = Vpa(VpaConfig(day_s=900.0, remembers=remembers)), SimpleNamespace(outcome=seen()[1])
    vpa.reset(of)
    for _ in range(60):
        vpa.decide(*seen(cpu_use=0.1), calm()[0])
    vpa.reset(of)
    first = vpa.decide(*seen(cpu_use=0.1), calm()[0])
    assert (float(first.cpu_cores[0]) < 0.2) == remembers
