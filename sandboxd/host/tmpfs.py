"""Files in memory: a write to a file of a tmpfs (tmpfs(5)) waits for no disk."""

from __future__ import annotations

import ctypes
import os
import sys

_MAGIC = 0x01021994
"""The type of the file system (linux/magic.h)."""

_SIZE = 256
"""More than struct statfs has; its first field is the type, a long (statfs(2))."""

_libc = ctypes.CDLL(None)
_libc.statfs.argtypes = (ctypes.c_char_p, ctypes.c_void_p)
_libc.fstatfs.argtypes = (ctypes.c_int, ctypes.c_void_p)


def is_in_memory(file: int | str) -> bool:
    """The file, a descriptor or a path, is there and in a tmpfs."""
    status = ctypes.create_string_buffer(_SIZE)
    if isinstance(file, int):
        failed = _libc.fstatfs(file, status)
    else:
        failed = _libc.statfs(os.fsencode(file), status)
    return not failed and ctypes.c_long.from_buffer(status).value == _MAGIC


def size_in_memory(file: int | str) -> int:
    """Bytes of the tmpfs that the file is in; 0 for another file system. Of a tmpfs without a bound
    the kernel says nothing (`size=0` in tmpfs(5)): it may have all that there is."""
    if not is_in_memory(file):
        return 0
    status = os.fstatvfs(file) if isinstance(file, int) else os.statvfs(file)
    return (status.f_blocks - status.f_bfree) * status.f_frsize if status.f_blocks else sys.maxsize
