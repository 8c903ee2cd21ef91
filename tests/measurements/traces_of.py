"""What a measuring process has left behind."""

from __future__ import annotations

import os
from pathlib import Path

MARK = "FLASHFM_TEST_MARK"


def groups_of(pid: int) -> list[Path]:
    """Control groups made by a process and still there."""
    found = []
    for folder, names, _ in os.walk("/sys/fs/cgroup"):  # goes on where a group is removed meanwhile
        found += [Path(folder) / name for name in names if name.startswith(f"flashfm-{pid}-")]
    return found


def processes_marked(mark: str) -> list[str]:
    """Command lines of processes that were started with `FLASHFM_TEST_MARK=mark` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found
