"""The places of the directories of slots on an ext4.

ext4 puts a new file near its directory, and a new directory near its parent, in one block group.
There it looks for a free inode from the beginning. Without a journal it passes over each one that
was removed in the last minute (`recently_deleted` in fs/ext4/ialloc.c), and sessions remove many:
with 32 warm sessions the search took three quarters of the CPU time of the warden.

A directory with the flag `T` is the top of trees that have nothing to do with each other, as /home
is: each directory in it gets a block group, or a flexible group of some, by its name (chattr(1)).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct

_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
"""FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of x86-64 and arm64 (ioctl_iflags(2))."""

TOP = 0x00020000
"""FS_TOPDIR_FL."""


def spread(path: str) -> None:
    """Have each directory in the directory `path` in a block group of its own, where the file
    system can."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # no ext4
            if not (have := flags(fd)) & TOP:
                fcntl.ioctl(fd, _SET_FLAGS, struct.pack("=ii", have | TOP, 0))
    finally:
        os.close(fd)


def flags(fd: int) -> int:
    """The flags of an open file. Raises OSError where its file system has none."""
    # The size in the number is that of a long, the kernel writes an int.
    return int(struct.unpack("=ii", fcntl.ioctl(fd, _GET_FLAGS, bytes(8)))[0])
