"""Removes trees of any width and depth, as long as nobody else can reach them.

A program may have made directories deeper than a process has descriptors for. So nothing is
walked: a directory that is not empty is moved up, beside the one that it was found in, and
emptied there. That happens in a place that no program sees (`trash`, a helper's own directory
below stage/), and what is to be removed gets there by one rename: it disappears at once or not
at all.
"""

from __future__ import annotations

import errno
import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OWN = 0o700


def empty(trash: int) -> None:
    """Remove everything in the directory `trash`, which is ours alone. Raises OSError."""
    above: list[str] = []  # directories in trash, each found in the one before it
    count = 0
    while True:
        inner = _rest(trash, above[-1] if above else ".")
        if inner is None:
            if not above:
                return
            os.rmdir(above.pop(), dir_fd=trash)
            continue
        name = inner if not above else _unused(trash, count)
        if above:
            move_directory(f"{above[-1]}/{inner}", trash, name, trash)
        else:
            os.chmod(name, _OWN, dir_fd=trash)
        count += 1
        above.append(name)


def _rest(trash: int, name: str) -> str | None:
    """Remove the entries of the directory `name` up to one that is no empty directory: its name,
    None when all are gone."""
    fd = os.open(name, _DIRECTORY, dir_fd=trash)
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=fd)
                    continue
                try:
                    os.rmdir(entry.name, dir_fd=fd)
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:
                        raise
                    return entry.name
    finally:
        os.close(fd)
    return None


def _unused(trash: int, number: int) -> str:
    """A name that nothing in `trash` has."""
    while True:
        try:
            os.lstat(f"deep-{number}", dir_fd=trash)
        except FileNotFoundError:
            return f"deep-{number}"
        number += 1


def move_directory(name: str, source: int, to: str, target: int) -> None:
    """Rename the directory `name`; its owner may have forbidden himself to write in it, and a
    directory that gets another ".." must be writable. Raises OSError."""
    mode = stat.S_IMODE(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode)
    if mode & _OWN != _OWN:
        os.chmod(name, mode | _OWN, dir_fd=source)
    os.rename(name, to, src_dir_fd=source, dst_dir_fd=target)
