"""Runs inside the virtual machine of `check-limits.sh`: one way to set limits, on a real kernel and a real systemd.

    python3 check_limits.py cgroup-v2|systemd-run

Needs the standard library and the files that the script copies. Prints what it saw; exits with 1 where a limit did not
hold.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from flashfm.measurements.limits import Group, Limits, Watchdog, backends

MINE = f"flashfm-{os.getpid()}"
SPIN = """
import time
t, c = time.perf_counter(), time.process_time()
while time.process_time() - c < 0.2: pass
print(time.perf_counter() - t)
"""
GROW = "import sys; print('up', flush=True); sys.stdin.readline(); x = bytearray(200 << 20)"


def start(group: Group, code: str, **pipes: int) -> subprocess.Popen[str]:
    return subprocess.Popen([*group.launcher, sys.executable, "-I", "-S", "-c", code], text=True, **pipes)


def cpu_ticks(process: subprocess.Popen[str]) -> int:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def quota(root: Group) -> bool:
    group = root.child("quota")
    group.apply(Limits(cpu_quota=0.125))
    wall = float(start(group, SPIN, stdout=subprocess.PIPE).communicate()[0])
    print(f"  0.2 s of CPU at a quota of 0.125: {wall:.2f} s, expected 1.6")
    return 1.3 < wall < 2.0


def memory(root: Group) -> bool:
    group = root.child("memory")
    group.apply(Limits(memory_mb=512))
    process = start(group, GROW, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    group.apply(Limits(memory_mb=64))
    process.communicate("\n")
    print(f"  200 MiB at a limit of 64: exit {process.returncode}, expected -9; kills counted: {group.oom_kills()}")
    return process.returncode == -9 and group.oom_kills() == 1


def shares(root: Group) -> bool:
    node, busy = root.child("node"), []
    for name, weight in (("many", 900), ("few", 100)):
        group = node.child(name)
        group.apply(Limits(cpu_shares=weight))
        busy.append(start(group, "while True: pass"))
    time.sleep(8)
    before = [cpu_ticks(p) for p in busy]
    time.sleep(5)
    many, few = (cpu_ticks(p) - b for p, b in zip(busy, before, strict=True))
    print(f"  CPU time at 900 to 100 shares: {many} to {few} ticks")
    weights = [
        p.read_text().strip() for p in Path("/sys/fs/cgroup").rglob("*/cpu.weight") if p.parent.name.startswith(MINE)
    ]
    print(f"  weights of the groups: {', '.join(sorted(set(weights)))}; expected 10000 for the outermost")
    for process in busy:
        process.kill()
        process.wait()
    return 6 < many / few < 13 and "10000" in weights


def main() -> None:
    way = sys.argv[1]
    print(f"{way}, user {os.getuid()}, in {Path('/proc/self/cgroup').read_text().strip()}")
    backend = next(b for b in backends() if b.name == way)
    problem = backend.available()
    print(f"  available: {problem or 'yes'}")
    dog = Watchdog()
    root = backend.root(dog)
    held = not problem and all([quota(root), memory(root), shares(root)])
    sleeper = subprocess.Popen([*root.child("kept").launcher, "sleep", "100"])
    time.sleep(1)
    root.remove()
    sleeper.wait(20)
    dog.close()
    left = [str(p) for p in Path("/sys/fs/cgroup").rglob(f"{MINE}*") if p.is_dir()]
    print(f"  left behind: {', '.join(left) or 'nothing'}")
    print("  PASSED" if held and not left else "  FAILED", flush=True)
    sys.exit(not held or bool(left))


if __name__ == "__main__":
    main()
