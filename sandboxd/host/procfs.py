"""The reader and writer of /proc (proc(5)) and /sys.

The fields and files of a process that has ended are empty.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Container, Iterator

ENDED = (FileNotFoundError, ProcessLookupError, PermissionError)
"""Errors about a process that has ended meanwhile, or that this one may not look at."""

SHORTAGE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of this process or of the host, which say nothing about the process that was looked at."""

_PIECE = 1 << 16


def pids() -> list[int]:
    """The processes of this moment."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def status(pid: int | str, *names: str) -> list[str]:
    """The values of these fields of /proc/PID/status, "" for one that is not there.

    A field is looked for where a line begins: the first line is a name that the process chooses.
    """
    content = text(f"/proc/{pid}/status")
    return [content.partition(f"\n{name}:")[2].partition("\n")[0].strip() for name in names]


def with_uid(uids: Container[int]) -> Iterator[tuple[int, int, str]]:
    """The processes that have one of `uids` as any of their four (Uid): pid, that uid, and the
    letter of the state. Z is dead and waits for its parent."""
    for pid in pids():
        state, ids = status(pid, "State", "Uid")
        uid = next((uid for uid in map(int, ids.split()) if uid in uids), None)
        if uid is not None:
            yield pid, uid, state[:1]


def has_uid(pid: int, uid: int) -> bool:
    """The process lives and has `uid` as one of its four."""
    state, ids = status(pid, "State", "Uid")
    return str(uid) in ids.split() and state[:1] not in ("Z", "X", "")


def is_user_of_any(uid: int) -> bool:
    """A process, living or dead, has `uid` as its real uid.

    getpriority(2) asks the kernel's table of users, and so costs the same on a full host. Programs
    of a slot cannot have another real uid: no file of a jail gives rights away (nosuid)."""
    try:
        os.getpriority(os.PRIO_USER, uid)
    except ProcessLookupError:
        return False
    return True


def start_and_state(pid: int) -> tuple[int, str] | None:
    """The start time in clock ticks since boot, and the letter of the state (R, S, Z ...)."""
    fields = text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[19]), fields[0]) if len(fields) > 19 else None


def lines(path: str) -> list[str]:
    """The lines of a file of /proc or /sys; none when it cannot be read."""
    return text(path).splitlines()


def text(path: str, limit: int = -1) -> str:
    """The first `limit` bytes of a file of /proc or /sys; "" when it cannot be read."""
    try:
        return _bytes(path, limit).decode("utf-8", "replace")
    except OSError:
        return ""


def read(path: str) -> str:
    """The whole of a file of /proc or /sys. Raises OSError.

    Without the layers of `open`, which cost a short run as much as the file itself.
    """
    return _bytes(path).decode("utf-8", "surrogateescape")


def beginning(path: str, limit: int) -> tuple[str, int]:
    """The first `limit` bytes of a file of /proc, and the size of the whole. Raises OSError."""
    pieces, size = list[bytes](), 0
    for piece in _pieces(path):
        if size < limit:
            pieces.append(piece[: limit - size])
        size += len(piece)
    return b"".join(pieces).decode("utf-8", "replace"), size


def _bytes(path: str, limit: int = -1) -> bytes:
    return b"".join(_pieces(path, limit))


def _pieces(path: str, limit: int = -1) -> Iterator[bytes]:
    fd, size = os.open(path, os.O_RDONLY | os.O_CLOEXEC), 0
    try:
        while piece := os.read(fd, _PIECE if limit < 0 else limit - size):
            yield piece
            size += len(piece)
    finally:
        os.close(fd)


def write(path: str, value: str) -> None:
    """Write a value into a file of /proc or /sys. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
