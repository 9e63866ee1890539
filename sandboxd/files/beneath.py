"""The opening of a client's names, below the descriptor of /home/work and nowhere else.

Programs of the session run at the same time, with the same uid. Between any two calls a program
may replace a directory by a link, or a file by a FIFO. Hence three rules:

- One openat2(2) with RESOLVE_BENEATH resolves a whole name: the kernel follows links that stay
  below `home`, and answers EXDEV for links that leave it. To the kernel, every absolute link does.
  Then links.py finds the name without links, and a second openat2(2) follows none.
- Decisions rest on fstat(2) of the open descriptor, never on an earlier stat of the name.
- No call waits. An O_PATH descriptor comes first, since a plain open of a FIFO would already wake
  its writer. Then O_NONBLOCK prevents a wait for a FIFO or for a lease of a program (fcntl(2),
  F_SETLEASE).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Literal

from ..errors import Invalid, NotFound, OutsideHome, QuotaExceeded, Refused
from ..jail.syscalls import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2
from ..model import HOME
from .links import NO_LINKS, real_place
from .paths import Name, absolute, relative, shown

_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
_PLAIN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

MOUNTED = (
    "is in a mounted folder, which takes no uploads through a session; a program can copy files "
    "there"
)

OF_HOST = f"{HOME} is a workspace of the host, which takes no uploads through a session"

_INVALID = {
    errno.ELOOP: "has too many links on its way",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENXIO: "is a socket or a device",
    errno.EISDIR: "is a directory",
    errno.EAGAIN: "a program holds a lease on it",
    errno.ENAMETOOLONG: "is too long",
    errno.EMLINK: "has too many links",
}


def expect_own_home(home: int, inbox: int) -> None:
    """Raise Invalid when `home` is a workspace: then `inbox` is on another file system."""
    if os.fstat(home).st_dev != os.fstat(inbox).st_dev:
        raise Invalid(OF_HOST)


def refused(error: OSError, parts: Name, disk: int | None = None) -> Refused:
    """The refusal for a client, from the kernel's error about `parts`, in a call that may have
    needed room in the file system of the descriptor `disk`.

    Raises `error` again when the cause is not the client's request.
    """
    name = shown(absolute(parts))
    code = error.errno or 0
    if code == errno.EXDEV:
        return OutsideHome(f"{name} is a link that leaves {HOME}, or goes through one")
    if code == errno.ENOENT:
        return NotFound("path", f"{name} does not exist")
    if code == errno.ENOTDIR:
        return NotFound("path", f"{name} is no directory, or a part of its path is no directory")
    if code in _INVALID:
        return Invalid(f"{name}: {_INVALID[code]}")
    if code in (errno.ENOSPC, errno.EDQUOT):
        return QuotaExceeded(_no_space(disk))
    raise error


def _no_space(disk: int | None) -> str:
    """The reason and the remedy; ENOSPC is the lack of bytes as well as of inodes."""
    what, limit = "", "disk"
    if disk is not None and (room := os.fstatvfs(disk)).f_files and not room.f_favail:
        what = f": all {room.f_files} inodes are in use, one for each file and directory"
        limit = "inodes"
    return (
        f"no space is left in the session{what}; delete files, or ask for more with "
        f"config.resource_opts.{limit}"
    )


def look(home: int, parts: Name, flags: int = 0, resolve: int = 0) -> int:
    """An O_PATH descriptor of `parts`. This opens no content and wakes no process. Raises
    OSError, Invalid."""
    return _open(home, parts, os.O_PATH | flags, resolve)


def _open(home: int, parts: Name, flags: int, resolve: int = 0) -> int:
    """A descriptor of `parts`, through links that stay below `home`. Raises OSError, Invalid."""
    try:
        return openat2(home, relative(parts), flags, _RESOLVE | resolve)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        above = parts[:-1] if flags & os.O_NOFOLLOW else parts
        place = real_place(home, above)
        if place is None or (place == above and not resolve):
            raise
    return openat2(home, relative((*place, *parts[len(above) :])), flags, NO_LINKS | resolve)


def open_directory(home: int, parts: Name) -> int:
    """A descriptor for a listing of `parts`. Raises Refused: NotFound if it is no directory."""
    try:
        return _open(home, parts, _PLAIN | os.O_DIRECTORY)
    except OSError as error:
        raise refused(error, parts) from None


def open_content(home: int, parts: Name) -> int:
    """A descriptor for reading `parts`, a regular file or a directory. Raises Refused."""
    try:
        path = look(home, parts)
        try:
            _expect_content(path, parts)
        finally:
            os.close(path)
        fd = _open(home, parts, _PLAIN)
    except OSError as error:
        raise refused(error, parts) from None
    try:
        _expect_content(fd, parts)
    except Refused:
        os.close(fd)
        raise
    return fd


def status_of(directory: int, name: str) -> os.stat_result | None:
    """lstat(2) of `name`, one component, in `directory`; None: it is not there. Raises OSError."""
    try:
        return os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None


def open_entry(directory: int, name: str, flags: int = 0) -> int:
    """A descriptor of `name`, one component, in `directory`. Raises OSError; ELOOP for a link."""
    return os.open(name, _PLAIN | os.O_NOFOLLOW | flags, dir_fd=directory)


def _expect_content(fd: int, parts: Name) -> None:
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise Invalid(f"{shown(absolute(parts))} is a {special(mode)}, not a file")


def special(mode: int) -> Literal["fifo", "socket", "device"]:
    """The kind of an entry that is no file, directory or link."""
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "socket" if stat.S_ISSOCK(mode) else "device"
