"""Engines by name, as the options `--engine`, `--workers` and `--address` take them."""

from __future__ import annotations

from contextlib import AbstractContextManager

from flashfm.engine.base import Engine, not_fewer_than_one
from flashfm.engine.inline import Inline
from flashfm.errors import EngineError

LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)


def engine_of(
    name: str = LOCAL, workers: int | None = None, address: str | None = None, *, whole_nodes: bool = False
) -> AbstractContextManager[Engine]:
    """The engine of that name, for the length of a block.

    Args:
        name: of `ENGINES`.
        workers: items that are worked on at a time. Absent, one on this machine, which is then worked on in this very
            process, and as many as the cluster has cores on Ray.
        address: of a cluster of Ray, as HOST:PORT; None starts one on this machine that ends with the block.
        whole_nodes: on Ray an item has a node to itself, and there are as many workers as nodes.

    Raises:
        EngineError: no engine has that name, there are no workers, or an address is given that is not asked for; on
            entering, Ray is not installed, or the cluster cannot be reached.
    """
    if name not in ENGINES:
        raise EngineError(f"--engine {name}: expected one of {', '.join(ENGINES)}")
    if name == RAY:
        from flashfm.engine.ray import Ray

        return Ray(address, workers, whole_nodes=whole_nodes)
    if address is not None:
        raise EngineError(f"--address {address}: only --engine {RAY} takes one")
    if (1 if workers is None else not_fewer_than_one(workers)) == 1:
        return Inline()
    from flashfm.engine.local import Local

    return Local(workers or 1)
