"""Cleanup after a private daemon that was killed: removes its groups and its directory.

A private daemon lives for one command, in a directory of its own that no later daemon uses. Both
its halves hold the lock in there (state_directory.py). So a process that gets the lock knows that
the daemon is gone, and that all its remains are leaks.

The uids of its slots are not known any more: they follow from its configuration. So the groups say
which processes are left, and nothing is reclaimed for a next session: there is none. Mounts and
loop devices have gone with the mount namespace.

The directory itself stays for a day if it is marked: it has results that were not fetched.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from ..config.settings import RESULTS_S
from ..host.cgroupfs import is_v2
from ..jail.cgroup import RUN_GROUP, Group
from . import memory_files
from .runs.cgroups import is_slot_group, own_name, places, places_above
from .runs.group_removal import end_groups
from .slots.state_directory import lock_soon

PATIENCE_S = 5.0
"""How long the processes of a killed daemon may take to end."""

STALE_S = 60.0
"""A daemon has taken the lock of its directory when the directory is this old."""


def preserve(folder: str) -> None:
    """Mark the directory: it outlives its daemon for a day. Raises OSError."""
    os.close(os.open(_mark(folder), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def forget(folder: str) -> None:
    """Remove the mark."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_mark(folder))


def is_preserved(folder: str) -> bool:
    """The directory is marked, and its day is not over."""
    try:
        status = os.lstat(_mark(folder))
    except OSError:
        return False
    return status.st_uid == 0 and time.time() - status.st_mtime < RESULTS_S


def _mark(folder: str) -> str:
    return f"{folder}/preserved"


def clear(folder: str, wait_s: float = PATIENCE_S) -> bool:
    """Remove all remains of the private daemon in `folder`, but not a directory that is marked;
    False if the daemon still lives."""
    state = f"{folder}/state"
    if (lock := _lock(f"{state}/lock", wait_s)) is None:
        return False
    try:
        end_groups(_groups(state), PATIENCE_S)
        for path in _bases(state):
            slots = [one for one in _directories(path) if is_slot_group(one)]
            for directory in (*slots, f"{path}/shims", path):
                _rmdir(directory)
        memory_files.remove_all(state)
        if not is_preserved(folder):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
    return True


def clear_old(where: str, prefix: str) -> list[str]:
    """Remove the directories of earlier private daemons below the directory `where`; their paths.
    Each belongs to root, has our form, is STALE_S old, and has a lock that no process holds. A
    marked directory stays."""
    removed = []
    for entry in os.scandir(where):
        if not entry.name.startswith(prefix) or not entry.is_dir(follow_symlinks=False):
            continue
        status = entry.stat(follow_symlinks=False)
        ours = status.st_uid == 0 and stat.S_IMODE(status.st_mode) == 0o711
        old = time.time() - status.st_mtime > STALE_S
        stale = ours and old and not is_preserved(entry.path)
        if stale and os.path.isfile(f"{entry.path}/state/lock") and clear(entry.path, 0):
            removed.append(entry.path)
    return removed


def _lock(path: str, wait_s: float) -> int | None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_CREAT, 0o600)
    except OSError:  # the daemon ended before it made the lock
        return None
    if lock_soon(fd, wait_s):
        return fd
    os.close(fd)
    return None


def _bases(state: str) -> list[str]:
    """The directories of the daemon's own group, in each hierarchy: the places where a daemon would
    make it now, and the places of the groups of its runs."""
    name = own_name(state)
    bases = {path for path in places(name) if os.path.isdir(path)}
    for path in Path(state).glob("slots/*/runs/*/cgroup"):
        try:
            above = {places_above(one)[-1] for one in json.loads(path.read_text()).values()}
        except (OSError, ValueError, AttributeError, TypeError):
            continue  # half written
        bases |= {one for one in above if os.path.basename(one) == name and os.path.isdir(one)}
    return sorted(bases)


def _groups(state: str) -> Iterator[Group]:
    for path in _bases(state):
        for one in _directories(path):
            for run in _directories(one) if is_slot_group(one) else [one]:
                if RUN_GROUP.fullmatch(os.path.basename(run)):
                    yield Group({"" if is_v2(run) else "pids": run})


def _directories(path: str) -> list[str]:
    return [entry.path for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]


def _rmdir(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        pass  # it is not there, or another program has made something in it
