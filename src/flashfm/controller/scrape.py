"""Processes scraped without a Prometheus server: two scrapes of each become the figures of the step between them.

Enters: the text that served applications expose (`applications.server_metrics`). Leaves: rates, a quantile, cores and
memory, as Prometheus would compute them from the same counters. Only `scrape` and `scrape_all` touch the network.

A process may come, go or start anew between two scrapes: what it counted since its start counts if it started in the
step; what one counted that has gone, and what one counted before that was not scraped, is not known and left out.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from flashfm.controller.web import ask, client, one_line
from flashfm.errors import BackendError

MOST_BYTES = 4 << 20
"""Of an exposition; those of served applications have a few thousand."""
MIB = 1 << 20
QUANTILE = 0.99


@dataclass(frozen=True)
class Scrape:
    """What one process told; None or empty where it did not."""

    time_s: float
    """Unix time of the answer."""
    start_s: float | None = None
    """Unix time at which the process started."""
    answered: Mapping[str, float] = field(default_factory=dict)
    """Requests answered since then, by HTTP status."""
    buckets: Mapping[float, float] = field(default_factory=dict)
    """Requests since then that took at most so many seconds; the last bound is infinite."""
    cpu_s: float | None = None
    """Seconds of CPU since then."""
    resident_mib: float | None = None


@dataclass(frozen=True)
class Rates:
    """A step of all processes together; None where they do not tell."""

    arrived_per_s: float | None
    """Requests that were answered, refused and failed ones too; one that waits counts once it is answered."""
    served_per_s: float | None
    """Those of them that were not answered 5xx."""
    p99_s: float | None
    """99th percentile of latency, linear within a bucket; at most the last finite bound. None if nothing was served."""
    cores: float | None
    resident_mib: float | None
    """Of one process, mean over those there are now."""


def rates(before: Mapping[str, Scrape], now: Mapping[str, Scrape], seconds: float) -> Rates:
    """Figures of the step between two scrapes.

    Args:
        before: the scrapes at its start, by process.
        now: those at its end; a process keeps its name, also when it starts anew.
        seconds: length of the step; above 0.
    """
    pairs = list(_pairs(before, now))
    answered = [counts for old, new in pairs if (counts := _grown(old.answered, new.answered))]
    buckets: dict[float, float] = defaultdict(float)
    for old, new in pairs:
        for bound, count in _grown(old.buckets, new.buckets).items():
            buckets[bound] += count
    cpu_s = [new.cpu_s - (old.cpu_s or 0.0) for old, new in pairs if new.cpu_s is not None]
    resident = [one.resident_mib for one in now.values() if one.resident_mib is not None]
    served = sum(n for counts in answered for code, n in counts.items() if not code.startswith("5"))
    return Rates(
        arrived_per_s=sum(sum(counts.values()) for counts in answered) / seconds if answered else None,
        served_per_s=served / seconds if answered else None,
        p99_s=quantile(QUANTILE, buckets),
        cores=max(0.0, sum(cpu_s)) / seconds if cpu_s else None,
        resident_mib=float(np.mean(resident)) if resident else None,
    )


def quantile(q: float, buckets: Mapping[float, float]) -> float | None:
    """A quantile of a histogram, as Prometheus' `histogram_quantile`.

    Args:
        q: in (0, 1).
        buckets: observations at or below each bound; one bound is infinite. Counts that fall are taken as level.

    Returns:
        The quantile, linear within its bucket from 0 or the bound before; the last finite bound where it lies above;
        None without observations.
    """
    bounds = np.array(sorted(buckets))
    if len(bounds) < 2 or not math.isinf(bounds[-1]):
        return None
    counts = np.maximum.accumulate([buckets[bound] for bound in bounds])
    if not counts[-1] > 0:
        return None
    rank = q * counts[-1]
    i = int(np.searchsorted(counts[:-1], rank))
    if i == len(bounds) - 1:
        return float(bounds[-2])
    low, below = (bounds[i - 1], counts[i - 1]) if i else (0.0, 0.0)
    if i == 0 and bounds[0] <= 0:
        return float(bounds[0])
    return float(low + (bounds[i] - low) * (rank - below) / (counts[i] - below))


def parsed(text: str, time_s: float) -> Scrape:
    """Read an exposition; other labels than `code` and `le` are summed over.

    Args:
        text: in Prometheus' format.
        time_s: Unix time at which it was written.

    Raises:
        BackendError: it is not in that format, or says one thing twice.
    """
    from prometheus_client.parser import text_string_to_metric_families

    seen, one = set(), dict.fromkeys(("process_start_time_seconds", *_OF_PROCESS))
    answered: dict[str, float] = defaultdict(float)
    buckets: dict[float, float] = defaultdict(float)
    try:
        for family in text_string_to_metric_families(text):
            for name, labels, number, *_ in family.samples:
                value = float(number)
                series = (name, *sorted(labels.items()))
                if series in seen:
                    raise BackendError(f"metrics: {one_line(name)} is there twice with the same labels")
                seen.add(series)
                if not (math.isfinite(value) and value >= 0):
                    continue
                if name in one:
                    one[name] = value
                elif name == "http_requests_total":
                    answered[labels.get("code", "")] += value
                elif name == "http_request_duration_seconds_bucket":
                    buckets[float(labels["le"])] += value
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise BackendError(f"metrics: not in Prometheus' text format: {one_line(str(error))}") from None
    cpu_s, resident = (one[name] for name in _OF_PROCESS)
    return Scrape(
        time_s,
        one["process_start_time_seconds"],
        dict(answered),
        dict(buckets),
        cpu_s,
        None if resident is None else resident / MIB,
    )


def scrape(url: str, timeout_s: float = 2.0) -> Scrape:
    """Scrape one process.

    Args:
        url: of its metrics, such as `http://127.0.0.1:9101/metrics`.
        timeout_s: longest wait for the whole answer.

    Raises:
        BackendError: it does not answer, or not with metrics.
    """
    got, failed = scrape_all({url: url}, timeout_s)
    if failed:
        raise BackendError(failed[url])
    return got[url]


def scrape_all(urls: Mapping[str, str], timeout_s: float = 2.0) -> tuple[dict[str, Scrape], dict[str, str]]:
    """Scrape processes at the same time.

    Args:
        urls: of their metrics, by process.
        timeout_s: longest wait for all answers.

    Returns:
        The scrapes of those that answer, and what is wrong with the others, by process.
    """

    async def all_of() -> list[Scrape | BackendError]:
        async with client(verify=any(url.startswith("https:") for url in urls.values())) as web:

            async def one(url: str) -> Scrape | BackendError:
                try:
                    answer = await ask(web, url, within_s=timeout_s, most_bytes=MOST_BYTES)
                    if answer.status != 200:
                        raise BackendError(f"{url}: answered {answer.status}, expected 200 and metrics")
                    return parsed(answer.body.decode("utf-8", "replace"), time.time())
                except BackendError as error:
                    return error

            return await asyncio.gather(*map(one, urls.values()))

    found = dict(zip(urls, asyncio.run(all_of()), strict=True))
    return (
        {name: one for name, one in found.items() if isinstance(one, Scrape)},
        {name: str(one) for name, one in found.items() if isinstance(one, BackendError)},
    )


_Key = TypeVar("_Key", str, float)
_OF_PROCESS = ("process_cpu_seconds_total", "process_resident_memory_bytes")


def _pairs(before: Mapping[str, Scrape], now: Mapping[str, Scrape]) -> Iterator[tuple[Scrape, Scrape]]:
    """Each process at the start and the end of the step, where both are known; one that started in it began with 0."""
    begun_s = min((one.time_s for one in before.values()), default=math.inf)
    for name, new in now.items():
        old = before.get(name)
        if old is not None and not _restarted(old, new):
            yield old, new
        elif old is not None or (new.start_s is not None and new.start_s >= begun_s):
            yield Scrape(begun_s), new


def _restarted(old: Scrape, new: Scrape) -> bool:
    if old.start_s is not None and new.start_s is not None and abs(new.start_s - old.start_s) > 1:
        return True
    pairs = [(old.answered[code], n) for code, n in new.answered.items() if code in old.answered]
    pairs += [(old.buckets[bound], n) for bound, n in new.buckets.items() if bound in old.buckets]
    if old.cpu_s is not None and new.cpu_s is not None:
        pairs.append((old.cpu_s, new.cpu_s))
    return any(n < then for then, n in pairs)


def _grown(old: Mapping[_Key, float], new: Mapping[_Key, float]) -> dict[_Key, float]:
    return {key: n - old.get(key, 0.0) for key, n in new.items()}
