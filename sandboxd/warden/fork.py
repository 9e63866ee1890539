"""The fork of the warden's children: workers and background jobs.

It forks without exec, since a fresh interpreter would cost 20 times as much. The warden therefore
controls all that a child inherits: its heap holds no secret and no client data, and the child
closes every descriptor that is not its own before it does anything else.

A host without a free task refuses forks (EAGAIN, ENOMEM). LAST has the answer to the last one,
for /readyz. While forks fail, each ping tries one more, so the failure is over as soon as the host
has room again, also when no client asks for anything.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

from ..errors import StageError
from ..host.descriptors import close_others
from ..jail import syscalls
from ..jail.stage import stage


class LastFork:
    """The outcome of the last fork: `errno`, which is 0 for a success."""

    def __init__(self) -> None:
        self.errno = 0

    def fork(self) -> int:
        """Fork; 0 in the child, the child's pid here. Raises StageError."""
        try:
            with stage("fork"):
                pid = os.fork()
        except StageError as error:
            self.errno = error.errno
            raise
        self.errno = 0
        return pid

    def probe(self) -> None:
        """Try a fork again, if the last one failed. The loop collects the child."""
        if self.errno:
            with contextlib.suppress(StageError):
                if self.fork() == 0:
                    os._exit(0)


LAST = LastFork()
"""The forks of this warden."""


def fork(keep: list[int], child: Callable[[], None]) -> int:
    """Fork; of all descriptors the child has `keep` and standard error."""
    pid = LAST.fork()
    if pid:
        return pid
    try:
        default_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        be_child(keep, child)
    finally:
        os._exit(1)


def default_signals() -> None:
    """Give the signals that the parent handles their default actions."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def die_with(parent: int) -> None:
    """Be killed when `parent`, whose child we are, ends; it may have done so already."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() not in (parent, 0):  # 0: it is outside of our pid namespace
        os._exit(1)


def be_child(
    keep: list[int], child: Callable[[], None], to_null: Iterable[int] = (0, 1)
) -> NoReturn:  # fmt: skip
    """Be a new process, whose signals have their default actions."""
    try:
        # The parent's garbage must not be collected here: that would close descriptors by numbers
        # that are the child's own by then.
        gc.freeze()
        close_others(keep, to_null)
        # No module is loaded from here on: the files may be those of another version soon.
        sys.meta_path.clear()
        child()
    finally:
        os._exit(1)
