"""Plain records that travel between stages; units are in the names. No I/O here, standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

METRICS: tuple[str, ...] = (
    "user_cpu_ms",
    "system_cpu_ms",
    "voluntary_switches",
    "involuntary_switches",
    "heap_used_mb",
    "rss_mb",
    "fs_read_bytes",
    "fs_write_bytes",
    "net_rx_bytes",
    "net_tx_bytes",
    "net_rx_packets",
    "net_tx_packets",
)
"""System metrics of one invocation, after Sizeless (Middleware'21, Table 1), with units in the names.

`heap_used_mb` is resident anonymous memory and `rss_mb` all resident memory, both at the end of the invocation, in
MiB; `fs_*_bytes` went through read and write system calls; `net_*` are counted by the kernel on the invocation's own
TCP connections; the rest are differences over the invocation.
"""


class Outcome(StrEnum):
    """How a measured configuration ended; anything but OK is a result too, not an exception."""

    OK = "ok"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True, slots=True, order=True)
class ResourceConfig:
    """What an application instance is given."""

    memory_mb: int
    """Memory limit in MiB; on platforms of the Lambda kind it also fixes the CPU quota."""
    cpu_shares: int | None = None
    """Relative CPU weight (`cpu.shares`), where the platform has one."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One timed call of an application."""

    runtime_ms: float
    metrics: dict[str, float] = field(default_factory=dict)
    """One value for each name in `METRICS`."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was observed of one application in one configuration of one platform, aggregated over invocations."""

    app: str
    platform: str
    config: ResourceConfig
    outcome: Outcome
    n_invocations: int
    runtime_ms: float | None
    """Mean run time; None where no invocation ended."""
    runtime_cov: float | None
    """Coefficient of variation (standard deviation / mean) of the run time; None with fewer than two invocations."""
    mean: dict[str, float] = field(default_factory=dict)
    """Mean of each metric."""
    cov: dict[str, float] = field(default_factory=dict)
    """Coefficient of variation of each metric; absent where the mean is 0."""
    detail: str = ""
    """Why the outcome is not OK, in one line."""
