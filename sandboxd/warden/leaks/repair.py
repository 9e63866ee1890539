"""Removes strays. Each is looked at once more: it must still be what was judged.

Runs in a forked child (background.py), since trees may be large and file systems slow; cgroups
alone are the warden's to remove, whose names a new run could take meanwhile.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

from ...jail import syscalls
from ..doctor import trial_directory
from ..slots import images
from .rule import Leak
from .scan import status_of

END_S = 2.0
"""How long a process that was sent a SIGKILL may take to end."""

_LOOP_CLR_FD = 0x4C01
_REMOVE = {
    "shm": syscalls.shmctl_remove,
    "sem": syscalls.semctl_remove,
    "msg": syscalls.msgctl_remove,
}


def repair(stray: Leak, state_dir: str) -> Leak:
    """Remove it; the same stray, with what was done."""
    try:
        match stray.kind:
            case "process":
                done = _end(*stray.target)
            case "directory":
                done = _remove(f"{state_dir}/slots/{stray.slot}")
            case "loop":
                done = _detach(state_dir, *stray.target)
            case "shm" | "sem" | "msg":
                _REMOVE[stray.kind](stray.target[0])
                done = "removed"
            case "temporary":
                done = _discard(state_dir + stray.target[0])
            case _:
                done = "left: the kernel removes it by itself"
    except FileNotFoundError:
        done = "removed"  # by itself, meanwhile
    except OSError as error:
        done = f"left: {error.strerror}"
    return replace(stray, done=done)


def _end(pid: int, start: int, zombie: bool) -> str:
    if zombie:
        return "left: it is dead and awaits its parent"
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return "ended by itself"
    try:
        if status_of(pid) != (start, False):  # the pid is another's by now, which is not meant
            return "ended by itself"
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except ProcessLookupError:
        return "ended by itself"
    finally:
        os.close(process)
    deadline = time.monotonic() + END_S
    while (found := status_of(pid)) and found == (start, False):
        if time.monotonic() > deadline:
            return "left: it does not end"
        time.sleep(0.01)
    return "killed"


def _discard(path: str) -> str:
    """A half-made image, or where a daemon or doctor that was killed has tried things."""
    if os.path.isdir(path):
        trial_directory.remove(path)
    else:
        os.unlink(path)
    return "removed"


def _remove(path: str) -> str:
    """A slot's directory, which nobody has mounted in this mount namespace any more."""
    images.unmount(f"{path}/scratch")
    shutil.rmtree(path)
    return "removed"


def _detach(state_dir: str, device: str, image: str) -> str:
    """A loop device. One that is still mounted somewhere goes when its last user does."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    name = Path(f"/sys/block/{os.path.basename(device)}/loop/backing_file")
    try:
        state = os.path.realpath(state_dir)
        if images.below(state, device, name.read_text().rstrip("\n")) != image:
            return "detached by itself"
        fcntl.ioctl(fd, _LOOP_CLR_FD)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
    finally:
        os.close(fd)
    return "left: it goes with its last user" if name.exists() else "detached"
