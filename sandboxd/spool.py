"""The spool of a run: the files of its console and journal, which outlive the processes of the run.

`console` is a file of bounded size, cut into segments of 64 KiB. The first `head` segments are
written once. The `tail` segments after them are a ring, so the file keeps the beginning and the end
of a flood. Each segment begins with a header

    number + 1 (0: never written), bytes used, console bytes before this segment

and has whole records: stream, length, data, the bytes as the program wrote them. No record ends
within a character: the writer delays the bytes of an unfinished one (`Splitter`), so each record
can be decoded by itself. One process writes and any number of processes read, without locks. The
writer writes the header after its records. A reader checks the number again after it has read a
segment, since the ring may have reused the segment meanwhile.

`journal` has one JSON object per line. Each is an event of the run, appended with one write.

The writer runs as the session's uid, so readers treat the content of these files as untrusted.
"""

from __future__ import annotations

import errno
import json
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

SEGMENT = 64 * 1024
RECORD = 32 * 1024
"""Bytes of data in one record at most."""

ROOM_MIN = 1024
"""Bytes at the end of a segment that may stay free, so that no record is too short."""

_JSON = json.JSONEncoder(separators=(",", ":"))
_HEADER = struct.Struct("<QQQ")
_RECORD = struct.Struct("<BI")
STDOUT, STDERR = 1, 2
NOTICE = 3
"""The stream of messages of sandboxd about the run."""

START = _HEADER.size
"""The position of the first record."""

JOURNAL_MAX = 1 << 20
"""Bytes of a journal at most; a run has a handful of events."""

Pread = Callable[[int, int, int], bytes]
"""Reads a file as os.pread does: descriptor, size, offset."""


def cached_pread(fd: int, size: int, offset: int) -> bytes:
    """As os.pread, but without waiting for a disk: the bytes come from the page cache alone.

    Raises BlockingIOError when some are not there, OSError where the file system cannot do this
    (EOPNOTSUPP, preadv2(2)).
    """
    buffer = bytearray(size)
    count = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
    if count < size and offset + count < os.fstat(fd).st_size:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return bytes(memoryview(buffer)[:count])


class Splitter:
    """The splitter of a byte stream between UTF-8 characters. Invalid bytes are not changed."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> bytes:
        """All bytes so far that were not returned yet, except an unfinished last character."""
        data = self._pending + data
        cut = len(data) - unfinished(data)
        self._pending = data[cut:]
        return data[:cut]

    def end(self) -> bytes:
        """The unfinished character at the end of the stream."""
        pending, self._pending = self._pending, b""
        return pending


def unfinished(data: bytes) -> int:
    """The count of bytes at the end, 0 to 3, that begin a character which may still be
    completed."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            length = 2 if byte & 0xE0 == 0xC0 else 3 if byte & 0xF0 == 0xE0 else 4
            return back if byte & 0xC0 == 0xC0 and byte < 0xF8 and back < length else 0
    return 0


