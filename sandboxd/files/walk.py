"""The walk through a directory tree that programs may change meanwhile, by descriptor.

The walk opens each directory by its last component, from the descriptor of its parent, and never
through a link. Wherever a program moves directories, the walk stays in the directories that it has
opened. Entries are read as a stream, so the memory does not grow with a directory.

One level costs two descriptors: the directory, and the copy of scandir. The walk goes as deep as
the names of clients (paths.py): it reports deeper directories, and directories with a longer name,
and does not enter them. The walk therefore has 2 * DEPTH_MAX descriptors at most, half of the usual
limit, and its paths stay below the length at which other programs fail to unpack an archive. The
alternative is a walk without a bound on depth that opens each parent again from the top. That costs
a resolution of the whole path at each step, and reports files that no client could name.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..wire.file_calls import LeftOut
from .beneath import open_entry
from .paths import COMPONENT_MAX, DEPTH_MAX, NAME_MAX

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EINVAL)
"""The kernel's errors for an entry that has disappeared or changed its type meanwhile. EINVAL comes
from readlink(2) of an entry that is no link any more."""

_PATH_MAX = NAME_MAX - COMPONENT_MAX - 1
"""Bytes of a directory's path at most, so that the paths of all its entries fit NAME_MAX."""


@dataclass(frozen=True, slots=True)
class WalkEntry:
    """An entry of a tree.

    directory  descriptor of its directory, valid until the walk goes on
    name       its last component
    path       all its components below the top, joined by "/"
    status     from lstat(2); None: lstat was not allowed
    unentered  the reason why the walk does not enter this directory: unreadable or too_deep
    """

    directory: int
    name: str
    path: str
    status: os.stat_result | None
    unentered: LeftOut | None = None


class _Level:
    """A directory on the way down. It owns the descriptor `fd`."""

    def __init__(self, fd: int, prefix: str) -> None:
        self.fd = fd
        self.prefix = prefix
        self.entries = os.scandir(fd)

    def close(self) -> None:
        self.entries.close()
        os.close(self.fd)


def walk(
    top: int, prefix: str = "", enter: Callable[[str], bool] = lambda _: True
) -> Iterator[WalkEntry]:
    """All entries below the directory `top`, a directory before its content. `prefix` begins each
    path. Directories for whose path `enter` is false are not entered.

    Entries that disappear meanwhile are left out. Raises OSError for failures of the helper itself.
    """
    # A copy of the descriptor, since a second open of "." would need the right to search `top`, and
    # not only to read it. Both share one offset; scandir rewinds it at the end (fdopendir(3)).
    stack = [_Level(os.dup(top), prefix)]
    try:
        while stack:
            level = stack[-1]
            entry = next(level.entries, None)
            if entry is None:
                stack.pop().close()
                continue
            try:
                walk_entry, inner = _visit(level, entry, enter)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                continue
            if inner is not None:
                stack.append(inner)
            yield walk_entry
    finally:
        for level in stack:
            level.close()


def _visit(
    level: _Level, entry: os.DirEntry[str], enter: Callable[[str], bool]
) -> tuple[WalkEntry, _Level | None]:
    """The entry and, if the walk can enter it, its level. Raises OSError."""
    path = level.prefix + entry.name
    try:
        status = entry.stat(follow_symlinks=False)
    except PermissionError:  # the directory may be read but not searched
        return WalkEntry(level.fd, entry.name, path, None), None
    if not stat.S_ISDIR(status.st_mode) or not enter(path):
        return WalkEntry(level.fd, entry.name, path, status), None
    if path.count("/") + 2 > DEPTH_MAX or len(os.fsencode(path)) > _PATH_MAX:
        return WalkEntry(level.fd, entry.name, path, status, "too_deep"), None
    try:
        inner = _Level(open_entry(level.fd, entry.name, os.O_DIRECTORY), path + "/")
    except PermissionError:
        return WalkEntry(level.fd, entry.name, path, status, "unreadable"), None
    return WalkEntry(level.fd, entry.name, path, status), inner
