"""CPU and memory limits by the kernel: one `Group` of processes, three ways to have one.

`detect()` tries cgroup v1, cgroup v2 and systemd-run in turn, really setting a limit, and says why a way does not
work. Every group is registered with the watchdog process before it exists, so that none outlives the measuring
process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from flashfm.errors import LimitsError
from flashfm.measurements import watchdog

PERIOD_US = 20_000
"""Quota period: AWS Lambda's granularity. The kernel's default of 100,000 makes short functions come out bimodal."""
LOWEST_SHARES, HIGHEST_SHARES = 2, 262_144
PREFIX = "flashfm-"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a group of processes is given; None leaves a resource unlimited."""

    cpu_quota: float | None = None
    """CPU time per wall time, in cores; above 0."""
    memory_mb: int | None = None
    """Resident memory and page cache, in MiB, without swap; a group above it gets its largest process killed."""
    cpu_shares: int = 1024
    """Weight against sibling groups when a core is contended, in [2, 262144]."""
    period_us: int = PERIOD_US
    """Period over which the quota holds, in microseconds."""


class Watchdog:
    """The cleaning process (see `watchdog.py`); one a measuring process."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,  # whose end says that it is gone: it is no child of ours for long
            start_new_session=True,
            text=True,
        )
        self._child.wait()
        atexit.register(self.close)

    def register(self, kind: str, path: str) -> None:
        """Have `path` removed when this process is gone; kinds are those of `watchdog.py`."""
        self._send(f"+{kind} {path}\n")

    def forget(self, kind: str, path: str) -> None:
        """`path` is gone already."""
        self._send(f"-{kind} {path}\n")

    def _send(self, line: str) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(line)
            self._child.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise LimitsError(
                "the clean-up process is gone, so limits could be left behind; start the measurement again"
            ) from None

    def close(self) -> None:
        """Clean up now what is still registered."""
        atexit.unregister(self.close)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.communicate(timeout=20)


class Group(ABC):
    """A set of processes that share limits."""

    @property
    @abstractmethod
    def launcher(self) -> list[str]:
        """Command prefix that puts the command after it into the group, in the same process."""

    @abstractmethod
    def apply(self, limits: Limits) -> None:
        """Change the limits of the running group.

        Raises:
            LimitsError: the kernel refuses, for example a memory limit below what cannot be reclaimed.
        """

    @abstractmethod
    def oom_kills(self) -> int:
        """Processes that the kernel killed so far in this group because of its memory limit."""

    @abstractmethod
    def child(self, name: str) -> Group:
        """A group within this one."""

    @abstractmethod
    def remove(self) -> None:
        """Kill what runs in the group and remove it."""


class Backend(ABC):
    """A way to limit processes on this machine."""

    name: str
    how: str

    @abstractmethod
    def available(self) -> str:
        """Empty where the way works here, else why not; sets and reads back a real limit."""

    @abstractmethod
    def root(self, dog: Watchdog) -> Group:
        """The outermost group of this process; weighs as much as can be against the rest of the machine."""


def _own_cgroup(controller: str) -> str | None:
    """Path of this process in the v1 hierarchy of `controller`, or in v2 for an empty name."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") if controller else not controllers:
            return path
    return None


def _directory(controller: str) -> Path | None:
    """Directory of this process's own group, where the hierarchy is mounted and can be seen."""
    path = _own_cgroup(controller)
    if path is None:
        return None
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        wanted = kind == "cgroup" and controller in options.split(",") if controller else kind == "cgroup2"
        if wanted:
            root, mount = fields.split(" ")[3:5]
            relative = os.path.relpath(path, root)
            found = Path(mount) if relative.startswith("..") else Path(mount) / relative
            return found if found.is_dir() else Path(mount)
    return None


def _write(path: Path, value: object) -> None:
    try:
        path.write_text(f"{value}\n")
    except OSError as error:
        raise LimitsError(f"{path}: could not write {value}: {error.strerror}") from None


class CgroupGroup(Group):
    """A group that is one directory in each hierarchy (v1: cpu and memory; v2: one)."""

    def __init__(self, directories: dict[str, Path], dog: Watchdog, *, v2: bool) -> None:
        self.directories, self._dog, self._v2 = directories, dog, v2
        for directory in dict.fromkeys(directories.values()):
            dog.register("cgroup", str(directory))
            try:
                directory.mkdir()
            except OSError as error:
                raise LimitsError(f"{directory}: could not make the group: {error.strerror}") from None
        self.apply(Limits())

    @property
    def launcher(self) -> list[str]:
        """Command prefix that joins the group; see `Group`."""
        procs = [str(d / "cgroup.procs") for d in dict.fromkeys(self.directories.values())]
        script = 'while [ "$1" != -- ]; do echo $$ > "$1" || exit 97; shift; done; shift; exec "$@"'
        return ["/bin/sh", "-c", script, "sh", *procs, "--"]

    def apply(self, limits: Limits) -> None:
        """Change the limits; see `Group`."""
        cpu, memory = self.directories["cpu"], self.directories["memory"]
        quota = None if limits.cpu_quota is None else max(1000, round(limits.cpu_quota * limits.period_us))
        bytes_ = None if limits.memory_mb is None else limits.memory_mb << 20
        if self._v2:
            _write(cpu / "cpu.max", f"{'max' if quota is None else quota} {limits.period_us}")
            _write(cpu / "cpu.weight", min(10_000, max(1, round(limits.cpu_shares * 100 / 1024))))
            _write(memory / "memory.max", "max" if bytes_ is None else bytes_)
            if (memory / "memory.swap.max").exists():
                _write(memory / "memory.swap.max", "max" if bytes_ is None else 0)
            return
        _write(cpu / "cpu.cfs_quota_us", -1)
        _write(cpu / "cpu.cfs_period_us", limits.period_us)
        _write(cpu / "cpu.cfs_quota_us", -1 if quota is None else quota)
        _write(cpu / "cpu.shares", limits.cpu_shares)
        self._set_memory_v1(memory, -1 if bytes_ is None else bytes_)

    @staticmethod
    def _set_memory_v1(memory: Path, value: int) -> None:
        """Memory plus swap may never be below memory, so the order depends on the direction."""
        plain, swap = memory / "memory.limit_in_bytes", memory / "memory.memsw.limit_in_bytes"
        files = [f for f in (plain, swap) if f.exists()]
        growing = value == -1 or value > int(plain.read_text())
        for file in reversed(files) if growing else files:
            _write(file, value)

    def oom_kills(self) -> int:
        """Processes killed at the memory limit so far."""
        name = "memory.events" if self._v2 else "memory.oom_control"
        with contextlib.suppress(OSError):
            for line in (self.directories["memory"] / name).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return 0

    def child(self, name: str) -> CgroupGroup:
        """A group within this one."""
        if self._v2:
            _write(self.directories["cpu"] / "cgroup.subtree_control", "+cpu +memory")
        return CgroupGroup({k: d / name for k, d in self.directories.items()}, self._dog, v2=self._v2)

    def remove(self) -> None:
        """Kill what runs in the group and remove it."""
        for directory in dict.fromkeys(self.directories.values()):
            if watchdog.remove_cgroup(directory):
                self._dog.forget("cgroup", str(directory))


