"""One HTTP request after another over one connection, for clients that send load: no library costs less time.

Enters: nothing but the bytes of a server. Leaves: whether each answer was good. Used inside an asyncio loop.
"""

from __future__ import annotations

import asyncio
import re

REQUEST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
"""Runs the application once."""
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Connection(asyncio.Protocol):
    """One connection: a request at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[bool] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to; called by asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Read a piece of an answer; called by asyncio."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if end and length is not None and len(body) >= int(length[1]):
            self._received = b""
            self._settle(head.startswith(b"HTTP/1.1 200"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is not answered; called by asyncio."""
        del exc
        self._transport = None
        self._settle(False)

    @property
    def open(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None

    def ask(self, request: bytes = REQUEST) -> asyncio.Future[bool]:
        """Send a request; the future says whether status 200 and the whole body came.

        Args:
            request: head and body.
        """
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None:
            self._settle(False)
        else:
            self._transport.write(request)
        return self._answer

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _settle(self, good: bool) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(good)
