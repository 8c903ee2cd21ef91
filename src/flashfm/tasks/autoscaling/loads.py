"""Loads of autoscaling episodes: a generator, replay of real traces, and the bound that keeps a load feasible.

Enters: parameters drawn from a declared distribution, or a RateTrace. Leaves: requests a second of each control step,
float64 arrays of shape [step, env]. No files are read here, and all chance comes from the generator that is handed in:
the same one in the same state gives the same load. The numbers of a batch are drawn together, so that a batch of N does
not equal N batches of one, though it is distributed as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from flashfm.datasets.rate_trace import RateTrace
from flashfm.errors import DataError
from flashfm.tasks.autoscaling.parameters import STEP_S

CLOCK_STEPS = 60
"""Steps after which jobs by the clock come back: half an hour."""
BURST_TAIL = 2.5
"""Index of the Pareto distribution of the sizes of bursts: mean and variance are finite, the third moment is not."""
WARM_UP = 64
"""Steps that bursts run for before row 0, so that it may fall into the middle of one."""
MEAN_SHARE, PEAK_SHARE = 0.35, 0.6
"""Most of the capacity of the best configuration that a load may ask for, on average and at any time."""
GAP_STEPS = 20
"""Empty steps in a row that are taken for a gap in a busy trace: ten minutes. Code completion in the Azure LLM trace
pauses for 6 steps at most; what is missing in the Twitter trace is missing for 57 or more."""
BUSY_REQUESTS = 10
"""Requests in the median step with any, from which a trace is busy: so long a pause is no accident of arrivals."""

Range = tuple[float, float]
PerEnv = Float[np.ndarray, " _"]

RANGES: dict[str, Range] = {
    "mean_per_s": (0.0, math.inf),
    "wave": (0.0, 1.0),
    "wave_steps": (2.0, math.inf),
    "noise_sd": (0.0, 3.0),
    "noise_memory": (0.0, 1.0),
    "burst_chance": (0.0, 1.0),
    "burst_size": (0.0, math.inf),
    "burst_decay": (0.0, 0.95),
    "job_size": (0.0, math.inf),
    "job_steps": (0.0, CLOCK_STEPS),
    "job_phase": (0.0, CLOCK_STEPS),
}
"""Least and most of each parameter of a load."""


@dataclass(frozen=True, eq=False)
class LoadParams:
    """How the load of each pair behaves; every field is a float array of shape [env].

    Raises:
        DataError: an array of another shape, or a value outside its range.
    """

    mean_per_s: PerEnv
    """Mean over a long time, requests a second; at least 0."""
    wave: PerEnv
    """Amplitude of a slow sine, as a share of the mean; in [0, 1]."""
    wave_steps: PerEnv
    """Its period in steps; at least 2. Where in it an episode begins is drawn anew each time."""
    noise_sd: PerEnv
    """Standard deviation of the log of the load around what is expected; in [0, 3]."""
    noise_memory: PerEnv
    """Correlation of that noise from one step to the next, an AR(1) process; in [0, 1]."""
    burst_chance: PerEnv
    """Chance that a burst begins, a step; in [0, 1]."""
    burst_size: PerEnv
    """Mean height of a burst where the usual load is 1; heights are Pareto with index `BURST_TAIL`; at least 0."""
    burst_decay: PerEnv
    """What is left of a burst one step later, as a share; in [0, 0.95]."""
    job_size: PerEnv
    """What a job by the clock adds to the usual load, which is 1; 0 where there is none."""
    job_steps: PerEnv
    """Length of the job in steps; whole, in [0, `CLOCK_STEPS`]."""
    job_phase: PerEnv
    """Step of the clock at which it begins; whole, in [0, `CLOCK_STEPS`]."""

    def __post_init__(self) -> None:
        n = len(self)
        for of in fields(self):
            values, (low, high) = getattr(self, of.name), RANGES[of.name]
            if values.shape != (n,):
                raise DataError(f"load parameter {of.name}: shape {values.shape}, expected ({n},), one value a pair")
            wrong = np.flatnonzero(~((values >= low) & (values <= high) & np.isfinite(values)))
            if wrong.size:
                at, bounds = int(wrong[0]), f"at least {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
                raise DataError(f"load parameter {of.name}, pair {at}: expected {bounds}, got {values[at]:g}")

    def __len__(self) -> int:
        return int(self.mean_per_s.shape[0])

    def map(self, change: Callable[[Float[np.ndarray, " env"]], Float[np.ndarray, " chosen"]]) -> LoadParams:
        """The same parameters with every array changed, such as to those of some pairs."""
        return replace(self, **{of.name: change(getattr(self, of.name)) for of in fields(self)})


@dataclass(frozen=True)
class LoadDistribution:
    """Where the loads of pairs come from; ranges are log-uniform where nothing else is said.

    The defaults are read off the traces of the catalogue in steps of 30 s, windows of 100 steps;
    `flashfm.experiments.loads` holds both beside each other.
    """

    wave: Range = (0.0, 0.5)
    """Uniform. Days of the NASA trace swing by .47 around their middle (median day, half-hour medians)."""
    wave_steps: Range = (120.0, 2880.0)
    """An hour, which is how long the rise and fall of the LLM conversation trace takes, to a day (NASA, Twitter)."""
    noise_sd: Range = (0.06, 1.0)
    """From the calm quarter of Twitter's windows (coefficient of variation .05) over LLM conversation (.21), NASA (.44)
    and the AWS load balancer (.9) to LLM code completion (1.25; a log-normal of 1.0 has 1.31)."""
    noise_memory: Range = (0.0, 0.6)
    """Uniform. Neighbouring steps correlate by .12 to .45 in NASA, .24 in LLM code completion; where it is more, as in
    LLM conversation and Twitter, waves and jobs make it."""
    burst_chance: Range = (0.001, 0.02)
    """One in eight hours to one in 25 minutes; Twitter has one in two hours, most of them by the clock (.004)."""
    burst_size: Range = (0.5, 4.0)
    """Up to Twitter's, which reach 3.3 to 5.2 times the usual load (10th to 90th percentile)."""
    burst_decay: Range = (0.2, 0.9)
    """Uniform: two thirds of a burst are over after half a minute to five minutes."""
    jobs: float = 0.5
    """Share of the pairs that have a job by the clock. Of Twitter's 249 surges 86 % begin within the same 3 steps of a
    half-hour clock."""
    job_size: Range = (0.5, 5.0)
    """Twitter's surges add 2.3 to 4.2 times the usual load."""
    job_steps: Range = (3.0, 28.0)
    """Whole, uniform. Twitter's surges last 4 to 29 steps, half of them 16 or less."""


