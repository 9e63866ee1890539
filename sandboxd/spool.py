"""The files in which a run's console and events outlive the processes that made them.

`console` is a file of fixed size and order. It is cut into segments of 64 KiB; the first
`head` of them are written once, the others are a ring, so that a flood keeps its beginning and
its end and costs no more disk than that. Each segment opens with a header

    number + 1 (0: never written), bytes used, console bytes before this segment

and holds whole records: stream, length, text. A record is valid UTF-8 by itself; the writer
holds back the start of an unfinished character (`Splitter`). One process writes, any number
read, without locks: the header is written after its records, and a reader checks the number
again after it has read, since the ring may have gone round meanwhile.

`journal` has one JSON object a line, an event of the run each, appended with one write.

The writer runs as the session's uid: readers take what is in these files as untrusted input.
"""

from __future__ import annotations

import errno
import json
import os
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SEGMENT = 64 * 1024
RECORD = 8 * 1024
_HEADER = struct.Struct("<QQQ")
_RECORD = struct.Struct("<BI")
STDOUT, STDERR = 1, 2

START = _HEADER.size
"""The position of the first record."""

JOURNAL_MAX = 1 << 20
"""Bytes of a journal at most; a run has a handful of events."""


class Splitter:
    """Cuts a byte stream where a UTF-8 character ends; what is invalid becomes U+FFFD."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        """Valid UTF-8 for all of `data` but an unfinished last character."""
        data = self._kept + data
        cut = len(data) - _unfinished(data)
        self._kept = data[cut:]
        return _valid(data[:cut])

    def end(self) -> bytes:
        """What was held back, at the end of the stream."""
        kept, self._kept = self._kept, b""
        return _valid(kept)


def _valid(data: bytes) -> bytes:
    return data.decode("utf-8", "replace").encode()


def _unfinished(data: bytes) -> int:
    """How many bytes at the end (0 to 3) begin a character that may still be finished."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            length = 2 if byte & 0xE0 == 0xC0 else 3 if byte & 0xF0 == 0xE0 else 4
            return back if byte & 0xC0 == 0xC0 and byte < 0xF8 and back < length else 0
    return 0


class ConsoleWriter:
    """Appends records to the console file `fd`; `head` and `tail` are bytes kept of each end.

    dropped  bytes of text that the ring has gone round over
    """

    def __init__(self, fd: int, head: int, tail: int) -> None:
        self._fd = fd
        self._head, self._tail = segments(head), segments(tail)
        self._number, self._used, self._before, self._here = 0, _HEADER.size, 0, 0
        self._ring: deque[int] = deque()
        self.dropped = 0

    @property
    def position(self) -> int:
        """Where the next record goes; grows for ever, never repeats."""
        return self._number * SEGMENT + self._used

    @property
    def written(self) -> int:
        """Bytes of console text so far, kept or not."""
        return self._before + self._here

    def begin(self) -> None:
        """Write an empty first segment: who finds the file empty knows that nothing ever ran.

        Raises OSError when the disk is full.
        """
        os.pwrite(self._fd, _HEADER.pack(1, _HEADER.size, 0), 0)

    def append(self, stream: int, text: bytes) -> None:
        """Add `text`, valid UTF-8. Raises OSError when the disk is full."""
        start = 0
        while start < len(text):
            end = min(start + RECORD, len(text))
            while end < len(text) and text[end] & 0xC0 == 0x80:
                end -= 1
            self._record(stream, text[start:end])
            start = end

    def _record(self, stream: int, text: bytes) -> None:
        record = _RECORD.pack(stream, len(text)) + text
        if self._used + len(record) > SEGMENT:
            if self._number >= self._head:
                self._ring.append(self._here)
            if len(self._ring) == self._tail:
                self.dropped += self._ring.popleft()
            self._number, self._used = self._number + 1, _HEADER.size
            self._before, self._here = self._before + self._here, 0
        place = _place(self._number, self._head, self._tail)
        if self._used == _HEADER.size:  # first in a place that the ring may have used before
            self._put(_HEADER.pack(0, 0, 0), place)
        self._put(record, place + self._used)
        self._used += len(record)
        self._here += len(text)
        self._put(_HEADER.pack(self._number + 1, self._used, self._before), place)

    def _put(self, data: bytes, place: int) -> None:
        """Write all of `data`; a disk that is nearly full takes a part of it, and says nothing."""
        if os.pwrite(self._fd, data, place) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@dataclass(frozen=True, slots=True)
class SpoolPosition:
    """How far a reader has come: a position and the console bytes before it."""

    position: int = 0
    seen: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """A piece of console text; `lost` bytes before it fell out of the spool."""

    stream: int
    text: str
    lost: int = 0


