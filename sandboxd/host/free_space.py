"""The free space of a file system, as an unprivileged user may use it."""

from __future__ import annotations

import os
from dataclasses import dataclass

INODES_FLOOR = 64
"""With fewer free inodes a disk counts as full: a session takes five, a run six."""


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """Free bytes and free inodes. `inodes` is None where the file system creates inodes on demand:
    Btrfs reports a total of 0 (statvfs(3))."""

    bytes: int
    inodes: int | None

    @classmethod
    def at(cls, path: str) -> FreeSpace:
        """The free space of the file system of `path`. Raises OSError."""
        status = os.statvfs(path)
        inodes = status.f_favail if status.f_files else None
        return cls(status.f_bavail * status.f_frsize, inodes)

    def holds(self, bytes: int, inodes: int) -> bool:
        """Whether at least `bytes` and `inodes` are free."""
        return self.bytes >= bytes and (self.inodes is None or self.inodes >= inodes)
