"""The count of the locks on files that the processes of each run hold (fcntl(2), flock(2)).

The kernel names the locks of an open file in /proc/PID/fdinfo/FD (proc(5)). A lock of F_SETLK
belongs to a table of open files, and ends when the table loses the file. A lock of flock(2) belongs
to an open file, which the cgroup counts. The filter bounds the third kind, F_OFD_SETLK
(shim/bounded_calls.py). So no program can hold many locks that are in no fdinfo. /proc/locks has
them all, but a reader of it keeps everybody from locking, and starts anew for each page.

The count is the work of a background job: the more open files programs have, the longer it takes.
It begins with the processes that have used the most CPU time: each lock takes some of it, and open
files without locks, which would only delay the count, are cheaper to have.

CAP_SYS_PTRACE is needed: the kernel asks for the right to look at a process.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator

from ...host import cgroupfs, procfs
from ...jail import syscalls
from ...jail.uncounted_memory import ANONYMOUS_LOCKS_MAX, LOCKS_MAX

_LOCK = "\nlock:"
_UTIME, _STIME = 11, 12
"""Fields of /proc/PID/stat, counted from the one after the name."""


def count_locks(groups: dict[str, str]) -> dict[str, int]:
    """The first run of which more locks are seen than it may hold, with their number; none: {}.

    `groups` has the directory of a cgroup of each run, by the name of the group.
    """
    processes = [
        (_cpu_time(pid), pid, name)
        for name, directory in groups.items()
        for pid in cgroupfs.members(directory)
    ]
    inode = f" {anonymous_inode()} "
    locks, anonymous = Counter[str](), Counter[str]()
    for _, pid, name in sorted(processes, reverse=True):
        for text in file_locks(pid):
            locks[name] += text.count(_LOCK)
            anonymous[name] += text.count(inode)
            if locks[name] > LOCKS_MAX or anonymous[name] > ANONYMOUS_LOCKS_MAX:
                return {name: locks[name]}
    return {}


def file_locks(pid: int) -> Iterator[str]:
    """The words of the kernel about each open file of a process that has locks."""
    for task in _tables(pid):
        directory = f"/proc/{pid}/task/{task}/fdinfo"
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            for name in os.listdir(directory):
                text = procfs.text(f"{directory}/{name}")
                if _LOCK in text:
                    yield text


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


def _tables(pid: int) -> Iterator[int]:
    """The threads of a process, without those that have the table of its first one."""
    yield pid
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/task"):
            if int(name) != pid and not _is_same(pid, int(name)):
                yield int(name)


def _is_same(one: int, other: int) -> bool:
    try:
        return syscalls.have_same_files(one, other)
    except OSError:  # a kernel without kcmp(2): the locks of threads are seen several times
        return False
