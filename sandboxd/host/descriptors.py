"""The descriptors of a process: how many it may open, which of them it has, and the wait for those
that can be read."""

from __future__ import annotations

import os
import resource
import select
from collections.abc import Iterable


def allow_most() -> None:
    """Allow this process as many descriptors as the host allows it. Services and shells begin with
    a soft limit of 1024 for the sake of programs with select(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def close_others(keep: Iterable[int], to_null: Iterable[int] = (0, 1, 2)) -> None:
    """Close every descriptor except `keep` and the three standard ones. Those in `to_null` become
    /dev/null of this process's root."""
    for fd in to_null:
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, fd)
    low = 3
    for fd in sorted(keep):
        if fd >= low:
            os.closerange(low, fd)
            low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def readable(*fds: int, wait_s: float | None = None) -> list[int]:
    """Those of `fds` that can be read, or whose other end is gone. Waits for the first of them,
    `wait_s` seconds at most; None: for ever.

    By poll(2): select(2) knows no descriptor from FD_SETSIZE (1024) on, and a warden of a thousand
    sessions has more than that.
    """
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if wait_s is None else wait_s * 1000)]
