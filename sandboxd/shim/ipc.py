"""The removal of what a step leaves behind without a process: the IPC objects of the run.

    DIRECTORIES  shared memory and semaphores of POSIX, whose files are in /dev/shm, and its message
                 queues, whose files are in /dev/mqueue
    KINDS       shared memory, semaphores and message queues of System V

Nothing else in a run outlives its processes but the files of its scratch, with /tmp, which stay:
tests/escape/test_ipc.py looks for a new kind. The objects count as memory of the run as long as
they exist. The next step has its own limit: the memory of the step before would count against it or
even exceed it, and steps must not disturb each other. The removal runs as the session's uid,
between two steps, when no program runs.
"""

from __future__ import annotations

import functools
import os

from ..files.removal import empty
from ..jail import syscalls
from ..jail.stage import stage

SHM, QUEUES = "/dev/shm", "/dev/mqueue"
DIRECTORIES = (SHM, QUEUES)

TABLE_PART = 64 * 1024
"""Bytes of a table of objects that are read at a time."""


def clear() -> None:
    """Remove all IPC objects of the run. Raises StageError."""
    with stage("ipc"):
        os.chmod(SHM, 0o1777)  # programs of the owner may have taken their own rights away
        for path in filter(os.listdir, _mounted()):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                empty(fd)
            finally:
                os.close(fd)
        for kind, remove in syscalls.REMOVE_OBJECT.items():
            for number in _identifiers(kind):
                remove(number)


@functools.cache
def _mounted() -> list[str]:
    """The directories that the jail of this process has. No program of it can mount or unmount."""
    return [path for path in DIRECTORIES if os.path.ismount(path)]


def _identifiers(kind: str) -> list[int]:
    """The ids of the objects of this IPC namespace: column two of /proc/sysvipc (proc(5))."""
    fd, text = _table(kind), b""
    while piece := os.pread(fd, TABLE_PART, len(text)):
        text += piece
    return [int(line.split()[1]) for line in text.splitlines()[1:]]


@functools.cache
def _table(kind: str) -> int:
    """The file with the objects of a kind, open as long as this process."""
    return os.open(f"/proc/sysvipc/{kind}", os.O_RDONLY | os.O_CLOEXEC)
