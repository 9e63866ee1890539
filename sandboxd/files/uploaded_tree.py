"""The files of an upload as a tree in the inbox, ready for the commit.

All names are checked before anything is changed, against each other and against the workdir,
so that a refusal has the words of an upload. A name may go through links that stay below
/home/work; the tree has the names without links, since the commit follows none. An upload does not
go into a virtual folder that is mounted in the workdir.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from ..errors import Invalid, OutsideHome, Refused
from ..jail.syscalls import RESOLVE_NO_XDEV
from ..model import HOME
from .beneath import MOUNTED, look, refused, status_of
from .commit import commit
from .commit_plan import STAGED, StagedTree
from .links import real_place
from .paths import Name, absolute, colliding, relative, shown


def commit_files(home: int, inbox: int, files: dict[Name, str]) -> None:
    """Move each file, a name in `inbox`, to its name below `home`: all of them, or none.

    The caller empties the inbox afterwards. Raises Refused and leaves the workdir as it was,
    or OSError for a failure of the helper itself.
    """
    collision = colliding(files)
    if collision is not None:
        raise Invalid(f"{shown(absolute(collision))} would be a file and a directory")
    for name in files:
        _check(home, name)
    with _staged_tree(home, inbox, files) as tree:
        commit(home, inbox, tree)


@contextlib.contextmanager
def _staged_tree(home: int, inbox: int, files: dict[Name, str]) -> Iterator[StagedTree]:
    """The files, moved into a tree of the shape of /home/work. Raises Refused."""
    directories: dict[Name, tuple[int, int] | None] = {}
    name: Name = ()
    try:
        os.mkdir(STAGED, 0o700, dir_fd=inbox)
        fd = os.open(STAGED, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=inbox)
    except OSError as error:
        raise refused(error, name, inbox) from None
    try:
        try:
            for name, staged in files.items():
                real = _without_links(home, name)
                for depth in range(1, len(real)):
                    if real[:depth] not in directories:
                        os.mkdir(relative(real[:depth]), 0o700, dir_fd=fd)
                        directories[real[:depth]] = None
                os.rename(staged, relative(real), src_dir_fd=inbox, dst_dir_fd=fd)
        except OSError as error:
            raise _refused(error, name, inbox) from None
        yield StagedTree(fd, directories, "files")
    finally:
        os.close(fd)


def _without_links(home: int, name: Name) -> Name:
    """The name of the file without links on its way. Raises OutsideHome, Invalid, OSError."""
    above = real_place(home, name[:-1])
    if above is None:  # a program has put the link there since the check
        raise OutsideHome(f"{shown(absolute(name))} leaves {HOME} through a link")
    return (*above, name[-1])


def _refused(error: OSError, name: Name, disk: int | None = None) -> Refused:
    """As `refused`, except for a missing directory: an upload makes it, so something else is in
    the way."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST):
        return Invalid(f"{shown(absolute(name))}: a part of its path is no directory")
    return refused(error, name, disk)


def _check(home: int, name: Name) -> None:
    """Raise Refused when the present tree has no place for the file `name`."""
    _expect_not_mounted(home, name)
    try:
        directory, depth = _nearest(home, name[:-1])
        try:
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=directory):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            status = status_of(directory, name[depth])
        finally:
            os.close(directory)
        if depth < len(name) - 1:
            if status is not None:  # a parent that exists and cannot be opened: a dangling link
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        elif status is not None:
            _check_target(home, name, status.st_mode)
    except OSError as error:
        raise _refused(error, name) from None


def _expect_not_mounted(home: int, name: Name) -> None:
    """Raise Invalid when `name` is in a virtual folder, which is another file system."""
    first = status_of(home, name[0])
    if first is not None and first.st_dev != os.fstat(home).st_dev:
        raise Invalid(f"{shown(absolute(name))} {MOUNTED}")


def _look(home: int, parts: Name, flags: int = 0) -> int:
    """As `look`, but never into another file system, not even through a link. Raises Invalid."""
    try:
        return look(home, parts, flags, RESOLVE_NO_XDEV)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        elsewhere = look(home, parts, flags)
        os.close(elsewhere)  # it is below /home/work, and yet on another file system
        raise Invalid(f"{shown(absolute(parts))} {MOUNTED}") from None


def _nearest(home: int, parents: Name) -> tuple[int, int]:
    """A descriptor of the deepest existing directory on the way to `parents`, and its depth."""
    for depth in range(len(parents), 0, -1):
        with contextlib.suppress(FileNotFoundError):
            return _look(home, parents[:depth], os.O_DIRECTORY), depth
    return _look(home, (), os.O_DIRECTORY), 0


def _check_target(home: int, name: Name, mode: int) -> None:
    """Raise OSError when the entry in the file's place may not be replaced."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISLNK(mode):
        # The rename would replace the link itself, wherever it leads. A link that leads outside is
        # refused all the same: a client that uploads to it expects a write through the link.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.close(_look(home, name))
