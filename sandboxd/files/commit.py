"""The commit of an upload: the move of a tree from the inbox to /home/work, whole or not at all.

The inbox is a directory that programs cannot see. An archive is unpacked there (unpacking.py), and
the files of other uploads are made a tree there (uploaded_tree.py).

A directory of the staged tree that is new in the workdir gets there with all its content by
one rename. An existing directory is merged. An existing file or link changes places with the staged
one (RENAME_EXCHANGE), so that the inbox then has the old one. When every move is done, directories
get their modes and times: before, a directory without rights could not be moved back.

The helper may be killed at any moment. Before the first move it therefore writes a list of all
steps, the file UNDO in the inbox, and after the last move it renames the list to REDO. The next
helper of the session that finds UNDO takes back the moves that were done, and one that finds REDO
sets the modes and times again, before it serves anything (`recover`). The number of the inode tells
whether a move was done; where a program has put something else in its place meanwhile, that stays.

Programs may change the tree between any two steps. Every name is resolved below `home` without
links, so a program can only make a move fail. The moves before it are then taken back.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator

from ..jail.syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, RESOLVE_NO_XDEV, openat2, renameat2
from . import bytecode
from .beneath import status_of
from .commit_list import REDO, UNDO, CommitPlan, DirectoryState, Move, read_list, write_list
from .commit_plan import (
    READ,
    STAGED,
    ChangedMeanwhile,
    StagedTree,
    look_in,
    plan_commit,
    refusal_of,
    state_of,
)
from .links import NO_LINKS
from .paths import Name, relative
from .sync import sync_file_system

TRIES = 3
"""Commits of files that are tried."""

_OWN = 0o700


def commit(home: int, inbox: int, tree: StagedTree) -> None:
    """Move `tree` into place. Raises Refused and leaves the workdir as it was.

    Files are tried again when programs write to the same names at the same time.
    """
    with _alone(inbox):
        for left in reversed(range(TRIES if tree.source == "files" else 1)):
            try:
                return _commit(home, inbox, tree)
            except ChangedMeanwhile as error:
                if not left:
                    raise error.refusal from None


def _commit(home: int, inbox: int, tree: StagedTree) -> None:
    plan = plan_commit(home, tree)
    _finish_inner(tree, {move.name for move in plan.moves if move.kind == "new"})
    try:
        write_list(inbox, plan)
        if tree.source == "archive":
            # The content is on the disk before a name leads to it. For a few files this second wait
            # for the disk would take longer than all the rest, so a loss of power within the
            # commit, which the client sees as no answer, may leave some of them.
            sync_file_system(home)
        for move in plan.moves:
            try:
                _do(home, tree.fd, move)
            except OSError as error:
                raise refusal_of(error, move.name, home, tree.source) from None
        os.rename(UNDO, REDO, src_dir_fd=inbox, dst_dir_fd=inbox)
    except BaseException:  # whatever the failure is
        _take_back(home, tree.fd, plan)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(UNDO, dir_fd=inbox)
        raise
    # An archive may bring the bytecode of its new modules with it.
    stale = [move for move in plan.moves if move.kind == "exchange" or tree.source == "files"]
    bytecode.remove_stale(home, (move.name for move in stale))
    _finish(home, plan)
    os.unlink(REDO, dir_fd=inbox)


@contextlib.contextmanager
def _alone(inbox: int) -> Iterator[None]:
    """The time in which no other helper of these files has a commit. Two uploads of the same names
    would mix their files; if one of them then failed, it could not take back its own.

    The lock is on the directory of all inboxes, which programs cannot see and so cannot hold.
    """
    fd = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=inbox)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def recover(home: int, inbox: int) -> None:
    """Take back, or finish, the steps of a helper that was killed, if `inbox` has its list. Raises
    OSError."""
    for name in (UNDO, REDO):
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inbox)
        except FileNotFoundError:
            continue
        plan = read_list(fd)
        if plan is None:  # killed as it wrote the list: no step was done
            pass
        elif name == REDO:
            _finish(home, plan)
        else:
            tree = os.open(STAGED, READ | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inbox)
            try:
                _take_back(home, tree, plan)
            finally:
                os.close(tree)
        os.unlink(name, dir_fd=inbox)


def is_committed_in_part(home: int, inbox: int) -> bool:
    """`recover` still has moves to take back, or modes to set. Raises OSError."""
    for name in (UNDO, REDO):
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=inbox)
            plan = read_list(fd)
            if plan and (name == REDO or any(_is_done(home, move) for move in plan.moves)):
                return True
    return False


def _is_done(home: int, move: Move) -> bool:
    """The staged entry is in its place. Raises OSError."""
    try:
        present = look_in(home, move.name[:-1])
    except FileNotFoundError:
        return False
    try:
        status = status_of(present, move.name[-1])
        return status is not None and status.st_ino == move.inode
    finally:
        os.close(present)


def _finish_inner(tree: StagedTree, tops: set[Name]) -> None:
    """Give the staged directories below `tops`, whose content is complete, their modes and
    times."""
    for name in sorted(tree.directories, key=len, reverse=True):
        if any(name[:depth] in tops for depth in range(1, len(name))):
            fd = openat2(tree.fd, relative(name), READ, NO_LINKS)
            try:
                _set(fd, *state_of(tree, name))
            finally:
                os.close(fd)


def _set(fd: int, mode: int | None, mtime: int | None) -> None:
    if mtime is not None:
        os.utime(fd, ns=(mtime, mtime))
    if mode is not None:  # last: it may take the right to open the directory once more
        os.fchmod(fd, mode)


def _do(home: int, tree: int, move: Move) -> None:
    """Do one move. Raises OSError."""
    name = move.name[-1]
    with _parents(home, tree, move.name) as (present, staged):
        if move.kind == "new":
            renameat2(staged, name, present, name, RENAME_NOREPLACE)
            return
        renameat2(staged, name, present, name, RENAME_EXCHANGE)
        if stat.S_ISDIR(os.lstat(name, dir_fd=staged).st_mode):  # a program has put it there
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def _finish(home: int, plan: CommitPlan) -> None:
    """Give the directories their modes and times, except where a program has moved them."""
    for item in plan.directories:
        if item.mode is not None or item.mtime is not None:
            _set_present(home, item, item.mode, item.mtime)


def _take_back(home: int, tree: int, plan: CommitPlan) -> None:
    """Take back the moves that were done. The changes of programs since then stay."""
    for move in reversed(plan.moves):
        with contextlib.suppress(OSError):
            _move_back(home, tree, move)
    for item in plan.directories:
        if item.before is not None:
            _set_present(home, item, None, item.before)


def _move_back(home: int, tree: int, move: Move) -> None:
    """Take back a move, if it was done. Raises OSError."""
    name = move.name[-1]
    with _parents(home, tree, move.name) as (present, staged):
        status = os.lstat(name, dir_fd=present)
        if status.st_ino != move.inode:
            return
        if move.kind == "exchange":
            renameat2(staged, name, present, name, RENAME_EXCHANGE)
            return
        if stat.S_ISDIR(status.st_mode) and status.st_mode & _OWN != _OWN:
            # A program has changed the mode, and a move needs the right to change "..".
            _set_present(home, DirectoryState(move.name, move.inode, None, None, None), _OWN, None)
        renameat2(present, name, staged, name, RENAME_NOREPLACE)


def _set_present(home: int, item: DirectoryState, mode: int | None, mtime: int | None) -> None:
    """Set mode and time of the directory, if it is still the one, and can be opened."""
    with contextlib.suppress(OSError):
        fd = openat2(home, relative(item.name), READ, NO_LINKS | RESOLVE_NO_XDEV)
        try:
            if os.fstat(fd).st_ino == item.inode:
                _set(fd, mode, mtime)
        finally:
            os.close(fd)


@contextlib.contextmanager
def _parents(home: int, tree: int, name: Name) -> Iterator[tuple[int, int]]:
    """Descriptors of the directory of `name` in the workdir and in the inbox. Raises
    OSError."""
    present = look_in(home, name[:-1])
    try:
        staged = openat2(tree, relative(name[:-1]), os.O_PATH | os.O_DIRECTORY, NO_LINKS)
        try:
            yield present, staged
        finally:
            os.close(staged)
    finally:
        os.close(present)
