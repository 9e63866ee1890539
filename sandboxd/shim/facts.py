"""The facts about a finished step, from which its verdict follows. No I/O."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..jail.cgroup import Counters
from ..model import MIB, Limits, Sender, Usage

NEAR_LIMIT = 2 * MIB
"""The peak of a group that has reached its limit is at most this far below: the kernel takes memory
in batches of pages, or a huge page at a time."""


@dataclass(frozen=True, slots=True)
class StorageUse:
    """The bytes and inodes that the session's files take."""

    bytes: int = 0
    inodes: int = 0


WORKSPACE = "workspace"
"""The place of a run that is on a disk of the host."""


@dataclass(frozen=True, slots=True)
class StepFacts:
    """The facts about one step.

    status            wait status of its first process; None: killed together with init
    ended_by          the limit for which the shim ended the step, or None
    killed_by         the party that ended the step and with it the run: a client, or sandboxd for
                      a drain; None: neither
    before, after     kernel counters at the beginning and at the end of the step
    stored_before, stored
                      the storage in use at these two moments
    full              the first place that became full during the step: "disk", "inodes", "shm" or
                      WORKSPACE, "folder NAME"; None: none did
    denied            refused system calls, name -> count
    last_denied       name of the last refused call
    external_signals  signals that the shim sent to the step, with the party that wanted each
    last_output       the end of the output
    excess            bytes of output beyond the limit
    unwritten         bytes of output that the host's disk had no room for
    host_full         the host's disk was full at a moment of the step
    refused           connections of the run that its profile has refused, one text each
    network           the run has a network profile
    """

    limits: Limits
    usage: Usage = Usage()
    status: int | None = None
    ended_by: str | None = None
    killed_by: Sender | None = None
    before: Counters = Counters()
    after: Counters = Counters()
    stored_before: StorageUse = StorageUse()
    stored: StorageUse = StorageUse()
    full: str | None = None
    denied: Mapping[str, int] = field(default_factory=dict)
    last_denied: str | None = None
    external_signals: Mapping[int, Sender] = field(default_factory=dict)
    last_output: str = ""
    excess: int = 0
    unwritten: int = 0
    host_full: bool = False
    refused: tuple[str, ...] = ()
    network: bool = False

    @property
    def exit(self) -> int | None:
        """The exit code of the first process."""
        return None if self.status is None else exit_code(self.status)

    @property
    def signal(self) -> str | None:
        """The signal that killed the first process."""
        if self.status is None or not os.WIFSIGNALED(self.status):
            return None
        return signal_name(os.WTERMSIG(self.status))

    @property
    def oom(self) -> bool:
        """Whether the kernel killed a process of the step for want of memory."""
        return self.after.oom_kills > self.before.oom_kills

    @property
    def oom_of_session(self) -> bool:
        """Whether all runs of the session together, and not this one, had reached their bound."""
        peak = self.after.memory_peak
        own = self.after.memory_hits > self.before.memory_hits
        return self.oom and not own and 0 < peak < self.limits.memory - NEAR_LIMIT


def exit_code(status: int) -> int:
    """The exit code of a wait status, as in a shell: 128 + n for death by signal n."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def signal_name(number: int) -> str:
    """The name of a signal, as in signal(7)."""
    try:
        return signal.Signals(number).name
    except ValueError:  # only the first and the last real-time signal have a name
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
