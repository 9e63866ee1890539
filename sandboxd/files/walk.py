"""Goes through a directory tree that its owner may be changing, by descriptor.

Each directory is opened by its single last component from the descriptor of the one above, and
never through a link: wherever a payload moves directories meanwhile, the walk stays in what it
has opened. Entries are read as a stream, so that memory does not grow with a directory.

One level costs two descriptors (the directory, and scandir's copy). The walk goes as deep as a
client could name (paths.py): deeper directories, and those whose name would be longer, are told
of and not entered. That keeps the walk at 2 * DEPTH_MAX descriptors, half of the usual limit,
and what it finds below the length at which other programs fail to unpack an archive. The other
way, to go down without end and open the way back up anew from the top, costs a resolution of
the whole path a step and finds files that nobody could ask for.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from .beneath import open_entry
from .paths import COMPONENT_MAX, DEPTH_MAX, NAME_MAX

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EINVAL)
"""Says the kernel of an entry that has disappeared, or become something else, meanwhile; EINVAL
is readlink(2) on what is no link any more."""

_LONGEST = NAME_MAX - COMPONENT_MAX - 1
"""Bytes of a directory's path at most, so that the path of all that is in it fits NAME_MAX."""


@dataclass(frozen=True, slots=True)
class WalkEntry:
    """An entry of a tree.

    directory  descriptor of the directory that it is in, good until the walk goes on
    name       its last component; path: all components below the top, with "/"
    status     from lstat(2); None when the entry could not be looked at
    unentered  for a directory, why the walk does not go into it: unreadable or too_deep
    """

    directory: int
    name: str
    path: str
    status: os.stat_result | None
    unentered: str | None = None


class _Level:
    """A directory on the way down; owns the descriptor `fd`."""

    def __init__(self, fd: int, prefix: str) -> None:
        self.fd = fd
        self.prefix = prefix
        self.entries = os.scandir(fd)

    def close(self) -> None:
        self.entries.close()
        os.close(self.fd)


def walk(top: int, prefix: str = "") -> Iterator[WalkEntry]:
    """All below the directory `top`, a directory before its content, paths behind `prefix`.

    What disappears meanwhile is not told. Raises OSError for failures of our own.
    """
    # A copy, not a second open of ".": that would take the right to search `top`, not only to
    # read it. The copy shares its offset; scandir rewinds it at the end (fdopendir(3)).
    stack = [_Level(os.dup(top), prefix)]
    try:
        while stack:
            level = stack[-1]
            entry = next(level.entries, None)
            if entry is None:
                stack.pop().close()
                continue
            try:
                found, inner = _visited(level, entry)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                continue
            if inner is not None:
                stack.append(inner)
            yield found
    finally:
        for level in stack:
            level.close()


def _visited(level: _Level, entry: os.DirEntry[str]) -> tuple[WalkEntry, _Level | None]:
    """The entry and, for a directory that can be entered, its level. Raises OSError."""
    path = level.prefix + entry.name
    try:
        status = entry.stat(follow_symlinks=False)
    except PermissionError:  # its directory may be read but not searched
        return WalkEntry(level.fd, entry.name, path, None), None
    if not stat.S_ISDIR(status.st_mode):
        return WalkEntry(level.fd, entry.name, path, status), None
    if path.count("/") + 2 > DEPTH_MAX or len(os.fsencode(path)) > _LONGEST:
        return WalkEntry(level.fd, entry.name, path, status, "too_deep"), None
    try:
        inner = _Level(open_entry(level.fd, entry.name, os.O_DIRECTORY), path + "/")
    except PermissionError:
        return WalkEntry(level.fd, entry.name, path, status, "unreadable"), None
    return WalkEntry(level.fd, entry.name, path, status), inner
