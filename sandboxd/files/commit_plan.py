"""The plan of a commit: the steps that move a staged tree to /home/work, and its refusals.

A directory of the staged tree that is new in the workdir is one step; an existing one is
merged, entry by entry. The plan changes nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Literal

from ..errors import Invalid, Refused
from ..jail.syscalls import RESOLVE_NO_XDEV, openat2
from .beneath import MOUNTED, refused, status_of
from .commit_list import CommitPlan, DirectoryState, Move
from .links import NO_LINKS
from .paths import Name, absolute, relative, shown

STAGED = "tree"
"""The directory of the inbox that has the new entries, in the shape of /home/work."""

DIRECTORY_MODE = 0o755
"""The mode of a directory that an upload makes, where nothing names another."""

READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class StagedTree:
    """A tree that is complete in the inbox.

    fd           the descriptor of STAGED
    directories  the mode and the time (nanoseconds) of each; None: no member has named it
    source       the kind of the upload, in the words of a refusal
    """

    fd: int
    directories: dict[Name, tuple[int, int] | None]
    source: Literal["archive", "files"] = "archive"


class ChangedMeanwhile(Exception):
    """A program has changed the tree between the plan and the moves, and the `refusal` says so."""

    def __init__(self, refusal: Refused) -> None:
        super().__init__(refusal)
        self.refusal = refusal


def plan_commit(home: int, tree: StagedTree) -> CommitPlan:
    """The steps that put `tree` into place. Raises Refused for a name that cannot have its
    place."""
    device = os.fstat(home).st_dev
    plan = CommitPlan()
    todo: list[Name] = [()]
    while todo:
        above = todo.pop()
        staged = openat2(tree.fd, relative(above), READ, NO_LINKS)
        try:
            present = _open_existing(home, above, tree.directories.get(above), plan)
            try:
                for entry in sorted(os.listdir(staged)):
                    name = (*above, entry)
                    here = os.lstat(entry, dir_fd=staged)
                    there = status_of(present, entry)
                    if there is not None and there.st_dev != device:
                        raise Invalid(f"{shown(absolute(name))} {MOUNTED}")
                    if _is_merged(name, here, there):
                        todo.append(name)
                    else:
                        _plan_move(tree, name, here, there, plan)
            finally:
                os.close(present)
        except OSError as error:
            raise refusal_of(error, above, home, tree.source) from None
        finally:
            os.close(staged)
    plan.directories.sort(key=lambda item: len(item.name), reverse=True)
    return plan


def _open_existing(home: int, name: Name, state: tuple[int, int] | None, plan: CommitPlan) -> int:
    """A descriptor of the existing directory `name`, which gets `state`. Raises OSError when its
    mode could not be changed later."""
    fd = look_in(home, name) if state is None else _open_own(home, name)
    status = os.fstat(fd)
    mode, mtime = state or (None, None)
    plan.directories.append(DirectoryState(name, status.st_ino, mode, mtime, status.st_mtime_ns))
    return fd


def _open_own(home: int, name: Name) -> int:
    fd = openat2(home, relative(name), READ, NO_LINKS | RESOLVE_NO_XDEV)
    if os.geteuid() not in (0, os.fstat(fd).st_uid):
        os.close(fd)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    return fd


def _is_merged(name: Name, here: os.stat_result, there: os.stat_result | None) -> bool:
    """Both the staged entry and the present one are directories. Raises Invalid when only one of
    them is."""
    if there is None:
        return False
    is_directory = stat.S_ISDIR(here.st_mode)
    if is_directory != stat.S_ISDIR(there.st_mode):
        present, other = ("a file or a link", "a directory")[:: 1 if is_directory else -1]
        raise Invalid(
            f"{shown(absolute(name))} is {present} in the session and {other} in the archive; "
            "delete it in the session, or leave it out of the archive"
        )
    return is_directory


def _plan_move(
    tree: StagedTree,
    name: Name,
    here: os.stat_result,
    there: os.stat_result | None,
    plan: CommitPlan,
) -> None:
    plan.moves.append(Move("exchange" if there else "new", name, here.st_ino))
    if stat.S_ISDIR(here.st_mode):
        plan.directories.append(DirectoryState(name, here.st_ino, *state_of(tree, name), None))


def state_of(tree: StagedTree, name: Name) -> tuple[int, int | None]:
    """Mode and time of a new directory; time None: that of its making."""
    return tree.directories[name] or (DIRECTORY_MODE, None)


def look_in(home: int, name: Name) -> int:
    """An O_PATH descriptor of the directory `name`, reached through no link. Raises OSError."""
    return openat2(home, relative(name), os.O_PATH | os.O_DIRECTORY, NO_LINKS | RESOLVE_NO_XDEV)


def refusal_of(error: OSError, name: Name, home: int, source: str) -> Refused | ChangedMeanwhile:
    """The refusal of a step, from the kernel's error. Raises `error` for our own faults."""
    where = shown(absolute(name))
    if error.errno in (errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
        text = f"{where}: a program has changed it meanwhile, or a part of its path"
        return ChangedMeanwhile(Invalid(f"{text}; send the {source} again"))
    if error.errno == errno.EXDEV:
        return Invalid(f"{where} {MOUNTED}")
    return refused(error, name, home)
