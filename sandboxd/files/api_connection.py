"""The connection of the file helper to the api (wire/file_calls.py has the protocol)."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from ..errors import Invalid, NoSpace, NotFound, OutsideHome, QuotaExceeded, SandboxdError
from ..wire.file_calls import DATA, FILE_CHUNK, PACKET_MAX, Kind, pack_json, unpack

Item = TypeVar("Item")

_KINDS: tuple[tuple[type[SandboxdError], Kind], ...] = (
    (OutsideHome, "outside"),
    (Invalid, "invalid"),
    (NotFound, "missing"),
    (QuotaExceeded, "full"),
    (NoSpace, "nospace"),
)


class ApiConnection:
    """The packets over one blocking SOCK_SEQPACKET socket.

    All methods raise BrokenPipeError or ConnectionResetError when the api has gone.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._answered = False
        self._data: list[bytes | memoryview] = []  # of the next packet
        self._size = 0
        self._hangup = select.poll()
        self._hangup.register(sock, 0)  # POLLHUP comes unasked

    def while_there(self, items: Iterable[Item]) -> Iterator[Item]:
        """The `items`, as long as the api is there: for work that sends nothing for long."""
        for item in items:
            if self._hangup.poll(0):
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            yield item

    def receive(self) -> dict[str, Any] | bytes | None:
        """The next packet, None at the end. Raises FileWireError for a malformed packet."""
        packet = self._sock.recv(PACKET_MAX + 1)
        return unpack(packet) if packet else None

    def answer(self, message: dict[str, Any]) -> None:
        """Send a JSON packet, after all data that was written before."""
        self.send(message)
        self._answered = True

    def send(self, message: dict[str, Any]) -> None:
        """Send a JSON packet of a request that may still be refused."""
        self._flush()
        self._send(pack_json(message))

    def hang_up(self) -> None:
        """Receive nothing more. The api's next send fails, and the api then reads the answer."""
        self._sock.shutdown(socket.SHUT_RD)
        # Data that is not read at the end would reset the connection before the answer is read.
        while self._sock.recv(PACKET_MAX + 1):
            pass

    def refuse(self, error: Exception) -> None:
        """Send the reason of a refusal. After an answer, only the missing {"end": true} shows the
        failure."""
        if not self._answered:
            self.answer({"ok": False, "kind": _kind(error), "error": _text(error)})

    def write(self, data: bytes) -> None:
        """Add to the outgoing data. Packets are filled before they are sent."""
        rest = memoryview(data)
        while rest:
            piece, rest = rest[: FILE_CHUNK - self._size], rest[FILE_CHUNK - self._size :]
            self._data.append(piece)
            self._size += len(piece)
            if self._size == FILE_CHUNK:
                self._flush()

    def copy(self, fd: int, size: int) -> None:
        """Write exactly `size` bytes of the file `fd`: a longer file is cut, a shorter one is
        filled up with NULs."""
        while size:
            wanted = min(size, FILE_CHUNK - self._size)
            data = os.read(fd, wanted) or bytes(wanted)
            self.write(data)
            size -= len(data)

    def _flush(self) -> None:
        if self._data:
            self._send(b"".join((DATA, *self._data)))
            self._data.clear()
            self._size = 0

    def _send(self, packet: bytes) -> None:
        self._sock.send(packet, socket.MSG_NOSIGNAL)


def _kind(error: Exception) -> Kind:
    """The kind of a refusal; "fault" for a failure that is not the client's."""
    if _is_of_disk(error):
        return "nospace"
    return next((kind for cls, kind in _KINDS if isinstance(error, cls)), "fault")


def _is_of_disk(error: Exception) -> bool:
    """The image of the session could not be written to the disk of the host: ext4 then ends with
    EIO, and takes no more changes (EROFS)."""
    return isinstance(error, OSError) and error.errno in (errno.EIO, errno.EROFS)


def _text(error: Exception) -> str:
    if _is_of_disk(error):
        return "the server's disk did not take the data; it may be full"
    if isinstance(error, OSError):
        return error.strerror or f"errno {error.errno}"
    return str(error)
