"""Work that tests of groups give out; a module that workers import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from doors import listening
from engine_items import Told

from flashfm.engine.group import Group
from flashfm.errors import ShotsError


def exchanges(rows: int, group: Group, _told: Told) -> dict[str, list[list[float]]]:
    """One of each."""
    own = torch.arange(3.0) + 10 * group.rank
    bare, square = own.clone(), own.clone().outer(own).requires_grad_()
    group.sum([bare, square])
    mean, shared = own.clone(), own.clone()
    group.average([mean])
    group.broadcast([shared], group.size - 1)
    part = torch.arange(float(rows))[group.part(rows)]
    gathered = torch.cat(group.gather(part))
    found = {"sum": bare, "square": square, "mean": mean, "shared": shared, "gathered": gathered}
    return {name: value.detach().reshape(-1).tolist() for name, value in found.items()}


def random_sum(group: Group, _told: Told) -> list[float]:
    """Of numbers whose sum depends on the order."""
    values = torch.randn(1000, generator=torch.Generator().manual_seed(group.rank)) * 10 ** torch.arange(
        1000
    ).remainder(7)
    group.sum([values])
    found: list[float] = values.tolist()
    return found


def steps(seconds: float, group: Group, told: Told) -> int:
    """Exchanges that take time, told of."""
    value = torch.zeros(1)
    for step in range(10):
        value += 1
        group.average([value])
        told(step + 1, 10)
        time.sleep(seconds / 10)
    return int(value)


def killed(folder: Path, times: int, group: Group, _told: Told) -> int:
    """The last rank is killed in the middle, so many times; the others wait for it in an exchange."""
    (folder / f"{group.rank}-{time.monotonic_ns()}").touch()
    value = torch.ones(1)
    group.sum([value])
    if group.rank == group.size - 1 and len(list(folder.glob(f"{group.rank}-*"))) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    group.sum([value])
    return int(value)


def refuses(group: Group, _told: Told) -> None:
    """The last rank raises an error; the others wait for it in an exchange."""
    if group.rank == group.size - 1:
        raise ShotsError(f"row {group.rank}: no")
    group.sum([torch.ones(1)])


def doors(group: Group, _told: Told) -> list[str]:
    """Addresses on which this process and the one that started it listen."""
    group.sum([torch.ones(1)])
    return [str(host) for host in listening((os.getpid(), os.getppid()))]
