"""The hold on a run: it has hardly any CPU time while it is counted at length (unclear_runs.py).

Programs see nothing of a hold but that they are slow. A frozen cgroup would let calls return EINTR,
and v1 has none here. The least CPU time that a client may request is as much (HELD_US).

The shim sets the CPU limit of each step, so a hold ends early when a step begins, and the end of
a hold writes the former limit only where the hold is still there. A hold that begins just between
the write of the shim and its read-back has the shim write once more. A daemon that is killed leaves
a hold behind, and the next one ends it (`end_left`).
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from dataclasses import dataclass

from ...host.cgroupfs import GroupFiles
from ...jail.cgroup import PERIOD_US, Group

HELD_US = PERIOD_US // 100
"""Of each PERIOD_US, for all processes of a run together."""


@dataclass(slots=True)
class _CommonHold:
    """A hold with the number of those that want it, and the former limit."""

    users: int = 0
    before_us: int = 0


class CpuHolds:
    """The holds on all runs. Each watch (run_watch.py) begins and ends one as if it were alone, and
    a run is held until all that have begun one have ended it."""

    def __init__(self) -> None:
        self._holds = defaultdict[tuple[str, ...], _CommonHold](_CommonHold)

    def begin(self, group: Group) -> None:
        """Hold a run, until `end`."""
        hold = self._holds[tuple(group.dirs.values())]
        hold.users += 1
        with contextlib.suppress(OSError):  # the run is over
            before_us = group.files.cpu_quota_us()
            if before_us > HELD_US:
                group.files.set_cpu_quota(HELD_US, PERIOD_US)
                hold.before_us = before_us

    def end(self, group: Group) -> None:
        """Give the run its CPU time back, if nobody else holds it."""
        hold = self._holds[key := tuple(group.dirs.values())]
        hold.users -= 1
        if hold.users:
            return
        del self._holds[key]
        with contextlib.suppress(OSError):
            if hold.before_us and group.files.cpu_quota_us() == HELD_US:
                group.files.set_cpu_quota(hold.before_us, PERIOD_US)


def end_left(group: Group) -> None:
    """End the hold that an earlier daemon has left on a run. The limit of its step is not known
    here: it gets that of its slot's group, which is the highest of the session's runs."""
    above = GroupFiles({one: os.path.dirname(path) for one, path in group.dirs.items()})
    with contextlib.suppress(OSError):  # the run is over
        quota_us = above.cpu_quota_us()
        if group.files.cpu_quota_us() == HELD_US < quota_us:
            group.files.set_cpu_quota(quota_us, PERIOD_US)
