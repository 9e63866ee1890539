"""The network namespaces of the sockets that a process has.

A socket belongs to the namespace in which it was made, wherever it is handed on, and the namespace
stays while somebody has such a socket. CAP_SYS_PTRACE and CAP_NET_ADMIN are needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from ...jail import syscalls

_SIOCGSKNS = 0x894C  # linux/sockios.h


def other_networks(pid: int, known: set[int]) -> Iterator[int]:
    """A descriptor of each namespace, until the next one is asked for. `known` has the inodes of
    those that are of no interest, and takes in the others."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for name in _sockets(pid):
            with contextlib.suppress(OSError), _network(process, int(name)) as network:
                inode = os.fstat(network).st_ino
                if inode not in known:
                    known.add(inode)
                    yield network
    finally:
        os.close(process)


def _sockets(pid: int) -> Iterator[str]:
    """The descriptors of a process that are sockets."""
    directory = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):  # it has ended meanwhile
        for name in os.listdir(directory):
            with contextlib.suppress(OSError):  # it was closed meanwhile
                if os.readlink(f"{directory}/{name}").startswith("socket:"):
                    yield name


@contextlib.contextmanager
def _network(process: int, number: int) -> Iterator[int]:
    fd = syscalls.pidfd_getfd(process, number)
    try:
        network = fcntl.ioctl(fd, _SIOCGSKNS)
    finally:
        os.close(fd)
    try:
        yield network
    finally:
        os.close(network)
