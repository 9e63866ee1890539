"""The directory of a run, by which the next warden knows the run: STATE/slots/N/runs/K.

    console, journal   the shim writes them (spool.py), the api reads them
    cursor             how far the client has been served: the api writes it, mostly into a file in
                       memory of which this is the copy (warden/cursor_files.py)
    control            the shim's socket, where there is no memory for it (control_socket.py)
    cgroup             the run's groups, as JSON: a later daemon may make its own elsewhere

An empty console beside an empty journal belongs to a run that never began: its program has not run
and may still be started.

The directory of a run that is forgotten serves a later run of the session, if not many wait: it
gets another name and is emptied (emptied_directories.py). That takes a third of the time of a
removal and a new directory.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import StageError
from ...jail import syscalls
from ...jail.cgroup import Group
from ...jail.stage import stage
from .. import cursor_files, memory_files
from ..slots.slots import Slot
from . import control_socket

JOURNAL_ROOM = 64 * 1024
"""Bytes of disk that a journal has from the start: a verdict must be written on a full disk too."""

_FILES = ("console", "journal", "cursor")
_ROOM = {"journal": JOURNAL_ROOM, "cursor": cursor_files.ROOM}
_SET_ASIDE = "set-aside-"
_SET_ASIDE_BEFORE = "spare-"  # by a daemon of an earlier version


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The open files of a new run. The stack of `make` closes them.

    console, journal, listener  of its directory, for its shim
    reader   the shim's end of its first connection
    control  the api's end of that
    cursor   in memory, for the api; None where it is on the disk
    """

    console: int
    journal: int
    listener: socket.socket
    reader: socket.socket
    control: socket.socket
    cursor: int | None


def note(path: str, group: Group) -> None:
    """Write the groups of a run into its directory, before anything of it runs. Raises
    StageError."""
    data = json.dumps(group.dirs).encode()
    with stage("run directory"):
        fd = os.open(f"{path}/cgroup", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, data, 0)
            if os.fstat(fd).st_size > len(data):  # the block of an earlier run serves this one
                os.ftruncate(fd, len(data))
        finally:
            os.close(fd)


def make(slot: Slot, run: int, stack: contextlib.ExitStack) -> RunFiles:
    """The directory of a new run. Raises StageError; then the caller removes what is there."""
    path = slot.run_path(run)
    with stage("run directory"):
        if slot.emptied_runs:
            os.rename(slot.emptied_runs.pop(), path)
        else:
            os.mkdir(path, 0o700)
            for name in _FILES:
                _begin_file(path, name)
        if (cursor := cursor_files.begin(path)) is not None:
            stack.callback(os.close, cursor)
        # Not O_TRUNC, which would free the room that a file has (ftruncate(2)).
        console = os.open(f"{path}/console", os.O_RDWR | os.O_CLOEXEC)
        stack.callback(os.close, console)
        journal = os.open(f"{path}/journal", os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        stack.callback(os.close, journal)
        listener = stack.enter_context(control_socket.listen(path))
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reader, control = map(stack.enter_context, ends)
        return RunFiles(console, journal, listener, reader, control, cursor)


def make_empty(path: str) -> None:
    """The directory of a run that is over and has lost its files: no output. Raises StageError."""
    with stage("follow"):
        os.mkdir(path, 0o700)
        for name in _FILES:
            os.close(os.open(f"{path}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _begin_file(path: str, name: str) -> None:
    """Make or empty a file, and take its room on the disk."""
    fd = os.open(f"{path}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(fd).st_size:
            # By a descriptor: after truncate(2) of a path, ext4 would write the file to the disk
            # when the shim of the next run closes it (auto_da_alloc in ext4(5)).
            os.ftruncate(fd, 0)
        _reserve(fd, name)
    finally:
        os.close(fd)


def _reserve(fd: int, name: str) -> None:
    """Take the room of a file on the disk, where the file system can, without making it longer."""
    if name not in _ROOM:
        return
    try:
        syscalls.fallocate(fd, syscalls.FALLOC_FL_KEEP_SIZE, 0, _ROOM[name])
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise


def followers(path: str, new: RunFiles | None = None) -> list[int]:
    """The descriptors by which the api follows a run: a connection to its control socket, closed
    by the peer when the run is over; console and journal to read, cursor to write. The connection
    of a `new` run is handed over."""
    with stage("follow"), contextlib.ExitStack() as undo:
        control = new.control if new else undo.enter_context(control_socket.watch(path))
        fds = [control.fileno()]
        for name in ("console", "journal"):
            # A read that notes its time could wait for the disk, and the api reads in its loop.
            fds.append(os.open(f"{path}/{name}", os.O_RDONLY | os.O_NOATIME | os.O_CLOEXEC))
            undo.callback(os.close, fds[-1])
        if new is None or new.cursor is None:
            fds.append(cursor_files.open_for_api(path))
        else:
            fds.append(os.dup(new.cursor))
        undo.pop_all()
        control.detach()
        return fds


def began(path: str) -> bool:
    """The run has reached its first step, or has failed before that."""
    try:
        sizes = [os.path.getsize(f"{path}/{name}") for name in _FILES]
    except FileNotFoundError:  # killed while the directory was made, or removed
        return False
    return any(sizes[:2])


def group(path: str) -> Group:
    """The groups of a run that an earlier daemon has started."""
    try:
        return Group(json.loads(Path(path, "cgroup").read_text()))
    except (OSError, ValueError):  # killed while it was written: nothing was started
        return Group({})


def numbers(slot_path: str) -> list[int]:
    """The runs of a slot that have a directory."""
    try:
        names = os.listdir(f"{slot_path}/runs")
    except FileNotFoundError:
        return []
    return sorted(int(name) for name in names if name.isdecimal())


def remove(path: str) -> None:
    """Remove the directory of a run that is over. Its readers have the files open."""
    memory_files.remove(path)
    shutil.rmtree(path, ignore_errors=True)


def remove_set_aside(slot_path: str) -> None:
    """Remove the directories that an earlier daemon has set aside."""
    for path in Path(slot_path, "runs").iterdir():
        if path.name.startswith((_SET_ASIDE, _SET_ASIDE_BEFORE)):
            shutil.rmtree(path, ignore_errors=True)


def set_aside(slot: Slot, run: int) -> str | None:
    """Take the directory of a run that is over away from its number; its new path, for `empty`.
    None: there is none. The name has the session: the slot may get another one meanwhile."""
    path, aside = slot.run_path(run), f"{slot.path}/runs/{_SET_ASIDE}{slot.session}-{run}"
    memory_files.remove(path)
    try:
        os.rename(path, aside)
    except OSError:  # there is none, or the disk takes no changes
        remove(path)
        return None
    return aside


def empty(paths: Iterable[str], room: int) -> list[str]:
    """Empty the directories that were set aside, for later runs; those that are emptied. There is
    `room` for so many, and the others are removed, as are those that are not complete.

    This waits for the disk: a file system that is mounted with `discard` frees no block before the
    disk has taken that in (ext4(5)).
    """
    emptied: list[str] = []
    for path in paths:
        try:
            if len(emptied) >= room:
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
            for name in _FILES:
                if os.path.getsize(f"{path}/{name}"):  # else it has its room already
                    _begin_file(path, name)
            note(path, Group({}))
            memory_files.unlink(f"{path}/control")
        except (OSError, StageError):
            shutil.rmtree(path, ignore_errors=True)
        else:
            emptied.append(path)
    return emptied
