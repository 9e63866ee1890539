"""A SOCK_SEQPACKET socket in the event loop: whole packets, with descriptors, no buffers.

A packet is read only when a task waits for it, so a slow consumer holds back the sender through
the kernel. One task receives at a time; any number may send.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, TypeVar

from ..wire import messages

Result = TypeVar("Result")


class Channel:
    """One connected socket, owned; `close` ends every task that waits on it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._sending = asyncio.Lock()
        self._buffer = memoryview(b"")
        self._waiting: set[asyncio.Future[None]] = set()

    async def send_message(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        """Send one message of wire/messages.py. Raises WireError when it is too large, OSError when
        the peer is gone."""
        async with self._sending:
            await self._when_ready(lambda: messages.send(self._sock, message, fds), reading=False)

    async def send_packet(self, packet: bytes) -> None:
        """Send one packet as it is. Raises OSError when the peer is gone."""
        async with self._sending:
            await self._when_ready(lambda: self._sock.send(packet), reading=False)

    async def receive_message(self) -> tuple[dict[str, Any] | None, list[int]]:
        """The next message and its descriptors (the caller closes them); None at the end.

        Raises WireError for a packet that is not a message.
        """
        try:
            return await self._when_ready(lambda: messages.receive(self._sock), reading=True)
        except OSError:  # reset, or closed by us: an end like any other
            return None, []

    async def serve(
        self,
        take: Callable[[dict[str, Any], list[int]], None],
        starved: Callable[[messages.Starved], None],
    ) -> None:
        """Pass each message and its descriptors to `take` in the turn of the loop in which it
        arrives, up to the end, and one without its descriptors to `starved`. Raises what `take`
        raises, and WireError for a packet that is not a message."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def readable() -> None:
            try:
                arrived = None if ended.done() else self.arrived_message()
                if arrived and arrived[0] is not None:
                    take(arrived[0], arrived[1])
                elif arrived:
                    _wake(ended)
            except messages.Starved as error:
                starved(error)
            except Exception as error:  # it is the caller's
                if not ended.done():
                    ended.set_exception(error)

        loop.add_reader(self._sock.fileno(), readable)
        self._waiting.add(ended)
        try:
            await ended
        finally:
            self._waiting.discard(ended)
            if self._sock.fileno() >= 0:
                loop.remove_reader(self._sock.fileno())

    def arrived_message(self) -> tuple[dict[str, Any] | None, list[int]] | None:
        """The next message as `receive_message` has it, if it has arrived; None if it has not."""
        try:
            return messages.receive(self._sock)
        except BlockingIOError:
            return None
        except OSError:
            return None, []

    async def receive_packet(self, size: int) -> memoryview:
        """The next packet, at most `size` bytes of it, until the next call; empty at the end."""
        try:
            return await self._when_ready(lambda: self._receive(size), reading=True)
        except OSError:
            return memoryview(b"")

    def _receive(self, size: int) -> memoryview:
        if len(self._buffer) < size:  # a new one for each packet would be mapped and unmapped
            self._buffer = memoryview(bytearray(size))
        return self._buffer[: self._sock.recv_into(self._buffer, size)]

    async def _when_ready(self, attempt: Callable[[], Result], reading: bool) -> Result:
        """`attempt()`, again whenever the socket is ready, until it does not block."""
        while True:
            try:
                return attempt()
            except BlockingIOError:
                await self._ready(reading)

    async def _ready(self, reading: bool) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        add = loop.add_reader if reading else loop.add_writer
        remove = loop.remove_reader if reading else loop.remove_writer
        fd = self._sock.fileno()
        add(fd, _wake, future)
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)
            if self._sock.fileno() >= 0:  # else `close` has done it, and fd may be another's
                remove(fd)

    def close(self) -> None:
        """Close the socket; a receiver gets the end, a sender an OSError."""
        if self._sock.fileno() < 0:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sock.fileno())
        loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for future in self._waiting:
            _wake(future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
