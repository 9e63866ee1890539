"""Opens what a client named, below the descriptor of /home/work and nowhere else.

The payload runs at the same time with the same uid: between any two calls a directory may have
become a link, a file a FIFO. Hence

- a client's name is resolved by one openat2(2) with RESOLVE_BENEATH: the kernel follows links
  that stay below `home` and answers EXDEV for those that leave, absolute ones among them;
- what was opened is judged by fstat(2) of the descriptor, never by an earlier stat of the name;
- nothing waits: O_PATH looks first, since already opening a FIFO wakes its writer up, and then
  O_NONBLOCK keeps a FIFO, or a lease that the payload holds (fcntl(2) F_SETLEASE), from blocking.
"""

from __future__ import annotations

import errno
import os
import stat

from ..errors import Invalid, NotFound, OutsideHome, QuotaExceeded, Refused
from ..jail.syscalls import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2
from ..model import HOME
from .paths import Name, absolute, relative, shown

_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
_PLAIN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_INVALID = {
    errno.ELOOP: "is a link that leads to no end",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENXIO: "is a socket or a device",
    errno.EISDIR: "is a directory",
    errno.EAGAIN: "a program holds a lease on it",
    errno.ENAMETOOLONG: "is too long",
    errno.EMLINK: "has too many links",
}


def refused(error: OSError, parts: Name) -> Refused:
    """What the kernel's answer about `parts` means to a client.

    Raises `error` again when it says nothing about the client's request.
    """
    name = shown(absolute(parts))
    code = error.errno or 0
    if code == errno.EXDEV:
        return OutsideHome(f"{name} is a link that leaves {HOME}, or goes through one")
    if code == errno.ENOENT:
        return NotFound("path", f"{name} does not exist")
    if code == errno.ENOTDIR:
        return NotFound("path", f"{name} is no directory, or goes through what is none")
    if code in _INVALID:
        return Invalid(f"{name}: {_INVALID[code]}")
    if code in (errno.ENOSPC, errno.EDQUOT):
        return QuotaExceeded("no space is left in the session")
    raise error


def look(home: int, parts: Name, flags: int = 0, resolve: int = 0) -> int:
    """An O_PATH descriptor of `parts`; nothing is opened, nothing wakes up. Raises OSError."""
    return openat2(home, relative(parts), os.O_PATH | flags, _RESOLVE | resolve)


def open_directory(home: int, parts: Name) -> int:
    """A descriptor to list `parts` with. Raises Refused; NotFound where it is no directory."""
    try:
        return openat2(home, relative(parts), _PLAIN | os.O_DIRECTORY, _RESOLVE)
    except OSError as error:
        raise refused(error, parts) from None


def open_content(home: int, parts: Name) -> int:
    """A descriptor to read `parts` with, a regular file or a directory. Raises Refused."""
    try:
        seen = look(home, parts)
        try:
            _expect_content(seen, parts)
        finally:
            os.close(seen)
        fd = openat2(home, relative(parts), _PLAIN, _RESOLVE)
    except OSError as error:
        raise refused(error, parts) from None
    try:
        _expect_content(fd, parts)
    except Refused:
        os.close(fd)
        raise
    return fd


def open_entry(directory: int, name: str, flags: int = 0) -> int:
    """A descriptor of `name`, one component, in `directory`; a link is ELOOP. Raises OSError."""
    return os.open(name, _PLAIN | os.O_NOFOLLOW | flags, dir_fd=directory)


def _expect_content(fd: int, parts: Name) -> None:
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise Invalid(f"{shown(absolute(parts))} is a {special(mode)}, not a file")


def special(mode: int) -> str:
    """The kind of what is no file, directory or link: "fifo", "socket" or "device"."""
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "socket" if stat.S_ISSOCK(mode) else "device"
