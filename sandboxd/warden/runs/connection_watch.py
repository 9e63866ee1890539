"""The bound of the TCP connections of a run that are in no open file.

Nobody accepts them, or they were closed, and no cgroup counts their memory (connection_count.py).
A program that connects to itself and accepts nothing had 65 MB of them in 0.1 s, with 5 MB of its
run's memory; without a bound it takes the memory of the host, or all of it that TCP may have
(net.ipv4.tcp_mem). A filter sees no connection, so runs are watched (run_watch.py).
"""

from __future__ import annotations

import os
from collections.abc import Collection

from ..job_process import JobSpec
from .connection_count import SOCKET, SOCKSTAT, count_connections, most_orphans, sockstat_value
from .run_watch import KernelMemory, RunWatch


class ConnectionMemory(KernelMemory):
    """The kernel's memory for the sockets of TCP and their buffers."""

    def __init__(self) -> None:
        self._fd = os.open(SOCKSTAT, os.O_RDONLY | os.O_CLOEXEC)
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._orphans = most_orphans()

    def close(self) -> None:
        """Close its descriptor."""
        os.close(self._fd)

    def bytes(self) -> int:
        """The size of this memory."""
        text = self._text()
        return sockstat_value(text, "mem") * self._page + sockstat_value(text, "alloc") * SOCKET

    def is_urgent(self) -> bool:
        """As many connections were closed before the other end as a run may have."""
        return sockstat_value(self._text(), "orphan") > self._orphans

    def _text(self) -> str:
        return os.pread(self._fd, 4096, 0).decode()


class ConnectionWatch(RunWatch):
    """The watch over the connections of runs."""

    limit = "connections"
    memory = ConnectionMemory

    def job(self, groups: dict[str, str], names: Collection[str], most: int) -> JobSpec:
        """The count of connections. It looks at all runs: what one of them has is not of others."""
        order = (*names, *groups)
        return JobSpec(
            count_connections, {"groups": {one: groups[one] for one in order}, "most": most}
        )
