"""The bound of the locks on files that a run holds (fcntl(2), flock(2)).

The kernel has about 200 bytes of each lock, which no cgroup counts, and no limit of a process
bounds them (RLIMIT_LOCKS has no effect since Linux 2.4). A filter cannot tell locking from
unlocking, and a question to the shim for each call would make databases slow. So runs are watched:

    every LOOK_S    the warden reads how much memory the kernel has for locks of the whole host;
                    SOON_S later where it has grown fast. One number is read, whatever programs do.
    STEP more       a background job counts the locks of each run (lock_count.py)
    LOCKS_MAX       a run that has more is over its limit: its shim kills the step, and the verdict
                    names the limit `locks`. A shim that does not is killed with its run.

A program makes up to a million locks a second on each CPU that it may use, fewer when it has few
open files, since the kernel searches all locks of a file each time. So a run can hold LOCKS_MAX for
ever, and for a moment 200 MB more for each second that look, count and kill take. Runs are not
watched while no warden is there.

All eventfds, epolls, timers and the like of the host have one inode, whose locks the kernel
searches when any of them is closed. A lock there is seen at once, by a question for the first one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

from ... import log
from ...errors import StageError
from ...host import procfs
from ...model import MIB
from ..job_process import Done, JobSpec
from . import run_directory
from .lock_count import count_locks
from .worker import Worker

LOOK_S, SOON_S = 0.25, 0.05
"""Between two looks at the kernel's memory."""

STEP = 8 * MIB
"""The growth of that memory after which the locks of each run are counted."""

FAST = 1 * MIB
"""The growth between two looks after which the next one is soon."""

PAUSE_SHARE = 5
"""After a count that has found no run, the next one waits so many times as long as it took: open
files without locks make counts long."""

RETRY_S = 1.0
"""The next count, when one has failed, or an anonymous inode has locks of no run."""

END_S = 2.0
"""A shim that does not end its step within this time is killed."""

_SLAB = "/sys/kernel/slab/file_lock_cache"
_MEMINFO = "/proc/meminfo"
_LOCK = struct.Struct("hhqqi4x")  # struct flock


class LockMemory:
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

    def has_anonymous(self) -> bool:
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


class LockWatch:
    """The watch over all runs of a warden. `begin` begins a background job (background.py), and
    `workers` has the workers of this moment."""

    def __init__(
        self,
        begin: Callable[[str, Callable[[], Any], Done, Sequence[int]], None],
        workers: Callable[[], Sequence[Worker]],
        memory: LockMemory | None = None,
    ) -> None:
        self._begin = begin
        self._workers = workers
        self._memory = memory or LockMemory()
        self._base = self._last = self._memory.bytes()
        self._look_at = self._count_at = 0.0
        self._is_counting = False
        self._ending: dict[int, float] = {}  # pid of a shim -> since when its run is over the limit

    def due_in(self) -> float:
        """Seconds until the next look, while there are runs."""
        return max(0.0, self._look_at - time.monotonic())

    def maintain(self) -> None:
        """Look, if it is time."""
        now = time.monotonic()
        if now < self._look_at:
            return
        size = self._memory.bytes()
        self._look_at = now + (SOON_S if size - self._last >= FAST else LOOK_S)
        self._last, self._base = size, min(self._base, size)
        if self._is_counting or now < self._count_at:
            return
        if size - self._base >= STEP or self._memory.has_anonymous():
            self._count(now, size)

    def _count(self, now: float, size: int) -> None:
        groups = {
            one.group.name: next(iter(one.group.dirs.values()))
            for one in self._workers()
            if one.run is not None and one.group and one.group.dirs
        }
        work = JobSpec(count_locks, {"groups": groups})
        self._is_counting, self._count_at = True, now + RETRY_S
        try:
            self._begin("count locks", work, lambda over: self._counted(over, now, size), [])
        except StageError:  # no process can be made: again after RETRY_S
            self._is_counting = False

    def _counted(self, over: dict[str, int] | None, began: float, size: int) -> None:
        """Take in a count; None: it has failed, and the log has the reason."""
        self._is_counting = False
        now = time.monotonic()
        if over is None:
            return
        if not over:
            is_grown = size - self._base >= STEP
            pause = PAUSE_SHARE * (now - began)
            self._count_at = now + (pause if is_grown else max(pause, RETRY_S))
            self._base = size
        else:
            self._count_at = self._look_at = now + SOON_S
        ending = [one for one in self._workers() if one.group and one.group.name in over]
        self._ending = {one.pid: self._ending.get(one.pid, now) for one in ending}
        for worker in ending:
            self._end(worker, over[worker.group.name] if worker.group else 0, now)

    def _end(self, worker: Worker, locks: int, now: float) -> None:
        """Have the shim end the step, or, when it has not, end the run."""
        since = self._ending[worker.pid]
        name = worker.group.name if worker.group else ""
        if since == now:
            log.event("locks.held", logging.WARNING, run=name, locks=locks)
        try:
            if now - since > END_S or worker.slot is None or worker.run is None:
                raise TimeoutError
            path = worker.slot.run_path(worker.run)
            run_directory.send(path, {"op": "limit", "name": "locks"})
        except OSError:
            log.event("locks.killed", logging.ERROR, run=name, locks=locks)
            worker.kill()
