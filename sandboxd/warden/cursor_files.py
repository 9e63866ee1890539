"""The cursors of runs, in memory (memory_files.py) and on the disk.

The api notes in the cursor how far the client of a run has been served, just before it hands a
response over. It must not be killed between the two, so it writes in its event loop, and a write to
a disk could wait there (runs/cursor.py). A file in memory never waits.

The file `cursor` in the run's directory is the copy that outlives a boot. It is written when the
daemon ends, and with each check for leaks. After a loss of power a client may get the output of the
last minute again: a run is over then, and nothing of it is lost. Without such a memory, or
when it is full, the api gets the file in the run's directory.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ..jail import syscalls
from . import memory_files

ROOM = 4096
"""Bytes that a cursor has from the start, since the memory may be full later."""

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def begin(path: str) -> int | None:
    """Make the cursor of the new run whose directory is `path`; a descriptor of it, or None if
    there is no room in memory."""
    memory = memory_files.path_of(path)
    if memory is None:
        return None
    try:
        fd = os.open(memory, _FLAGS | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            syscalls.fallocate(fd, syscalls.FALLOC_FL_KEEP_SIZE, 0, ROOM)
        except OSError:
            os.close(fd)
            raise
    except OSError:  # no room: the api writes to the disk, as it does without a tmpfs
        memory_files.unlink(memory)
        return None
    return fd


def open_for_api(path: str) -> int:
    """A descriptor of the cursor of a run. Raises OSError."""
    memory, disk = memory_files.path_of(path), f"{path}/cursor"
    if memory is not None:
        try:
            if not os.path.exists(memory) or _is_newer(disk, memory):
                _copy(disk, memory)  # after a boot, or an earlier version has written to the disk
            return os.open(memory, _FLAGS)
        except OSError:
            memory_files.unlink(memory)
    return os.open(disk, _FLAGS)


def save(state_dir: str) -> None:
    """Copy the cursors in memory to the directories of their runs."""
    for memory, disk in memory_files.cursors(state_dir):
        with contextlib.suppress(OSError):  # the run is removed, or the disk takes no writes
            if _is_newer(memory, disk):
                _copy(memory, disk)


def _is_newer(one: str, other: str) -> bool:
    return os.stat(one).st_mtime_ns > os.stat(other).st_mtime_ns


def _copy(source: str, target: str) -> None:
    """Copy a cursor with its time, which is that of the start of a run without a record."""
    status, data = os.stat(source), Path(source).read_bytes()
    fd = os.open(target, _FLAGS | os.O_CREAT, 0o600)
    try:
        if os.fstat(fd).st_size > len(data):
            os.ftruncate(fd, len(data))
        os.pwrite(fd, data, 0)
        os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(fd)
