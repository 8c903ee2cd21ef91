"""Limits through systemd-run, for users without root: each group is a transient scope unit of their own manager."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from flashfm.errors import LimitsError
from flashfm.measurements import watchdog
from flashfm.measurements.limits import HIGHEST_SHARES, PREFIX, Backend, Group, Limits, Watchdog


def properties(limits: Limits) -> list[str]:
    """The unit properties that express `limits`, as `NAME=VALUE`."""
    quota = "" if limits.cpu_quota is None else f"{max(0.01, limits.cpu_quota * 100):.4g}%"
    memory = "infinity" if limits.memory_mb is None else f"{limits.memory_mb}M"
    return [
        f"CPUQuota={quota}",
        f"CPUQuotaPeriodSec={limits.period_us}us",
        f"CPUWeight={min(10_000, max(1, round(limits.cpu_shares * 100 / 1024)))}",
        f"MemoryMax={memory}",
        f"MemorySwapMax={'infinity' if limits.memory_mb is None else 0}",
    ]


class SystemdGroup(Group):
    """One scope unit, started by the first process that joins; nested groups are units of a common slice."""

    def __init__(self, name: str, dog: Watchdog, *, user: bool, slice_name: str) -> None:
        self._unit, self._dog, self._user, self._slice = f"{name}.scope", dog, user, slice_name
        self._name, self._limits, self._started, self._has_children = name, Limits(), False, False
        for mark in self._marks:
            dog.register("unit", mark)

    @property
    def _marks(self) -> list[str]:
        """What to stop: the slice of the groups within, then the scope."""
        manager = "user" if self._user else "system"
        return [f"{manager}:{self._name}.slice", f"{manager}:{self._unit}"]

    @property
    def _manager(self) -> list[str]:
        return ["--user"] if self._user else []

    @property
    def launcher(self) -> list[str]:
        """Command prefix that joins the group; see `Group`."""
        self._started = True
        options = [part for value in properties(self._limits) for part in ("-p", value)]
        naming = ["--scope", "--quiet", f"--slice={self._slice}.slice", f"--unit={self._unit}"]
        return ["systemd-run", *self._manager, *naming, *options, "--"]

    def apply(self, limits: Limits) -> None:
        """Change the limits; see `Group`."""
        self._limits = limits
        for unit, exists in ((self._unit, self._started), (f"{self._name}.slice", self._has_children)):
            if not exists:
                continue
            command = ["systemctl", *self._manager, "set-property", "--runtime", unit, *properties(limits)]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                raise LimitsError(f"{unit}: systemctl set-property failed: {done.stderr.strip()}")

    def oom_kills(self) -> int:
        """Processes killed at the memory limit so far."""
        command = ["systemctl", *self._manager, "show", "--property=ControlGroup,Result", self._unit]
        shown = subprocess.run(command, check=False, capture_output=True, text=True).stdout
        found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        events = Path(f"/sys/fs/cgroup{found.get('ControlGroup', '')}/memory.events")
        if found.get("ControlGroup") and events.exists():
            return next((int(x.split()[1]) for x in events.read_text().splitlines() if x.startswith("oom_kill ")), 0)
        return int(found.get("Result") == "oom-kill")  # the scope is gone with its last process

    def child(self, name: str) -> SystemdGroup:
        """A group within this one."""
        if not self._has_children:
            self._has_children = True
            self.apply(self._limits)
        return SystemdGroup(f"{self._name}-{name}", self._dog, user=self._user, slice_name=self._name)

    def remove(self) -> None:
        """Kill what runs in the group and remove it."""
        for mark in reversed(self._marks):
            watchdog.stop_unit(mark)
            self._dog.forget("unit", mark)


class SystemdRun(Backend):
    """Transient scopes, of the user's manager or, for root, of the system's."""

    name = "systemd-run"
    how = "log in with a systemd user session whose cpu controller is delegated"

    def available(self) -> str:
        """Empty, or why systemd-run does not work here."""
        if shutil.which("systemd-run") is None:
            return "systemd-run is not installed"
        dog = Watchdog()
        try:
            group = self.root(dog)
            group.apply(Limits(cpu_quota=0.5, memory_mb=64))
            done = subprocess.run([*group.launcher, "true"], check=False, capture_output=True, text=True)
            group.remove()
            return "" if done.returncode == 0 else f"systemd-run failed: {done.stderr.strip().splitlines()[-1]}"
        finally:
            dog.close()

    def root(self, dog: Watchdog) -> SystemdGroup:
        """The outermost group of this process."""
        group = SystemdGroup(f"{PREFIX}{os.getpid()}", dog, user=os.geteuid() != 0, slice_name="flashfm")
        group.apply(Limits(cpu_shares=HIGHEST_SHARES))
        return group
