"""Arrival processes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashfm.errors import MeasureError
from flashfm.measurements.arrivals import exponential, replay


def test_exponential_has_the_rate_and_the_spread_of_a_poisson_process() -> None:
    times = exponential(30.0, 600.0, np.random.default_rng(0))
    gaps = np.diff(times)
    assert times.size == pytest.approx(18_000, rel=0.03)
    assert gaps.mean() == pytest.approx(1 / 30, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.03)
    counts = np.bincount(times.astype(int), minlength=600)
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.15)


@given(st.floats(0.1, 50), st.floats(0.1, 50), st.integers(0, 2**32))
def test_exponential_stays_in_time_and_repeats(rate: float, duration: float, seed: int) -> None:
    times = exponential(rate, duration, np.random.default_rng(seed))
    assert np.all(np.diff(times) >= 0)
    assert np.all((times >= 0) & (times < duration))
    assert np.array_equal(times, exponential(rate, duration, np.random.default_rng(seed)))


@given(st.lists(st.integers(0, 30), max_size=40), st.floats(0.5, 60), st.floats(0.5, 100), st.booleans())
def test_replay_keeps_every_count_in_its_bin(counts: list[int], bin_s: float, speed: float, random: bool) -> None:
    counted = np.array(counts, dtype=int)
    times = replay(counted, bin_s, np.random.default_rng(1) if random else None, speed=speed)
    assert np.all(np.diff(times) >= 0)
    bins = np.floor(times / (bin_s / speed) * (1 - 1e-12)).astype(int)
    assert np.array_equal(np.bincount(bins, minlength=len(counts)), counted)


@pytest.mark.parametrize(("rate", "duration"), [(0.0, 1.0), (1.0, -1.0), (float("nan"), 1.0), (1e9, 1e3)])
def test_senseless_loads_are_refused(rate: float, duration: float) -> None:
    with pytest.raises(MeasureError, match=r"load: .* expected"):
        exponential(rate, duration, np.random.default_rng(0))


def test_senseless_traces_are_refused() -> None:
    with pytest.raises(MeasureError, match="bin 1 counts -2"):
        replay(np.array([1, -2]), 60.0)
    with pytest.raises(MeasureError, match="expected both above 0"):
        replay(np.array([1]), 0.0)
