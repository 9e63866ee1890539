"""Whose the files of a mount are: an idmapped mount (mount_setattr(2), Linux 5.12).

Files on disk belong to one id; seen through the mount they belong to another, and new files are
stored as the first. What the mapping does not name can be read as "nobody" and not written. The
kernel takes the mapping from a user namespace, which exists for that alone: no process lives in
it, it gives nobody a capability, and no payload ever sees it.
"""

from __future__ import annotations

import os
import signal

from . import syscalls
from .mounts import IDMAP
from .stage import stage

STAGE = "folders"


def user_namespace(stored: int, seen: int) -> int:
    """A user namespace that maps uid and gid `stored` to `seen`: a descriptor.

    Raises StageError "folders" where the kernel refuses, as with user.max_user_namespaces = 0.
    """
    with stage(STAGE):
        ready, made = os.pipe2(os.O_CLOEXEC)
        hold, done = os.pipe2(os.O_CLOEXEC)
        with os.fdopen(ready, "rb") as answer, os.fdopen(done, "wb"):
            pid = _forked(made, hold, done)
            os.close(made)
            os.close(hold)
            try:
                _expect_made(answer.read())
                for name in ("uid_map", "gid_map"):
                    with open(f"/proc/{pid}/{name}", "w") as file:
                        file.write(f"{stored} {seen} 1")
                return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _forked(made: int, hold: int, done: int) -> int:
    """A child in a new user namespace, which it keeps until it is killed or we are gone.

    It says so on `made`, 0 or an errno.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid:
            return pid
        try:
            os.close(done)
            code = 0
            try:
                syscalls.unshare(syscalls.CLONE_NEWUSER)
            except OSError as error:
                code = error.errno or 255
            os.write(made, bytes([code]))
            os.close(made)
            os.read(hold, 1)
        finally:
            os._exit(0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _expect_made(answer: bytes) -> None:
    code = answer[0] if answer else 255
    if code:
        raise OSError(code, f"no user namespace: {os.strerror(code)}")


def apply(fd: int, attributes: int, userns: int) -> None:
    """Give the detached clone `fd` its `attributes` and the map of `userns`.

    Raises StageError "folders": EINVAL where kernel or file system cannot.
    """
    with stage(STAGE):
        syscalls.mount_setattr(fd, attributes | IDMAP, recursive=False, userns=userns)
