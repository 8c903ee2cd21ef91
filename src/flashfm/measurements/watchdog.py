"""Cleans up after a measuring process, also after kill -9: a process that outlives it and acts when their pipe closes.

Standard library only, and no import of flashfm: it is started as a plain script (`python -I -S watchdog.py`) in a
session of its own. It goes on as a child of nobody, since some, such as workers of Ray, kill their children when they
end. Each line on its standard input registers (`+KIND PATH`) or forgets (`-KIND PATH`) one thing:

- `cgroup DIR`: kill every process in DIR and below, then remove the directories;
- `tree DIR`: delete the directory tree;
- `unit NAME`: stop the systemd unit (`user:NAME` for one of the user's own manager).

At the end of input it removes what is still registered, last first. `remove_cgroup` is used by the measuring process
too, so there is one way to remove a group.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path


def remove_cgroup(directory: Path, patience_s: float = 10.0) -> bool:
    """Kill every process of a control group and of those below it, then remove their directories.

    Args:
        directory: one directory of a cgroup v1 or v2 hierarchy; it may be absent.
        patience_s: how long to wait for killed processes to go.

    Returns:
        Whether the directory is gone.
    """
    deadline = time.monotonic() + patience_s
    while directory.is_dir():
        nested = sorted((d for d in directory.rglob("*") if d.is_dir()), key=lambda d: -len(d.parts))
        for group in [*nested, directory]:
            with contextlib.suppress(OSError):
                for line in (group / "cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(line), signal.SIGKILL)
            with contextlib.suppress(OSError):
                group.rmdir()
        if time.monotonic() > deadline:
            break
        time.sleep(0.005)
    return not directory.exists()


def stop_unit(name: str) -> None:
    """Stop a transient systemd unit; `user:NAME` is one of the user's own manager."""
    manager, _, unit = name.rpartition(":")
    for verb in ("stop", "reset-failed"):
        command = ["systemctl", *(["--user"] if manager == "user" else []), verb, unit]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, check=False, capture_output=True, timeout=10)


def main() -> None:
    """Read registrations until the measuring process is gone, then clean up."""
    for name in ("SIGINT", "SIGHUP", "SIGQUIT", "SIGPIPE"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    kept: dict[tuple[str, str], None] = {}
    for line in sys.stdin:
        kind, _, path = line[1:].rstrip("\n").partition(" ")
        if line[0] == "+":
            kept[kind, path] = None
        else:
            kept.pop((kind, path), None)
    for kind, path in reversed(kept):
        if kind == "cgroup":
            remove_cgroup(Path(path))
        elif kind == "unit":
            stop_unit(path)
    for kind, path in reversed(kept):
        if kind == "tree":
            shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    if os.fork():
        os._exit(0)
    main()
