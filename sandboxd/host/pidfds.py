"""Signals to processes, and the wait for their ends, by pidfd (pidfd_open(2)).

The number of a process that has ended may be given to another one at any moment. A pidfd means one
process for ever, and becomes readable when that process has ended. So each look at a process by its
number comes after its pidfd was opened.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Sequence


def open_pidfd(pid: int, is_meant: Callable[[], bool]) -> int | None:
    """A pidfd of process `pid`; None when it has ended, or is not the one that `is_meant`."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    meant = False
    try:
        meant = is_meant()
    finally:
        if not meant:
            os.close(pidfd)
    return pidfd if meant else None


def send(pidfd: int, number: int = signal.SIGKILL) -> None:
    """Send a signal; nothing happens when the process has ended."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def kill(pid: int, is_meant: Callable[[], bool]) -> None:
    """Send SIGKILL to process `pid`, if it is the one that `is_meant`."""
    if (pidfd := open_pidfd(pid, is_meant)) is not None:
        try:
            send(pidfd)
        finally:
            os.close(pidfd)


def await_ends(pidfds: Sequence[int], wait_s: float) -> bool:
    """Wait until all these processes have ended, `wait_s` seconds at most; True if they have."""
    deadline = time.monotonic() + wait_s
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    left = len(pidfds)
    while left and (left_s := deadline - time.monotonic()) > 0:
        for pidfd, _ in poll.poll(left_s * 1000):
            poll.unregister(pidfd)
            left -= 1
    return not left