def draw(rng: np.random.Generator, n: int, distribution: LoadDistribution | None = None) -> LoadParams:
    """Parameters of `n` loads with mean 1; `dataclasses.replace` sets the mean that an application's demand comes to.

    Args:
        rng: what decides.
        n: number of pairs; at least 1.
        distribution: where they come from.
    """
    d = distribution or LoadDistribution()

    def uniform(of: Range) -> Float[np.ndarray, " env"]:
        return rng.uniform(*of, n)

    def log_uniform(of: Range) -> Float[np.ndarray, " env"]:
        return np.exp(rng.uniform(math.log(of[0]), math.log(of[1]), n))

    return LoadParams(
        mean_per_s=np.ones(n),
        wave=uniform(d.wave),
        wave_steps=log_uniform(d.wave_steps),
        noise_sd=log_uniform(d.noise_sd),
        noise_memory=uniform(d.noise_memory),
        burst_chance=log_uniform(d.burst_chance),
        burst_size=log_uniform(d.burst_size),
        burst_decay=uniform(d.burst_decay),
        job_size=np.where(rng.random(n) < d.jobs, log_uniform(d.job_size), 0.0),
        job_steps=np.round(uniform(d.job_steps)),
        job_phase=rng.integers(CLOCK_STEPS, size=n).astype(np.float64),
    )


