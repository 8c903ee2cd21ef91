"""Units by column name: which of our columns another name means, and by what factor its values would have to change.

Enters: column names. Leaves: the expected name and factor, or nothing. Values are never looked at and never converted:
a wrong guess would be silent, so the caller refuses and says what to do.
"""

from __future__ import annotations

from dataclasses import dataclass

from flashfm.records import METRICS

_TO_MS = {
    **dict.fromkeys(("ns", "nanos", "nanoseconds"), 1e-6),
    **dict.fromkeys(("us", "µs", "usec", "micros", "microseconds"), 1e-3),
    **dict.fromkeys(("ms", "msec", "millis", "milliseconds"), 1.0),
    **dict.fromkeys(("s", "sec", "secs", "seconds"), 1e3),
    **dict.fromkeys(("min", "mins", "minutes"), 6e4),
    **dict.fromkeys(("h", "hours"), 3.6e6),
}
_TO_BYTES = {
    **dict.fromkeys(("b", "byte", "bytes"), 1.0),
    **dict.fromkeys(("kb", "kib"), 2.0**10),
    **dict.fromkeys(("mb", "mib"), 2.0**20),
    **dict.fromkeys(("gb", "gib"), 2.0**30),
    **dict.fromkeys(("tb", "tib"), 2.0**40),
}
_TO_MB = {unit: factor / 2**20 for unit, factor in _TO_BYTES.items()}

_RUNTIME_WORDS = ("runtime", "run_time", "duration", "elapsed", "exec_time", "execution_time")
_MEMORY_WORDS = ("memory", "mem", "ram", "memory_size", "memory_limit")


@dataclass(frozen=True)
class Misnamed:
    """A column that means one of ours in another unit or under another name."""

    column: str
    unit: str
    expected: str
    factor: float
    """Values times this are in the unit of `expected`; 1 where only the name differs."""

    def __str__(self) -> str:
        if self.factor == 1:
            return f"column {self.column!r} is called {self.expected!r} here: rename it"
        times = f"multiply by {self.factor:.12g}" if self.factor > 1 else f"divide by {1 / self.factor:.12g}"
        return f"column {self.column!r} is in {self.unit}, expected {self.expected!r}: {times} and rename it"


def misnamed(column: str) -> Misnamed | None:
    """What `column` should be called and multiplied by, or None where the name raises no doubt.

    Covers the target (`runtime_s`, `duration_us`), the memory size (`memory_gb`, `memory_bytes`) and the known metrics
    with their `_mean` and `_cov` (`user_cpu_us_mean`).
    """
    lower = column.lower()
    name, kind = lower, ""
    for ending in ("_mean", "_cov"):
        if lower.endswith(ending):
            name, kind = lower.removesuffix(ending), ending
    stem, _, unit = name.rpartition("_")
    expected: str | None = None
    table: dict[str, float] = {}
    if kind != "_cov" and stem in _RUNTIME_WORDS:
        expected, table = "runtime_ms", _TO_MS
    elif not kind and stem in _MEMORY_WORDS:
        expected, table = "memory_mb", _TO_MB
    elif kind:
        metric = next((metric for metric in METRICS if metric.rpartition("_")[0] == stem), "")
        own_unit = metric.rpartition("_")[2]
        table = {"ms": _TO_MS, "mb": _TO_MB, "bytes": _TO_BYTES}.get(own_unit, {})
        expected = metric + kind
    if expected is None or unit not in table or expected == column:
        return None
    return Misnamed(column, unit, expected, 1.0 if kind == "_cov" else table[unit])


def stands_for(words: str, columns: list[str]) -> str | None:
    """The first of `columns` that names `words` ("runtime" or "memory") without a unit, such as `duration` or `mem`."""
    known = _RUNTIME_WORDS if words == "runtime" else _MEMORY_WORDS
    return next((column for column in columns if column.lower() in known), None)
