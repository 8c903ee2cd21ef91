"""Sums of what segments cost: non-negative, exact where the cost is such a sum, and refused for what is unknown."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.applications.generator import generate_many, named
from flashfm.applications.segments import POOL, segment_class
from flashfm.applications.spec import SegmentSpec
from flashfm.errors import ModelError
from flashfm.tasks.autoscaling.segment_costs import TERMS, SegmentCosts, nonnegative


def test_every_kind_has_terms_in_its_own_sizes() -> None:
    assert set(TERMS) == set(POOL)
    for kind, terms in TERMS.items():
        assert {size for term in terms for size in term} <= set(segment_class(kind).example())


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000))
def test_a_sum_of_segments_is_found_and_coefficients_are_not_negative(seed: int) -> None:
    rng, specs = np.random.default_rng(seed), generate_many(2, 150)
    per_kind = dict(zip(POOL, rng.uniform(1, 5, len(POOL)), strict=True))

    def cost(part: SegmentSpec) -> float:
        """Linear in the product of all sizes that are named last among the terms."""
        sizes, usual = TERMS[part.kind][-1], segment_class(part.kind).example()
        return per_kind[part.kind] * math.prod(float(part.params[s]) / float(usual[s]) for s in sizes)

    target = np.array([sum(cost(part) for part in spec.segments) for spec in specs])
    fitted = SegmentCosts.fit(specs, target, floor=0.1, libraries=False)
    assert min(fitted.coefficients.values()) > 0
    found = np.array([fitted.predict(spec) for spec in specs])
    assert np.median(np.abs(found / target - 1)) < 0.03


def test_a_library_counts_once_however_many_segments_import_it() -> None:
    specs = generate_many(3, 120)
    target = np.array([10.0 + 25.0 * any("s3" in p.kind or "dynamo" in p.kind for p in s.segments) for s in specs])
    fitted = SegmentCosts.fit(specs, target, floor=1.0, libraries=True)
    part = SegmentSpec("s3-read", {"file_kb": 128, "objects": 1})
    assert fitted.predict(named([part])) == pytest.approx(35, rel=0.05)
    assert fitted.predict(named([part] * 4)) == pytest.approx(35, rel=0.1)


def test_kinds_that_were_not_measured_are_refused_unless_told_otherwise() -> None:
    sleeper = named([SegmentSpec("sleep", {"sleep_ms": 50})])
    reader = named([SegmentSpec("file-read", {"file_kb": 128, "files": 1})])
    fitted = SegmentCosts.fit([sleeper], np.array([0.05]), floor=1e-3, libraries=False)
    with pytest.raises(ModelError, match="no measured application has a segment file-read"):
        fitted.predict(reader)
    assert fitted.predict(reader, strict=False) >= 0
    real = named([SegmentSpec("airline-booking", dict(segment_class("airline-booking").example()))])
    with pytest.raises(ModelError, match="a segment airline-booking cannot be modelled"):
        fitted.predict(real, strict=False)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "expected an object with 'coefficients' and 'kinds'"),
        ({"coefficients": [], "kinds": []}, "expected an object of coefficients"),
        ({"coefficients": {"sleep": -1.0}, "kinds": []}, "sleep is -1.0"),
        ({"coefficients": {"sleep": True}, "kinds": []}, "sleep is True"),
        ({"coefficients": {}, "kinds": ["sleeping"]}, "kind 'sleeping' is unknown"),
    ],
)
def test_damaged_coefficients_are_refused(data: Any, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        SegmentCosts.from_dict(data, "cpu_s")


def test_coefficients_are_those_of_least_squares_where_none_is_negative() -> None:
    rng = np.random.default_rng(0)
    design, true = rng.random((60, 4)), np.array([2.0, 0.0, 1.0, 3.0])
    design[:, 1] = 0.0
    assert nonnegative(design, design @ true) == pytest.approx(true, abs=1e-4)
    negative = nonnegative(design[:, [0, 2]], design[:, 0] - 2 * design[:, 2])
    assert (negative >= 0).all()
    assert negative[1] == 0