def generate(
    params: LoadParams, steps: int, rng: np.random.Generator, start: Num[np.ndarray, " env"]
) -> Float[np.ndarray, "step env"]:
    """A load for each pair: mean x wave x noise x bursts x job by the clock, each with mean 1 in the long run.

    Args:
        params: of the pairs.
        steps: length of the episode; at least 0.
        rng: what decides.
        start: step of the clock at row 0.

    Returns:
        Requests a second; `steps` + 1 rows, the first of them for what came before the first decision.
    """
    n = len(params)
    t = np.arange(steps + 1, dtype=np.float64)[:, None]
    wave = 1 + params.wave * np.sin(2 * np.pi * (t / params.wave_steps + rng.random(n)))
    since = np.mod(start + t - params.job_phase, CLOCK_STEPS)
    job = (1 + params.job_size * (since < params.job_steps)) / (1 + params.job_size * params.job_steps / CLOCK_STEPS)
    load = params.mean_per_s * wave * job
    return np.asarray(load * _noise(params, steps, rng) * _bursts(params, steps, rng))


def _noise(params: LoadParams, steps: int, rng: np.random.Generator) -> Float[np.ndarray, "step env"]:
    """Log-normal AR(1) noise of mean 1, stationary from row 0 on."""
    z = rng.standard_normal((steps + 1, len(params)))
    fresh = np.sqrt(1 - params.noise_memory**2)
    for i in range(1, steps + 1):
        z[i] = params.noise_memory * z[i - 1] + fresh * z[i]
    return np.asarray(np.exp(params.noise_sd * z - params.noise_sd**2 / 2))


def _bursts(params: LoadParams, steps: int, rng: np.random.Generator) -> Float[np.ndarray, "step env"]:
    """Shot noise with heavy-tailed heights and exponential decay on a floor of 1, over its mean."""
    shape = (WARM_UP + steps + 1, len(params))
    begun = rng.random(shape) < params.burst_chance
    high = np.zeros(shape)
    high[begun] = (1 + rng.pareto(BURST_TAIL, int(begun.sum()))) * (1 - 1 / BURST_TAIL)
    high *= params.burst_size
    for i in range(1, shape[0]):
        high[i] += params.burst_decay * high[i - 1]
    mean = 1 + params.burst_chance * params.burst_size / (1 - params.burst_decay)
    return np.asarray((1 + high[WARM_UP:]) / mean)


def clamp(
    load: Float[np.ndarray, "step env"],
    capacity_per_s: Float[np.ndarray, " env"],
    mean_share: float = MEAN_SHARE,
    peak_share: float = PEAK_SHARE,
) -> Float[np.ndarray, "step env"]:
    """The load of each pair, scaled down as a whole where its mean or its peak asks too much of the best configuration.

    What no autoscaler can serve tells nothing of autoscalers. The shape of a load is kept.

    Args:
        load: requests a second; at least 0.
        capacity_per_s: requests a second that the best configuration of each pair serves; above 0.
        mean_share: most of the capacity that the mean may take.
        peak_share: most of the capacity that any step may take.
    """
    tiny = np.finfo(np.float64).tiny
    of_mean = mean_share * capacity_per_s / np.maximum(load.mean(axis=0), tiny)
    of_peak = peak_share * capacity_per_s / np.maximum(load.max(axis=0), tiny)
    return np.asarray(load * np.minimum(1.0, np.minimum(of_mean, of_peak)))


def at_step(trace: RateTrace, rng: np.random.Generator) -> RateTrace:
    """The trace in bins of `STEP_S`; the requests of each bin that is parted keep their number.

    Longer bins, which must be a multiple of `STEP_S`, are parted as Poisson arrivals would fall: given how many came in
    a bin, their places in it are multinomial, with a rate that runs straight from the middle of a bin to the next.
    Shorter bins are added up; a last step that the trace does not fill is left out.

    Args:
        trace: with bins of any length.
        rng: draws the places; not used for shorter bins.

    Raises:
        DataError: bins longer than a step that are no multiple of it, or a trace shorter than a step.
    """
    if trace.bin_s == STEP_S:
        return trace
    parts = round(trace.bin_s / STEP_S)
    if trace.bin_s < STEP_S:
        whole = int(trace.duration_s / STEP_S + 1e-9)
        if not whole:
            raise DataError(f"trace {trace.name!r} lasts {trace.duration_s:g} s, shorter than a step of {STEP_S:g} s")
        return RateTrace(trace.name, trace.resample(STEP_S).counts[:whole], STEP_S)
    if not math.isclose(parts * STEP_S, trace.bin_s):
        raise DataError(
            f"trace {trace.name!r}: bins of {trace.bin_s:g} s, expected up to {STEP_S:g} s or a multiple; resample it"
        )
    middles = np.arange(len(trace)) + 0.5
    places = (np.arange(len(trace) * parts) + 0.5) / parts
    rate = np.interp(places, middles, trace.counts.astype(np.float64)).reshape(-1, parts) + 1e-9
    counts = rng.multinomial(trace.counts, rate / rate.sum(axis=1, keepdims=True))
    return RateTrace(trace.name, counts.reshape(-1).astype(np.int64), STEP_S)


