"""Console items out of spool records: merged, and bounded by the size of a reply. No I/O.

The data of stdout and stderr is text, or for a client that wants bytes the bytes in base64. The
output of a program is any bytes; in text, invalid bytes become U+FFFD.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any, Protocol

from ..spool import NOTICE, STDERR, STDOUT, Record, unfinished

Item = list[Any]
"""[type, data] as in the execution model: stdout, stderr (text) or log (four texts)."""

FRAME = 640 * 1024
"""Bytes of console text in one frame, as JSON in ASCII; with everything else a frame stays below
1 MiB. Clients take 4 MiB at most, and some less."""

_ITEM = 20
"""Bytes that an item takes besides its text."""

_TYPES = {STDOUT: "stdout", STDERR: "stderr"}

_NOTICE_ROOM = 200
"""Bytes that a log item takes besides its text."""

NOTICES_MAX = 64
"""Messages of sandboxd in one reply. The shim writes fewer; programs have the uid of the shim."""


def log(level: str, message: str) -> Item:
    """A `log` item: a message of sandboxd in the console. `level`: info, warning or error."""
    return ["log", [level, datetime.now(UTC).isoformat(), "sandboxd", message]]


def text(items: list[Item]) -> str:
    """The output of a program, both streams in one; messages of sandboxd have their own lines."""
    return "".join(f"[{data[3]}]\n" if kind == "log" else data for kind, data in items)


class Encoding(Protocol):
    """A form of the data of stdout and stderr."""

    def size(self, data: bytes) -> int:
        """Characters or bytes of `data` that count for the limit of a reply."""

    def prefix(self, data: bytes, size: int) -> int:
        """The length of the largest beginning of `data` that has at most this `size`."""

    def encode(self, pieces: list[bytes]) -> str:
        """The data of an item."""


class TextEncoding:
    """Text, measured in characters."""

    def size(self, data: bytes) -> int:
        """The count of characters."""
        return len(data.decode("utf-8", "replace"))

    def prefix(self, data: bytes, size: int) -> int:
        """The length of the first `size` characters."""
        start = 0
        while size > 0 and start < len(data):
            try:
                text, invalid = data[start:].decode(), 0
            except UnicodeDecodeError as error:  # the codec replaces these bytes by one character
                text = data[start : start + error.start].decode()
                invalid = error.end - error.start
            start += len(text[:size].encode())
            if len(text) < size and invalid:
                start += invalid
                size -= 1
            size -= min(len(text), size)
        return start

    def encode(self, pieces: list[bytes]) -> str:
        """Each piece decoded by itself: no character is in two pieces."""
        return "".join(piece.decode("utf-8", "replace") for piece in pieces)


class Base64Encoding:
    """Bytes in base64, measured in bytes."""

    def size(self, data: bytes) -> int:
        """The count of bytes."""
        return len(data)

    def prefix(self, data: bytes, size: int) -> int:
        """`size`, or a little less if that is within a character."""
        return size - unfinished(data[:size]) or size

    def encode(self, pieces: list[bytes]) -> str:
        """All pieces, in one base64 text."""
        return base64.b64encode(b"".join(pieces)).decode()


TEXT, BASE64 = TextEncoding(), Base64Encoding()


class Collector:
    """Takes the records of one reply; it has room for `limit` characters of each stream.

    Neighbours of the same type become one item. A log item says how much fell out of the spool
    before it was read.
    """

    def __init__(self, limit: int, encoding: Encoding = TEXT) -> None:
        self._limit = limit
        self._encoding = encoding
        self._room = dict.fromkeys(_TYPES, limit)
        self._lost = 0
        self._gap: int | None = None
        self._apart = -1
        self._pieces: list[tuple[str, list[bytes]]] = []
        self._notices = 0

    def add(self, record: Record) -> int:
        """Take the next record; the count of its bytes for which there was room. A record of an
        unknown stream is left out: the shim has not written it."""
        if record.stream not in _TYPES:
            self._note_gap(record)
            if record.stream == NOTICE and self._notices < NOTICES_MAX:
                self._notices += 1
                self._pieces.append(("log", [record.data]))
            return len(record.data)
        size, taken = self._encoding.size(record.data), len(record.data)
        if size > self._room[record.stream]:
            taken = self._encoding.prefix(record.data, self._room[record.stream])
            size = self._encoding.size(record.data[:taken])
        self._room[record.stream] -= size
        if taken or not record.data:
            self._note_gap(record)
        if taken:
            self._append(_TYPES[record.stream], record.data[:taken])
        return taken

    def _note_gap(self, record: Record) -> None:
        if record.lost:
            self._lost += record.lost
            if self._gap is None:
                self._gap = len(self._pieces)

    def _append(self, kind: str, data: bytes) -> None:
        # A gap stays visible between neighbours, and so does a division.
        apart = len(self._pieces) in (self._gap, self._apart)
        if self._pieces and self._pieces[-1][0] == kind and not apart:
            self._pieces[-1][1].append(data)
        else:
            self._pieces.append((kind, [data]))

    def divide(self) -> int:
        """Let no item have output from before and from after now; the count of the items before."""
        self._apart = len(self._pieces)
        return self._apart + (self._gap is not None)

    def items(self) -> list[Item]:
        """Everything so far, with a log item where bytes are missing."""
        items: list[Item] = [
            _notice(data) if kind == "log" else [kind, self._encoding.encode(data)]
            for kind, data in self._pieces
        ]
        if self._gap is not None:
            text = f"{self._lost} bytes of output were dropped here: more than is kept of a run"
            items.insert(self._gap, log("warning", text))
        return items


def _notice(data: list[bytes]) -> Item:
    """A message of sandboxd that the shim has written, as a log item."""
    return log("warning", b"".join(data).decode("utf-8", "replace"))


class CuttingCollector(Collector):
    """Takes all records of one reply. Text without room is cut, and log items say how much."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._cut = dict.fromkeys(_TYPES, 0)

    def add(self, record: Record) -> int:
        """Take the next record; the count of its bytes that are not cut."""
        taken = super().add(record)
        if taken < len(record.data):
            if not taken:
                self._note_gap(record)
            self._cut[record.stream] += TEXT.size(record.data) - TEXT.size(record.data[:taken])
        return taken

    def items(self) -> list[Item]:
        """Everything so far, with log items for missing and for cut text."""
        cuts = [
            f"{count} characters of {_TYPES[stream]} were cut: a response holds {self._limit}"
            for stream, count in self._cut.items()
            if count
        ]
        return [*super().items(), *(log("warning", text) for text in cuts)]


class FrameCollector(Collector):
    """Takes the records of one frame, whole records only."""

    def __init__(self, encoding: Encoding = TEXT) -> None:
        super().__init__(FRAME, encoding)
        self._left = FRAME

    def add(self, record: Record) -> int:
        """Take the next record; 0: there is no room for it in this frame."""
        size = len(json.dumps(self._encoding.encode([record.data]))) + _ITEM
        size += _NOTICE_ROOM if record.stream == NOTICE else 0
        if size > self._left:
            return 0
        self._left -= size
        return super().add(record)
