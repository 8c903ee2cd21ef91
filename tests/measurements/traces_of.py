"""What a measuring process has left behind."""

from __future__ import annotations

import subprocess
from pathlib import Path


def groups_of(pid: int) -> list[Path]:
    """Control groups made by a process and still there."""
    return [p for p in Path("/sys/fs/cgroup").rglob(f"flashfm-{pid}-*") if p.is_dir()]


def processes_with(word: str) -> list[int]:
    """Processes whose command line holds a word."""
    done = subprocess.run(["pgrep", "-f", word], check=False, capture_output=True, text=True)
    return [int(pid) for pid in done.stdout.split()]
