"""The processes of a uid: the end of all of them. The caller holds the lease of the uid.

A process is killed by its pidfd, and only if it has the uid then: its number may be that of another
process by now. Its end is awaited by the same descriptor, without polling.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable, Iterable

from ...errors import StageError
from ...host import procfs
from ...host.pidfds import await_ends, open_pidfd, send

END_S = 10.0
"""How long a process that was sent a SIGKILL may take to end."""

AT_ONCE = 64
"""Processes that are awaited at a time; each takes a descriptor."""


def living(uid: int) -> list[int]:
    """The processes that have `uid` as one of their user ids, without those that are dead and
    await their parent."""
    return [pid for pid, _, state in procfs.with_uid((uid,)) if state not in ("Z", "X", "")]


def end(uid: int, spared: Callable[[], set[int]] = set, grace_s: float = 0.0) -> None:
    """Kill every process of `uid` but the `spared` ones, and wait until none is left. They have
    `grace_s` seconds to end by themselves.

    Raises StageError when one does not end.
    """
    if not procfs.is_user_of_any(uid):
        return
    began = time.monotonic()
    while pids := set(living(uid)) - spared():
        left_s = began + grace_s - time.monotonic()
        if left_s < -END_S:
            raise StageError("sweep", f"processes of uid {uid} do not end: {sorted(pids)}")
        if left_s > 0:
            _end_each(pids, uid, 0, left_s)
        else:
            _end_each(pids, uid, signal.SIGKILL, END_S + left_s)


def _end_each(pids: Iterable[int], uid: int, number: int, wait_s: float) -> None:
    """Send the signal `number`, 0 for none, to those of `pids` that have `uid`, to AT_ONCE of them,
    and wait until these have ended, `wait_s` seconds at most."""
    opened = []
    try:
        for pid in sorted(pids)[:AT_ONCE]:
            if (pidfd := open_pidfd(pid, functools.partial(procfs.has_uid, pid, uid))) is not None:
                opened.append(pidfd)
                send(pidfd, number)
        await_ends(opened, wait_s)
    finally:
        for pidfd in opened:
            os.close(pidfd)
