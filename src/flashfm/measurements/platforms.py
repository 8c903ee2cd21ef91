"""Platforms: how a configuration becomes limits, and what else runs on the node. Pure, but for a node's neighbours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flashfm.errors import MeasureError
from flashfm.measurements.limits import Group, Limits
from flashfm.records import ResourceConfig

MB_PER_VCPU = 1769
"""AWS Lambda gives one vCPU at 1,769 MB, and CPU in proportion to memory."""
LAMBDA_MB = (128, 256, 512, 1024, 2048, 3008)
"""The six sizes of Sizeless and of FLASH (appendix A.3)."""
OPENWHISK_MB = (128, 512)
OPENWHISK_SHARES = (128, 256, 512, 1024)
NEIGHBOUR_SHARES = 256
"""Weight of a busy neighbour: that of a default OpenWhisk action of 256 MB, at one share a megabyte."""


@dataclass(frozen=True, slots=True)
class Lambda:
    """CPU quota in proportion to memory over a period of 20 ms; nobody else on the cores."""

    @property
    def name(self) -> str:
        """Value of the table's `platform` column."""
        return "lambda"

    def configs(self, memory_mb: tuple[int, ...] | None, shares: tuple[int, ...] | None) -> list[ResourceConfig]:
        """The configurations to measure; `shares` must be None."""
        if shares is not None:
            raise MeasureError("platform lambda has no CPU shares; expected none, or --platform openwhisk")
        return [ResourceConfig(mb) for mb in _checked("memory", memory_mb or LAMBDA_MB, 16, 1 << 20)]

    def limits(self, config: ResourceConfig) -> Limits:
        """Limits of an instance of `config`."""
        return Limits(cpu_quota=config.memory_mb / MB_PER_VCPU, memory_mb=config.memory_mb)

    def cores(self, config: ResourceConfig) -> float:
        """Cores that an instance can keep busy; an instance runs one thread."""
        return min(1.0, config.memory_mb / MB_PER_VCPU)

    @property
    def exclusive(self) -> bool:
        """Whether an instance needs a core to itself and its neighbours."""
        return False


@dataclass(frozen=True, slots=True)
class OpenWhisk:
    """Memory and `cpu.shares`, on one core, against neighbours that never stop."""

    neighbours: int = 1
    """Busy processes on the core, each in a group of its own with `NEIGHBOUR_SHARES`."""

    def __post_init__(self) -> None:
        if not 0 <= self.neighbours <= 64:
            raise MeasureError(f"platform openwhisk: {self.neighbours} neighbours; expected 0 to 64")

    @property
    def name(self) -> str:
        """Value of the table's `platform` column; the neighbours are part of the environment, so of the pair."""
        return f"openwhisk-{self.neighbours}"

    def configs(self, memory_mb: tuple[int, ...] | None, shares: tuple[int, ...] | None) -> list[ResourceConfig]:
        """Every pair of a memory size and a number of shares."""
        return [
            ResourceConfig(mb, weight)
            for mb in _checked("memory", memory_mb or OPENWHISK_MB, 16, 1 << 20)
            for weight in _checked("shares", shares or OPENWHISK_SHARES, 2, 262_144)
        ]

    def limits(self, config: ResourceConfig) -> Limits:
        """Limits of an instance of `config`."""
        assert config.cpu_shares is not None
        return Limits(memory_mb=config.memory_mb, cpu_shares=config.cpu_shares)

    def cores(self, config: ResourceConfig) -> float:
        """The neighbours keep one core busy whatever the instance does."""
        del config
        return 1.0

    @property
    def exclusive(self) -> bool:
        """Whether an instance needs a core to itself and its neighbours."""
        return True


Platform = Lambda | OpenWhisk


@contextmanager
def neighbours(platform: Platform, node: Group, core: int) -> Iterator[None]:
    """Busy neighbours in `node`, on `core`, for as long as the context lasts."""
    count = platform.neighbours if isinstance(platform, OpenWhisk) else 0
    groups = [node.child(f"neighbour-{i}") for i in range(count)]
    busy = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    running: list[subprocess.Popen[bytes]] = []
    try:
        for group in groups:
            group.apply(Limits(cpu_shares=NEIGHBOUR_SHARES))
            command = [*group.launcher, sys.executable, "-I", "-S", "-c", busy]
            running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True))
        yield
    finally:
        for process in running:
            process.kill()
        for group in groups:
            group.remove()
        for process in running:
            process.wait()


def _checked(what: str, values: tuple[int, ...], low: int, high: int) -> tuple[int, ...]:
    for value in values:
        if not low <= value <= high:
            raise MeasureError(f"{what} is {value}; expected whole numbers from {low} to {high}")
    if len(set(values)) != len(values):
        raise MeasureError(f"{what} names a value twice: {', '.join(map(str, values))}")
    return values
