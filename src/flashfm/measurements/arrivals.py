"""When requests arrive: arrival processes and trace replay. Pure functions; randomness is an explicit generator."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from flashfm.errors import MeasureError

MAX_REQUESTS = 10_000_000


def exponential(rate_per_s: float, duration_s: float, rng: np.random.Generator) -> Float[np.ndarray, " request"]:
    """Poisson arrivals: exponential times between requests, as the load of Sizeless (FLASH, appendix A.3).

    Args:
        rate_per_s: mean requests a second; above 0.
        duration_s: length of the load in seconds; above 0.
        rng: source of randomness.

    Returns:
        Arrival times in seconds from the start, ascending, in [0, `duration_s`).

    Raises:
        MeasureError: a value is not above 0, or more than `MAX_REQUESTS` would arrive.
    """
    check_load(rate_per_s, duration_s)
    count = rng.poisson(rate_per_s * duration_s)  # given their number, Poisson arrivals are uniform
    return np.sort(rng.uniform(0.0, duration_s, count))


def replay(
    counts: Int[np.ndarray, " bin"], bin_s: float, rng: np.random.Generator | None = None, *, speed: float = 1.0
) -> Float[np.ndarray, " request"]:
    """Arrivals that follow a trace of counts.

    Args:
        counts: requests in each bin; at least 0.
        bin_s: length of a bin in seconds.
        rng: places requests at random within their bin; None spaces them evenly.
        speed: how much faster than the trace; 60 replays an hour in a minute.

    Returns:
        Arrival times in seconds from the start, ascending; as many as the trace counts.

    Raises:
        MeasureError: a count is negative, a length is not above 0, or the trace holds more than `MAX_REQUESTS`.
    """
    if not (bin_s > 0 and speed > 0):
        raise MeasureError(f"load: bin of {bin_s} s at speed {speed}; expected both above 0")
    if counts.size and counts.min() < 0:
        raise MeasureError(f"load: bin {int(counts.argmin())} counts {int(counts.min())} requests; expected at least 0")
    total = int(counts.sum())
    _check_size(total)
    bins = np.repeat(np.arange(counts.size), counts)
    if rng is None:
        first = np.cumsum(counts) - counts
        within = (np.arange(total) - first[bins] + 0.5) / counts[bins]
    else:
        within = rng.uniform(0.0, 1.0, total)
    return np.sort((bins + within) * (bin_s / speed))


def check_load(rate_per_s: float, duration_s: float) -> None:
    """Refuse a load that makes no sense.

    Raises:
        MeasureError: a value is not above 0, or more than `MAX_REQUESTS` would arrive.
    """
    for name, value in (("rate", rate_per_s), ("duration", duration_s)):
        if not (np.isfinite(value) and value > 0):
            raise MeasureError(f"load: {name} is {value}; expected a finite number above 0")
    _check_size(rate_per_s * duration_s)


def _check_size(requests: float | int) -> None:
    if requests > MAX_REQUESTS:
        raise MeasureError(
            f"load: {requests:.3g} requests; expected at most {MAX_REQUESTS}; lower the rate or duration"
        )
