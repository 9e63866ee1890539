"""What is known of a step when it is over, as values. No I/O."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..jail.cgroup import Counters
from ..model import Limits, Sender, Usage


@dataclass(frozen=True, slots=True)
class StorageUse:
    """How much the session's files take: bytes and inodes."""

    bytes: int = 0
    inodes: int = 0


@dataclass(frozen=True, slots=True)
class StepFacts:
    """All of it.

    status     wait status of its first process; None when all was ended from outside
    ended_by   the limit for which the shim ended it, or None
    requested  who has ended it, and the run with it: a client, or sandboxd for its own sake
    full       what was seen full while it ran, and was not before: "disk", "inodes", "shm" or
               "folder NAME"; None: nothing
    denied     refused system calls: name -> how often
    last_denied  the last of them
    asked      signals that were sent to it from outside, and for whom
    said       the end of what it printed
    over       bytes of output beyond its limit
    unwritten  bytes of output that the host's disk had no room for
    host_full  the host's disk was seen full while it ran
    """

    limits: Limits
    usage: Usage = Usage()
    status: int | None = None
    ended_by: str | None = None
    requested: Sender | None = None
    before: Counters = Counters()
    after: Counters = Counters()
    stored_before: StorageUse = StorageUse()
    stored: StorageUse = StorageUse()
    full: str | None = None
    denied: Mapping[str, int] = field(default_factory=dict)
    last_denied: str | None = None
    asked: Mapping[int, Sender] = field(default_factory=dict)
    said: str = ""
    over: int = 0
    unwritten: int = 0
    host_full: bool = False

    @property
    def exit(self) -> int | None:
        """The exit code of its first process."""
        return None if self.status is None else exit_code(self.status)

    @property
    def signal(self) -> str | None:
        """The signal that killed its first process."""
        if self.status is None or not os.WIFSIGNALED(self.status):
            return None
        return signal_name(os.WTERMSIG(self.status))

    @property
    def oom(self) -> bool:
        """The kernel has killed a process of it for want of memory."""
        return self.after.oom_kills > self.before.oom_kills


def exit_code(status: int) -> int:
    """The exit code of a wait status: 128 + n for death by signal n, as shells have it."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def signal_name(number: int) -> str:
    """As in signal(7)."""
    try:
        return signal.Signals(number).name
    except ValueError:  # only the first and the last real-time signal have a name
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
