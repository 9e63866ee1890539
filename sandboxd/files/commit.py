"""The commit of an upload: it moves files from the stage to their places, all of them or none.

All names are checked first, against each other and against the tree. Then missing directories are
made and the files are renamed into place. A rename is atomic for readers of the old file; it
replaces a link, FIFO or socket itself and never follows it. A session's upload does not go into a
virtual folder that is mounted in the tree (the seed's rule).

Programs may change the tree between the check and the rename, and between any two calls. The
kernel resolves every name below `home`, so a program can only make a rename fail. The renames
before it are then undone, except where a program has replaced the uploaded file. For the undo, a
replaced file gets a second hard link in `stage`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator

from ..errors import Invalid, Refused
from ..jail.syscalls import RESOLVE_NO_XDEV
from . import bytecode
from .beneath import MOUNTED, look, refused, status_of
from .paths import Name, absolute, colliding, shown

DIRECTORY_MODE = 0o755
"""The mode of directories that an upload makes, where nothing names another."""

BACKUP_PREFIX = "kept-"
"""Begins the name of the backup of a replaced file, in the stage or among unfinished uploads."""


@contextlib.contextmanager
def alone(stage: int) -> Iterator[None]:
    """The time in which no other helper of the session puts files into place. Two requests for the
    same names would mix their files; if one of them then failed, it could not take back its own.

    The lock is on the directory of all stages, which programs cannot see and so cannot hold.
    """
    fd = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=stage)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def commit(home: int, stage: int, files: dict[Name, str]) -> None:
    """Move each file, a name in `stage`, to its name below `home`.

    Raises Refused and leaves the tree as it was, or OSError for a failure of the helper itself.
    """
    collision = colliding(files)
    if collision is not None:
        raise Invalid(f"{shown(absolute(collision))} would be a file and a directory")
    for name in files:
        _check(home, name)
    with contextlib.ExitStack() as undo:
        for name, staged in files.items():
            try:
                _move_into_place(home, stage, name, staged, undo)
            except OSError as error:
                raise _refused(error, name, home) from None
        undo.pop_all()
    bytecode.remove_stale(home, files)


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


def _move_into_place(
    home: int, stage: int, name: Name, staged: str, undo: contextlib.ExitStack
) -> None:
    """Move one file into its place, and put the reverse on `undo`. Raises OSError."""
    directory = _make_parents(home, name[:-1], undo)
    try:
        backup: str | None = f"{BACKUP_PREFIX}{staged}"
        try:
            os.link(
                name[-1], f"{BACKUP_PREFIX}{staged}", src_dir_fd=directory, dst_dir_fd=stage,
                follow_symlinks=False,
            )  # fmt: skip
        except FileNotFoundError:
            backup = None
        uploaded = os.lstat(staged, dir_fd=stage)
        os.rename(staged, name[-1], src_dir_fd=stage, dst_dir_fd=directory)
        undo.callback(_restore, home, stage, name, uploaded, backup)
    finally:
        os.close(directory)


def _make_parents(home: int, parents: Name, undo: contextlib.ExitStack) -> int:
    """A descriptor of the directory `parents`; missing directories are made. Raises OSError."""
    directory, existing = _nearest(home, parents)
    for depth in range(existing, len(parents)):
        try:
            with contextlib.suppress(FileExistsError):  # a program was faster: `_look` decides
                os.mkdir(parents[depth], DIRECTORY_MODE, dir_fd=directory)
                undo.callback(_remove_directory, home, parents[: depth + 1])
            inner = _look(home, parents[: depth + 1], os.O_DIRECTORY)
        finally:
            os.close(directory)
        directory = inner
    return directory


def _restore(
    home: int, stage: int, name: Name, uploaded: os.stat_result, backup: str | None
) -> None:
    """Replace the uploaded file by its backup; without a backup, remove it. A file that a program
    has put in its place meanwhile stays."""
    with contextlib.suppress(OSError):  # the tree has changed: the uploaded file is not there
        directory = _look(home, name[:-1], os.O_DIRECTORY)
        try:
            status = status_of(directory, name[-1])
            if status is None or not os.path.samestat(status, uploaded):
                return
            if backup is None:
                os.unlink(name[-1], dir_fd=directory)
            else:
                os.rename(backup, name[-1], src_dir_fd=stage, dst_dir_fd=directory)
        finally:
            os.close(directory)


def _remove_directory(home: int, name: Name) -> None:
    """Remove the directory `name`, unless a program has put something in it."""
    with contextlib.suppress(OSError):  # the directory is not empty, or gone: no change
        directory = _look(home, name[:-1], os.O_DIRECTORY)
        try:
            os.rmdir(name[-1], dir_fd=directory)
        finally:
            os.close(directory)
