"""The index of SQLite's write-ahead log, as far as it says who has changed the database.

The index is a file that the processes share as memory (sqlite.org/walformat.html, 2.1). Its header
changes with each commit. Looking there takes no lock, so the event loop may do it also while the
disk takes no writes, when PRAGMA data_version may block.
"""

from __future__ import annotations

import os
import struct

_HEADER_SIZE = 48
_COMMITS = struct.Struct("=8xI")
"""In the header: the count of commits."""

_ALONE = b"alone"


class WalIndex:
    """The index of the database at `path`; `is_shared`: it is a file, and not in memory, where no
    other process uses the database."""

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

    def note_own(self, before: bytes) -> None:
        """We have committed at most once, and nobody else, since the header was `before`; or else
        the count of commits says that somebody else has."""
        after = self.header()
        if before != self._own:
            self._others = before
        is_ours = len(before) == len(after) == _HEADER_SIZE and _count(after) - _count(before) <= 1
        self._own = after if is_ours else b""

    def close(self) -> None:
        """Close the file. Not before the connection is closed: that of a file takes all locks away
        that the process has on it (fcntl(2)), those of SQLite too, and the next process would take
        the index for one of a crash."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _count(header: bytes) -> int:
    count: int = _COMMITS.unpack_from(header)[0]
    return count
