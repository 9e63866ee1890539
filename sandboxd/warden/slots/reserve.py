"""The reserve: a little room on the disk that is set aside for the start of a daemon.

A daemon must start on a full disk, because users delete sessions through it and so make room. A
start needs disk for the trial of the host's guarantees (trial_directory.py) and for the log of the
database. STATE/reserve/ holds that room in several files, since inodes may be short as well as
blocks.
"""

from __future__ import annotations

import contextlib
import os

from ...host.free_space import FreeSpace

FILES, SIZE = 16, 256 << 10
"""Files, and bytes of each: about twice the need of a start."""

AMPLE = 8
"""The reserve is filled again when so many times its size is free."""


def release(state_dir: str) -> bool:
    """Remove the reserve if the disk of `state_dir` has less free than its size; True then."""
    path = _path(state_dir)
    if _room(state_dir, 1) or not os.path.isdir(path):
        return False
    with contextlib.suppress(OSError):  # a start may succeed without this room
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
    return True


def keep(state_dir: str) -> None:
    """Fill the reserve, if there is ample room. Never raises OSError."""
    path = _path(state_dir)
    with contextlib.suppress(OSError):
        os.makedirs(path, mode=0o700, exist_ok=True)
        for number in range(FILES):
            file = f"{path}/{number}"
            if os.path.exists(file) and os.path.getsize(file) == SIZE:
                continue
            if not _room(state_dir, AMPLE):
                return
            fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)  # may be half-made
            try:
                os.posix_fallocate(fd, 0, SIZE)
            finally:
                os.close(fd)


def _path(state_dir: str) -> str:
    return f"{state_dir}/reserve"


def _room(state_dir: str, times: int) -> bool:
    """So many times the size of the reserve is free."""
    return FreeSpace.at(state_dir).holds(times * FILES * SIZE, times * FILES)
