"""How much room a file system has for those who are not root."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """Free bytes, and inodes; None where the file system makes these as it needs them, as Btrfs
    does: it says that it has none at all (statvfs(3))."""

    bytes: int
    inodes: int | None

    @classmethod
    def at(cls, path: str) -> FreeSpace:
        """Where `path` is. Raises OSError."""
        found = os.statvfs(path)
        inodes = found.f_favail if found.f_files else None
        return cls(found.f_bavail * found.f_frsize, inodes)

    def holds(self, bytes: int, inodes: int) -> bool:
        """There is as much as that."""
        return self.bytes >= bytes and (self.inodes is None or self.inodes >= inodes)
