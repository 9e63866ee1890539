"""The process at the other end of a Unix socket, as the kernel names it (unix(7)).

The kernel keeps the pid, the uid, the gid and the groups of the process that called connect(2), or
listen(2) at the other end. That process cannot choose them.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

_CREDENTIALS = struct.Struct("iII")
_SO_PEERGROUPS = 59  # Linux 4.13
_GID = struct.Struct("I")

_OPTION_MAX = 1024
"""Bytes of an option that Python can read: 256 groups. A user with more counts as one without."""

NO_ID = 0xFFFFFFFF
"""The uid where the kernel names none."""


def credentials(sock: Any) -> tuple[int, int, int]:
    """Pid, uid and gid. Raises OSError."""
    value = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(value)
    return pid, uid, gid


def further_groups(sock: Any) -> list[int]:
    """The groups besides the gid. Raises OSError."""
    try:
        groups = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _OPTION_MAX)
    except OSError as error:
        if error.errno not in (errno.ERANGE, errno.ENOPROTOOPT):
            raise
        return []
    return [gid for (gid,) in _GID.iter_unpack(groups)]
