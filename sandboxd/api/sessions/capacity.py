"""What this host has to promise: memory in all, and disk space that is free now.

In a container the memory is what its cgroup may use, if that is less than the machine's.
"""

from __future__ import annotations

from contextlib import suppress

import psutil

from ...cgroupfs import memory_ceilings


class HostCapacity:
    """The host as it was at the last `look`.

    memory  bytes
    free    bytes of disk that an unprivileged process could still use below `state`
    """

    def __init__(self, state: str) -> None:
        self._state = state
        self.memory = min([psutil.virtual_memory().total, *memory_ceilings()])
        self.free = psutil.disk_usage(state).free

    def look(self) -> None:
        """Bring `free` up to date. Blocks on the disk."""
        with suppress(OSError):  # what was seen last is as good as anything then
            self.free = psutil.disk_usage(self._state).free
