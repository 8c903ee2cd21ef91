"""One thread for all that computes: on two threads a sum runs in another order, and its last bits are others.

That goes for products in numpy as in torch, so every engine works on items like this, the one of this process too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SINGLE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")}
"""Environment in which libraries that are loaded later start with one thread."""


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for libraries that are loaded and for those that the block loads; afterwards it is as before."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    before = {name: os.environ.get(name) for name in SINGLE_THREAD}
    torch = sys.modules.get("torch")
    threads = None if torch is None else torch.get_num_threads()
    os.environ.update(SINGLE_THREAD)
    try:
        with threadpool_limits(1):
            if torch is not None:
                torch.set_num_threads(1)
            yield
    finally:
        if torch is not None:
            torch.set_num_threads(threads)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
