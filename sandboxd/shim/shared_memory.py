"""Frees the memory that a step leaves behind without any process of it.

Files in /dev/shm and System V segments, queues and semaphores count as memory of the run for as
long as they are there. The next step has its own limit: what the one before has left would count
against it, or even exceed it, and steps do not disturb each other. Files on the scratch, /tmp
among them, stay. All is done as the session's uid, between steps, when no program runs.
"""

from __future__ import annotations

import os

from ..files.removal import empty
from ..jail import syscalls
from ..jail.stage import stage

SHM = "/dev/shm"

_KINDS = {
    "shm": syscalls.shmctl_remove,
    "sem": syscalls.semctl_remove,
    "msg": syscalls.msgctl_remove,
}


def clear() -> None:
    """Remove all of it. Raises StageError "leftovers"."""
    with stage("leftovers"):
        os.chmod(SHM, 0o1777)  # its owner's programs may have shut it
        fd = os.open(SHM, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            empty(fd)
        finally:
            os.close(fd)
        for kind, remove in _KINDS.items():
            for number in _identifiers(kind):
                remove(number)


def _identifiers(kind: str) -> list[int]:
    """Of this IPC namespace's objects: the second column of /proc/sysvipc (proc(5))."""
    with open(f"/proc/sysvipc/{kind}", encoding="utf-8") as file:
        return [int(line.split()[1]) for line in list(file)[1:]]
