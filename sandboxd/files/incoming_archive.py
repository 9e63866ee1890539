"""The body of an archive on its way from the api to the file helper: a stream with a bound.

A few bytes of a packed body can stand for more than any disk holds. The bytes of an archive are
therefore bounded by the disk of the session, whatever they are: headers, members that replace each
other, or data behind the end.
"""

from __future__ import annotations

import os

from ..errors import Invalid, QuotaExceeded
from .api_connection import ApiConnection
from .archive import ENTRIES_MAX

ROOM_PER_ENTRY = 4096
"""Bytes of headers and padding for each entry that the disk can have."""

ROOM = 64 << 20
"""Bytes of padding behind the end, and of headers that are for all members."""


def bytes_max(home: int) -> int:
    """Bytes of an archive at most, so that everything in it can be on the disk."""
    disk = os.fstatvfs(home)
    entries = min(disk.f_files or ENTRIES_MAX, ENTRIES_MAX)
    return disk.f_blocks * disk.f_frsize + ROOM_PER_ENTRY * entries + ROOM


class SenderGone(Exception):
    """The sender went away before the commit."""


class IncomingArchive:
    """The data packets of the request, as a stream of `most` bytes that ends with the commit."""

    def __init__(self, api: ApiConnection, most: int) -> None:
        self._api = api
        self._left = most
        self._data = memoryview(b"")
        self._ended = False

    def read(self, count: int) -> bytes:
        """At most `count` bytes; none at the end. Raises Refused, FileWireError, SenderGone."""
        if not self._data and not self._ended:
            self._receive()
        data, self._data = self._data[:count], self._data[count:]
        return bytes(data)

    def finish(self) -> None:
        """Read and drop the rest. Raises as `read`."""
        while not self._ended:
            self._receive()

    def _receive(self) -> None:
        packet = self._api.receive()
        if packet is None:
            raise SenderGone
        if packet == {"commit": True}:
            self._data, self._ended = memoryview(b""), True
            return
        if not isinstance(packet, bytes):
            raise Invalid("this packet is no part of an archive")
        self._left -= len(packet)
        if self._left < 0:
            raise QuotaExceeded(
                "the archive has more bytes than the disk of the session can hold; send less, or "
                "ask for more with config.resource_opts.disk"
            )
        self._data = memoryview(packet)
