"""The lease of a uid: one daemon of a host, and its workers, use a uid at a time.

A lease is a lock (flock(2)) on the file /run/sandboxd/leases/UID. All daemons of the host share the
directory, and only root can enter it: a lock that anybody could take would let any user of the host
hold all uids. The lock belongs to the open file, which workers inherit, so it lasts until the last
of them has closed the file, also when the warden is killed.

Nothing is written, and the files stay. scripts/uninstall removes each file under its lock; so a
daemon that has locked a file looks whether the file still has its name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from types import TracebackType

from ..jail.stage import stage
from . import runtime_directory

LEASES = "leases"


class UidLease:
    """The lease of `uid`, held while its file is open here or in a process that inherited it."""

    def __init__(self, uid: int, fd: int) -> None:
        self.uid = uid
        self._fd = fd

    def fileno(self) -> int:
        """The descriptor that a worker inherits."""
        return self._fd

    def close(self) -> None:
        """Give the lease up, as far as this process holds it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> UidLease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def lease_uid(uid: int) -> UidLease | None:
    """The lease of `uid`; None when another process has it. Raises StageError, and ConfigError for
    a directory that is not root's alone."""
    directory = runtime_directory.make(LEASES)
    with stage("lease"):
        fd = _locked(f"{directory}/{uid}")
    return None if fd is None else UidLease(uid, fd)


def _locked(path: str) -> int | None:
    """The file `path`, open and locked; None when another process has locked it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        with contextlib.ExitStack() as undo:
            fd = os.open(path, flags, 0o600)
            undo.callback(os.close, fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            if _has_name(fd, path):  # else it was removed before it was locked
                undo.pop_all()
                return fd


def _has_name(fd: int, path: str) -> bool:
    """The open file is still the one with this name."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