class _Cgroups(Backend):
    """What both versions share: groups are directories beside or below the process's own."""

    v2: bool

    @abstractmethod
    def _bases(self) -> dict[str, Path]:
        """Directory for our groups in each hierarchy; raises LimitsError where there is none."""

    def available(self) -> str:
        """Empty, or why systemd-run does not work here."""
        dog = Watchdog()
        try:
            group = self.root(dog)
            try:
                group.apply(Limits(cpu_quota=0.5, memory_mb=64, cpu_shares=512))
                done = subprocess.run([*group.launcher, "true"], check=False, capture_output=True, text=True)
                return "" if done.returncode == 0 else f"a process could not join a group: {done.stderr.strip()}"
            finally:
                group.remove()
        except LimitsError as error:
            return str(error)
        finally:
            dog.close()

    def root(self, dog: Watchdog) -> CgroupGroup:
        """The outermost group of this process."""
        bases = self._bases()
        for base in bases.values():
            _sweep(base)
        name = f"{PREFIX}{os.getpid()}-{time.monotonic_ns():x}"
        group = CgroupGroup({k: b / name for k, b in bases.items()}, dog, v2=self.v2)
        group.apply(Limits(cpu_shares=HIGHEST_SHARES))
        return group


def _sweep(base: Path) -> None:
    """Remove groups of measuring processes that are gone (both they and their watchdog were killed)."""
    for old in base.glob(f"{PREFIX}*-*"):
        owner = old.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            watchdog.remove_cgroup(old)


class CgroupV1(_Cgroups):
    """The cpu and memory controllers of cgroup v1."""

    name, how, v2 = "cgroup-v1", "run as root, or have the cpu and memory hierarchies made writable for you", False

    def _bases(self) -> dict[str, Path]:
        found = {controller: _directory(controller) for controller in ("cpu", "memory")}
        missing = [c for c, d in found.items() if d is None]
        if missing:
            raise LimitsError(f"no cgroup v1 hierarchy with the {' and '.join(missing)} controller is mounted")
        return {c: d for c, d in found.items() if d is not None}


class CgroupV2(_Cgroups):
    """The unified hierarchy: groups below its root where that is ours to write, else below this process's own group."""

    name, how, v2 = "cgroup-v2", "run as root, or inside `systemd-run --user --scope -p Delegate=yes`", True

    def _bases(self) -> dict[str, Path]:
        own = _directory("")
        if own is None:
            raise LimitsError("no cgroup v2 hierarchy is mounted")
        root = next(d for d in (own, *own.parents) if not (d.parent / "cgroup.procs").exists())
        is_root = not (root / "cgroup.type").exists()  # a container sees a group of the host's as its root
        base = root if is_root and os.access(root / "cgroup.subtree_control", os.W_OK) else own
        have = set((base / "cgroup.controllers").read_text().split())
        if not {"cpu", "memory"} <= have:
            got = ", ".join(sorted(have)) or "none"
            raise LimitsError(f"{base}: expected the controllers cpu and memory, got {got}")
        if base is not root or not is_root:
            self._step_aside(base)
        _write(base / "cgroup.subtree_control", "+cpu +memory")
        return {"cpu": base, "memory": base}

    @staticmethod
    def _step_aside(base: Path) -> None:
        """Move the processes of `base` into a group below it: none may sit beside groups that share its resources."""
        aside = base / f"{PREFIX}supervisor"
        try:
            aside.mkdir(exist_ok=True)
            for pid in (base / "cgroup.procs").read_text().split():
                _write(aside / "cgroup.procs", pid)
        except OSError as error:
            raise LimitsError(f"{base}: could not make groups: {error.strerror}") from None


def backends() -> list[Backend]:
    """Every way that flashfm knows, in the order in which they are tried."""
    from flashfm.measurements.systemd import SystemdRun

    return [CgroupV1(), CgroupV2(), SystemdRun()]


def detect() -> Backend:
    """The first way to limit processes that works on this machine.

    Raises:
        LimitsError: none works; the message says why each does not and what to do.
    """
    reasons = []
    for backend in backends():
        problem = backend.available()
        if not problem:
            return backend
        reasons.append(f"{backend.name}: {problem} ({backend.how})")
    raise LimitsError("CPU and memory limits cannot be set here. " + "; ".join(reasons))
