"""Loads: the generator keeps its promises, clamped loads can be served, and traces are replayed as they were."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashfm.datasets.rate_trace import RateTrace
from flashfm.errors import DataError
from flashfm.tasks.autoscaling.loads import (
    BUSY_REQUESTS,
    CLOCK_STEPS,
    GAP_STEPS,
    RANGES,
    LoadDistribution,
    LoadParams,
    at_step,
    clamp,
    draw,
    generate,
    replay,
    window_starts,
)
from flashfm.tasks.autoscaling.parameters import STEP_S

SEEDS = st.integers(0, 2**32 - 1)


def plain(n: int = 1, **changed: float) -> LoadParams:
    """Loads of 10 requests a second that never vary, but for what is changed."""
    values = dict.fromkeys((of.name for of in fields(LoadParams)), 0.0) | {"mean_per_s": 10.0, "wave_steps": 100.0}
    return LoadParams(**{name: np.full(n, value) for name, value in (values | changed).items()})


def one(params: LoadParams, steps: int = 240, start: float = 0.0, seed: int = 0) -> np.ndarray:
    return generate(params, steps, np.random.default_rng(seed), np.full(len(params), start))


def test_without_any_variation_the_load_is_its_mean() -> None:
    assert one(plain(3)).shape == (241, 3)
    np.testing.assert_allclose(one(plain(3)), 10.0)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, n=st.integers(1, 20), steps=st.integers(0, 30))
def test_loads_are_positive_finite_and_repeatable(seed: int, n: int, steps: int) -> None:
    def made() -> np.ndarray:
        rng = np.random.default_rng(seed)
        return generate(draw(rng, n), steps, rng, rng.integers(CLOCK_STEPS, size=n))

    load = made()
    assert load.shape == (steps + 1, n)
    assert np.isfinite(load).all()
    assert (load >= 0).all()
    np.testing.assert_array_equal(load, made())


@pytest.mark.parametrize(
    "changed",
    [
        {"wave": 1.0},
        {"noise_sd": 0.8, "noise_memory": 0.5},
        {"burst_chance": 0.02, "burst_size": 3.0, "burst_decay": 0.8},
        {"job_size": 4.0, "job_steps": 9.0, "job_phase": 55.0},
        {"wave": 0.5, "noise_sd": 0.3, "burst_chance": 0.01, "burst_size": 1.0, "job_size": 2.0, "job_steps": 20.0},
    ],
)
def test_the_mean_holds_in_the_long_run(changed: dict[str, float]) -> None:
    load = one(plain(4000, **changed), steps=4 * CLOCK_STEPS - 1)
    assert load.mean() == pytest.approx(10.0, rel=0.02)


def test_the_mean_holds_from_the_first_row_on() -> None:
    load = one(plain(40_000, burst_chance=0.02, burst_size=3.0, burst_decay=0.8, noise_sd=0.5), steps=2)
    np.testing.assert_allclose(load.mean(axis=1), 10.0, rtol=0.03)


def test_noise_has_the_deviation_and_the_memory_that_were_asked() -> None:
    z = np.log(one(plain(2000, noise_sd=0.4, noise_memory=0.7), steps=60))
    np.testing.assert_allclose(z.std(axis=1), 0.4, rtol=0.1)
    assert np.corrcoef(z[:-1].ravel(), z[1:].ravel())[0, 1] == pytest.approx(0.7, abs=0.02)


def test_a_job_comes_by_the_clock() -> None:
    load = one(plain(1, job_size=3.0, job_steps=5.0, job_phase=2.0), steps=2 * CLOCK_STEPS, start=58.0)[:, 0]
    busy = np.flatnonzero(load > load.min() * 1.01)
    assert busy.tolist() == [*range(4, 9), *range(64, 69)], "two steps to the full clock, then two more"
    assert load[4] == pytest.approx(4 * load[0])


def test_bursts_have_heavy_tails_and_decay() -> None:
    load = one(plain(3000, burst_chance=0.002, burst_size=1.0, burst_decay=0.5), steps=200)
    over = load / load.min() - 1
    after = over[1:][(over[:-1] > 5) & (over[1:] < over[:-1])] / over[:-1][(over[:-1] > 5) & (over[1:] < over[:-1])]
    assert np.median(after) == pytest.approx(0.5, abs=0.01)
    begun = over[over > 0.6]
    assert begun.max() > 10 * np.median(begun)


def test_a_wave_has_its_period_and_amplitude() -> None:
    load = one(plain(1, wave=0.5, wave_steps=80.0), steps=160)[:, 0]
    np.testing.assert_allclose(load[:80], load[80:160])
    assert (load.max() - load.min()) / 20 == pytest.approx(0.5, rel=0.01)


def test_draws_stay_in_their_ranges_and_have_mean_one() -> None:
    params, d = draw(np.random.default_rng(0), 2000), LoadDistribution()
    assert len(params) == 2000
    assert (params.mean_per_s == 1).all()
    for name in ("wave", "wave_steps", "noise_sd", "noise_memory", "burst_chance", "burst_size", "burst_decay"):
        low, high = getattr(d, name)
        assert getattr(params, name).min() >= low
        assert getattr(params, name).max() <= high
    assert (params.job_size > 0).mean() == pytest.approx(d.jobs, abs=0.05)
    assert set(np.unique(params.job_phase)) == set(range(CLOCK_STEPS))
    none = draw(np.random.default_rng(0), 50, replace(d, jobs=0.0))
    assert (none.job_size == 0).all()


def test_parameters_of_some_pairs() -> None:
    params = draw(np.random.default_rng(0), 5)
    chosen = params.map(lambda values: values[[3, 1]])
    np.testing.assert_array_equal(chosen.noise_sd, params.noise_sd[[3, 1]])
    assert len(chosen) == 2


@pytest.mark.parametrize("name", list(RANGES))
def test_parameters_out_of_range_are_refused(name: str) -> None:
    low, high = RANGES[name]
    wrong = [low - 0.1, float("nan"), float("inf"), high + 0.1]
    for value in wrong:
        with pytest.raises(DataError, match=f"load parameter {name}, pair 1: expected"):
            replace(plain(2), **{name: np.array([low, value])})


def test_parameters_of_another_number_of_pairs_are_refused() -> None:
    with pytest.raises(DataError, match=r"load parameter wave: shape \(3,\), expected \(2,\)"):
        replace(plain(2), wave=np.zeros(3))


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, n=st.integers(1, 8), scale=st.floats(1e-3, 1e4))
def test_a_clamped_load_can_be_served(seed: int, n: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    load = scale * generate(draw(rng, n), 50, rng, np.zeros(n))
    capacity = np.exp(rng.normal(0, 3, n))
    clamped = clamp(load, capacity)
    assert (clamped.mean(axis=0) <= 0.35 * capacity * (1 + 1e-9)).all()
    assert (clamped.max(axis=0) <= 0.6 * capacity * (1 + 1e-9)).all()
    assert (clamped <= load).all()
    np.testing.assert_allclose(clamp(clamped, capacity), clamped, rtol=1e-9)
    shape = clamped / clamped.mean(axis=0)
    np.testing.assert_allclose(shape, load / load.mean(axis=0), rtol=1e-9)
    touched = (clamped < load).any(axis=0)
    at_mean = np.isclose(clamped.mean(axis=0), 0.35 * capacity)
    assert (~touched | at_mean | np.isclose(clamped.max(axis=0), 0.6 * capacity)).all(), "no more than is needed"


def test_an_empty_load_stays_empty() -> None:
    assert (clamp(np.zeros((3, 2)), np.ones(2)) == 0).all()


def poisson(mean: float, bins: int, bin_s: float = STEP_S, seed: int = 0) -> RateTrace:
    return RateTrace("made", np.random.default_rng(seed).poisson(mean, bins), bin_s)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, bin_s=st.sampled_from([1.0, 7.0, 30.0, 60.0, 300.0]), steps=st.integers(1, 20))
def test_replay_has_the_mean_that_is_asked(seed: int, bin_s: float, steps: int) -> None:
    rng = np.random.default_rng(seed)
    trace = poisson(20 * bin_s / STEP_S, int(40 * STEP_S / bin_s), bin_s, seed)
    wanted = np.array([0.0, 0.5, 3.0])
    load = replay(trace, steps, rng, wanted)
    assert load.shape == (steps + 1, 3)
    assert (load >= 0).all()
    np.testing.assert_allclose(load.mean(axis=0), wanted)


def test_replay_is_a_piece_of_the_trace_and_repeatable() -> None:
    trace = RateTrace("ramp", np.arange(1, 301), STEP_S)
    load = replay(trace, 9, np.random.default_rng(3), np.ones(50))
    rise = np.diff(load, axis=0)
    np.testing.assert_allclose(rise, np.broadcast_to(rise[0], rise.shape))
    assert len(np.unique(load[0])) > 30, "windows begin in many places"
    np.testing.assert_array_equal(load, replay(trace, 9, np.random.default_rng(3), np.ones(50)))


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(0, 10_000), min_size=1, max_size=40), parts=st.integers(1, 10), seed=st.integers(0, 99)
)
def test_parted_bins_keep_their_requests(counts: list[int], parts: int, seed: int) -> None:
    coarse = RateTrace("coarse", np.array(counts), parts * STEP_S)
    fine = at_step(coarse, np.random.default_rng(seed))
    assert fine.bin_s == STEP_S
    np.testing.assert_array_equal(fine.counts.reshape(-1, parts).sum(axis=1), coarse.counts)


def test_parted_bins_vary_as_poisson_arrivals_do() -> None:
    fine = at_step(poisson(1000, 4000, 10 * STEP_S), np.random.default_rng(0)).counts
    assert fine.var() / fine.mean() == pytest.approx(1.0, abs=0.05)


def test_parted_bins_follow_the_slope() -> None:
    fine = at_step(RateTrace("slope", np.array([0, 10**6, 2 * 10**6]), 4 * STEP_S), np.random.default_rng(0)).counts
    middle = fine[4:8]
    assert (np.diff(middle) > 0.15 * middle.mean()).all()


def test_short_bins_are_added_up_and_an_unfilled_step_is_left_out() -> None:
    fine = at_step(RateTrace("seconds", np.ones(100, dtype=np.int64), 1.0), np.random.default_rng(0))
    assert fine.counts.tolist() == [30, 30, 30]


def test_bins_that_do_not_go_into_steps() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="bins of 45 s, expected up to 30 s or a multiple"):
        at_step(poisson(9, 50, 45.0), rng)
    with pytest.raises(DataError, match="lasts 12 s, shorter than a step"):
        at_step(poisson(9, 12, 1.0), rng)


def test_traces_that_cannot_be_replayed() -> None:
    rng, mean = np.random.default_rng(0), np.ones(1)
    with pytest.raises(DataError, match="'made' lasts 3000 s, too short for windows of 101 x 30 s"):
        replay(poisson(9, 100), 100, rng, mean)
    with pytest.raises(DataError, match=r"none of its 100 windows.*100 hold fewer requests than bins, 0 touch a gap"):
        replay(poisson(0.1, 200), 100, rng, mean)
    holes = np.full(200, 5 * BUSY_REQUESTS)
    holes[50:150] = 0
    with pytest.raises(DataError, match="100 touch a gap; use shorter episodes"):
        replay(RateTrace("holes", holes, STEP_S), 100, rng, mean)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(DataError, match="mean rate is negative or not finite"):
            replay(poisson(9, 200), 100, rng, np.array([1.0, wrong]))


def test_windows_keep_clear_of_gaps_but_not_of_pauses() -> None:
    counts = np.full(100, BUSY_REQUESTS)
    counts[40 : 40 + GAP_STEPS] = 0
    starts = window_starts(RateTrace("gap", counts, STEP_S), 10)
    assert starts.tolist() == [*range(31), *range(40 + GAP_STEPS, 91)]
    counts[40] = 1
    assert window_starts(RateTrace("pause", counts, STEP_S), 30).size == 71
    quiet = np.where(counts > 0, BUSY_REQUESTS - 1, 0)
    quiet[40] = 0
    assert window_starts(RateTrace("quiet by nature", quiet, STEP_S), 30).size == 71
