"""How full the places are that a run can write to, and how much a step has written.

The hard limit of a session's files is the size of its scratch, a file system of its own, and
the kernel's. What is here comes on top: the bound of a single step, if it is below that, which
is looked at every LOOK_S and can be overrun by what is written in between; and the answer to a
question that the kernel has no counter for, whether a write failed since something was full. A
place counts as full when less than FULL bytes, or no inode, are free at one of the looks, of
which the step's end is always one. A program that fills a disk and frees it between two looks is
not seen; then its words may tell.

Descriptors are kept, not names: programs cannot close or move what they stand for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..jail.stage import stage
from ..model import Limits
from .facts import StorageUse

LOOK_S, SELDOM_S = 0.1, 0.5
FULL = 64 * 1024

SCRATCH, SHM = "disk", "shm"


class Storage:
    """The writable places of one run: name -> descriptor; SCRATCH is the session's own.

    full       the first that was seen full in this step and was not at its beginning
    host_full  the host's own disk was, below the places: `host` is a file on it. What a program
               writes then may be lost later, though the kernel has taken it
    look_s     seconds from one look to the next
    """

    def __init__(self, places: Mapping[str, int], host: int) -> None:
        self._places = dict(places)
        self._host = host
        self.full: str | None = None
        self.host_full = False

    def add(self, name: str, path: str) -> None:
        """One more place, at `path`, where no program has been yet."""
        with stage("storage"):
            self._places[name] = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def descriptors(self) -> list[int]:
        """What must stay open."""
        return list(self._places.values())

    def begin(self, limits: Limits) -> None:
        """A step begins."""
        self._limits = limits
        self.start = self.stored()
        self._full_before = self._all_full()
        self.full = None
        self.host_full = False
        room = os.fstatvfs(self._places[SCRATCH])
        bound = limits.disk < room.f_blocks * room.f_frsize or limits.inodes < room.f_files
        self.look_s = LOOK_S if bound else SELDOM_S

    def look(self) -> str | None:
        """Note what is full; the limit of this step that is exceeded, if one is."""
        for name in sorted(self._all_full() - self._full_before):
            self.full = self.full or name
        self.host_full = self.host_full or _room(self._host) < FULL
        now = self.stored()
        if now.bytes - self.start.bytes > self._limits.disk:
            return "disk"
        if now.inodes - self.start.inodes > self._limits.inodes:
            return "inodes"
        return None

    def stored(self) -> StorageUse:
        """What the session's own files take now."""
        found = os.fstatvfs(self._places[SCRATCH])
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        return StorageUse(used, found.f_files - found.f_ffree)

    def _all_full(self) -> set[str]:
        full = set()
        for name, fd in self._places.items():
            found = os.fstatvfs(fd)
            if found.f_blocks and found.f_bavail * found.f_frsize < FULL:
                full.add(name)
            elif found.f_files and found.f_favail == 0:
                full.add("inodes" if name == SCRATCH else name)
        return full


def _room(fd: int) -> int:
    """Bytes that are free where the file is."""
    found = os.fstatvfs(fd)
    return found.f_bavail * found.f_frsize
