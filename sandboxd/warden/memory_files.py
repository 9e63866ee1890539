"""The files of runs in memory: TOP/cursors/DAEMON/SLOT.RUN, where TOP is the directory in /run if
/run is a tmpfs, else the one in /dev/shm, as in many containers.

    SLOT.RUN           the cursor (cursor_files.py)
    SLOT.RUN.control   the control socket (runs/control_socket.py)

A write to a disk can wait, and a new file can take long: ext4 without a journal passes over each
inode that was removed in the last minute (`recently_deleted`), and a busy daemon removes many.
Where there is no such memory, or no room in it, the files are in the run's directory.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Collection, Iterator
from hashlib import sha256

from ..errors import ConfigError
from ..host.tmpfs import is_in_memory
from . import runtime_directory

CURSORS = "cursors"
SHARED_MEMORY = "/dev/shm/sandboxd"
"""Every user may make it. If it is not root's alone, it is not used."""

CONTROL = ".control"


def path_of(run_path: str, suffix: str = "") -> str | None:
    """The file in memory of the run at STATE/slots/N/runs/K; None where there is no memory."""
    state_dir, _, slot, _, run = run_path.rsplit("/", 4)
    directory = directory_of(state_dir)
    return directory and f"{directory}/{slot}.{run}{suffix}"


def directory_of(state_dir: str) -> str | None:
    """The directory of the daemon with this state directory; None where it would be on a disk."""
    return _directory(runtime_directory.RUNTIME, state_dir)


def cursors(state_dir: str) -> Iterator[tuple[str, str]]:
    """The cursors in memory, each with the path of its copy on the disk."""
    for path, run_path in _files(state_dir):
        if not path.endswith(CONTROL):
            yield path, f"{run_path}/cursor"


def remove(run_path: str) -> None:
    """Remove the files of the run at `run_path`."""
    for suffix in ("", CONTROL):
        if (path := path_of(run_path, suffix)) is not None:
            unlink(path)


def remove_unknown(state_dir: str, slots: Collection[int]) -> None:
    """Remove the files of these `slots`, which no session has, and those of runs that have no
    directory. No run may begin meanwhile: the warden's loop does this."""
    unknown = {str(number) for number in slots}
    for path, run_path in _files(state_dir):
        slot = os.path.basename(path).partition(".")[0]
        if slot in unknown or not os.path.exists(run_path):
            unlink(path)


def remove_all(state_dir: str) -> None:
    """Remove the files of all runs of the daemon with this state directory."""
    if directory := directory_of(state_dir):
        shutil.rmtree(directory, ignore_errors=True)
    _directory.cache_clear()


def unlink(path: str) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def _files(state_dir: str) -> Iterator[tuple[str, str]]:
    """All files in memory, each with the directory of its run."""
    directory = directory_of(state_dir)
    for name in os.listdir(directory) if directory else ():
        slot, _, run = name.removesuffix(CONTROL).partition(".")
        yield f"{directory}/{name}", f"{state_dir}/slots/{slot}/runs/{run}"


@functools.cache
def _directory(runtime: str, state_dir: str) -> str | None:
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
