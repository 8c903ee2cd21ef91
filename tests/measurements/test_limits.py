"""Limits by the real kernel; ways that this machine lacks are checked by the files and commands that they write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from traces_of import groups_of

from flashfm.errors import LimitsError
from flashfm.measurements import limits, watchdog
from flashfm.measurements.limits import Backend, CgroupGroup, CgroupV1, CgroupV2, Limits, Watchdog, detect
from flashfm.measurements.systemd import SystemdRun, properties

SPIN = """
import time
t, c = time.perf_counter(), time.process_time()
while time.process_time() - c < {}: pass
print(time.perf_counter() - t)
"""


def run(group: limits.Group, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*group.launcher, sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)


@pytest.mark.limits
def test_quota_slows_by_its_inverse(backend: Backend, dog: Watchdog) -> None:
    group = backend.root(dog).child("quota")
    group.apply(Limits(cpu_quota=0.125))
    wall = float(run(group, SPIN.format(0.1)).stdout)
    group.apply(Limits())
    free = float(run(group, SPIN.format(0.1)).stdout)
    assert wall == pytest.approx(0.8, rel=0.15)
    assert free < wall / 3


@pytest.mark.limits
def test_memory_limit_kills_and_is_counted(backend: Backend, dog: Watchdog) -> None:
    group = backend.root(dog).child("memory")
    group.apply(Limits(memory_mb=64))
    assert run(group, "x = bytearray(20 << 20); print(len(x))").returncode == 0
    assert group.oom_kills() == 0
    assert run(group, "x = bytearray(200 << 20)").returncode == -signal.SIGKILL
    assert group.oom_kills() == 1
    group.apply(Limits(memory_mb=400))
    assert run(group, "x = bytearray(200 << 20)").returncode == 0


@pytest.mark.limits
def test_shares_divide_a_contended_core(backend: Backend, dog: Watchdog) -> None:
    node = backend.root(dog).child("node")
    many, few = node.child("many"), node.child("few")
    many.apply(Limits(cpu_shares=900))
    few.apply(Limits(cpu_shares=100))
    code = """
import os, time
os.sched_setaffinity(0, {0})
t, c = time.perf_counter(), time.process_time()
while time.perf_counter() - t < 1: pass
print(time.process_time() - c)
"""
    command = [sys.executable, "-I", "-S", "-c", code]
    both = [subprocess.Popen([*g.launcher, *command], stdout=subprocess.PIPE, text=True) for g in (many, few)]
    heavy, light = (float(p.communicate()[0]) for p in both)
    assert 3 < heavy / light < 27, "nine times as much, whoever else is on the core"


@pytest.mark.limits
def test_removing_kills_what_runs(backend: Backend, dog: Watchdog) -> None:
    group = backend.root(dog)
    inner = group.child("inner")
    sleeper = subprocess.Popen([*inner.launcher, "sleep", "60"])
    time.sleep(0.1)
    group.remove()
    assert sleeper.wait(5) == -signal.SIGKILL
    assert not groups_of(os.getpid())


@pytest.mark.limits
def test_nothing_is_left_after_kill_9(backend: Backend) -> None:
    code = """
