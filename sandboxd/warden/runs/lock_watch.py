"""The bound of the locks on files that a run holds (fcntl(2), flock(2)).

The kernel has about 200 bytes of each lock, which no cgroup counts, and no limit of a process
bounds them (RLIMIT_LOCKS has no effect since Linux 2.4). A filter cannot tell locking from
unlocking, so runs are watched (run_watch.py).

A program makes up to a million locks a second on each CPU that it may use, fewer when it has few
open files, since the kernel searches all locks of a file each time. So a run can hold LOCKS_MAX for
ever, and for a moment 200 MB more for each second that look, count and kill take. The first count
has a bound, and a run with more descriptors is held during the next ones (unclear_runs.py).

All eventfds, epolls, timers and the like of the host have one inode, whose locks the kernel
searches when any of them is closed. A question for the first one tells that there are locks, and
the runs are counted. While a run that is in its bound has one, the question cannot tell whether
another run passes it: the count is repeated after a pause (run_watch.IDLE_MAX_S), or at once when
the memory for locks grows by 1 MiB, some 5,000 of them.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Collection

from ...host import procfs
from ..job_process import JobSpec
from .lock_count import count_locks
from .run_watch import KernelMemory, RunWatch

_SLAB = "/sys/kernel/slab/file_lock_cache"
_MEMINFO = "/proc/meminfo"
_LOCK = struct.Struct("hhqqi4x")  # struct flock


class LockMemory(KernelMemory):
    """The kernel's memory for locks: that of their slab, or, where the kernel does not show it, all
    memory for objects that it cannot take back, in which other objects come and go."""

    def __init__(self, slab: str = _SLAB) -> None:
        self._size = int(procfs.text(f"{slab}/slab_size") or 0)
        self.path = f"{slab}/total_objects" if self._size else _MEMINFO
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._event = os.eventfd(0, os.EFD_CLOEXEC)

    def close(self) -> None:
        """Close its descriptors."""
        os.close(self._fd)
        os.close(self._event)

    def bytes(self) -> int:
        """The size of this memory."""
        text = os.pread(self._fd, 8192, 0).decode()
        if self._size:
            return int(text.split(maxsplit=1)[0]) * self._size
        return int(text.partition("SUnreclaim:")[2].split(maxsplit=1)[0]) * 1024

    def is_urgent(self) -> bool:
        """Somebody holds a lock on the inode that all eventfds of the host share."""
        whole = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        if _LOCK.unpack(fcntl.fcntl(self._event, fcntl.F_GETLK, whole))[0] != fcntl.F_UNLCK:
            return True
        try:
            fcntl.flock(self._event, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._event, fcntl.LOCK_UN)
        return False


class LockWatch(RunWatch):
    """The watch over the locks of runs."""

    limit = "locks"
    memory = LockMemory

    def job(self, groups: dict[str, str], names: Collection[str], most: int) -> JobSpec:
        """The count of locks."""
        return JobSpec(count_locks, {"groups": {one: groups[one] for one in names}, "most": most})
