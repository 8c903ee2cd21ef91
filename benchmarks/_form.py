"""The one form in which results of benchmarks travel, and how it is told.

Enters: values of each round, or what a benchmark printed with `--json`. Leaves: a dictionary

    {"figures":   {name: {"unit", "median", "low", "high", "values"}},
     "ratios":    {"OURS against RIVAL": {"median", "low", "high", "values"}},   above 1 ours is faster
     "exponents": {name: {"median", "low", "high", "values"}},                   cost ~ size ^ exponent
     "targets":   {name of any of them: {"at_least" or "at_most": value}}}

lines for people, or rows of a result file. A benchmark that needs what a machine has not prints {"skipped": why}. Only
the standard library: what runs benchmarks has to stay small.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flashfm.experiments.results import Row

Told = dict[str, Any]
PARTS = ("ratios", "exponents", "figures")
HEADINGS = {"ratios": "times as fast", "exponents": "exponent of the cost", "figures": ""}
"""Unit of what is in each part; figures have their own."""
AGAINST = " against "
UNITS = ("ms", "us", "s")
OLDER_RATIOS = {
    ("control_loop", "ratio to rules alone"): ("the loop against rules alone", True),
    ("embedded_scan", "ratio"): ("fast path against moto", False),
    ("harness_overhead", "ratio_to_bare_timing"): ("measured call against a bare timing", True),
}
"""Ratios of benchmarks with a form of their own: what they are called here, and whether they are of times."""
OLDER_TIMES = {("embedded_scan", "fast_ms"): "fast path, ms", ("embedded_scan", "moto_ms"): "moto, ms"}
"""Figures that they print as a plain number."""
OLDER_TARGETS: dict[str, dict[str, dict[str, float]]] = {
    "control_loop": {"the loop": {"at_most": 20.0}},
    "harness_overhead": {"added": {"at_most": 2000.0}},
}


class SkippedError(Exception):
    """A benchmark has nothing to measure on this machine; says why."""


def spread(values: Sequence[float], unit: str | None = None) -> dict[str, Any]:
    """Median and range of the values of rounds."""
    found: dict[str, Any] = {} if unit is None else {"unit": unit}
    return found | {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "values": list(values),
    }


def met(told: Told, name: str) -> bool | None:
    """Whether the median of a figure, ratio or exponent is where it is to be; None where nothing is asked of it."""
    target = told.get("targets", {}).get(name)
    found = next((told[part][name] for part in PARTS if name in told.get(part, {})), None)
    if target is None or found is None:
        return None
    return all(found["median"] >= v if kind == "at_least" else found["median"] <= v for kind, v in target.items())


def target_words(told: Told, name: str) -> str:
    """What is asked of a figure and whether it holds; empty where nothing is."""
    kept = met(told, name)
    if kept is None:
        return ""
    wanted = " and ".join(f"{kind.replace('_', ' ')} {short(v)}" for kind, v in told["targets"][name].items())
    return f"{wanted}: {'met' if kept else 'MISSED'}"


def lines(told: Told) -> Iterator[str]:
    """All of it for people, a line each."""
    for part in PARTS:
        of = told.get(part, {})
        if of and HEADINGS[part]:
            yield HEADINGS[part]
        for name, found in of.items():
            unit = f" {found['unit']}" if found.get("unit") else ""
            words = f"  {name}: {short(found['median'])}{unit} ({short(found['low'])} to {short(found['high'])})"
            target = target_words(told, name)
            yield words + (f", {target}" if target else "")


def short(value: float) -> str:
    """A number in three digits, or in full from 1,000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def rows(told: Told, dataset: str, pairs: int = 0) -> list[Row]:
    """Rows of a result file; mean and deviation are NaN where the values of rounds are not told.

    Args:
        told: what is to be kept.
        dataset: of the rows; several benchmarks in one file go by their names.
        pairs: that the figures rest on.
    """
    from flashfm.experiments.results import Row

    found = []
    for part in reversed(PARTS):
        for name, one in told.get(part, {}).items():
            values = one.get("values", ())
            mean = statistics.fmean(values) if values else math.nan
            sd = (statistics.stdev(values) if len(values) > 1 else 0.0) if values else math.nan
            metric = HEADINGS[part] or one["unit"]
            found.append(Row(dataset, name, metric, mean, one["median"], sd, pairs, len(values)))
    return found


def read(benchmark: str, printed: str) -> Told:
    """What a benchmark printed, in this form.

    Args:
        benchmark: its name; those with a form of their own are known by it.
        printed: its last line is JSON.

    Raises:
        SkippedError: it needs what this machine has not.
        ValueError: the last line is no JSON object, or there is no figure in it.
    """
    last = (printed.strip().splitlines() or [""])[-1]
    content = json.loads(last)
    if not isinstance(content, dict):
        raise ValueError(f"printed {last!r:.80}, expected a JSON object")
    if "skipped" in content:
        raise SkippedError(str(content["skipped"]))
    ours = isinstance(content.get("targets"), dict) and all(part in content for part in PARTS)
    told = content if ours else _older(benchmark, content)
    if not any(told[part] for part in PARTS):
        raise ValueError("printed no figure")
    return told


def _older(benchmark: str, content: Mapping[str, Any]) -> Told:
    """Find every median with its range, wherever it is."""
    told: Told = {part: {} for part in PARTS} | {"targets": OLDER_TARGETS.get(benchmark, {})}
    for name, found in _spreads(content):
        known = OLDER_RATIOS.get((benchmark, name))
        if known is not None:
            told["ratios"][known[0]] = _inverted(found) if known[1] else found
            continue
        words, unit = _unit(name)
        told["figures"][words] = {"unit": unit, **found}
    for (of, name), said in OLDER_TIMES.items():
        if of == benchmark and isinstance(content.get(name), int | float):
            words, unit = _unit(said)
            told["figures"][words] = {"unit": unit} | dict.fromkeys(("median", "low", "high"), float(content[name]))
    return told


def _spreads(content: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, dict[str, float]]]:
    for name, value in content.items():
        path = f"{inside}, {name}" if inside else name
        if isinstance(value, Mapping) and {"median", "low", "high"} <= value.keys():
            yield path, {key: float(value[key]) for key in ("median", "low", "high")}
        elif isinstance(value, Mapping):
            yield from _spreads(value, "" if name == "figures" else path)


def _inverted(found: Mapping[str, float]) -> dict[str, float]:
    """How many times as fast, of how many times as slow."""
    return {"median": 1 / found["median"], "low": 1 / found["high"], "high": 1 / found["low"]}


def _unit(name: str) -> tuple[str, str]:
    """A name such as `the loop, ms` or `added_us`, and the unit at its end."""
    for unit in UNITS:
        for mark in (f", {unit}", f"_{unit}"):
            if name.endswith(mark):
                return name.removesuffix(mark).replace("_", " "), unit
    return name, ""
