"""Workers that work on one thing together, such as data-parallel training, on any engine.

Enters: a function that each rank of a group calls, and how many ranks there are. Leaves: what each of them made. Ranks
exchange tensors over gloo, and find each other through a store that this process hosts. The only module of the engine
that imports torch; nothing but tensors, numbers and addresses goes over these connections, which anybody who reaches
them could join: they are on the loopback device, or on the network of a cluster of Ray, which has to be private.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor

from flashfm.engine.base import TRIES, Engine, Told
from flashfm.engine.inline import Inline
from flashfm.engine.ray import Ray
from flashfm.errors import EngineError

log = logging.getLogger("flashfm.engine")

R = TypeVar("R")
Store = Any
"""Of `torch.distributed`, whose classes have no types."""
_c10d: Any = torch.distributed
LOOPBACK = "127.0.0.1"
REACH_S = 30.0
"""How long the store may take to answer."""
JOIN_S = 300.0
"""How long ranks wait until all are there: on a busy cluster some wait for a core."""
EXCHANGE_S = 1800.0
"""How long a rank waits for the slowest, where the loss of a machine is not told otherwise."""
TOLD_EVERY_S = 0.2
_LOOK_S = 0.05
_TOLD, _FAILED = "told", "failed"


class Group:
    """The ranks that work together, as one of them sees them. Each must call the same exchanges in the same order.

    Args:
        rank: which one this is, 0 to `size` - 1.
        size: how many there are.
        gloo: what connects them; None for one alone, whose exchanges change nothing.
    """

    def __init__(self, rank: int = 0, size: int = 1, gloo: Any = None) -> None:
        self.rank, self.size, self._gloo = rank, size, gloo

    def part(self, rows: int) -> slice:
        """This rank's share of so many rows: all shares together are all rows, and no two differ by more than one."""
        return slice(self.rank * rows // self.size, (self.rank + 1) * rows // self.size)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Put the sum over all ranks in place of each tensor; every rank then has the same, bit for bit.

        Args:
            tensors: of one type, on the CPU, of the same shapes on all ranks.
        """
        self._on_flat(tensors, lambda flat: self._exchange(self._gloo.allreduce, [flat]))

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over all ranks in place of each tensor; see `sum`."""
        self.sum(tensors)
        with torch.no_grad():
            for tensor in tensors:
                tensor.div_(self.size)

    def broadcast(self, tensors: Sequence[Tensor], source: int = 0) -> None:
        """Put what the rank `source` has in place of each tensor; see `sum` for what they may be."""
        self._on_flat(tensors, lambda flat: self._exchange(self._gloo.broadcast, flat, source))

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """What each rank has, by rank.

        Args:
            tensor: on the CPU, of the same type on all ranks; shapes may differ in the first dimension, which must be
                there.
        """
        if self.size == 1:
            return [tensor]
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(tensor)
        self.sum([lengths])
        padded = tensor.new_zeros(int(lengths.max()), *tensor.shape[1:])
        padded[: len(tensor)] = tensor.detach()
        found = [torch.empty_like(padded) for _ in range(self.size)]
        self._exchange(self._gloo.allgather, [found], [padded])
        return [part[:length] for part, length in zip(found, lengths.tolist(), strict=True)]

    def _on_flat(self, tensors: Sequence[Tensor], exchange: Callable[[Tensor], None]) -> None:
        """Exchange all tensors at once."""
        if self.size == 1 or not tensors:
            return
        with torch.no_grad():
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            exchange(flat)
            for tensor, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def _exchange(self, begin: Callable[..., Any], *given: object) -> None:
        try:
            begin(*given).wait()
        except RuntimeError as error:
            raise _PartedError(str(error).partition("\n")[0]) from None


ALONE = Group()
"""One rank, and no others."""


def run_together(
    engine: Engine, work: Callable[[Group, Told], R], size: int, on_step: Told = lambda *_: None
) -> list[R]:
    """Let ranks work together, each in a worker of its own.

    Where a worker or its machine is lost, all ranks start anew, as an engine does with an item.

    Args:
        engine: where; the engine of this very process has one rank, `ALONE`.
        work: a function of a module, or a `functools.partial` of one. It gets its group, and whom to tell of its
            progress: what rank 0 tells is heard.
        size: ranks, 1 to the workers of the engine.
        on_step: told of progress, on another thread where there are workers.

    Returns:
        What each rank made, by rank.

    Raises:
        EngineError: the engine has fewer workers, ranks do not come or do not find each other, or are lost again and
            again.
        Exception: what `work` raised in a rank.
    """
    if not 1 <= size <= engine.workers:
        raise EngineError(f"{size} workers are to work together, expected 1 to the {engine.workers} of the engine")
    if isinstance(engine, Inline):
        alone = partial(_alone, work)
        return [made for _, made in engine.run(alone, {"rank 0": None}, lambda _, done, total: on_step(done, total))]
    with _store(_host(engine)) as (store, host, port):
        for attempt in range(1, TRIES + 1):
            place = _Place(host, port, size, f"attempt {attempt}")
            with _heard(_c10d.PrefixStore(place.prefix, store), on_step):
                made = _attempt(engine, work, place, _c10d.PrefixStore(place.prefix, store))
            if made is not None:
                return made
            if attempt < TRIES:
                log.warning("a worker of %d that work together was lost; all start anew, %d of %d times",
                            size, attempt + 1, TRIES)  # fmt: skip
    raise EngineError(
        f"{size} workers that work together lost one of them {TRIES} times; give them more memory, or take fewer"
        " (--workers)"
    )


class _PartedError(Exception):
    """Another rank is gone."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the ranks of one attempt meet."""

    host: str
    port: int
    size: int
    prefix: str


def _alone(work: Callable[[Group, Told], R], _: object, told: Told) -> R:
    return work(ALONE, told)


def _attempt(engine: Engine, work: Callable[[Group, Told], R], place: _Place, store: Store) -> list[R] | None:
    """What all ranks made; None where one was lost, and the others are given up."""
    found: dict[str, R] = {}
    ranks = {f"rank {rank}": rank for rank in range(place.size)}
    run: Any = engine.run(partial(_rank, work, place), ranks)
    with closing(run):
        for name, made in run:
            if made is not None:
                found[name] = made[0]
            elif not store.check([_FAILED]):  # else what it raised is on its way, and says more
                return None
    return [found[name] for name in ranks] if len(found) == place.size else None


def _rank(work: Callable[[Group, Told], R], place: _Place, rank: int, _: object) -> tuple[R] | None:
    """What one rank made, or None where it cannot go on since another is lost, or it has been lost itself."""
    store = _c10d.PrefixStore(place.prefix, _reach(place))
    if store.add(f"rank {rank}", 1) > 1:
        return None
    until = time.monotonic() + JOIN_S
    while not store.check([f"rank {other}" for other in range(place.size)]):
        if time.monotonic() > until:
            raise EngineError(
                f"{place.size} workers are to work together, but not all came within {JOIN_S:g} s; take no more than"
                " there are free cores (--workers)"
            )
        time.sleep(_LOOK_S)
    try:
        group = Group(rank, place.size, _gloo(store, place, rank))
        return (work(group, _Tell(store) if rank == 0 else lambda *_: None),)
    except _PartedError as error:
        log.info("rank %d: %s", rank, error)
        return None
    except Exception:  # told to the others' side, and raised again as it is
        store.set(_FAILED, str(rank))
        raise


def _gloo(store: Store, place: _Place, rank: int) -> Any:
    if place.size == 1:
        return None
    options = _c10d.ProcessGroupGloo._Options()
    options._timeout = timedelta(seconds=EXCHANGE_S)
    options._devices = [_c10d.ProcessGroupGloo.create_device(hostname=_toward(place.host))]
    try:
        return _c10d.ProcessGroupGloo(store, rank, place.size, options)
    except RuntimeError as error:
        raise _PartedError(str(error).partition("\n")[0]) from None


def _reach(place: _Place) -> Store:
    """The store of the process that asked."""
    try:
        socket.create_connection((place.host, place.port), REACH_S).close()
        return _c10d.TCPStore(place.host, place.port, is_master=False, timeout=timedelta(seconds=REACH_S))
    except (OSError, RuntimeError) as error:
        raise EngineError(
            f"a worker does not reach the command that it works for, at {place.host}:{place.port}"
            f" ({str(error).partition(chr(10))[0][:120]}); all machines of a cluster must reach each other on all ports"
        ) from None


class _Tell:
    """Tells progress through the store, though not more often than anybody can see."""

    def __init__(self, store: Store) -> None:
        self._store, self._next = store, 0.0

    def __call__(self, done: int, total: int) -> None:
        if (now := time.monotonic()) >= self._next:
            self._next = now + TOLD_EVERY_S
            self._store.set(_TOLD, f"{done} {total}")


@contextmanager
def _heard(store: Store, on_step: Told) -> Iterator[None]:
    """Pass on what rank 0 tells, for the length of a block."""
    over = threading.Event()

    def listen() -> None:
        last = b""
        while not over.wait(TOLD_EVERY_S):
            if store.check([_TOLD]) and (said := store.get(_TOLD)) != last:
                last = said
                done, total = map(int, said.split())
                on_step(done, total)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join()


@contextmanager
def _store(host: str) -> Iterator[tuple[Store, str, int]]:
    """A store that this process hosts at an address of its own, and where it is."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as door:
        port = door.getsockname()[1]
        descriptor = door.detach()  # the store closes it
    yield _c10d.TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=descriptor), host, port


def _host(engine: Engine) -> str:
    """The address at which workers reach this process."""
    if not isinstance(engine, Ray) or engine.head is None:
        return LOOPBACK
    try:
        return _toward(engine.head)
    except OSError:
        return LOOPBACK


def _toward(host: str) -> str:
    """The address of this machine from which another is reached; nothing is sent."""
    family, kind, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])