class ConsoleReader:
    """Reads the console file `fd`, made for a writer with the same `head` and `tail`."""

    def __init__(self, fd: int, head: int, tail: int) -> None:
        self._fd = fd
        self._head, self._tail = segments(head), segments(tail)

    def read(self, cursor: SpoolPosition, end: int) -> Iterator[tuple[Record, SpoolPosition]]:
        """The records from `cursor` up to position `end`, each with the cursor behind it."""
        while cursor.position < end:
            number, offset = divmod(cursor.position, SEGMENT)
            last = end // SEGMENT
            data, before = self._segment(number)
            lost = 0
            if data is None:
                number, data, before = self._oldest(number + 1, last)
                if data is None:
                    return
                offset = 0
            offset = max(offset, _HEADER.size)
            if offset == _HEADER.size:
                lost = max(0, before - cursor.seen)
            for stream, text, behind in _records(data, offset):
                if number * SEGMENT + behind > end:
                    return
                cursor = SpoolPosition(number * SEGMENT + behind, cursor.seen + lost + len(text))
                yield Record(stream, text.decode("utf-8", "replace"), lost), cursor
                lost = 0
            if number >= last:
                return
            cursor = SpoolPosition((number + 1) * SEGMENT, cursor.seen + lost)

    def at(self, seen: int) -> SpoolPosition:
        """The cursor behind `seen` bytes of console text; at the beginning of a record that they
        end in; before the gap, if what follows fell out."""
        headers = (self._header(place) for place in range(self._head + self._tail))
        there = [(tag - 1, before) for tag, before in headers if tag and before <= seen]
        if not there:
            return SpoolPosition()
        number, before = max(there)
        data, _ = self._segment(number)
        cursor = SpoolPosition(number * SEGMENT + START, before)
        for _, text, behind in _records(data or b"", START):
            if cursor.seen + len(text) > seen:
                return cursor
            cursor = SpoolPosition(number * SEGMENT + behind, cursor.seen + len(text))
        return SpoolPosition(cursor.position, seen) if self.end() > cursor.position else cursor

    def _header(self, place: int) -> tuple[int, int]:
        """Tag and bytes before of the segment in this place; a tag of 0 for none."""
        header = os.pread(self._fd, _HEADER.size, place * SEGMENT)
        tag, _, before = _HEADER.unpack(header) if len(header) == _HEADER.size else (0, 0, 0)
        return tag, before

    def end(self) -> int:
        """The position behind the newest record; 0 when there is none."""
        newest, behind = 0, 0
        for index in range(self._head + self._tail):
            header = os.pread(self._fd, _HEADER.size, index * SEGMENT)
            tag, used = _HEADER.unpack(header)[:2] if len(header) == _HEADER.size else (0, 0)
            if tag > newest:
                newest, behind = tag, (tag - 1) * SEGMENT + min(used, SEGMENT)
            elif not tag and index < self._head:
                break
        return behind

    def _segment(self, number: int) -> tuple[bytes | None, int]:
        """The used part of segment `number`, None when it is no longer (or not yet) there."""
        place = _place(number, self._head, self._tail)
        data = os.pread(self._fd, SEGMENT, place)
        if len(data) < _HEADER.size:
            return None, 0
        tag, used, before = _HEADER.unpack_from(data)
        again = os.pread(self._fd, _HEADER.size, place)
        if tag != number + 1 or again[:8] != data[:8] or not _HEADER.size <= used <= SEGMENT:
            return None, 0
        return data[:used], before

    def _oldest(self, first: int, last: int) -> tuple[int, bytes | None, int]:
        """The first segment among first..last that the ring still has."""
        there = []
        for place in range(self._head, self._head + self._tail):
            header = os.pread(self._fd, _HEADER.size, place * SEGMENT)
            if len(header) == _HEADER.size:
                there.append(_HEADER.unpack(header)[0] - 1)
        for number in sorted(number for number in there if first <= number <= last):
            data, before = self._segment(number)
            if data is not None:
                return number, data, before
        return last, None, 0


def _records(data: bytes, offset: int) -> Iterator[tuple[int, bytes, int]]:
    """(stream, text, offset behind it) for each whole record of a segment."""
    while offset + _RECORD.size <= len(data):
        stream, length = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size
        if offset + length > len(data):
            return
        offset += length
        yield stream, data[offset - length : offset], offset


def segments(size: int) -> int:
    """How many segments hold `size` bytes; at least two, so that a ring can turn."""
    return max(2, -(-size // SEGMENT))


def _place(number: int, head: int, tail: int) -> int:
    """The offset in the file of segment `number`."""
    return (number if number < head else head + (number - head) % tail) * SEGMENT


def append_event(fd: int, event: dict[str, Any]) -> None:
    """Add one event to the journal `fd` (opened with O_APPEND). Raises OSError."""
    os.write(fd, json.dumps(event, separators=(",", ":")).encode() + b"\n")


def read_events(fd: int) -> list[dict[str, Any]]:
    """All whole events of the journal; a line that is no object ends it."""
    events: list[dict[str, Any]] = []
    for line in os.pread(fd, JOURNAL_MAX, 0).split(b"\n")[:-1]:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(event, dict):
            break
        events.append(event)
    return events