def replay(
    trace: RateTrace, steps: int, rng: np.random.Generator, mean_per_s: Float[np.ndarray, " env"]
) -> Float[np.ndarray, "step env"]:
    """Windows of a real trace, one a pair, each begun at random and scaled to the mean that is asked.

    Windows that hold fewer requests than steps, or touch a gap (`GAP_STEPS` empty steps or more in a trace with
    `BUSY_REQUESTS` or more in its median step that has any), are not taken. Scaling keeps the shape, and so the
    counting noise of the trace, whatever the mean.

    Args:
        trace: brought to bins of `STEP_S` by `at_step`; do that once where it is replayed often.
        steps: length of the episode; at least 0.
        rng: what decides.
        mean_per_s: of each window, requests a second; at least 0.

    Returns:
        As `generate`.

    Raises:
        DataError: the trace is too short, has no window without gaps and with enough requests, or has bins that do not
            go into steps; a mean is negative or not finite.
    """
    if not (np.isfinite(mean_per_s) & (mean_per_s >= 0)).all():
        raise DataError("replay: a mean rate is negative or not finite, expected requests a second of at least 0")
    binned, length = at_step(trace, rng), steps + 1
    starts = window_starts(binned, length)
    chosen = starts[rng.integers(starts.size, size=mean_per_s.size)]
    counts = binned.counts[chosen + np.arange(length)[:, None]].astype(np.float64)
    return np.asarray(counts * (mean_per_s / counts.mean(axis=0)))


def window_starts(trace: RateTrace, length: int) -> Int[np.ndarray, " window"]:
    """First bins of all windows of `length` bins that can be replayed; see `replay`.

    Raises:
        DataError: there is none.
    """
    if len(trace) < length:
        raise DataError(
            f"trace {trace.name!r} lasts {trace.duration_s:g} s, too short for windows of {length} x {trace.bin_s:g} s"
        )
    busy = _sums(trace.counts, length) >= length
    gaps = _sums(_in_gap(trace.counts).astype(np.int64), length) > 0
    starts = np.flatnonzero(busy & ~gaps)
    if not starts.size:
        why = f"{int((~busy).sum())} hold fewer requests than bins, {int(gaps.sum())} touch a gap"
        raise DataError(
            f"trace {trace.name!r}: none of its {busy.size} windows of {length} x {trace.bin_s:g} s can be replayed:"
            f" {why}; use shorter episodes or another trace"
        )
    return starts


def _sums(values: Int[np.ndarray, " bin"], length: int) -> Int[np.ndarray, " window"]:
    so_far = np.concatenate([[0], np.cumsum(values)])
    return np.asarray(so_far[length:] - so_far[:-length])


def _in_gap(counts: Int[np.ndarray, " bin"]) -> Bool[np.ndarray, " bin"]:
    """Bins of a run of `GAP_STEPS` empty ones or more, where the trace is busy."""
    filled = counts[counts > 0]
    if not filled.size or np.median(filled) < BUSY_REQUESTS:
        return np.zeros(counts.size, dtype=bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], counts == 0, [False]]).astype(np.int8)))
    runs = edges.reshape(-1, 2)
    inside = np.zeros(counts.size + 1, dtype=np.int64)
    for first, last in runs[runs[:, 1] - runs[:, 0] >= GAP_STEPS].tolist():
        inside[first] += 1
        inside[last] -= 1
    return np.asarray(np.cumsum(inside)[:-1] > 0)
