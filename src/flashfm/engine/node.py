"""The machine that an item is worked on, by name; for work of which the machine is part of the result."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_NAME: ContextVar[str] = ContextVar("node", default="")


def node() -> str:
    """Name of this machine: what the cluster calls it that the item at hand came from, else that of the host; tidy."""
    return tidy(_NAME.get() or socket.gethostname())


def tidy(name: str) -> str:
    """A name as it can stand in a line or a table: letters, digits, dots, dashes and underscores, 1 to 63 of them."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")[:63] or "node"


@contextmanager
def on_node(name: str) -> Iterator[None]:
    """Within the block this machine is called `name`; an empty one changes nothing."""
    before = _NAME.set(name)
    try:
        yield
    finally:
        _NAME.reset(before)
