"""The relay of bytes between two connected sockets, in both directions, within the bounds."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

from .outcomes import Stopped
from .shares import Share

CHUNK = 256 * 1024


class Meter:
    """The count of the bytes of one connection, and their price.

    sent, received  bytes of the run, and bytes for the run
    """

    def __init__(self, shares: Sequence[Share], idle_s: float) -> None:
        self._shares = shares
        self._idle_s = idle_s
        self._timeout: asyncio.Timeout | None = None
        self.sent = self.received = 0

    @contextlib.asynccontextmanager
    async def idle_bound(self) -> AsyncIterator[None]:
        """Raise Stopped when no byte is counted for `idle_s` within the block."""
        try:
            async with asyncio.timeout(self._idle_s) as self._timeout:
                yield
        except TimeoutError:
            raise Stopped("idle", f"no byte has come for {self._idle_s:g} s") from None
        finally:
            self._timeout = None

    async def count(self, size: int, is_sent: bool) -> None:
        """Count bytes, and wait as long as the rate demands. Raises Stopped."""
        if is_sent:
            self.sent += size
        else:
            self.received += size
        if self._timeout:
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._idle_s)
        delay = max(share.spend(size) for share in self._shares)
        self.check()
        await asyncio.sleep(delay)  # also with 0: no other connection starves

    def check(self) -> None:
        """Raise Stopped when no byte is left for the session or its owner."""
        if any(share.is_used_up for share in self._shares):
            raise Stopped("used-up", "the bytes of this day are used up")


async def relay(client: socket.socket, server: socket.socket, meter: Meter) -> None:
    """Copy in both directions until both are at their end. Raises Stopped, OSError."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_copy(client, server, meter, True))
        group.create_task(_copy(server, client, meter, False))


async def _copy(
    source: socket.socket, destination: socket.socket, meter: Meter, is_sent: bool
) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, CHUNK):
        await loop.sock_sendall(destination, data)
        await meter.count(len(data), is_sent)
    with contextlib.suppress(OSError):
        destination.shutdown(socket.SHUT_WR)
