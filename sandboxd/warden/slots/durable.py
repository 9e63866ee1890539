"""What is told to be there is on the disk by then, not only in the kernel's memory."""

from __future__ import annotations

import os

from ...jail import syscalls


def write(path: str, text: str) -> None:
    """A file that is on the disk when this returns."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync(directory: str) -> None:
    """What is named in `directory` is on the disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def settle(mount: str) -> None:
    """All of the file system that is mounted at `mount` is on the disk, and by the loop device
    the blocks of its image (syncfs(2))."""
    fd = os.open(mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.syncfs(fd)
    finally:
        os.close(fd)
