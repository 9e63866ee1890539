"""The cursors of runs in memory: TOP/cursors/DAEMON/SLOT.RUN, where TOP is the directory in /run if
/run is a tmpfs, else the one in /dev/shm, as in many containers.

The api notes in the cursor how far the client of a run has been served, just before it hands a
response over. It must not be killed between the two, so it writes in its event loop, and a write to
a disk could wait there (runs/cursor.py). A file in memory never waits.

The file `cursor` in the run's directory is the copy that outlives a boot. It is written when the
daemon ends, and with each check for leaks. After a loss of power a client may get the output of the
last minute again: a run is over then, and nothing of it is lost. Without such a memory, or
when it is full, the api gets the file in the run's directory.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path

from ..errors import ConfigError
from ..jail import syscalls
from . import runtime_directory

CURSORS = "cursors"
SHARED_MEMORY = "/dev/shm/sandboxd"
"""Every user may make it. If it is not root's alone, it is not used."""

ROOM = 4096
"""Bytes that a cursor has from the start, since the memory may be full later."""

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def begin(path: str) -> int | None:
    """Make the cursor of the new run whose directory is `path`; a descriptor of it, or None if
    there is no room in memory."""
    memory = _memory(path)
    if memory is None:
        return None
    try:
        fd = os.open(memory, _FLAGS | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            syscalls.fallocate(fd, syscalls.FALLOC_FL_KEEP_SIZE, 0, ROOM)
        except OSError:
            os.close(fd)
            raise
    except OSError:  # no room: the api writes to the disk, as it does without a tmpfs
        _unlink(memory)
        return None
    return fd


def open_for_api(path: str) -> int:
    """A descriptor of the cursor of a run. Raises OSError."""
    memory, disk = _memory(path), f"{path}/cursor"
    if memory is not None:
        try:
            if not os.path.exists(memory) or _is_newer(disk, memory):
                _copy(disk, memory)  # after a boot, or an earlier version has written to the disk
            return os.open(memory, _FLAGS)
        except OSError:
            _unlink(memory)
    return os.open(disk, _FLAGS)


def save(state_dir: str) -> None:
    """Copy the cursors in memory to the directories of their runs."""
    for memory, disk in _pairs(state_dir):
        with contextlib.suppress(OSError):  # the run is removed, or the disk takes no writes
            if _is_newer(memory, disk):
                _copy(memory, disk)


def remove_unknown(state_dir: str, slots: Collection[int]) -> None:
    """Remove the cursors of these `slots`, which no session has, and those of runs that have no
    directory. No run may begin meanwhile: the warden's loop does this."""
    unknown = {str(number) for number in slots}
    for memory, disk in _pairs(state_dir):
        slot = os.path.basename(memory).partition(".")[0]
        if slot in unknown or not os.path.exists(disk):
            _unlink(memory)


def remove(path: str) -> None:
    """Remove the cursor of the run whose directory is `path`."""
    if (memory := _memory(path)) is not None:
        _unlink(memory)


def remove_all(state_dir: str) -> None:
    """Remove the cursors of all runs of the daemon with this state directory."""
    if directory := _directory(runtime_directory.RUNTIME, state_dir):
        shutil.rmtree(directory, ignore_errors=True)
    _directory.cache_clear()


def _pairs(state_dir: str) -> list[tuple[str, str]]:
    """The cursors in memory, each with that on the disk."""
    directory = _directory(runtime_directory.RUNTIME, state_dir)
    pairs = []
    for name in os.listdir(directory) if directory else ():
        slot, _, run = name.partition(".")
        pairs.append((f"{directory}/{name}", f"{state_dir}/slots/{slot}/runs/{run}/cursor"))
    return pairs


def _memory(path: str) -> str | None:
    """The cursor in memory of the run at STATE/slots/N/runs/K; None where there is no memory."""
    state_dir, _, slot, _, run = path.rsplit("/", 4)
    directory = _directory(runtime_directory.RUNTIME, state_dir)
    return directory and f"{directory}/{slot}.{run}"


@functools.cache
def _directory(runtime: str, state_dir: str) -> str | None:
    """The directory of the daemon's cursors; None where it would be on a disk."""
    cursors = runtime_directory.make(CURSORS)
    if not is_in_memory(runtime):
        try:
            if not is_in_memory(os.path.dirname(SHARED_MEMORY)):
                return None
            cursors = runtime_directory.make(CURSORS, SHARED_MEMORY)
        except (ConfigError, OSError):  # it is another user's, or is not there
            return None
    directory = f"{cursors}/{sha256(state_dir.encode()).hexdigest()[:16]}"
    os.makedirs(directory, mode=0o700, exist_ok=True)
    return directory


def is_in_memory(path: str) -> bool:
    """The file system of `path` is a tmpfs (proc(5), /proc/PID/mountinfo)."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if left.split()[2] == number and right.split()[0] == "tmpfs":
            return True
    return False


def _is_newer(one: str, other: str) -> bool:
    return os.stat(one).st_mtime_ns > os.stat(other).st_mtime_ns


def _copy(source: str, target: str) -> None:
    """Copy a cursor with its time, which is that of the start of a run without a record."""
    status, data = os.stat(source), Path(source).read_bytes()
    fd = os.open(target, _FLAGS | os.O_CREAT, 0o600)
    try:
        if os.fstat(fd).st_size > len(data):
            os.ftruncate(fd, len(data))
        os.pwrite(fd, data, 0)
        os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(fd)


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
