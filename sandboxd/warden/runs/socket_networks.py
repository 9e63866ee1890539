"""The network namespaces of the sockets that a process has.

A socket belongs to the namespace in which it was made, wherever it is handed on, and the namespace
stays while somebody has such a socket. CAP_SYS_PTRACE and CAP_NET_ADMIN are needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from queue import SimpleQueue

from ...host import procfs
from ...jail import syscalls

_SIOCGSKNS = 0x894C  # linux/sockios.h

WAITING_MAX = 64
"""Sockets that wait for a thread to close them."""


def other_networks(pid: int, known: set[int]) -> Iterator[int | None]:
    """For a process, and for each of its descriptors, one of the namespace of the socket, which
    stays open until the next one is asked for; None where there is none of interest. `known` has
    the inodes of those that are of no interest, and takes in the others."""
    yield None
    with contextlib.ExitStack() as stack:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        stack.callback(os.close, process)
        closer = stack.enter_context(_Closer())
        for number, is_socket in _descriptors(pid):
            network = _other(process, number, known, closer) if is_socket else None
            try:
                yield network
            finally:
                if network is not None:
                    os.close(network)


class _Closer:
    """The thread that closes the copies of sockets. A program may have chosen that close(2) waits
    (SO_LINGER, socket(7)), and it waits here when the copy is the last one: it must not keep the
    count. Such a thread ends with the close or with this process."""

    def __init__(self) -> None:
        self._sockets = SimpleQueue[int | None]()
        self._is_begun = False

    def __enter__(self) -> _Closer:
        return self

    def __exit__(self, *_: object) -> None:
        self._sockets.put(None)

    def close(self, fd: int) -> None:
        """Have a descriptor closed, by another thread when this one waits."""
        if not self._is_begun or self._sockets.qsize() >= WAITING_MAX:
            self._sockets.put(None)
            self._sockets, self._is_begun = SimpleQueue(), True
            threading.Thread(target=_close_all, args=(self._sockets,), daemon=True).start()
        self._sockets.put(fd)


def _close_all(sockets: SimpleQueue[int | None]) -> None:
    while (fd := sockets.get()) is not None:
        os.close(fd)


def _other(process: int, number: int, known: set[int], closer: _Closer) -> int | None:
    """A descriptor of the namespace of a socket, if it is not known."""
    try:
        network = _network(process, number, closer)
    except OSError as error:
        if error.errno in procfs.SHORTAGE:
            raise
        return None  # the socket was closed meanwhile
    inode = os.fstat(network).st_ino
    if inode in known:
        os.close(network)
        return None
    known.add(inode)
    return network


def _descriptors(pid: int) -> Iterator[tuple[int, bool]]:
    """The descriptors of a process, and whether they are sockets."""
    with contextlib.suppress(*procfs.ENDED), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            yield int(entry.name), _is_socket(entry.path)


def _is_socket(link: str) -> bool:
    """The descriptor is a socket: not one that was closed meanwhile, nor a file whose path is too
    long for a link (ENAMETOOLONG), as a program can have."""
    try:
        return os.readlink(link).startswith("socket:")
    except OSError as error:
        if error.errno in procfs.SHORTAGE:
            raise
        return False


def _network(process: int, number: int, closer: _Closer) -> int:
    fd = syscalls.pidfd_getfd(process, number)
    try:
        return fcntl.ioctl(fd, _SIOCGSKNS)
    finally:
        closer.close(fd)
