"""What a measuring process has left behind."""

from __future__ import annotations

from pathlib import Path

MARK = "FLASHFM_TEST_MARK"


def groups_of(pid: int) -> list[Path]:
    """Control groups made by a process and still there."""
    return [p for p in Path("/sys/fs/cgroup").rglob(f"flashfm-{pid}-*") if p.is_dir()]


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
