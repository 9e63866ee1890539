"""A little room on the disk that is kept back for a start.

A daemon that is started on a full disk must come up: there is work in it, and deleting sessions
makes room. What it needs for that, to try what the host guarantees (trial_directory.py) and for
the log of the database, it has put by when there was more: STATE/reserve/, some files, since
inodes may be short as well as blocks.
"""

from __future__ import annotations

import contextlib
import os

from ...free_space import FreeSpace

FILES, SIZE = 16, 256 << 10
"""Files, and bytes of each: about twice what a start takes."""

AMPLE = 8
"""Times the reserve that must be free before it is made up again."""


def release(state_dir: str) -> bool:
    """Give the reserve up if the file system of `state_dir` has not as much left; whether."""
    path = _path(state_dir)
    if _room(state_dir, 1) or not os.path.isdir(path):
        return False
    with contextlib.suppress(OSError):  # one that stays is as good as none
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
    return True


def keep(state_dir: str) -> None:
    """Make up what is missing of the reserve, if there is ample room. Never raises OSError."""
    path = _path(state_dir)
    with contextlib.suppress(OSError):
        os.makedirs(path, mode=0o700, exist_ok=True)
        for number in range(FILES):
            file = f"{path}/{number}"
            if os.path.exists(file) and os.path.getsize(file) == SIZE:
                continue
            if not _room(state_dir, AMPLE):
                return
            fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)  # or a half-made one
            try:
                os.posix_fallocate(fd, 0, SIZE)
            finally:
                os.close(fd)


def _path(state_dir: str) -> str:
    return f"{state_dir}/reserve"


def _room(state_dir: str, times: int) -> bool:
    """Free is so many times what the reserve takes."""
    return FreeSpace.at(state_dir).holds(times * FILES * SIZE, times * FILES)
