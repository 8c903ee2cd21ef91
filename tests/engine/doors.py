"""Where processes listen, as the kernel tells it; a module that workers import."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def listening(pids: Iterable[int]) -> list[Address]:
    """Addresses on which these processes accept TCP connections."""
    inodes = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                inodes.add(str(entry.readlink()))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, address, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in inodes:
                host = bytes.fromhex(address.partition(":")[0])
                words = [host[i : i + 4][::-1] for i in range(0, len(host), 4)]  # little-endian words
                found.append(ipaddress.ip_address(b"".join(words)))
    return found
