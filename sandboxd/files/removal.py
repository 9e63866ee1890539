"""The removal of trees of any width and depth, in a directory that no program can reach.

A program may have made a tree deeper than the number of descriptors of a process. The removal
therefore does not walk down: it moves a directory that is not empty up, beside its parent, and
empties it there. All this happens in `trash`, a directory of the helper below stage/, which no
program sees. A tree gets there by one rename, so it disappears at once or not at all.
"""

from __future__ import annotations

import errno
import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OWN = 0o700


def empty(trash: int) -> None:
    """Remove everything in the directory `trash`, which no other process uses. Raises OSError."""
    above: list[str] = []  # directories in trash; each came out of the one before it
    count = 0
    while True:
        inner = _remove_until_full(trash, above[-1] if above else ".")
        if inner is None:
            if not above:
                return
            os.rmdir(above.pop(), dir_fd=trash)
            continue
        name = inner if not above else _unused_name(trash, count)
        if above:
            move_directory(f"{above[-1]}/{inner}", trash, name, trash)
        else:
            os.chmod(name, _OWN, dir_fd=trash)
        count += 1
        above.append(name)


def _remove_until_full(trash: int, name: str) -> str | None:
    """Remove the entries of the directory `name` up to the first directory that is not empty.
    Returns the name of that directory; None: all entries are removed."""
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


def _unused_name(trash: int, number: int) -> str:
    """A name that no entry of `trash` has."""
    while True:
        try:
            os.lstat(f"deep-{number}", dir_fd=trash)
        except FileNotFoundError:
            return f"deep-{number}"
        number += 1


def move_directory(name: str, source: int, to: str, target: int) -> None:
    """Rename the directory `name`. Raises OSError.

    A directory that gets another ".." must be writable, and a program may have removed that right
    of its own uid.
    """
    mode = stat.S_IMODE(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode)
    if mode & _OWN != _OWN:
        os.chmod(name, mode | _OWN, dir_fd=source)
    os.rename(name, to, src_dir_fd=source, dst_dir_fd=target)
