"""RateTrace: how many requests came in each bin of time. A value; nothing is read here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from flashfm.errors import DataError

DAY_S = 86_400.0
MAX_BINS = 40_000_000
"""More bins than a year of seconds are a mistake in the data or in the request."""
DAILY_LOAD = 1e5
"""Requests a day that part the paper's higher from its lower loads (FLASH, appendix A.4)."""


@dataclass(frozen=True, eq=False)
class RateTrace:
    """Requests counted in bins of equal length."""

    name: str
    counts: Int[np.ndarray, " bin"]
    """Requests in each bin; at least 0."""
    bin_s: float
    """Length of a bin in seconds; above 0."""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.bin_s) and self.bin_s > 0):
            raise DataError(f"trace {self.name!r}: a bin lasts {self.bin_s} s, expected a finite number above 0")
        if self.counts.ndim != 1 or not 0 < self.counts.size <= MAX_BINS:
            raise DataError(f"trace {self.name!r}: shape {self.counts.shape}, expected 1 to {MAX_BINS} bins in one row")
        if self.counts.min() < 0:
            at = int(self.counts.argmin())
            raise DataError(f"trace {self.name!r}: bin {at} counts {self.counts[at]} requests, expected at least 0")

    def __len__(self) -> int:
        return int(self.counts.size)

    @property
    def duration_s(self) -> float:
        """Length of the trace in seconds."""
        return len(self) * self.bin_s

    @property
    def total(self) -> int:
        """Requests in the whole trace."""
        return int(self.counts.sum())

    @property
    def rate_per_s(self) -> Float[np.ndarray, " bin"]:
        """Requests a second in each bin."""
        return self.counts / self.bin_s

    def resample(self, bin_s: float) -> RateTrace:
        """The same requests in bins of `bin_s` seconds; their number is kept exactly.

        Longer bins add up; where they do not divide the trace, the last one is cut short by its end. Within a bin that
        is parted, requests are spread evenly.

        Raises:
            DataError: `bin_s` is not above 0, or gives more than `MAX_BINS` bins.
        """
        if not (np.isfinite(bin_s) and bin_s > 0 and self.duration_s / bin_s <= MAX_BINS):
            least = self.duration_s / MAX_BINS
            raise DataError(f"trace {self.name!r}: bins of {bin_s} s, expected at least {least:g} s")
        edges = np.append(np.arange(0.0, self.duration_s * (1 - 1e-12), bin_s), self.duration_s)
        so_far = np.concatenate([[0], np.cumsum(self.counts)])
        at_edges = np.floor(np.interp(edges / self.bin_s, np.arange(so_far.size), so_far) + 1e-6)
        at_edges[-1] = so_far[-1]
        return RateTrace(self.name, np.diff(at_edges).astype(np.int64), bin_s)

    def days(self) -> tuple[RateTrace, ...]:
        """Each whole day of the trace, from its first bin on; an incomplete last day is left out.

        Raises:
            DataError: a day is not a whole number of bins.
        """
        bins = DAY_S / self.bin_s
        if bins != round(bins):
            raise DataError(f"trace {self.name!r}: a day is {bins:g} bins of {self.bin_s:g} s; resample it first")
        n = round(bins)
        return tuple(
            RateTrace(f"{self.name}/day {i + 1}", self.counts[i * n : (i + 1) * n], self.bin_s)
            for i in range(len(self) // n)
        )

    def daily_load(self) -> Int[np.ndarray, " day"]:
        """Requests of each whole day.

        Raises:
            DataError: the trace is shorter than a day, or a day is not a whole number of bins.
        """
        days = self.days()
        if not days:
            raise DataError(f"trace {self.name!r} lasts {self.duration_s:g} s, too short for the load of a day")
        return np.array([day.total for day in days], dtype=np.int64)

    def split_by_daily_load(self, threshold: float = DAILY_LOAD) -> tuple[tuple[RateTrace, ...], tuple[RateTrace, ...]]:
        """The whole days with more than `threshold` requests, and those with at most as many.

        Source: FLASH, appendix A.4, scenario 7: the Azure traces are parted at 10^5 requests a day. The paper does not
        say what is parted; days of one trace are.

        Raises:
            DataError: as `daily_load`.
        """
        loads = self.daily_load()
        days = self.days()
        higher = tuple(day for day, load in zip(days, loads, strict=True) if load > threshold)
        return higher, tuple(day for day, load in zip(days, loads, strict=True) if load <= threshold)
