"""Work that tests of engines give out; a module that workers import."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flashfm.engine.node import node
from flashfm.errors import FlashError, ShotsError

Told = Callable[[int, int], object]


class Marked(FlashError):
    """Has more than words, and its own way to be made."""

    exit_code = 77

    def __init__(self, words: str, *, mark: Callable[[], int]) -> None:
        super().__init__(words)
        self.mark = mark


def square(item: int, _told: Told) -> int:
    return item * item


def scaled(factor: np.ndarray, item: int, _told: Told) -> float:
    return float(factor.sum()) * item


def drawn(seed: int, _told: Told) -> np.ndarray:
    """Normal numbers, and a matrix product, whose sums a library may run in another order on several threads."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(300, 300))
    product: np.ndarray = a @ a.T
    return product


def trained(seed: int, _told: Told) -> dict[str, np.ndarray]:
    """Weights of a network after some steps."""
    import torch

    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Tanh(), torch.nn.Linear(128, 1))
    x = torch.randn(2000, 64)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(20):
        optimiser.zero_grad()
        (net(x) - x.sum(1, keepdim=True)).square().mean().backward()
        optimiser.step()
    return {name: value.detach().numpy() for name, value in net.state_dict().items()}


def threads(_item: object, _told: Told) -> int:
    import torch

    return torch.get_num_threads()


def refuse(item: int, _told: Told) -> int:
    if item == 3:
        raise ShotsError("row 3, column latency_s: expected a number, got 'x'")
    return item


def refuse_late(item: tuple[Path, bool], _told: Told) -> str:
    """One item fails when the others are done."""
    folder, fails = item
    if fails:
        wait_until(lambda: len(list(folder.iterdir())) == 2)
        raise ShotsError("no")
    (folder / str(os.getpid())).touch()
    return "done"


def marked(_item: object, _told: Told) -> None:
    raise Marked("cannot be sent whole", mark=lambda: 3)


def bug(_item: object, _told: Told) -> None:
    {}["no such key"]


def secret(_item: object, _told: Told) -> Any:
    return lambda: None


def append(item: list[int], _told: Told) -> list[int]:
    item.append(len(item))
    return item


def dies(item: tuple[Path, int], _told: Told) -> int:
    """Kills its process the first times; returns how often it was tried."""
    record, times = item
    with record.open("a") as file:
        file.write("x")
    tried = record.stat().st_size
    if tried <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return tried


def leaves(_item: object, _told: Told) -> None:
    os._exit(3)


def holds(folder: Path, told: Told) -> None:
    """Works until it is ended, and says that it was asked to end."""
    (folder / f"started-{os.getpid()}").touch()
    try:
        while True:
            time.sleep(0.01)
    finally:
        (folder / f"cleaned-{os.getpid()}").touch()


def steps(item: int, told: Told) -> int:
    for step in range(item):
        told(step + 1, item)
        time.sleep(0.05)
    return item


def process(_item: object, _told: Told) -> int:
    return os.getpid()


def prints(_item: object, _told: Told) -> None:
    print("something that an application says", flush=True)


def slept(item: float, _told: Told) -> float:
    time.sleep(item)
    return item


def large(mib: int, _told: Told) -> np.ndarray:
    return np.full((mib, 2**20), mib, dtype=np.uint8)


def size(item: np.ndarray, _told: Told) -> int:
    return item.nbytes


def wait_until(holds: Callable[[], bool], within_s: float = 30.0) -> None:
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.01)


def refuse_beside_a_deaf_one(item: tuple[Path, str], _told: Told) -> None:
    """One ignores all requests to end, the other fails when that one is at it."""
    folder, name = item
    if name == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (folder / "deaf").write_text(str(os.getpid()))
        time.sleep(60)
    wait_until((folder / "deaf").exists)
    raise ShotsError("no")


def meets_another(folder: Path, _told: Told) -> int:
    (folder / f"here-{os.getpid()}").touch()
    wait_until(lambda: len(list(folder.glob("here-*"))) == 2)
    return os.getpid()


def meets_another_somewhere(folder: Path, told: Told) -> str:
    meets_another(folder, told)
    return node()


def counts_others(folder: Path, _told: Told) -> int:
    """How many are at work beside this one."""
    mine = folder / f"busy-{os.getpid()}-{time.monotonic_ns()}"
    mine.touch()
    time.sleep(0.2)
    others = len(list(folder.glob("busy-*"))) - 1
    mine.unlink()
    return others


def others_on_its_node(folder: Path, told: Told) -> tuple[str, int]:
    """The node's name, and how many are at work there beside this one."""
    (folder / node()).mkdir(exist_ok=True)
    return node(), counts_others(folder / node(), told)


def waits_for_go_somewhere(folder: Path, told: Told) -> str:
    waits_for_go(folder, told)
    return node()


def waits_for_go(folder: Path, _told: Told) -> str:
    (folder / f"started-{os.getpid()}").touch()
    wait_until((folder / "go").exists, 60)
    return "went"


def quick_or_endless(quick: bool, _told: Told) -> str:
    while not quick:
        time.sleep(0.1)
    return "done"


def raises(error: Exception, _told: Told) -> None:
    raise error


def raises_one_of_its_own(_item: object, _told: Told) -> None:
    class Own(Exception):
        """Cannot be imported from anywhere."""

    raise Own("of no module")
