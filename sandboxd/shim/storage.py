"""The storage check of a run: which places are full, and how much a step has written.

The hard limit of a session's files is the size of its scratch, which is a file system of its own,
and the kernel enforces it. This check adds two things. The first is the limit of a single step, if
it is lower: the check runs every CHECK_S, so a program can exceed the limit by its writes between
two checks. The second is the reason of a failed write, for which the kernel has no counter. A
place counts as full when less than FULL bytes or no inode are free at one of the checks; the end of
the step is always one of them. A program that fills a disk and frees it between two checks is not
seen. Its own error message may then name the reason.

The check holds descriptors, not names: a program cannot close a descriptor of the shim or move the
directory behind it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..jail.stage import stage
from ..model import HOME, OUTPUT, Limits
from .facts import StorageUse

CHECK_S, SLOW_CHECK_S = 0.1, 0.5
"""Seconds between two checks; the longer ones where the scratch itself is the limit."""

FULL = 64 * 1024
"""Bytes; a place with less free space counts as full."""

SCRATCH, SHM = "disk", "shm"


class Storage:
    """The writable places of one run, name -> descriptor. SCRATCH is the session's scratch.

    full       the first place that became full during this step; None: none did
    host_full  the disk of the host, below all places, was full at a check: `host` is a file on it.
               Data that the kernel has accepted from a program may be lost then
    start      the storage in use at the beginning of the step
    used       the same at the last check
    check_s    seconds from one check to the next
    """

    def __init__(self, places: Mapping[str, int], host: int) -> None:
        self._places = dict(places)
        self._host = host
        self.full: str | None = None
        self.host_full = False

    def of_next_run(self, host: int) -> Storage:
        """The places for the next run of the session, whose console is the file `host`."""
        return Storage(self._places, host)

    def add(self, name: str, path: str) -> None:
        """Add the place at `path`, before a program could replace it."""
        with stage("storage"):
            self._places[name] = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def descriptors(self) -> list[int]:
        """The descriptors that must stay open."""
        return list(self._places.values())

    def begin(self, limits: Limits) -> None:
        """Begin a step."""
        self._limits = limits
        scratch, self._full_before = self._look()
        self.start = self.used = _used(scratch)
        self.full = None
        self.host_full = False
        size = scratch.f_blocks * scratch.f_frsize
        below_scratch = limits.disk < size or limits.inodes < scratch.f_files
        self.check_s = CHECK_S if below_scratch else SLOW_CHECK_S

    def check(self) -> str | None:
        """Update `full`, `host_full` and `used`. Returns the limit of the step that is exceeded,
        or None."""
        scratch, full = self._look()
        for name in sorted(full - self._full_before):
            self.full = self.full or name
        self.host_full = self.host_full or _free_bytes(os.fstatvfs(self._host)) < FULL
        self.used = _used(scratch)
        if self.used.bytes - self.start.bytes > self._limits.disk:
            return "disk"
        if self.used.inodes - self.start.inodes > self._limits.inodes:
            return "inodes"
        return None

    def _look(self) -> tuple[os.statvfs_result, set[str]]:
        """The state of the scratch, and the places that are full."""
        full = set()
        scratch = None
        for name, fd in self._places.items():
            status = os.fstatvfs(fd)
            if status.f_blocks and _free_bytes(status) < FULL:
                full.add(name)
            elif status.f_files and status.f_favail == 0:
                full.add("inodes" if name == SCRATCH else name)
            if name == SCRATCH:
                scratch = status
        assert scratch, "a run has a scratch"
        return scratch, full


def _used(scratch: os.statvfs_result) -> StorageUse:
    """The storage that the session's files take."""
    used = (scratch.f_blocks - scratch.f_bfree) * scratch.f_frsize
    return StorageUse(used, scratch.f_files - scratch.f_ffree)


def _free_bytes(status: os.statvfs_result) -> int:
    return status.f_bavail * status.f_frsize


def has_output() -> bool:
    """Whether the session may have the directory whose new files a result lists. The api needs a
    file helper to look for itself, which costs as much as a sixth of a short run."""
    # No exception, whose text would cost more. A program may have changed the rights of the
    # directory above; then the helper says so.
    if os.access(f"{HOME}/{OUTPUT}", os.F_OK, follow_symlinks=False):
        return True
    return not os.access(HOME, os.X_OK)