class ConsoleWriter:
    """The writer of the console file `fd`. It keeps `head` bytes of the beginning of the output and
    `tail` bytes of its end.

    served   a client has all output before this position
    dropped  bytes of output that the ring has overwritten, and that client did not have
    """

    def __init__(self, fd: int, head: int, tail: int) -> None:
        self._fd = fd
        self._head, self._tail = segments(head), segments(tail)
        self._number, self._used = 0, _HEADER.size  # the current segment, with its header
        self._before, self._in_segment = 0, 0  # bytes of output
        self._ring: deque[int] = deque()
        self.served = self.dropped = 0

    @property
    def position(self) -> int:
        """The position of the next record. A position only grows and never repeats."""
        return self._number * SEGMENT + self._used

    @property
    def written(self) -> int:
        """Bytes of output so far, overwritten ones included."""
        return self._before + self._in_segment

    @property
    def endangers(self) -> bool:
        """Whether a little more output could overwrite output behind `served`. The margin is for
        two full pipes of 1 MiB, which are read at the end of a step in any case."""
        margin = min(36, self._tail // 2)
        oldest = max(self.served // SEGMENT, self._head)
        return self.served < self.position and self._number + margin - self._tail >= oldest

    def begin(self) -> None:
        """Write an empty first segment. An empty file thus means that the run never began.

        Raises OSError when the disk is full.
        """
        os.pwrite(self._fd, _HEADER.pack(1, _HEADER.size, 0), 0)

    def append(self, stream: int, data: bytes) -> None:
        """Add `data`, which does not end within a character. Raises OSError when the disk is
        full."""
        start = 0
        while start < len(data):
            room = SEGMENT - self._used - _RECORD.size
            end = min(start + (min(RECORD, room) if room >= ROOM_MIN else RECORD), len(data))
            if end < len(data):
                end -= unfinished(data[start:end])
            self._record(stream, data[start:end])
            start = end

    def _record(self, stream: int, data: bytes) -> None:
        record = _RECORD.pack(stream, len(data)) + data
        if self._used + len(record) > SEGMENT:
            if self._number >= self._head:
                self._ring.append(self._in_segment)
            if len(self._ring) == self._tail:
                size = self._ring.popleft()
                if (self._number - self._tail + 2) * SEGMENT > self.served:
                    self.dropped += size
            self._number, self._used = self._number + 1, _HEADER.size
            self._before, self._in_segment = self._before + self._in_segment, 0
        offset = _offset(self._number, self._head, self._tail)
        if self._used == _HEADER.size:  # the ring may have an older segment at this offset
            self._write(_HEADER.pack(0, 0, 0), offset)
        self._write(record, offset + self._used)
        self._used += len(record)
        self._in_segment += len(data)
        self._write(_HEADER.pack(self._number + 1, self._used, self._before), offset)

    def _write(self, data: bytes, offset: int) -> None:
        """Write all of `data`. A disk that is nearly full takes a part of it and reports no
        error."""
        if os.pwrite(self._fd, data, offset) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@dataclass(frozen=True, slots=True)
class SpoolPosition:
    """A position in the console.

    position  of a record
    seen      bytes of output before it, those included that fell out of the spool
    within    bytes of the record that are before it; `seen` includes them
    """

    position: int = 0
    seen: int = 0
    within: int = 0

    def after(self, size: int) -> SpoolPosition:
        """The position behind `size` more bytes of the same record."""
        return SpoolPosition(self.position, self.seen + size, self.within + size)


@dataclass(frozen=True, slots=True)
class Record:
    """A piece of output. `lost` bytes before it are no longer in the spool; `start` is its own
    position."""

    stream: int
    data: bytes
    lost: int = 0
    start: SpoolPosition = SpoolPosition()

    @property
    def text(self) -> str:
        """The data as text; invalid bytes become U+FFFD."""
        return self.data.decode("utf-8", "replace")


class ConsoleReader:
    """The reader of the console file `fd` of a writer with the same `head` and `tail`.

    pread  the function that reads the file
    """

    def __init__(self, fd: int, head: int, tail: int) -> None:
        self.pread: Pread = os.pread
        self._fd = fd
        self._head, self._tail = segments(head), segments(tail)

    def read(self, cursor: SpoolPosition, end: int) -> Iterator[tuple[Record, SpoolPosition]]:
        """The records from `cursor` up to position `end`, each with the position behind it."""
        while cursor.position < end:
            number, offset = divmod(cursor.position, SEGMENT)
            last = end // SEGMENT
            data, before = self._segment(number)
            lost, within = 0, cursor.within
            if data is None:
                number, data, before = self._oldest(number + 1, last)
                if data is None:
                    return
                offset = within = 0
            offset = max(offset, _HEADER.size)
            if offset == _HEADER.size:
                lost = max(0, before - cursor.seen)
            for stream, record, behind in _records(data, offset):
                if number * SEGMENT + behind > end:
                    return
                start = SpoolPosition(number * SEGMENT + offset, cursor.seen + lost, within)
                rest = record[within:]
                cursor = SpoolPosition(number * SEGMENT + behind, start.seen + len(rest))
                if rest or lost:
                    yield Record(stream, rest, lost, start), cursor
                offset, lost, within = behind, 0, 0
            if number >= last:
                return
            cursor = SpoolPosition((number + 1) * SEGMENT, cursor.seen + lost)

    def at(self, seen: int) -> SpoolPosition:
        """The position behind `seen` bytes of output. If the output behind is no longer in the
        spool: before the gap. If there is less output: its end."""
        headers = (self._header(index) for index in range(self._head + self._tail))
        candidates = [(tag - 1, before) for tag, _, before in headers if tag and before <= seen]
        if not candidates:
            return SpoolPosition()
        number, before = max(candidates)
        data, _ = self._segment(number)
        cursor = SpoolPosition(number * SEGMENT + START, before)
        for _, record, behind in _records(data or b"", START):
            if cursor.seen + len(record) > seen:
                return cursor.after(seen - cursor.seen)
            cursor = SpoolPosition(number * SEGMENT + behind, cursor.seen + len(record))
        return SpoolPosition(cursor.position, seen) if self.end() > cursor.position else cursor

    def _header(self, index: int) -> tuple[int, int, int]:
        """The header of the segment with this index in the file; zeros: there is no segment."""
        header = self.pread(self._fd, _HEADER.size, index * SEGMENT)
        return _HEADER.unpack(header) if len(header) == _HEADER.size else (0, 0, 0)

    def end(self) -> int:
        """The position behind the newest record; 0: there is no record."""
        newest, behind = 0, 0
        for index in range(self._head + self._tail):
            tag, used, _ = self._header(index)
            if tag > newest:
                newest, behind = tag, (tag - 1) * SEGMENT + min(used, SEGMENT)
            elif not tag and index < self._head:
                break
        return behind

    def _segment(self, number: int) -> tuple[bytes | None, int]:
        """The used part of segment `number`, and the bytes before it; None when the segment is not
        yet, or no longer, in the file."""
        offset = _offset(number, self._head, self._tail)
        header = self.pread(self._fd, _HEADER.size, offset)
        if len(header) < _HEADER.size:
            return None, 0
        tag, used, before = _HEADER.unpack(header)
        if tag != number + 1 or not _HEADER.size <= used <= SEGMENT:
            return None, 0
        data = self.pread(self._fd, used, offset)
        again = self.pread(self._fd, _HEADER.size, offset)
        return (data, before) if again[:8] == header[:8] else (None, 0)

    def _oldest(self, first: int, last: int) -> tuple[int, bytes | None, int]:
        """The first segment among first..last that the ring still has: its number, its used part
        and the bytes before it."""
        ring = range(self._head, self._head + self._tail)
        numbers = [self._header(index)[0] - 1 for index in ring]
        for number in sorted(number for number in numbers if first <= number <= last):
            data, before = self._segment(number)
            if data is not None:
                return number, data, before
        return last, None, 0


def _records(data: bytes, offset: int) -> Iterator[tuple[int, bytes, int]]:
    """Stream, data and the offset behind them for each whole record of a segment."""
    while offset + _RECORD.size <= len(data):
        stream, length = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size
        if offset + length > len(data):
            return
        offset += length
        yield stream, data[offset - length : offset], offset


def segments(size: int) -> int:
    """The count of segments for `size` bytes; at least two, the minimum for a ring."""
    return max(2, -(-size // SEGMENT))


def _offset(number: int, head: int, tail: int) -> int:
    """The offset of segment `number` in the file."""
    return (number if number < head else head + (number - head) % tail) * SEGMENT


def append_event(fd: int, event: dict[str, Any]) -> None:
    """Add one event to the journal `fd` (opened with O_APPEND). Raises OSError."""
    os.write(fd, _JSON.encode(event).encode() + b"\n")


def read_events(fd: int, pread: Pread = os.pread) -> list[dict[str, Any]]:
    """All whole events of the journal. A line that is no JSON object ends the journal."""
    events: list[dict[str, Any]] = []
    size = min(os.fstat(fd).st_size, JOURNAL_MAX)
    for line in pread(fd, size, 0).split(b"\n")[:-1]:
        try:
            event = json.loads(line.decode())
        except (ValueError, RecursionError):
            break
        if not isinstance(event, dict):
            break
        events.append(event)
    return events
