"""The calls of which a run may do a bounded number, since the kernel takes memory for them that no
cgroup counts. The filter leaves the decision to the shim (denied_calls.py).

    memberships of multicast groups   JOINS_MAX of a run; the kernel has some hundred bytes of each
    netlink sockets                   NETLINK_MAX at one time; answers wait in them to be read
    locks of open files               OFD_LOCKS_MAX calls of a run that set or release one; the
                                      kernel has about 200 bytes of each lock
    large extended attributes         ATTRIBUTES_MAX of a run; those that are access lists are in
                                      memory with their file, 4 KiB each

This memory goes with the open files and sockets of the run, unless a program of another run has
them: a descriptor waits in a socket without being in any table of a process. So a run that begins
while there is such a program (warden/runs/memory_handoff.py) has one in MEETING_PART of these calls
of a run. Only the first one has all of them: those after it meet the program that has its files.

The kernel counts the sockets of all families in a network namespace (sockets.py). No more netlink
sockets are open than that, and no more than have been made. A program with fewer sockets makes as
many of them as it likes, one after the other.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

from ..jail.uncounted_memory import FILE_LOCK, LARGE_ATTRIBUTE, MULTICAST, NETLINK

JOINS_MAX = 4096
OFD_LOCKS_MAX = 65536
"""Most programs do none or a few, and a driver of SQLite for Go (ncruces/go-sqlite3) nine for each
transaction. Other locks of fcntl(2), those of SQLite in C and of other databases, have no such
bound (warden/runs/lock_watch.py)."""
ATTRIBUTES_MAX = 4096
MEETING_PART = 16
NETLINK_MAX = 128
"""Each has 208 KiB at most, or twice net.core.rmem_max."""
FREED_S = 0.2
"""Seconds within which the kernel frees a socket that is closed."""

_MOST = {
    MULTICAST: (JOINS_MAX, errno.ENOBUFS),
    FILE_LOCK: (OFD_LOCKS_MAX, errno.ENOLCK),
    LARGE_ATTRIBUTE: (ATTRIBUTES_MAX, errno.ENOSPC),
}
"""Name -> the calls of a run, and the answer to further ones."""


class BoundedCalls:
    """The bounds of the runs of one jail. `open_sockets` has the number of open sockets of its
    programs."""

    def __init__(self, open_sockets: Callable[[], int]) -> None:
        self._open_sockets = open_sockets
        self._netlink = 0
        self.begin(False)
        self._waits_from = 0.0

    def begin(self, meets_others: bool) -> None:
        """Begin a run. `meets_others`: its programs can send descriptors to those of others."""
        self._counts = dict.fromkeys(_MOST, 0)
        self._part = MEETING_PART if meets_others else 1

    def error(self, name: str) -> int | None:
        """The errno of the call of this name; 0: the kernel carries it out; None: it is not
        bounded."""
        if name == NETLINK:
            return self._open()
        if name not in _MOST:
            return None
        most, full = _MOST[name]
        self._counts[name] += 1
        return full if self._counts[name] > most // self._part else 0

    def _open(self) -> int:
        if self._netlink >= NETLINK_MAX:
            self._netlink = min(self._netlink, self._counted())
        if self._netlink >= NETLINK_MAX:
            return errno.ENOBUFS
        self._netlink += 1
        return 0

    def _counted(self) -> int:
        """The open sockets. Those that are closed count until the kernel has freed them (RCU)."""
        number, now = self._open_sockets(), time.monotonic()
        if now < self._waits_from:
            return number
        while number >= NETLINK_MAX and time.monotonic() < now + FREED_S:
            time.sleep(FREED_S / 20)
            number = self._open_sockets()
        if number >= NETLINK_MAX:  # they are in use: further calls do not keep the shim
            self._waits_from = time.monotonic() + 10 * FREED_S
        return number
