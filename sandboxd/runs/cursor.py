"""How far the client of a run has been told, and the file in which that outlives the daemon.

An answer counts as told once the kernel has it for the client. A daemon that is killed before
that must tell it again, and one that is killed after it must not; but to note and to hand over
are two acts. The note comes first, with nothing but the handing over of the last bytes behind it:
the other way round, a client that has its answer could go on, and see the daemon killed, before
the note. What is noted and cannot be handed over is taken back.

A few microseconds remain. A client that wants to be sure sends back the `offset` of the last
answer that it has got.
"""

from __future__ import annotations

import asyncio
import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..spool import START, SpoolPosition

_RECORD = struct.Struct("<QQQQIId")

PATIENCE_S = 0.005
"""How long the event loop may stand still for a note."""


@dataclass(frozen=True, slots=True)
class Offset:
    """A place between two answers, as clients know it.

    console  bytes of console text before it, those included that fell out
    steps    steps whose end was told before it
    """

    console: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class ClientCursor:
    """What the client knows.

    cursor      console text up to here
    final_from  where the console of the last answer of all began: it may be asked for again
    answered    events
    asked       that the program waits for input
    started_at  seconds since 1970 of the run's start; 0.0: not noted
    """

    cursor: SpoolPosition = SpoolPosition(START)
    final_from: SpoolPosition = SpoolPosition(START)
    answered: int = 0
    asked: bool = False
    started_at: float = 0.0

    @property
    def offset(self) -> Offset:
        """The same as clients know it."""
        return Offset(self.cursor.seen, self.answered)


async def nothing() -> None:
    """The note of what tells nothing."""


class CursorFile:
    """The file `fd`, which is ours to close. Where it is used, an event loop runs."""

    _threads = ThreadPoolExecutor(16, "told")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._record = b""

    def read(self) -> ClientCursor:
        """What was written last; nothing was told if nothing was."""
        data = os.pread(self._fd, _RECORD.size, 0)
        if len(data) < _RECORD.size:
            return ClientCursor(started_at=os.fstat(self._fd).st_mtime)
        position, seen, from_position, from_seen, answered, asked, at = _RECORD.unpack(data)
        cursor, final_from = SpoolPosition(position, seen), SpoolPosition(from_position, from_seen)
        return ClientCursor(
            cursor, final_from, answered, bool(asked), at or os.fstat(self._fd).st_mtime
        )

    async def write(self, told: ClientCursor) -> None:
        """Note `told`. Into the kernel's memory, not onto the disk, which takes microseconds: so
        few that the event loop stands still for them, lest the daemon be killed between the note
        and what follows. Only when the disk takes no writes does it go on meanwhile."""
        self._record = _RECORD.pack(
            told.cursor.position, told.cursor.seen,
            told.final_from.position, told.final_from.seen,
            told.answered, told.asked, told.started_at,
        )  # fmt: skip
        written = self._threads.submit(self._write)
        try:
            written.result(PATIENCE_S)
        except TimeoutError:
            await asyncio.wrap_future(written)

    def _write(self) -> None:
        with self._lock:  # whoever comes last writes what was noted last
            if self._fd >= 0:
                os.pwrite(self._fd, self._record, 0)

    def close(self) -> None:
        """Give the descriptor back, after what is being written."""
        self._threads.submit(self._close)

    def _close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
