"""The relay of bytes between two connected sockets, in both directions, within the bounds.

The first bytes of a direction are copied. A long transfer goes through a pipe (splice(2)), where
the kernel hands pages from one socket to the other, and nothing is copied: that takes half of the
CPU time. The broker has PIPES_MAX pipes for all transfers, since the kernel counts the pages in
them for nobody. A transfer takes one for each piece, and copies the piece where all are taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence

from .outcomes import Stopped
from .shares import Share

CHUNK = 256 * 1024
"""Bytes that are copied at one time."""

LONG = 1024 * 1024
"""Bytes of a direction that are copied before it takes pipes."""

PIPE = 1024 * 1024
"""Bytes in one pipe, which is what a user may have (fs.pipe-max-size)."""

PIECES_A_SECOND, PIECE_MIN = 8, 4096
"""Pieces in which a slow rate passes bytes on."""

Count = Callable[[int], None]

PIPES_MAX = 32
"""The kernel allows a user 64 pipes of this size (fs.pipe-user-pages-soft)."""


class Meter:
    """The count of the bytes of one connection, and their price.

    piece           bytes that are transferred between two counts, at most
    sent, received  bytes of the run, and bytes for the run
    """

    def __init__(self, shares: Sequence[Share], idle_s: float) -> None:
        self._shares = shares
        self._idle_s = idle_s
        self._timeout: asyncio.Timeout | None = None
        rate = min(share.bounds.rate for share in shares)
        self.piece = max(PIECE_MIN, min(PIPE, rate // PIECES_A_SECOND))
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

    def add(self, size: int, is_sent: bool) -> None:
        """Count bytes. Raises Stopped."""
        if is_sent:
            self.sent += size
        else:
            self.received += size
        for share in self._shares:
            share.spend(size)
        self.check()

    async def wait(self) -> None:
        """Wait as long as the rate demands."""
        delay = max(share.delay for share in self._shares)
        if self._timeout:
            now = asyncio.get_running_loop().time()
            self._timeout.reschedule(now + delay + self._idle_s)
        await asyncio.sleep(delay)  # also with 0: no other connection starves

    async def count(self, size: int, is_sent: bool) -> None:
        """Count bytes, and wait as long as the rate demands. Raises Stopped."""
        self.add(size, is_sent)
        await self.wait()

    def check(self) -> None:
        """Raise Stopped when no byte is left for the session or its owner."""
        if any(share.is_used_up for share in self._shares):
            raise Stopped("used-up", "the bytes of this day are used up")


class Pipes:
    """The pipes of this process.

    taken  those that transfers have at this moment; the others are empty
    """

    def __init__(self) -> None:
        self._free: list[tuple[int, int]] = []
        self.taken = 0

    def take(self) -> tuple[int, int] | None:
        """The ends of a pipe; None: all are taken, or the kernel has none."""
        if self.taken >= PIPES_MAX:
            return None
        try:
            pipe = self._free.pop() if self._free else _new_pipe()
        except OSError:
            return None
        self.taken += 1
        return pipe

    def put_back(self, pipe: tuple[int, int], is_empty: bool) -> None:
        """A piece is over. A pipe that has still bytes of it is closed."""
        self.taken -= 1
        if is_empty:
            self._free.append(pipe)
            return
        for fd in pipe:
            os.close(fd)


def _new_pipe() -> tuple[int, int]:
    pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    with contextlib.suppress(OSError):  # a smaller one serves, too
        fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, PIPE)
    return pipe


PIPES = Pipes()


async def relay(client: socket.socket, server: socket.socket, meter: Meter) -> None:
    """Copy in both directions until both are at their end. Raises Stopped, OSError."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_direction(client, server, meter, True))
        group.create_task(_direction(server, client, meter, False))


async def _direction(
    source: socket.socket, destination: socket.socket, meter: Meter, is_sent: bool
) -> None:
    await copy(source, destination, meter, is_sent)
    with contextlib.suppress(OSError):
        destination.shutdown(socket.SHUT_WR)


async def copy(
    source: socket.socket,
    destination: socket.socket,
    meter: Meter,
    is_sent: bool,
    size: int | None = None,
) -> int:
    """Copy `size` bytes, or all up to the end; the number of bytes. Raises Stopped, OSError."""
    total, buffer = 0, memoryview(bytearray(CHUNK))
    count = functools.partial(meter.add, is_sent=is_sent)
    while size is None or total < size:
        most = meter.piece if size is None else min(meter.piece, size - total)
        pipe = PIPES.take() if total >= LONG else None
        if pipe is None:
            moved = await _copy(source, destination, buffer[:most], count)
        elif (spliced := await _splice(source, destination, pipe, most, count)) is not None:
            moved = spliced
        else:  # the pipe is free for others meanwhile
            await _ready(source, False)
            continue
        if not moved:
            break
        total += moved
        await meter.wait()
    return total


async def _copy(
    source: socket.socket, destination: socket.socket, buffer: memoryview, count: Count
) -> int:
    """Copy what is there, as much as the buffer holds; 0: the source is at its end. The bytes count
    before they are sent: a destination that leaves in the middle has had some of them."""
    loop = asyncio.get_running_loop()
    if size := await loop.sock_recv_into(source, buffer):
        count(size)
    await loop.sock_sendall(destination, buffer[:size])
    return size


async def _splice(
    source: socket.socket,
    destination: socket.socket,
    pipe: tuple[int, int],
    most: int,
    count: Count,
) -> int | None:
    """The same through a pipe, which is put back; None: nothing is there yet."""
    left = 0
    try:
        left = moved = os.splice(source.fileno(), pipe[1], most, flags=_FLAGS)
        if moved:
            count(moved)
        while left:
            try:
                left -= os.splice(pipe[0], destination.fileno(), left, flags=_FLAGS)
            except BlockingIOError:
                await _ready(destination, True)
        return moved
    except BlockingIOError:
        return None
    finally:
        PIPES.put_back(pipe, not left)


_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


async def _ready(sock: socket.socket, for_writing: bool) -> None:
    """Wait until the socket can be read, or written to."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    if for_writing:
        add, remove = loop.add_writer, loop.remove_writer
    else:
        add, remove = loop.add_reader, loop.remove_reader
    fd = sock.fileno()
    add(fd, event.set)
    try:
        await event.wait()
    finally:
        remove(fd)
