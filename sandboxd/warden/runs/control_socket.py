"""The control socket of a run, on which its shim listens. The run goes on as long as it does.

It is in memory (memory_files.py), or `control` in the run's directory. Root alone reaches both.

A shim is no child of a warden that was started after it. That warden recognizes the shim by this
socket: the kernel reports pid and uid of the process that listens (SO_PEERCRED, unix(7)), and a
pidfd reports its end and cannot mean another process. Titles, and pids on disk, prove nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

from ...errors import StageError
from ...host import unix_peer
from ...jail.stage import stage
from ...wire import messages
from .. import memory_files
from ..slots.slots import SETUP_S

_WAITING = 8
"""Connections that wait for the shim at most."""

_NAME_MAX = 107
"""Bytes of the name of a socket at most (unix(7))."""


def listen(path: str) -> socket.socket:
    """The socket of a new run, whose directory is `path`. Raises OSError."""
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        memory = memory_files.path_of(path, memory_files.CONTROL)
        if memory is None or not _bind(sock, memory):
            with _short(f"{path}/control") as name:
                sock.bind(name)
        sock.listen(_WAITING)
        undo.pop_all()
        return sock


def connect(path: str) -> socket.socket | None:
    """A connection to the shim of the run at `path`; None when no process listens. Raises OSError:
    BlockingIOError when as many connections as may be wait for a shim that is at work."""
    memory = memory_files.path_of(path, memory_files.CONTROL)
    sock = _connect(memory) if memory else None
    return sock or _connect(f"{path}/control")  # also where an earlier version has all of them


def watch(path: str) -> socket.socket:
    """A connection that is at its end when the run is over. Raises OSError as `connect`."""
    if sock := connect(path):
        return sock
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    return ours


def send(path: str, message: dict[str, Any], fd: int | None = None) -> None:
    """Send a message, with a descriptor if there is one, to the shim of the run at `path`. Raises
    OSError."""
    sock = connect(path)
    if sock is None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    with sock:
        messages.send(sock, message, [] if fd is None else [fd])


def living(path: str, uid: int) -> tuple[int, int] | None:
    """Pid and pidfd of the shim of the run at `path`, once it has `uid`; None: the run is over.

    Raises StageError when a process listens there that does not get the slot's uid.
    """
    deadline = time.monotonic() + SETUP_S
    while True:
        with stage("adopt"), contextlib.suppress(BlockingIOError):
            sock = connect(path)
            if sock is None:
                return None
            with sock:
                if shim := _shim(sock, uid):
                    return shim
        if time.monotonic() > deadline:
            raise StageError(
                "adopt", f"{path}: the process that listens there is not the slot's shim"
            )
        time.sleep(0.01)


def _shim(sock: socket.socket, uid: int) -> tuple[int, int] | None:
    """Pid and pidfd of the process at the other end, if it has `uid` already."""
    pid, peer_uid, _ = unix_peer.credentials(sock)
    if peer_uid != uid:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:  # if the peer is still there now, the pidfd is that of the peer
        sock.setblocking(False)
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return pid, pidfd
    except OSError:
        pass
    os.close(pidfd)
    return None


def _bind(sock: socket.socket, memory: str) -> bool:
    """Give the socket a name in memory; False: there is no room, or no directory any more."""
    memory_files.unlink(memory)  # of a run whose daemon was killed
    try:
        with _short(memory) as name:
            sock.bind(name)
    except OSError:
        return False
    return True


def _connect(place: str) -> socket.socket | None:
    """A connection to the process that listens at `place`, if one does."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)  # the loop of the warden waits for no shim
    try:
        with _short(place) as name:
            sock.connect(name)
    except (ConnectionRefusedError, FileNotFoundError):
        sock.close()
        return None
    except OSError:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _short(path: str) -> Iterator[str]:
    """A name of the socket at `path` that is short enough."""
    if len(os.fsencode(path)) <= _NAME_MAX:
        yield path
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
