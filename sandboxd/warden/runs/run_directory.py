"""The directory of a run, by which the next warden finds it: STATE/slots/N/runs/K.

    console, journal   what the shim writes (spool.py); the api reads them
    cursor             what the api writes: how far its client has come (runs/cursor.py)
    control            the shim's socket; as long as somebody listens there, the run goes on
    cgroup             the run's groups, as JSON: a later daemon may make its own elsewhere

A shim is no child of a warden that was started after it. That warden knows it by this directory,
which root alone can enter: who listens on `control` is the shim, the kernel tells its pid and
uid (SO_PEERCRED, unix(7)), and a pidfd tells its end and cannot mean another process. Titles,
and pids on disk, prove nothing.

A console file that is empty, beside an empty journal, is that of a run that never began: then its
program has not run and may still be started.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import StageError
from ...jail import syscalls
from ...jail.cgroup import Group
from ...jail.stage import stage
from ..slots.leases import SETUP_S

JOURNAL_ROOM = 64 * 1024
"""Bytes of disk that a journal has from the start: a verdict must be told on a full disk too."""

CURSOR_ROOM = 4096
"""And the cursor: that it was told must be noted."""

CONNECT_S = 2.0

_CREDENTIALS = struct.Struct("iii")


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a new run's shim gets of its directory; all belong to the stack of `make`."""

    console: int
    journal: int
    listener: socket.socket


def make(path: str, group: Group, stack: contextlib.ExitStack) -> RunFiles:
    """A new directory at `path`. Raises StageError; what was half done is the caller's."""
    with stage("run directory"):
        os.mkdir(path, 0o700)
        Path(path, "cgroup").write_text(json.dumps(group.dirs))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        cursor = os.open(f"{path}/cursor", flags, 0o600)
        stack.callback(os.close, cursor)
        _reserve(cursor, CURSOR_ROOM)
        console = os.open(f"{path}/console", flags, 0o600)
        stack.callback(os.close, console)
        journal = os.open(f"{path}/journal", flags | os.O_APPEND, 0o600)
        stack.callback(os.close, journal)
        _reserve(journal, JOURNAL_ROOM)
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        with _short(path) as directory:
            listener.bind(f"{directory}/control")
        listener.listen(8)
        return RunFiles(console, journal, listener)


def make_up(path: str) -> None:
    """The directory of a run of which nothing is left: it has said nothing. Raises StageError."""
    with stage("follow"):
        os.mkdir(path, 0o700)
        for name in ("console", "journal", "cursor"):
            os.close(os.open(f"{path}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _reserve(fd: int, size: int) -> None:
    """Take room on the disk, where the file system can, without making the file longer."""
    try:
        syscalls.fallocate(fd, syscalls.FALLOC_FL_KEEP_SIZE, 0, size)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise


def followers(path: str) -> list[int]:
    """What the api gets of a run: a connection to its control socket, which is at its end when
    the run is over; its console and journal to read, its cursor to write."""
    with stage("follow"), contextlib.ExitStack() as undo:
        control = undo.enter_context(_connected(path) or _ended())
        found = [control.fileno()]
        for name in ("console", "journal", "cursor"):
            mode = os.O_RDWR if name == "cursor" else os.O_RDONLY
            found.append(os.open(f"{path}/{name}", mode | os.O_CLOEXEC))
            undo.callback(os.close, found[-1])
        undo.pop_all()
        control.detach()
        return found


def began(path: str) -> bool:
    """The run has come as far as its first step, or has failed before."""
    try:
        sizes = [os.path.getsize(f"{path}/{name}") for name in ("console", "journal", "cursor")]
    except FileNotFoundError:  # killed while the directory was made, or removed
        return False
    return any(sizes[:2])


def group(path: str) -> Group:
    """The groups of a run that an earlier daemon has started."""
    try:
        return Group(json.loads(Path(path, "cgroup").read_text()))
    except (OSError, ValueError):  # killed while it was written: nothing was started
        return Group({})


def numbers(slot_path: str) -> list[int]:
    """The runs of a slot that have a directory."""
    names = os.listdir(f"{slot_path}/runs") if os.path.isdir(f"{slot_path}/runs") else []
    return sorted(int(name) for name in names if name.isdecimal())


def remove(path: str) -> None:
    """Remove the directory of a run that is over; who reads its files has them open."""
    shutil.rmtree(path, ignore_errors=True)


def living(path: str, uid: int) -> tuple[int, int] | None:
    """Pid and pidfd of the shim that has the run at `path`, and `uid`; None: it is over.

    Raises StageError when somebody is there who does not become the slot's.
    """
    deadline = time.monotonic() + SETUP_S
    while True:
        with stage("adopt"):
            sock = _connected(path)
        if sock is None:
            return None
        with sock:
            if found := _shim(sock, uid):
                return found
        if time.monotonic() > deadline:
            raise StageError("adopt", f"{path}: who listens there is not the slot's shim")
        time.sleep(0.01)


def _shim(sock: socket.socket, uid: int) -> tuple[int, int] | None:
    """Pid and pidfd of the process at the other end, if it has `uid` already."""
    told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, found, _ = _CREDENTIALS.unpack(told)
    if found != uid:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:  # still there after the pidfd was opened: then it means this process
        sock.setblocking(False)
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return pid, pidfd
    except OSError:
        pass
    os.close(pidfd)
    return None


def _connected(path: str) -> socket.socket | None:
    """A connection to the run's shim; None when nobody listens. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(CONNECT_S)
    try:
        with _short(path) as directory:
            sock.connect(f"{directory}/control")
    except (ConnectionRefusedError, FileNotFoundError):
        sock.close()
        return None
    except OSError:
        sock.close()
        raise
    return sock


def _ended() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    return ours


@contextlib.contextmanager
def _short(path: str) -> Iterator[str]:
    """A short name of the directory `path`: that of a socket has 107 bytes at most (unix(7))."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
