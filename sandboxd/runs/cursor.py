"""The cursor of a run's client: how far the client has been served, and the file that keeps it.

A reply counts as served once the kernel has it for the client. A daemon that is killed before that
must serve it again, and one that is killed after it must not; but to note the cursor and to hand
the reply over are two acts. The note comes first, with nothing but the hand-over of the last bytes
behind it. The other way round, a client that has its reply could go on, and see the daemon killed,
before the note. A note whose reply cannot be handed over is taken back.

A few microseconds remain. A client that wants to be sure sends back the `offset` of the last
reply that it received.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from ..spool import START, SpoolPosition
from ..threads import start_all

_RECORD = struct.Struct("<QQQQIId")
_BEHIND = struct.Struct("<III")
"""Behind the record: `within` of both positions, and `final_steps`. Earlier versions have written
less of it, and zeros are the values of these."""

THREADS = 16
PATIENCE_S = 0.005
"""How long the event loop may stand still for a note."""

TMPFS_MAGIC = 0x01021994
"""The type of a file system that is memory (linux/magic.h)."""

_fstatfs = ctypes.CDLL(None, use_errno=True).fstatfs
_fstatfs.argtypes = (ctypes.c_int, ctypes.c_void_p)
_STATFS_SIZE = 256
"""More than struct statfs has; its first field is the type, a long (statfs(2))."""


@dataclass(frozen=True, slots=True)
class Offset:
    """A place between two replies, as clients know it.

    console  bytes of output before it, those included that fell out of the spool
    steps    steps whose end was served before it
    """

    console: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class ClientCursor:
    """How far the client has been served.

    console     output up to here
    final_from  where the output of the last reply of all begins: it may be served again
    answered    number of events that calls have answered
    final_steps how many of them were answered before the last reply of all
    prompted    the client knows that the program waits for input
    started_at  seconds since 1970 of the run's start; 0.0: not noted
    """

    console: SpoolPosition = SpoolPosition(START)
    final_from: SpoolPosition = SpoolPosition(START)
    answered: int = 0
    prompted: bool = False
    started_at: float = 0.0
    final_steps: int = 0

    @property
    def offset(self) -> Offset:
        """The cursor as clients know it."""
        return Offset(self.console.seen, self.answered)


async def no_note() -> None:
    """The note of a reply that moves no cursor."""


def is_in_memory(fd: int) -> bool:
    """The file `fd` is in a file system without a disk, so that no write to it waits for one."""
    buffer = ctypes.create_string_buffer(_STATFS_SIZE)
    if _fstatfs(fd, buffer):
        return False
    return ctypes.c_long.from_buffer(buffer).value == TMPFS_MAGIC


class CursorFile:
    """The file `fd`, which is closed with `close`. Where it is used, an event loop runs."""

    _threads = ThreadPoolExecutor(THREADS, "cursor")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._record = self._written = b""
        self._is_in_memory = is_in_memory(fd)
        self._closing: Future[None] | None = None

    @classmethod
    def start_threads(cls) -> None:
        """Start the threads that write, while the host has room for them."""
        start_all(cls._threads, THREADS)

    def read(self) -> ClientCursor:
        """The cursor that was written last; the start of the run if none was."""
        data = os.pread(self._fd, _RECORD.size + _BEHIND.size, 0)
        if len(data) < _RECORD.size:
            return ClientCursor(started_at=os.fstat(self._fd).st_mtime)
        record = _RECORD.unpack_from(data)
        position, seen, from_position, from_seen, answered, prompted, at = record
        behind = data[_RECORD.size :].ljust(_BEHIND.size, b"\0")
        within, from_within, final_steps = _BEHIND.unpack(behind)
        console = SpoolPosition(position, seen, within)
        final_from = SpoolPosition(from_position, from_seen, from_within)
        started_at = at or os.fstat(self._fd).st_mtime
        return ClientCursor(console, final_from, answered, bool(prompted), started_at, final_steps)

    async def write(self, cursor: ClientCursor) -> None:
        """Note `cursor`, in the kernel's memory and not on the disk. That takes microseconds: so
        few that the event loop stands still for them, lest the daemon be killed between the note
        and the hand-over. Only when the disk takes no writes does the event loop go on meanwhile.

        A file in memory is written here. Another one is written in a thread, since a write to it
        can wait for a disk that hangs. The thread needs a turn, which a busy host may give late.
        """
        if written := self.post(cursor):
            try:
                written.result(PATIENCE_S)
            except TimeoutError:
                await asyncio.wrap_future(written)

    def post(self, cursor: ClientCursor) -> Future[None] | None:
        """As `write`, for a caller that need not wait; the write that goes on, if one does."""
        self._record = _RECORD.pack(
            cursor.console.position, cursor.console.seen,
            cursor.final_from.position, cursor.final_from.seen,
            cursor.answered, cursor.prompted, cursor.started_at,
        ) + _BEHIND.pack(
            cursor.console.within, cursor.final_from.within, cursor.final_steps
        )  # fmt: skip
        if self._record == self._written:
            return None
        if not self._is_in_memory:
            return self._threads.submit(self._write)
        self._write()
        return None

    def _write(self) -> None:
        with self._lock:  # the last thread writes the newest record, whichever thread that is
            record = self._record
            if self._fd >= 0:
                self._written = b""
                os.pwrite(self._fd, record, 0)
                self._written = record

    def close(self) -> None:
        """Give the descriptor back, after the write that is under way."""
        if self._is_in_memory:
            self._close()
        else:
            self._closing = self._threads.submit(self._close)

    async def closed(self) -> None:
        """Wait until nothing writes into the file any more, after `close`: another run may get the
        file."""
        if self._closing:
            await asyncio.shield(asyncio.wrap_future(self._closing))

    def _close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
