"""The removal of leaks. Each is looked at once more: it must still be what was judged.

The repair runs in a forked child (background.py), since trees may be large and file systems slow.
Only cgroups are removed by the warden itself (sweep.py): a new run could take their names.
"""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import replace
from pathlib import Path

from ...host.pidfds import await_ends, open_pidfd, send
from ...jail import syscalls
from ..doctor import trial_directory
from ..slots import images, reclaim
from ..slots.host_resources import status_of
from .rule import Leak

END_S = 2.0
"""Time for a process to end after a SIGKILL."""

_LOOP_CLR_FD = 0x4C01


def repair(leak: Leak, state_dir: str) -> Leak:
    """Remove it; the same leak, with the outcome."""
    try:
        match leak.kind:
            case "process":
                done = _end(*leak.target)
            case "directory":
                done = _reclaim(state_dir, *leak.target)
            case "loop":
                done = _detach(state_dir, *leak.target)
            case "shm" | "sem" | "msg":
                syscalls.REMOVE_OBJECT[leak.kind](leak.target[0])
                done = "removed"
            case "temporary":
                done = _discard(state_dir + leak.target[0])
            case "cgroup":
                raise ValueError("a cgroup is removed by the warden")
    except FileNotFoundError:
        done = "removed"  # by itself, meanwhile
    except OSError as error:
        done = f"left: {error.strerror}"
    return replace(leak, done=done)


def _end(pid: int, start: int, zombie: bool) -> str:
    if zombie:
        return "left: it is dead and waits for its parent"
    pidfd = open_pidfd(pid, lambda: status_of(pid) == (start, False))
    if pidfd is None:  # perhaps another process has got the pid meanwhile
        return "ended by itself"
    try:
        send(pidfd)
        return "killed" if await_ends([pidfd], END_S) else "left: it does not end"
    finally:
        os.close(pidfd)


def _discard(path: str) -> str:
    """Remove a half-made image, or the trial directory of a daemon or doctor that was killed."""
    if os.path.isdir(path):
        trial_directory.remove(path)
    else:
        os.unlink(path)
    return "removed"


def _reclaim(state_dir: str, number: int, uid: int) -> str:
    """Take back a slot that no session has."""
    left = reclaim.reclaim(state_dir, number, uid)
    return f"left: {', '.join(left.things)}" if left.things else "removed"


def _detach(state_dir: str, device: str, image: str) -> str:
    """Detach a loop device. The kernel removes one that is still mounted after its last user."""
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
    return "left: its last user still has it open" if name.exists() else "detached"
