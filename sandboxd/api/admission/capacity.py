"""The capacity of this host: memory in all, disk space that is free now, and tasks.

In a container the memory is what its cgroup may use, if that is less than the machine's, and so
are the tasks (host/tasks.py).
"""

from __future__ import annotations

from contextlib import suppress

import psutil

from ...host import memory
from ...host.tasks import TaskMeter


class HostCapacity:
    """The capacity at the last `refresh`.

    memory  bytes
    free    bytes of disk that an unprivileged process could still use below `state`
    tasks   the bounds on processes and threads
    """

    def __init__(self, state: str, meter: TaskMeter | None = None) -> None:
        self._state = state
        self._meter = meter or TaskMeter.of_daemon()
        self.tasks = self._meter.measure()
        self.memory = memory.size()
        self.free = psutil.disk_usage(state).free

    def refresh(self) -> None:
        """Bring `free` and `tasks` up to date. Blocks on the disk."""
        self.measure_tasks()
        with suppress(OSError):  # then the last value is the best there is
            self.free = psutil.disk_usage(self._state).free

    def measure_tasks(self) -> None:
        """Bring `tasks` up to date, from files that the kernel has in memory."""
        self.tasks = self._meter.measure()
