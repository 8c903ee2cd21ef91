"""What machine this is, for data cards and result files. Reads, never changes."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe() -> dict[str, str | int | float]:
    """Processor, cores, memory, kernel, Python and libraries; JSON-able, with no name or address of the machine."""
    described: dict[str, str | int | float] = {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "virtual_machine": "yes" if "hypervisor" in _field("/proc/cpuinfo", "flags").split() else "no",
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    for name in ("numpy", "pillow", "pyyaml", "boto3", "moto", "torch"):
        try:
            described[name] = version(name)
        except PackageNotFoundError:
            described[name] = "absent"
    return described


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")
