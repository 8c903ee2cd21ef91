"""What one invocation used, read from the kernel inside the measured process; costs some tens of microseconds.

Enters: nothing but this process's own counters. Leaves: one number for each name in `records.METRICS`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from flashfm.records import METRICS, Invocation

_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20
_TCP_INFO_BYTES = 256
# Offsets in Linux's struct tcp_info (include/uapi/linux/tcp.h): received bytes, segments out and in, sent bytes.
_RECEIVED, _SEGMENTS, _SENT = 128, 136, 200


class TcpCounters:
    """Bytes and packets on every TCP connection that this process opens, whichever library opens it.

    An audit hook sees each connect; a duplicate of its descriptor keeps the kernel's counters readable. When the
    connection's owner has closed it, its last counts are kept and the duplicate is closed.
    """

    def __init__(self) -> None:
        self._open: list[tuple[int, int, socket.socket]] = []
        self._closed = (0, 0, 0, 0)
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event != "socket.connect":
            return
        found = arguments[0]
        if isinstance(found, socket.socket) and found.type == socket.SOCK_STREAM and found.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):
                self._open.append((found.fileno(), os.fstat(found.fileno()).st_ino, found.dup()))

    def totals(self) -> tuple[int, int, int, int]:
        """Bytes received, bytes sent, packets received, packets sent since the process began."""
        total, still = self._closed, []
        for number, inode, twin in self._open:
            info = twin.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            counts = _tcp_counts(info)
            total = _add(total, counts)
            try:
                owned = os.fstat(number).st_ino == inode
            except OSError:
                owned = False
            if owned:
                still.append((number, inode, twin))
            else:
                self._closed = _add(self._closed, counts)
                twin.close()
        self._open = still
        return total


def _add(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


def _tcp_counts(info: bytes) -> tuple[int, int, int, int]:
    if len(info) < _SENT + 8:
        return 0, 0, 0, 0
    (received,) = struct.unpack_from("=Q", info, _RECEIVED)
    packets_out, packets_in = struct.unpack_from("=II", info, _SEGMENTS)
    (sent,) = struct.unpack_from("=Q", info, _SENT)
    return received, sent, packets_in, packets_out


@dataclass(frozen=True, slots=True)
class _Counters:
    user_s: float
    system_s: float
    voluntary: int
    involuntary: int
    read: int
    written: int
    net: tuple[int, int, int, int]


class Probe:
    """Times calls and reads this process's counters around them."""

    def __init__(self) -> None:
        self._tcp = TcpCounters()
        self._io = os.open("/proc/self/io", os.O_RDONLY)
        self._statm = os.open("/proc/self/statm", os.O_RDONLY)
        self._own_read = 0.0
        self._own_read = min(self.measure(lambda: None).metrics["fs_read_bytes"] for _ in range(3))

    def _counters(self) -> _Counters:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        fields = os.pread(self._io, 512, 0).split(b"\n", 2)
        return _Counters(
            usage.ru_utime,
            usage.ru_stime,
            usage.ru_nvcsw,
            usage.ru_nivcsw,
            int(fields[0].split()[1]),
            int(fields[1].split()[1]),
            self._tcp.totals(),
        )

    def measure(self, call: Callable[[], object]) -> Invocation:
        """Run `call` once and report its run time and what it used."""
        before = self._counters()
        start = time.perf_counter_ns()
        call()
        stop = time.perf_counter_ns()
        after = self._counters()
        _, resident, shared = map(int, os.pread(self._statm, 256, 0).split()[:3])
        values = (
            (after.user_s - before.user_s) * 1e3,
            (after.system_s - before.system_s) * 1e3,
            after.voluntary - before.voluntary,
            after.involuntary - before.involuntary,
            (resident - shared) * _PAGE_MB,
            resident * _PAGE_MB,
            max(0.0, after.read - before.read - self._own_read),
            after.written - before.written,
            *(after.net[i] - before.net[i] for i in range(4)),
        )
        return Invocation((stop - start) / 1e6, dict(zip(METRICS, map(float, values), strict=True)))
