"""The files of SQLite's write-ahead log: the log itself, and its index, which says who has changed
the database.
"""

from __future__ import annotations

import os
import sqlite3
import struct

_HEADER_SIZE = 48
_COMMITS = struct.Struct("=8xI")
"""In the header: the count of commits."""

_ALONE = b"alone"

BUSY_MS = 5000
"""Milliseconds for which a transaction waits for that of another process."""


class WalFile:
    """The log of the database at `path`, as soon as it is there. Block on the disk."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def sync(self) -> None:
        """Bring the log to the disk. Raises OSError."""
        if self._fd < 0:
            self._fd = os.open(f"{self._path}-wal", os.O_RDONLY | os.O_CLOEXEC)
            directory = os.open(os.path.dirname(self._path) or ".", os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)  # the log may be new in it
            finally:
                os.close(directory)
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file. The next `sync` opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class WalIndex:
    """The index of the log of the database at `path`; `is_shared`: it is a file, and not in memory,
    where no other process uses the database.

    The index is a file that the processes share as memory (sqlite.org/walformat.html, 2.1). Its
    header changes with each commit. Looking there takes no lock, so the event loop may do it also
    while the disk takes no writes, when PRAGMA data_version may block.
    """

    def __init__(self, path: str, is_shared: bool) -> None:
        self.is_shared = is_shared
        self._fd = os.open(f"{path}-shm", os.O_RDONLY | os.O_CLOEXEC) if is_shared else -1
        self._own = self._others = b""

    def version(self) -> bytes:
        """A value that changes with every commit of another process, and may with our own."""
        header = self.header()
        return self._others if header == self._own else header

    def header(self) -> bytes:
        """The header with its checksums."""
        fd = self._fd
        return os.pread(fd, _HEADER_SIZE, 0) if fd >= 0 else _ALONE

    def note_own(self, before: bytes) -> bool:
        """Note our own commit, which began when the header was `before`; whether it has changed
        anything. If the count of commits has grown by more, another process has committed too."""
        after = self.header()
        if before != self._own:
            self._others = before
        is_ours = len(before) == len(after) == _HEADER_SIZE and _count(after) - _count(before) <= 1
        self._own = after if is_ours else b""
        return after != before or not self.is_shared

    def close(self) -> None:
        """Close the file. Not before the connection is closed: that of a file takes all locks away
        that the process has on it (fcntl(2)), those of SQLite too, and the next process would take
        the index for one of a crash."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def truncate(connection: sqlite3.Connection, index: WalIndex) -> bool:
    """Move the log into the database, and cut it to nothing. False: another process reads, or the
    disk is full, and the log stays as it is."""
    before = index.header()
    try:
        connection.execute("PRAGMA busy_timeout = 0")
        return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.OperationalError:
        return False
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        index.note_own(before)


def _count(header: bytes) -> int:
    count: int = _COMMITS.unpack_from(header)[0]
    return count
