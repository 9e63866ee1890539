"""The lease of a uid: one daemon of a host, and its workers, use a uid at a time.

A lease is a lock (flock(2)) on the file /run/sandboxd/leases/UID. All daemons of the host share the
directory, and only root can enter it: a lock that anybody could take would let any user of the host
hold all uids. The lock belongs to the open file, which workers inherit, so it lasts until the last
of them has closed the file, also when the warden is killed.

Nothing is written, and the files stay. scripts/uninstall removes each file under its lock; so a
daemon that has locked a file looks whether the file still has its name.

Versions up to 0.9 held a name in the abstract socket namespace instead, which any user of the host
can take. Their daemons and shims may still be at work, so for one version a lease has that name
too, and a name of root's keeps a uid from being leased. A name that another user holds means
nothing. The kernel says whose it is (sock_diag(7)).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from types import TracebackType

from ..errors import StageError
from ..jail.stage import stage
from . import runtime_directory

LEASES = "leases"

_NETLINK_SOCK_DIAG = 4
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
# struct unix_diag_req: family, protocol, states, inode, attributes, cookie
_REQUEST = struct.Struct("=BB2xIII8x")
_SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP = 20, 0x301
_SHOW_NAME, _SHOW_UID = 0x1, 0x40
_MESSAGE_SIZE = 16  # struct unix_diag_msg
_ATTRIBUTE = struct.Struct("=HH")
_NAME, _UID = 0, 7
_ERROR, _DONE = 2, 3


class UidLease:
    """The lease of `uid`, held while its file is open here or in a process that inherited it."""

    def __init__(self, uid: int, fd: int, name: socket.socket | None) -> None:
        self.uid = uid
        self._fd = fd
        self._name = name

    def fileno(self) -> int:
        """The descriptor that a worker inherits."""
        return self._fd

    def close(self) -> None:
        """Give the lease up, as far as this process holds it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._name:
            self._name.close()

    def __enter__(self) -> UidLease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def lease_uid(uid: int) -> UidLease | None:
    """The lease of `uid`; None when another process has it. Raises StageError, and ConfigError for
    a directory that is not root's alone."""
    directory = runtime_directory.make(LEASES)
    with stage("lease"), contextlib.ExitStack() as undo:
        fd = _locked(f"{directory}/{uid}")
        if fd is None:
            return None
        undo.callback(os.close, fd)
        name = _bound(uid)
        if name is None and _holder(_abstract(uid)) == 0:
            return None
        undo.pop_all()
        return UidLease(uid, fd, name)


def _locked(path: str) -> int | None:
    """The file `path`, open and locked; None when another process has locked it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        with contextlib.ExitStack() as undo:
            fd = os.open(path, flags, 0o600)
            undo.callback(os.close, fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            if _has_name(fd, path):  # else it was removed before it was locked
                undo.pop_all()
                return fd


def _has_name(fd: int, path: str) -> bool:
    """The open file is still the one with this name."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _abstract(uid: int) -> bytes:
    """The name by which earlier versions lease a uid."""
    return f"\0sandboxd/uid/{uid}".encode()


def _bound(uid: int) -> socket.socket | None:
    """A socket with the name of earlier versions; None when another process has the name."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        sock.bind(_abstract(uid))
    except OSError as error:
        sock.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return sock


def _holder(name: bytes) -> int | None:
    """The uid of the process that made the socket with this name; None: there is no such socket any
    more. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as sock:
        body = _REQUEST.pack(socket.AF_UNIX, 0, 0xFFFFFFFF, 0, _SHOW_NAME | _SHOW_UID)
        size = _HEADER.size + len(body)
        sock.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + body)
        while True:
            data = sock.recv(1 << 16)
            while data:
                size, kind, *_ = _HEADER.unpack_from(data)
                if kind == _DONE:
                    return None
                if kind == _ERROR:
                    (code,) = struct.unpack_from("=i", data, _HEADER.size)
                    raise StageError("lease", "the holder of a name is not known", -code)
                attributes = _attributes(data[_HEADER.size + _MESSAGE_SIZE : size])
                if attributes.get(_NAME) == name and _UID in attributes:
                    return int.from_bytes(attributes[_UID], "little")
                data = data[-(-size // 4) * 4 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    """Type -> value of netlink attributes (netlink(7))."""
    values = {}
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if size < _ATTRIBUTE.size:
            break
        values[kind] = data[_ATTRIBUTE.size : size]
        data = data[-(-size // 4) * 4 :]
    return values
