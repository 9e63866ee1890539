"""The helper's end of a conversation with the api (filewire.py has the protocol)."""

from __future__ import annotations

import os
import socket
from typing import Any

from ..errors import Invalid, NoSpace, NotFound, OutsideHome, QuotaExceeded, SandboxdError
from ..filewire import FILE_CHUNK, PACKET_MAX, Kind, pack_data, pack_json, unpack

_KINDS: tuple[tuple[type[SandboxdError], Kind], ...] = (
    (OutsideHome, "outside"),
    (Invalid, "invalid"),
    (NotFound, "missing"),
    (QuotaExceeded, "full"),
    (NoSpace, "nospace"),
)


class Conversation:
    """Packets over one blocking SOCK_SEQPACKET socket.

    All methods raise BrokenPipeError or ConnectionResetError when the api has gone away.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._answered = False
        self._data = bytearray()

    def receive(self) -> dict[str, Any] | bytes | None:
        """The next packet, None at the end. Raises FileWireError for what is no packet."""
        packet = self._sock.recv(PACKET_MAX + 1)
        return unpack(packet) if packet else None

    def answer(self, message: dict[str, Any]) -> None:
        """Send a JSON packet, after all data that was written before."""
        self.tell(message)
        self._answered = True

    def tell(self, message: dict[str, Any]) -> None:
        """As `answer`, but the request may still be refused."""
        self._flush()
        self._send(pack_json(message))

    def refuse(self, error: Exception) -> None:
        """Tell why there is no answer. After a first answer only the missing end tells it."""
        if not self._answered:
            self.answer({"ok": False, "kind": _kind(error), "error": _text(error)})

    def write(self, data: bytes) -> None:
        """Add to the data that goes out; packets are filled up before they are sent."""
        self._data += data
        while len(self._data) >= FILE_CHUNK:
            self._send(pack_data(self._data[:FILE_CHUNK]))
            del self._data[:FILE_CHUNK]

    def copy(self, fd: int, size: int) -> None:
        """Write exactly `size` bytes of the file `fd`: cut, or filled up with NULs."""
        while size:
            data = os.read(fd, min(size, FILE_CHUNK)) or bytes(min(size, FILE_CHUNK))
            self.write(data)
            size -= len(data)

    def _flush(self) -> None:
        if self._data:
            self._send(pack_data(self._data))
            self._data.clear()

    def _send(self, packet: bytes) -> None:
        self._sock.send(packet, socket.MSG_NOSIGNAL)


def _kind(error: Exception) -> Kind:
    """What a client is told; what is none of its doing is a fault."""
    return next((kind for of, kind in _KINDS if isinstance(error, of)), "fault")


def _text(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or f"errno {error.errno}"
    return str(error)
