"""Samples: what keeps one from being acted on, and that nothing hostile gets through."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashfm.controller.sample import Sample, SampleConfig, trouble
from flashfm.errors import ModelError

NOW_S = 1_000.0
GOOD = Sample(
    time_s=NOW_S,
    replicas=4,
    ready=3,
    cpu_cores=1.0,
    memory_mib=512.0,
    used_cores=1.5,
    used_mib=200.0,
    arrived_per_s=20.0,
    served_per_s=19.0,
    p99_s=0.2,
    killed=0,
    image="sha256:1",
)


def earlier(by: int) -> Sample:
    return replace(GOOD, time_s=NOW_S - 30.0 * by, used_cores=1.5 + by)


def test_a_sound_sample_is_acted_on() -> None:
    assert trouble(GOOD, [], NOW_S) is None
    assert trouble(GOOD, [earlier(2), earlier(1)], NOW_S + 40) is None
    idle = replace(GOOD, arrived_per_s=0.0, served_per_s=0.0, p99_s=None)
    assert trouble(idle, [], NOW_S) is None, "where nothing is served there is no latency"


@pytest.mark.parametrize(
    ("changed", "now_s", "said"),
    [
        ({"used_cores": None, "killed": None}, 0, "missing: used_cores, killed"),
        ({"p99_s": None}, 0, "missing: p99_s"),
        ({"p99_s": math.nan}, 0, "no number of at least 0: p99_s is nan"),
        ({"used_mib": -1.0}, 0, "no number of at least 0: used_mib is -1.0"),
        ({"arrived_per_s": math.inf}, 0, "no number of at least 0: arrived_per_s is inf"),
        ({}, 91, "stale: the newest figures are 91 s old, older than 90 s"),
        ({}, -6, "clocks differ: the newest figures are from 6 s in the future"),
        ({"ready": 5}, 0, "contradiction: 5 replicas are ready of 4"),
        ({"replicas": 0, "ready": 0}, 0, "no replica is there"),
        ({"cpu_cores": 64.0}, 0, "a CPU limit of 64 cores, outside 0.1 to 4"),
        ({"memory_mib": 1.0}, 0, "a memory limit of 1 MiB, outside 64 to"),
        ({"used_cores": 100.0}, 0, "contradiction: 100 cores are in use by 4 replicas"),
        ({"used_mib": 1e6}, 0, "contradiction: a replica holds 1e+06 MiB"),
    ],
)
def test_what_is_wrong_is_one_phrase(changed: dict, now_s: float, said: str) -> None:
    found = trouble(replace(GOOD, **changed), [], NOW_S + now_s)
    assert found is not None
    assert found.startswith(said)
    assert "\n" not in found


def test_figures_must_be_newer_than_those_before() -> None:
    assert trouble(GOOD, [replace(GOOD, used_cores=1.0)], NOW_S) == "stale: no newer figures than in the step before"


def test_figures_that_repeat_themselves_under_load_are_frozen() -> None:
    same = [replace(GOOD, time_s=NOW_S - 60), replace(GOOD, time_s=NOW_S - 30)]
    assert trouble(GOOD, same, NOW_S) == "frozen: 3 samples in a row are the same in every figure"
    assert trouble(GOOD, same[1:], NOW_S) is None, "two may be alike by chance"
    assert trouble(replace(GOOD, p99_s=0.21), same, NOW_S) is None
    quiet = {"arrived_per_s": 0.0, "served_per_s": 0.0, "p99_s": None}
    assert trouble(replace(GOOD, **quiet), [replace(one, **quiet) for one in same], NOW_S) is None


hostile = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(10**12), 10**12)


@given(st.fixed_dictionaries({of.name: hostile for of in fields(Sample) if of.name != "image"}))
def test_whatever_monitoring_says_it_is_judged_without_an_error(values: dict) -> None:
    counted = {"replicas", "ready", "killed"}
    whole = {k: int(v) if k in counted and v is not None and math.isfinite(v) else v for k, v in values.items()}
    kept = {k: v if k not in counted or v is None or isinstance(v, int) else None for k, v in whole.items()}
    floats = {k: float(v) if k not in counted and v is not None else v for k, v in kept.items()}
    sample = Sample(**floats)
    found = trouble(sample, [earlier(1)], NOW_S)
    if found is None:
        assert all(math.isfinite(value) for value in sample.setting())
        assert sample.setting().replicas >= 1
    assert Sample.from_dict(sample.to_dict()).replicas == sample.replicas


def test_bounds_of_belief_that_make_no_sense_are_one_line() -> None:
    with pytest.raises(ModelError, match="samples: "):
        SampleConfig(alike=1)
