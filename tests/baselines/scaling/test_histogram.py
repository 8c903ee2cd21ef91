"""Histograms against exact weighted quantiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashfm.baselines.scaling.histogram import Buckets
from flashfm.baselines.scaling.vpa import CPU_BUCKETS, MEMORY_BUCKETS


@given(
    samples=st.lists(st.tuples(st.floats(0, 3.9), st.floats(0.01, 10)), min_size=1, max_size=40),
    share=st.sampled_from([0.5, 0.9, 0.95]),
)
def test_percentile_is_the_end_of_the_bucket_of_the_weighted_quantile(
    samples: list[tuple[float, float]], share: float
) -> None:
    values, weights = (np.array(of) for of in zip(*samples, strict=True))
    held = CPU_BUCKETS.empty(np.zeros(1))
    for value, weight in samples:
        held = CPU_BUCKETS.add(held, np.array([value]), np.array([weight]))
    found = float(CPU_BUCKETS.percentile(held, share)[0])
    # floating point may settle a tie either way: the quantiles just below and above the share bound what is right
    low, high = np.quantile(values, [share - 1e-9, share + 1e-9], weights=weights, method="inverted_cdf")
    assert low - 1e-9 <= found <= 1.05 * high + CPU_BUCKETS.first + 1e-9


def test_buckets_begin_where_kubernetes_has_them() -> None:
    # 10 mc, then 5 % wider each: 0, 10, 20.5, 31.525, …
    held = CPU_BUCKETS.empty(np.zeros(4))
    held = CPU_BUCKETS.add(held, np.array([0.0, 0.0101, 0.0204, 0.0206]), np.ones(4))
    assert CPU_BUCKETS.percentile(held, 0.9) == pytest.approx([0.01, 0.0205, 0.0205, 0.031525])


def test_what_is_beyond_the_last_bucket_falls_into_it() -> None:
    held = MEMORY_BUCKETS.add(MEMORY_BUCKETS.empty(np.zeros(1)), np.array([1e9]), np.ones(1))
    assert np.flatnonzero(held[0]).tolist() == [len(MEMORY_BUCKETS) - 1]
    assert MEMORY_BUCKETS.percentile(held, 0.5)[0] >= MEMORY_BUCKETS.most


def test_nothing_has_no_percentile_and_no_weight_adds_nothing() -> None:
    buckets = Buckets(first=1.0, most=10.0)
    held = buckets.add(buckets.empty(np.zeros(1)), np.ones(1), np.zeros(1))
    assert float(buckets.percentile(held, 0.9)[0]) == 0
