"""Moves uploaded files from the stage to their places: all of them, or none.

All names are checked first, against each other and against what is there. Then missing
directories are made and the files renamed into place; a rename is atomic for whoever reads the
old file, replaces a link, FIFO or socket itself, and never follows it. A virtual folder that is
seen in the tree is no place for uploads (the seed's rule).

Programs may change the tree between the check and the rename, and between any two calls. The
kernel resolves below `home` every time, so the worst that they can have is a failing step; then
the steps before it are taken back, as far as what was put there is still there. A file that was
replaced is kept for that as a second hard link in `stage`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from ..errors import Invalid, Refused
from ..jail.syscalls import RESOLVE_NO_XDEV
from .beneath import look, refused
from .paths import Name, absolute, colliding, shown

DIRECTORY_MODE = 0o755
"""Of directories that an upload makes."""


def place(home: int, stage: int, files: dict[Name, str]) -> None:
    """Move each file, a name in `stage`, to its name below `home`.

    Raises Refused and leaves the tree as it was, or OSError for a failure of our own.
    """
    both = colliding(files)
    if both is not None:
        raise Invalid(f"{shown(absolute(both))} would be a file and a directory")
    for name in files:
        _check(home, name)
    with contextlib.ExitStack() as undo:
        for name, staged in files.items():
            try:
                _place(home, stage, name, staged, undo)
            except OSError as error:
                raise _refused(error, name) from None
        undo.pop_all()


def _refused(error: OSError, name: Name) -> Refused:
    """As `refused`; that a directory is missing is not what an upload can be told."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST):
        return Invalid(f"{shown(absolute(name))}: what leads there is no directory")
    return refused(error, name)


def _check(home: int, name: Name) -> None:
    """Raise Refused when, as things are, the file `name` could not be put in its place."""
    _expect_own(home, name)
    try:
        directory, depth = _nearest(home, name[:-1])
        try:
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=directory):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            found = _lstat(directory, name[depth])
        finally:
            os.close(directory)
        if depth < len(name) - 1:
            if found is not None:  # yet it could not be entered: a link to nothing
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        elif found is not None:
            _check_target(home, name, found.st_mode)
    except OSError as error:
        raise _refused(error, name) from None


def _expect_own(home: int, name: Name) -> None:
    """Raise Invalid when `name` is in a virtual folder, a file system of its own."""
    first = _lstat(home, name[0])
    if first is not None and first.st_dev != os.fstat(home).st_dev:
        raise Invalid(
            f"{shown(absolute(name))} is in a mounted folder, to which a session's uploads do not "
            "go; a program can copy files there"
        )


def _look(home: int, parts: Name, flags: int = 0) -> int:
    """As `look`, and not into another file system, whichever links lead there."""
    return look(home, parts, flags, RESOLVE_NO_XDEV)


def _nearest(home: int, parents: Name) -> tuple[int, int]:
    """A descriptor of the deepest of the directories `parents` that exists, and its depth."""
    for depth in range(len(parents), 0, -1):
        with contextlib.suppress(FileNotFoundError):
            return _look(home, parents[:depth], os.O_DIRECTORY), depth
    return _look(home, (), os.O_DIRECTORY), 0


def _check_target(home: int, name: Name, mode: int) -> None:
    """Raise OSError when what is there may not be replaced."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISLNK(mode):
        # The link would be replaced wherever it leads. One that leads outside is refused all
        # the same: who uploads to it expects to write there, and has to be told that he cannot.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.close(_look(home, name))


def _place(home: int, stage: int, name: Name, staged: str, undo: contextlib.ExitStack) -> None:
    """Put one file in its place, and on `undo` what takes it back. Raises OSError."""
    directory = _made(home, name[:-1], undo)
    try:
        kept: str | None = f"kept-{staged}"
        try:
            os.link(
                name[-1], f"kept-{staged}", src_dir_fd=directory, dst_dir_fd=stage,
                follow_symlinks=False,
            )  # fmt: skip
        except FileNotFoundError:
            kept = None
        placed = os.lstat(staged, dir_fd=stage)
        os.rename(staged, name[-1], src_dir_fd=stage, dst_dir_fd=directory)
        undo.callback(_take_back, home, stage, name, placed, kept)
    finally:
        os.close(directory)


def _made(home: int, parents: Name, undo: contextlib.ExitStack) -> int:
    """A descriptor of the directory `parents`, made where it is missing. Raises OSError."""
    directory, there = _nearest(home, parents)
    for depth in range(there, len(parents)):
        try:
            with contextlib.suppress(FileExistsError):  # a program was faster: `look` judges
                os.mkdir(parents[depth], DIRECTORY_MODE, dir_fd=directory)
                undo.callback(_remove, home, parents[: depth + 1])
            inner = _look(home, parents[: depth + 1], os.O_DIRECTORY)
        finally:
            os.close(directory)
        directory = inner
    return directory


def _take_back(home: int, stage: int, name: Name, placed: os.stat_result, kept: str | None) -> None:
    """Put `kept` back, or nothing, where `placed` is; not where a program has put its own."""
    with contextlib.suppress(OSError):  # the tree has changed: there is nothing to take back
        directory = _look(home, name[:-1], os.O_DIRECTORY)
        try:
            found = _lstat(directory, name[-1])
            if found is None or not os.path.samestat(found, placed):
                return
            if kept is None:
                os.unlink(name[-1], dir_fd=directory)
            else:
                os.rename(kept, name[-1], src_dir_fd=stage, dst_dir_fd=directory)
        finally:
            os.close(directory)


def _remove(home: int, name: Name) -> None:
    """Remove the directory `name`, unless a program has put something in it."""
    with contextlib.suppress(OSError):  # not empty, or gone: then it stays as it is
        directory = _look(home, name[:-1], os.O_DIRECTORY)
        try:
            os.rmdir(name[-1], dir_fd=directory)
        finally:
            os.close(directory)


def _lstat(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None
