"""The move of an unpacked tree from the stage to its place below /home/work: whole or not at all.

A directory of the staged tree that is new in the work directory gets there with all its content by
one rename. An existing directory is merged. An existing file or link changes places with the staged
one (RENAME_EXCHANGE), so that the stage then has the old one.

The helper may be killed at any moment. Before the first step it therefore writes the list of all
steps to a file in the stage, and removes the list after the last one. The next helper of the
session that finds a list takes back the steps that were done, before it serves anything
(`recover`). The number of the inode tells whether a step was done; where a program has put
something else in its place meanwhile, that stays.

Programs may change the tree between any two steps. Every name is resolved below `home` without
links, so a program can only make a step fail. The steps before it are then taken back.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from ..errors import Invalid, Refused
from ..jail.syscalls import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RESOLVE_NO_XDEV,
    openat2,
    renameat2,
)
from .beneath import MOUNTED, refused
from .links import NO_LINKS
from .paths import Name, absolute, relative, shown

STAGED = "tree"
"""The directory of the stage that has the unpacked members, in the shape of /home/work."""

LIST = "list"
"""The file in the stage that has the steps while they are done."""

DIRECTORY_MODE = 0o755
_OWN = 0o700
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Tree:
    """An unpacked tree: the descriptor of STAGED, and the mode and time (nanoseconds) of each
    directory; None: no member has named it."""

    fd: int
    directories: dict[Name, tuple[int, int] | None]


@dataclass(frozen=True, slots=True)
class _Step:
    """One step. `inode`: of the staged entry, or of the directory.

    new        the staged entry moves to a place where there is nothing
    exchange   the staged entry and the present one change places
    directory  a directory gets `mode` and `mtime`; before, it had `old_mode` and `old_mtime`

    `mode` is -1 for a new entry that is no directory.
    """

    kind: Literal["new", "exchange", "directory"]
    name: Name
    inode: int
    mode: int = -1
    mtime: int = 0
    old_mode: int = 0
    old_mtime: int = 0


def place(home: int, stage: int, tree: Tree) -> None:
    """Put `tree` into place. Raises Refused and leaves the work directory as it was."""
    steps = list(_steps(home, tree))
    tops = {step.name for step in steps if step.kind == "new"}
    for name in sorted(tree.directories, key=len, reverse=True):
        if name not in tops and any(name[:depth] in tops for depth in range(1, len(name))):
            _finish_directory(tree, name)
    try:
        _write_list(stage, steps)
        for step in steps:
            try:
                _do(home, tree, step)
            except OSError as error:
                raise _refusal(error, step.name) from None
    except BaseException:
        _take_back(home, tree.fd, steps)
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(LIST, dir_fd=stage)


def recover(home: int, stage: int) -> None:
    """Take back what a helper that was killed has done of the steps of its list, if `stage` has
    one. Raises OSError."""
    try:
        fd = os.open(LIST, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=stage)
    except FileNotFoundError:
        return
    with open(fd, "rb") as file:
        text = file.read()
    with contextlib.suppress(ValueError):  # killed as it wrote the list: no step was done
        steps = [_Step(**{**step, "name": tuple(step["name"])}) for step in json.loads(text)]
        tree = os.open(STAGED, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=stage)
        try:
            _take_back(home, tree, steps)
        finally:
            os.close(tree)
    os.unlink(LIST, dir_fd=stage)


def _write_list(stage: int, steps: list[_Step]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(LIST, flags, 0o600, dir_fd=stage)
        with open(fd, "wb") as file:
            file.write(json.dumps([asdict(step) for step in steps]).encode())
            file.flush()
            os.fsync(fd)
    except OSError as error:
        raise refused(error, ()) from None


def _steps(home: int, tree: Tree) -> Iterator[_Step]:
    """The steps that put `tree` into place, the directories last and deepest first. Raises Refused
    for a name that cannot have its place."""
    device = os.fstat(home).st_dev
    merged: list[_Step] = []
    todo: list[Name] = [()]
    while todo:
        above = todo.pop()
        staged = openat2(tree.fd, relative(above), _READ, NO_LINKS)
        try:
            present = _look(home, above)
            try:
                for entry in sorted(os.listdir(staged)):
                    name = (*above, entry)
                    here = os.lstat(entry, dir_fd=staged)
                    there = _lstat(present, entry)
                    if there is not None and there.st_dev != device:
                        raise Invalid(f"{shown(absolute(name))} {MOUNTED}")
                    step = _step(tree, name, here, there)
                    if step is None:
                        todo.append(name)
                    elif step.kind == "directory":
                        todo.append(name)
                        merged.append(step)
                    else:
                        yield step
            finally:
                os.close(present)
        except OSError as error:
            raise _refusal(error, above) from None
        finally:
            os.close(staged)
    yield from reversed(merged)


def _step(
    tree: Tree, name: Name, here: os.stat_result, there: os.stat_result | None
) -> _Step | None:
    """The step for the staged entry `here`, where the present tree has `there`; None: there is
    only the content of the directory to be moved. Raises Invalid."""
    is_directory = stat.S_ISDIR(here.st_mode)
    if there is None:
        mode, mtime = _directory_state(tree, name) if is_directory else (-1, 0)
        return _Step("new", name, here.st_ino, mode, mtime)
    if is_directory != stat.S_ISDIR(there.st_mode):
        present, other = ("a file or a link", "a directory")[:: 1 if is_directory else -1]
        raise Invalid(f"{shown(absolute(name))} is {present} here and {other} in the archive")
    if not is_directory:
        return _Step("exchange", name, here.st_ino)
    state = tree.directories.get(name)
    if state is None:
        return None
    old = stat.S_IMODE(there.st_mode), there.st_mtime_ns
    return _Step("directory", name, there.st_ino, *state, *old)


def _directory_state(tree: Tree, name: Name) -> tuple[int, int]:
    """Mode and time of a new directory; time -1: that of its making."""
    return tree.directories.get(name) or (DIRECTORY_MODE, -1)


def _finish_directory(tree: Tree, name: Name) -> None:
    """Give a directory of the stage, whose content is complete, its mode and time."""
    fd = openat2(tree.fd, relative(name), _READ, NO_LINKS)
    try:
        _set(fd, *_directory_state(tree, name))
    finally:
        os.close(fd)


def _set(fd: int, mode: int, mtime: int) -> None:
    os.fchmod(fd, mode)
    if mtime != -1:
        os.utime(fd, ns=(mtime, mtime))


def _do(home: int, tree: Tree, step: _Step) -> None:
    """Do one step. Raises OSError, Invalid."""
    if step.kind == "directory":
        with _opened(home, step) as fd:
            _set(fd, step.mode, step.mtime)
        return
    with _parents(home, tree.fd, step.name) as (present, staged):
        if step.kind == "exchange":
            renameat2(staged, step.name[-1], present, step.name[-1], RENAME_EXCHANGE)
            if stat.S_ISDIR(os.lstat(step.name[-1], dir_fd=staged).st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            return
        directory = _open_directory(staged, step) if step.mode >= 0 else None
        try:
            # A new directory has all rights until it is moved: its ".." changes.
            renameat2(staged, step.name[-1], present, step.name[-1], RENAME_NOREPLACE)
            if directory is not None:
                _set(directory, step.mode, step.mtime)
        finally:
            if directory is not None:
                os.close(directory)


def _open_directory(parent: int, step: _Step) -> int:
    return openat2(parent, step.name[-1], _READ, NO_LINKS)


def _take_back(home: int, tree: int, steps: list[_Step]) -> None:
    """Take back those of `steps` that were done. What a program has changed meanwhile stays."""
    directories = [step for step in steps if step.kind == "directory"]
    for step in directories:  # first, since a directory may have lost the right to be changed
        _restore(home, step)
    for step in reversed(steps):
        if step.kind != "directory":
            with contextlib.suppress(OSError):
                _move_back(home, tree, step)
    for step in directories:  # and last, since each move has changed a time
        _restore(home, step)


def _restore(home: int, step: _Step) -> None:
    with contextlib.suppress(OSError), _opened(home, step) as fd:
        _set(fd, step.old_mode, step.old_mtime)


def _move_back(home: int, tree: int, step: _Step) -> None:
    """Take back a move, if it was done. Raises OSError."""
    name = step.name[-1]
    with _parents(home, tree, step.name) as (present, staged):
        status = os.lstat(name, dir_fd=present)
        if status.st_ino != step.inode:
            return
        if step.kind == "exchange":
            renameat2(staged, name, present, name, RENAME_EXCHANGE)
            return
        if stat.S_ISDIR(status.st_mode) and status.st_mode & _OWN != _OWN:
            os.chmod(name, _OWN, dir_fd=present)  # its ".." changes
        os.rename(name, name, src_dir_fd=present, dst_dir_fd=staged)


@contextlib.contextmanager
def _opened(home: int, step: _Step) -> Iterator[int]:
    """A descriptor of the directory of the step, if it is still the one. Raises OSError."""
    fd = openat2(home, relative(step.name), _READ, NO_LINKS | RESOLVE_NO_XDEV)
    try:
        if os.fstat(fd).st_ino != step.inode:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _parents(home: int, tree: int, name: Name) -> Iterator[tuple[int, int]]:
    """Descriptors of the directory of `name` in the work directory and in the stage. Raises
    OSError."""
    present = _look(home, name[:-1])
    try:
        staged = openat2(tree, relative(name[:-1]), os.O_PATH | os.O_DIRECTORY, NO_LINKS)
        try:
            yield present, staged
        finally:
            os.close(staged)
    finally:
        os.close(present)


def _look(home: int, name: Name) -> int:
    return openat2(home, relative(name), os.O_PATH | os.O_DIRECTORY, NO_LINKS | RESOLVE_NO_XDEV)


def _lstat(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None


def _refusal(error: OSError, name: Name) -> Refused:
    """The refusal of a step, from the kernel's error. Raises `error` for our own faults."""
    where = shown(absolute(name))
    if error.errno in (errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
        return Invalid(f"{where}: a program has changed it meanwhile, or a part of its path")
    if error.errno == errno.EXDEV:
        return Invalid(f"{where} {MOUNTED}")
    return refused(error, name)
