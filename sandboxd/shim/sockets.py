"""The sockets that a run leaves in its network namespace, by the counters of the namespace.

A TCP connection keeps its ports for a minute after both ends have closed it (TIME_WAIT, tcp(7)),
and a program cannot bind such a port. A program of another run of the session may hold a socket
that was sent to it. Nothing but the end of the namespace frees these. So a run that has left a
socket has the last one of its namespace: the next one finds each port free.

    sockets: used N      those of all families that are open (proc(5), /proc/net/sockstat)
    TCP: ... tw N        connections in TIME_WAIT
"""

from __future__ import annotations

import os
import re

from ..errors import StageError
from ..jail.stage import stage

_COUNTERS = re.compile(rb"sockets: used (\d+)\nTCP: .*\btw (\d+)")
_SIZE = 4096

Counters = tuple[int, ...]


class Sockets:
    """The counters of the network namespace of this process, read through one descriptor: later
    its root has no /proc in which it is."""

    def __init__(self) -> None:
        with stage("network"):
            self._fd = os.open("/proc/self/net/sockstat", os.O_RDONLY | os.O_CLOEXEC)
        self._before: Counters | None = None

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def begin(self) -> None:
        """No program has run yet."""
        self._before = self._counters()

    def opened(self) -> int:
        """The number of open sockets of programs, those that are on their way in others included.
        Raises StageError."""
        counters = self._counters()
        if counters is None or self._before is None:
            raise StageError("network", "the kernel does not count sockets")
        return counters[0] - self._before[0]

    def are_left(self) -> bool:
        """There are other sockets than before the first program, or nothing says that there are
        none."""
        counters = self._counters()
        return counters is None or counters != self._before

    def _counters(self) -> Counters | None:
        with stage("network"):
            match = _COUNTERS.match(os.pread(self._fd, _SIZE, 0))
        return tuple(map(int, match.groups())) if match else None
