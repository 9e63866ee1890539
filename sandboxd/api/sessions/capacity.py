"""The capacity of this host: memory in all, and disk space that is free now.

In a container the memory is what its cgroup may use, if that is less than the machine's.
"""

from __future__ import annotations

from contextlib import suppress

import psutil

from ...cgroupfs import memory_ceilings


class HostCapacity:
    """The capacity at the last `refresh`.

    memory  bytes
    free    bytes of disk that an unprivileged process could still use below `state`
    """

    def __init__(self, state: str) -> None:
        self._state = state
        self.memory = min([psutil.virtual_memory().total, *memory_ceilings()])
        self.free = psutil.disk_usage(state).free

    def refresh(self) -> None:
        """Bring `free` up to date. Blocks on the disk."""
        with suppress(OSError):  # then the last value is the best there is
            self.free = psutil.disk_usage(self._state).free
