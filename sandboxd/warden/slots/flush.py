"""Synchronous writes: when a function returns, the data is on the disk and not only in memory."""

from __future__ import annotations

import os
from collections.abc import Callable

from ...jail import syscalls


def write(path: str, text: str) -> None:
    """Write a file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def directory(path: str) -> None:
    """Write the names in the directory `path`."""
    _with_directory(path, os.fsync)


def file_system(mount: str) -> None:
    """Write all of the file system at `mount`, and by the loop device the blocks of its image
    (syncfs(2))."""
    _with_directory(mount, syscalls.syncfs)


def _with_directory(path: str, act: Callable[[int], None]) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        act(fd)
    finally:
        os.close(fd)
