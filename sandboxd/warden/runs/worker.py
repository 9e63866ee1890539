"""A worker of the warden: a shim or a file helper, which works for a slot or a virtual folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass

from ...jail.cgroup import Group
from ..slots.slots import Slot


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that works for a slot, or, without one, for a virtual folder.

    run       the number of its run when it is a shim; None while it waits for the next one
    group     the cgroup of its run
    pidfd     of a shim that is no child of this process: the spawner, or an earlier daemon, has
              forked it
    terminal  its run is a terminal, which ends with its user or the daemon
    """

    pid: int
    slot: Slot | None = None
    run: int | None = None
    group: Group | None = None
    pidfd: int | None = None
    terminal: bool = False

    def is_same_run(self, other: Worker) -> bool:
        """Both are of one run. Another one may have the pid and the name of the group meanwhile:
        a warm jail serves several runs, and a slot several sessions."""
        return (self.pid, self.run) == (other.pid, other.run) and self.slot is other.slot

    def is_any_of(self, others: Iterable[Worker]) -> bool:
        """One of the others is of the same run."""
        return any(map(self.is_same_run, others))

    def kill(self) -> None:
        """End it. The init of a shim dies with the shim, and the run with its init."""
        try:
            if self.pidfd is None:
                os.kill(self.pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        if self.group:
            self.group.kill()
