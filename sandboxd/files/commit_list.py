"""The steps of a commit, and their list on the disk.

The list is a file in the inbox, for the helper after one that was killed (commit.py). It has a
line of JSON for each step, since there may be a million, and a last line that tells a whole list
from one whose writer was killed.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Literal

from .beneath import refused
from .paths import Name

UNDO, REDO = "undo", "redo"
"""The list of the steps in the inbox: before and after the last move."""

_END = b"end\n"
"""The last line of a whole list."""


@dataclass(frozen=True, slots=True)
class Move:
    """The move of one staged entry, whose inode is `inode`.

    new       to a place where there is nothing
    exchange  the staged entry and the present one change places
    """

    kind: Literal["new", "exchange"]
    name: Name
    inode: int


@dataclass(frozen=True, slots=True)
class DirectoryState:
    """A directory of the workdir when all moves are done. None: it stays as it is.

    `before` is the time of an existing directory, which the moves into it change.
    """

    name: Name
    inode: int
    mode: int | None
    mtime: int | None
    before: int | None


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """All steps. The directories are set deepest first: one may lose the right to be entered."""

    moves: list[Move] = field(default_factory=list)
    directories: list[DirectoryState] = field(default_factory=list)


def write_list(inbox: int, plan: CommitPlan) -> None:
    """Write the list: a line of JSON for each step, since there may be a million."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(UNDO, flags, 0o600, dir_fd=inbox), "wb") as file:
            for move in plan.moves:
                file.write(_line(move.kind, move.name, move.inode))
            for item in plan.directories:
                state = item.mode, item.mtime, item.before
                file.write(_line("directory", item.name, item.inode, *state))
            file.write(_END)
    except OSError as error:
        raise refused(error, (), inbox) from None


def _line(*values: str | int | Name | None) -> bytes:
    return json.dumps(values).encode() + b"\n"


def read_list(fd: int) -> CommitPlan | None:
    """The list in the file `fd`, which is closed; None: it is not whole."""
    plan = CommitPlan()
    with open(fd, "rb") as file:
        for line in file:
            if line == _END:
                return plan
            try:
                kind, name, *values = json.loads(line)
            except ValueError:
                return None
            if kind == "directory":
                plan.directories.append(DirectoryState(tuple(name), *values))
            else:
                plan.moves.append(Move(kind, tuple(name), *values))
    return None
