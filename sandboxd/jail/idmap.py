"""The map of owners of a mount: an idmapped mount (mount_setattr(2), Linux 5.12).

Files on disk belong to one uid and one gid. Through the mount they belong to others, and new files
are stored with the first. Files of ids that the map does not name belong to "nobody" and cannot be
written, but for the rights of all others. The kernel takes the map from a user namespace that
exists for this alone: no process lives in it, it gives no process a capability, and no program sees
it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from typing import BinaryIO

from . import syscalls
from .mounts import IDMAP
from .stage import stage

STAGE = "folders"


@dataclass(frozen=True, slots=True)
class Ids:
    """A uid and a gid."""

    uid: int
    gid: int


def user_namespace(stored: Ids, seen: Ids, name: str = STAGE) -> int:
    """A user namespace that maps the ids `stored` to those `seen`: a descriptor.

    Raises StageError `name` where the kernel refuses, as with user.max_user_namespaces = 0.
    """
    with stage(name), contextlib.ExitStack() as ends:
        answer, report = _pipe(ends)
        hold, done = _pipe(ends)
        pid = _forked(report.fileno(), hold.fileno(), done.fileno())
        try:
            report.close()
            _expect_created(answer.read())
            for kind in ("uid", "gid"):
                with open(f"/proc/{pid}/{kind}_map", "w") as file:
                    file.write(f"{getattr(stored, kind)} {getattr(seen, kind)} 1")
            return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _pipe(stack: contextlib.ExitStack) -> tuple[BinaryIO, BinaryIO]:
    """The ends of a pipe, to read and to write; `stack` closes them."""
    to_read, to_write = os.pipe2(os.O_CLOEXEC)
    read_end = stack.enter_context(os.fdopen(to_read, "rb"))
    return read_end, stack.enter_context(os.fdopen(to_write, "wb"))


def _forked(report: int, hold: int, done: int) -> int:
    """A child in a new user namespace, which lives until it is killed or this process has ended.

    The child writes a byte to `report`: 0, or an errno.
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
            os.write(report, bytes([code]))
            os.close(report)
            os.read(hold, 1)
        finally:
            os._exit(0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _expect_created(answer: bytes) -> None:
    code = answer[0] if answer else 255
    if code:
        raise OSError(code, f"no user namespace: {os.strerror(code)}")


def apply(fd: int, attributes: int, userns: int, name: str = STAGE) -> None:
    """Give the detached clone `fd` its `attributes` and the map of `userns`.

    Raises StageError `name`: EINVAL where kernel or file system cannot.
    """
    with stage(name):
        syscalls.mount_setattr(fd, attributes | IDMAP, recursive=False, userns=userns)