import subprocess, time
from flashfm.measurements.limits import Watchdog, detect
dog = Watchdog()
group = detect().root(dog).child("inner")
subprocess.Popen([*group.launcher, "sleep", "600"])
print("up", flush=True)
time.sleep(600)
"""
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "up\n"
    assert groups_of(owner.pid)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 10
    while groups_of(owner.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not groups_of(owner.pid)


@pytest.mark.limits
def test_groups_of_dead_processes_are_swept(backend: Backend, dog: Watchdog) -> None:
    if not isinstance(backend, CgroupV1):
        pytest.skip("makes a group by hand in the v1 hierarchy")
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = limits._directory("cpu")
    assert left is not None
    old = left / f"flashfm-{ended.pid}-abc"
    old.mkdir()
    backend.root(dog).remove()
    assert not old.exists()


def test_without_any_way_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(CgroupV1):
        def _bases(self) -> dict[str, Path]:
            raise LimitsError("/sys/fs/cgroup/cpu: could not make the group: Permission denied")

    monkeypatch.setattr(limits, "backends", lambda: [Refusing()])
    with pytest.raises(LimitsError, match=r"Permission denied .*run as root") as caught:
        detect()
    assert "\n" not in str(caught.value)


def test_an_unprivileged_user_is_told_why(tmp_path: Path) -> None:
    """A real process without privileges, as far as this machine lets us drop them."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); os.setgid(65534); os.setuid(65534)\n"
        "from flashfm.measurements.limits import CgroupV1\nprint(CgroupV1().available())"
    )
    package = tmp_path / "src"
    import shutil

    shutil.copytree(Path(limits.__file__).parents[1], package / "flashfm")
    for path in [tmp_path, *tmp_path.parents]:
        if path.stat().st_uid == 0 and path != Path("/") and str(path).startswith("/tmp/"):
            path.chmod(0o755)
    base = getattr(sys, "_base_executable", sys.executable)
    done = subprocess.run(["/usr/bin/python3", "-I", "-c", code, str(package)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no Python that an unprivileged user can run ({base}): {done.stderr.strip()[-200:]}")
    assert "Permission denied" in done.stdout or "no cgroup v1" in done.stdout


def test_v2_writes_the_documented_files(tmp_path: Path, dog: Watchdog) -> None:
    (tmp_path / "cgroup.subtree_control").touch()
    group = CgroupGroup({"cpu": tmp_path / "g", "memory": tmp_path / "g"}, dog, v2=True)
    (tmp_path / "g" / "memory.swap.max").touch()
    group.apply(Limits(cpu_quota=0.25, memory_mb=128, cpu_shares=512))
    read = {p.name: p.read_text().strip() for p in (tmp_path / "g").iterdir()}
    assert read == {
        "cpu.max": "5000 20000",
        "cpu.weight": "50",
        "memory.max": str(128 << 20),
        "memory.swap.max": "0",
    }
    group.apply(Limits())
    assert (tmp_path / "g" / "cpu.max").read_text() == "max 20000\n"
    assert (tmp_path / "g" / "memory.max").read_text() == "max\n"
    (tmp_path / "g" / "memory.events").write_text("low 0\noom 2\noom_kill 2\n")
    assert group.oom_kills() == 2
    dog.forget("cgroup", str(tmp_path / "g"))


def test_v2_says_which_controllers_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.controllers").write_text("hugetlb\n")
    monkeypatch.setattr(limits, "_directory", lambda controller: tmp_path)
    assert "expected the controllers cpu and memory, got hugetlb" in CgroupV2().available()


def test_systemd_properties() -> None:
    assert properties(Limits(cpu_quota=128 / 1769, memory_mb=128, cpu_shares=256)) == [
        "CPUQuota=7.236%",
        "CPUQuotaPeriodSec=20000us",
        "CPUWeight=25",
        "MemoryMax=128M",
        "MemorySwapMax=0",
    ]


def test_systemd_runs_in_a_scope_and_changes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dog: Watchdog) -> None:
    """The commands that a systemd would get, seen by programs of its name that run what they are told."""
    log = tmp_path / "log"
    for name, then in (("systemd-run", 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"'), ("systemctl", "")):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\n{then}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert SystemdRun().available() == ""
    group = SystemdRun().root(dog).child("x")
    group.apply(Limits(cpu_quota=0.5))
    assert subprocess.run([*group.launcher, "echo", "in"], capture_output=True, text=True).stdout == "in\n"
    group.apply(Limits(cpu_quota=1.0))
    group.remove()
    lines = log.read_text().splitlines()
    unit = f"flashfm-{os.getpid()}-x.scope"
    assert any(
        line.startswith("systemd-run --user --scope") and unit in line and "CPUQuota=50%" in line for line in lines
    )
    assert any(line.startswith("systemctl --user set-property --runtime") and "CPUQuota=100%" in line for line in lines)
    assert f"systemctl --user stop {unit}" in lines


def test_watchdog_script_imports_nothing_of_ours() -> None:
    source = Path(watchdog.__file__).read_text()
    assert "import flashfm" not in source
    assert "from flashfm" not in source
