"""The capacity of this host: memory in all, and disk space that is free now.

In a container the memory is what its cgroup may use, if that is less than the machine's.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",  # cgroup v2, as a container sees it (Linux 4.5)
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",  # v1; without a limit nearly 2^63
)


class HostCapacity:
    """The capacity at the last `refresh`.

    memory  bytes
    free    bytes of disk that an unprivileged process could still use below `state`
    """

    def __init__(self, state: str) -> None:
        self._state = state
        self.memory = min([psutil.virtual_memory().total, *_cgroup_limits()])
        self.free = psutil.disk_usage(state).free

    def refresh(self) -> None:
        """Bring `free` up to date. Blocks on the disk."""
        with suppress(OSError):  # then the last value is the best there is
            self.free = psutil.disk_usage(self._state).free


def _cgroup_limits() -> list[int]:
    limits = []
    for path in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # none here, or "max"
            limits.append(int(Path(path).read_text()))
    return limits
