"""Figures as a person reads them: configurations, times, money and shares in few words.

Enters: numbers and configurations. Leaves: text, in the same form wherever a decision or a picture speaks of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashfm.act.decisions import Estimate, plain_config
from flashfm.tasks.space import describe


def label(config: Mapping[str, Any]) -> str:
    """A configuration: `1024 MB`, `512 MB with 256 CPU shares`, else `column=value, …`."""
    plain = plain_config(config)
    if set(plain) == {"memory_mb"}:
        return f"{plain['memory_mb']} MB"
    if set(plain) == {"memory_mb", "cpu_shares"}:
        return f"{plain['memory_mb']} MB with {plain['cpu_shares']} CPU shares"
    return describe(plain)


def millis(value: float) -> str:
    """A time in ms to three digits, in seconds from 10 s on, in minutes from 10 min on."""
    value = float(value)
    if value >= 600_000:
        return f"{value / 60_000:.3g} min"
    if value >= 10_000:
        return f"{value / 1000:.3g} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def span(estimate: Estimate) -> str:
    """`143 ms (121 to 170)`; each end with its unit where the units differ."""
    middle, low, high = millis(estimate.expected), millis(estimate.lower), millis(estimate.upper)
    unit = middle.rpartition(" ")[2]
    ends = [
        end.removesuffix(f" {unit}") if low.endswith(f" {unit}") and high.endswith(f" {unit}") else end
        for end in (low, high)
    ]
    return f"{middle} ({ends[0]} to {ends[1]})"


def usd(value: float) -> str:
    """An amount without its unit: three digits, whole from 1000 on."""
    value = float(value)
    return f"{value:,.0f}" if value >= 1000 else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def share(value: float) -> str:
    """A share in percent: whole, or with one digit below 1 %."""
    percent = 100 * float(value)
    return f"{percent:.1f} %" if 0.05 <= abs(percent) < 1 else f"{percent:.0f} %".replace("-0 %", "0 %")


def ratio(value: float) -> str:
    """A factor: two digits after the point below 10, none from 10 on."""
    value = float(value)
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"


def outcome_words(outcome: str) -> str:
    """`out of memory` for `out_of_memory`."""
    return outcome.replace("_", " ")
