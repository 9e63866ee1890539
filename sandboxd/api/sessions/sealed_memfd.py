"""A sealed file in memory: text for a program that cannot change it, by memfd_create(2)."""

from __future__ import annotations

import fcntl
import os

from ...errors import Unavailable


def sealed(text: bytes) -> int:
    """A file in memory with `text`, positioned at its beginning, that nobody can change.

    The caller closes the file. Without the seals a program could grow the daemon's memory with it.
    Raises Unavailable when there are too many open files.
    """
    try:
        fd = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise Unavailable(f"no file for the input: {error.strerror}") from None
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.lseek(fd, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd
