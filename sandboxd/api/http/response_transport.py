"""The transport of one response: its head goes to the kernel together with its first bytes.

uvicorn writes the head as soon as the application has it, and the body after it. Two packets would
wake up the client twice, and it can do nothing with the first one.
"""

from __future__ import annotations

import asyncio


class ResponseTransport(asyncio.Transport):
    """`transport`, for one response. A head without any bytes after it is written in the next round
    of the `loop`."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._is_begun = False
        self._head = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write `data`; the first call has the head."""
        if not self._is_begun:
            self._is_begun = True
            self._head = bytes(data)
            self._loop.call_soon(self._flush)
        elif self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        else:
            self._transport.write(data)

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def is_closing(self) -> bool:
        """The connection ends."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Write the head, if that has not happened, and close the connection."""
        self._flush()
        self._transport.close()
