"""The count of the locks on files that the processes of each run hold (fcntl(2), flock(2)).

The kernel names the locks of an open file in /proc/PID/fdinfo/FD (proc(5)). A lock of F_SETLK
belongs to a table of open files, and ends when the table loses the file. A lock of flock(2) belongs
to an open file, which the cgroup counts. The filter bounds the third kind, F_OFD_SETLK
(shim/bounded_calls.py). So one run can leave few locks that are in no fdinfo. /proc/locks has
them all, but a reader of it keeps everybody from locking, and starts anew for each page.

All descriptors of a table that are of one file have the same locks of F_SETLK beside them: these
count once.

The count is the work of a background job: the more open files programs have, the longer it takes,
up to a bound (turns.py). It begins with the processes of a run that have used the most CPU time:
each lock takes some of it, and open files without locks, which would only delay the count, are
cheaper to have.

CAP_SYS_PTRACE is needed: the kernel asks for the right to look at a process.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ...host import cgroupfs, procfs
from ...jail import syscalls
from ...jail.uncounted_memory import ANONYMOUS_LOCKS_MAX, LOCKS_MAX
from .turns import TABLE, in_slices, take_turns

_LOCK, _OF_TABLE = "\nlock:", ": POSIX "
_INODE = 5
"""The word of a lock's line, behind ": POSIX ", that names the file."""
_UNIT = 512
"""Bytes of an fdinfo that take the kernel as long as to open it."""
_TEXT_MAX = 160 * LOCKS_MAX
"""Bytes of an fdinfo that are looked at. A lock has a line of less than 120, and the locks come
first (seq_show in fs/proc/fd.c): these are more than a run may hold. Behind them an epoll has 77
bytes of each registration. The kernel writes the whole text at the first read, so all of it counts
for the units."""
_UTIME, _STIME = 11, 12
"""Fields of /proc/PID/stat, counted from the one after the name."""


def count_locks(groups: dict[str, str], most: int) -> dict[str, Any]:
    """`over`: runs of which more locks are seen than a run may hold, with their number. `unclear`:
    runs of which not all was seen after `most` units (turns.py).

    `groups` has the directory of a cgroup of each run, by the name of the group.
    """
    inode = anonymous_inode()
    runs = {name: _RunLocks(directory, inode) for name, directory in groups.items()}
    unfinished = take_turns({name: run.look() for name, run in runs.items()}, most)
    over = {
        name: run.locks for name, run in runs.items() if run.is_over or name in unfinished.excessive
    }
    return {"over": over, "unclear": unfinished.unclear}


class _RunLocks:
    """The locks of a run, as far as they have been seen; `anonymous` are those on the inode of all
    eventfds."""

    def __init__(self, directory: str, inode: str) -> None:
        self._directory = directory
        self._inode = inode
        self.locks = self.anonymous = 0

    @property
    def is_over(self) -> bool:
        """These are more than a run may hold."""
        return self.locks > LOCKS_MAX or self.anonymous > ANONYMOUS_LOCKS_MAX

    def look(self) -> Iterator[int]:
        """Look at one descriptor after the other, and return the units of each."""
        pids = sorted(cgroupfs.members(self._directory), key=_cpu_time, reverse=True)
        tables = (_table(pid, task) for pid in pids for task in _tasks(pid))
        for units, inode, locks in in_slices(tables):
            self.locks += locks
            self.anonymous += locks if inode == self._inode else 0
            yield units
            if self.is_over:
                return


def file_locks(pid: int) -> Iterator[str]:
    """The words of the kernel about each open file of a process that has locks."""
    texts = (text for task in _tasks(pid) for text, _ in _texts(pid, task))
    return (text for text in texts if _LOCK in text)


def _table(pid: int, task: int) -> Iterator[tuple[int, str, int]]:
    """For each descriptor of a table its units, its inode if it has locks, and those of its locks
    that no descriptor before has."""
    yield TABLE, "", 0
    seen = Counter[str]()
    for text, size in _texts(pid, task):
        units = 1 + size // _UNIT
        of_file, of_table = text.count(_LOCK), text.count(_OF_TABLE)
        if not of_file:
            yield units, "", 0
            continue
        inode = text.partition(_LOCK)[2].split(maxsplit=_INODE + 1)[_INODE]
        new = max(0, of_table - seen[inode])
        seen[inode] += new
        yield units, inode, of_file - of_table + new


def _texts(pid: int, task: int) -> Iterator[tuple[str, int]]:
    """The first words of the kernel about each descriptor of a table, and the size of all."""
    directory = f"/proc/{pid}/task/{task}/fdinfo"
    with contextlib.suppress(*procfs.ENDED), os.scandir(directory) as entries:
        for entry in entries:
            try:
                yield procfs.beginning(entry.path, _TEXT_MAX)
            except procfs.ENDED:  # or it was closed meanwhile
                yield "", 0


def anonymous_inode() -> str:
    """The inode of all eventfds of the host, as the kernel names it beside a lock."""
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    try:
        state = os.fstat(fd)
    finally:
        os.close(fd)
    return f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}:{state.st_ino}"


def _cpu_time(pid: int) -> int:
    """Clock ticks of CPU time of all threads of a process."""
    fields = procfs.text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[_UTIME]) + int(fields[_STIME]) if len(fields) > _STIME else 0


def _tasks(pid: int) -> Iterator[int]:
    """The threads of a process, without those that have the table of its first one."""
    yield pid
    with contextlib.suppress(*procfs.ENDED):
        for name in os.listdir(f"/proc/{pid}/task"):
            if int(name) != pid and not _is_same(pid, int(name)):
                yield int(name)


def _is_same(one: int, other: int) -> bool:
    try:
        return syscalls.have_same_files(one, other)
    except OSError:  # a kernel without kcmp(2): the locks of threads are seen several times
        return False
