"""The reader of a run's spool files.

Its methods block on the disk. `promptly` calls them for an event loop: in the loop while the page
cache has all bytes, which is the rule for files that a shim has just written; else in a thread.

Descriptors are closed under the lock that reads hold. Without the lock, a descriptor number that
is closed while a thread is about to read could by then name another session's file.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from ..config.settings import ConsoleConfig
from ..spool import (
    START,
    ConsoleReader,
    Pread,
    Record,
    SpoolPosition,
    cached_pread,
    read_events,
)
from .console_items import BASE64, TEXT, Collector, CuttingCollector, FrameCollector, Item
from .journal import JournalEvent, parse
from .polling import POLL, PollPolicy

P = ParamSpec("P")
T = TypeVar("T")

SMALL = 128 * 1024
"""Bytes that the event loop reads at once; to decode more would take it a millisecond."""

READ_COST = 512
"""Bytes that a call of the kernel counts besides."""


class _CachedReads:
    """The reads of one call in the event loop: from the page cache, and few bytes."""

    def __init__(self) -> None:
        self._left = SMALL

    def __call__(self, fd: int, size: int, offset: int) -> bytes:
        """As cached_pread; raises BlockingIOError for too many bytes, too."""
        self._left -= size + READ_COST
        if self._left < 0:
            raise BlockingIOError(errno.EAGAIN, "this is for a thread")
        return cached_pread(fd, size, offset)


@dataclass(frozen=True, slots=True)
class ConsolePart:
    """The console of one reply.

    behind     the position behind it
    delivered  the position of the first byte that was cut; `behind`, if none was
    more       there is more, for the next reply
    counts     for each mark that was reached, the count of the items before it
    """

    items: list[Item]
    behind: SpoolPosition
    delivered: SpoolPosition
    more: bool = False
    counts: tuple[int, ...] = ()


class SpoolReader:
    """The console and journal of one run; owns both descriptors."""

    def __init__(self, console: int, journal: int, config: ConsoleConfig) -> None:
        self._reader = ConsoleReader(console, config.head, config.tail)
        self._console, self._journal = console, journal
        self._limit = config.response_chars
        self._most = 2 * (config.head + config.tail)
        self._pread: Pread = os.pread
        self._lock = threading.RLock()
        self._closed = False

    async def promptly(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `read`, a method of this reader, without blocking the event loop."""
        if self._lock.acquire(blocking=False):
            try:
                self._read_by(_CachedReads())
                return read(*args, **kwargs)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
                    raise
            finally:
                self._read_by(os.pread)
                self._lock.release()
        return await asyncio.to_thread(read, *args, **kwargs)

    def _read_by(self, pread: Pread) -> None:
        self._pread = self._reader.pread = pread

    def events(self) -> list[JournalEvent]:
        """The events that are in the journal by now."""
        with self._lock:
            return [] if self._closed else parse(read_events(self._journal, self._pread))

    def console(
        self,
        cursor: SpoolPosition,
        end: int,
        policy: PollPolicy = POLL,
        marks: Sequence[int] = (),
    ) -> ConsolePart:
        """The console from `cursor` up to position `end`, or as far as there is any; no item goes
        across one of the positions `marks`. Output for which a reply has no room is cut, or if the
        policy says `whole` it is for the next one."""
        collector = self._collector(policy)
        delivered: SpoolPosition | None = None
        behind, counts = cursor, list[int]()
        with self._lock:
            if self._closed:
                return ConsolePart([], cursor, cursor, counts=(0,) * len(marks))
            for record, after in self._read(cursor, end, marks, collector, counts):
                taken = collector.add(record)
                if taken < len(record.data):
                    here = record.start.after(taken) if taken else behind
                    if policy.whole:
                        return ConsolePart(collector.items(), here, here, True, tuple(counts))
                    delivered = delivered or here
                behind = after
        return ConsolePart(collector.items(), behind, delivered or behind, counts=tuple(counts))

    def _read(
        self,
        cursor: SpoolPosition,
        end: int,
        marks: Sequence[int],
        collector: Collector,
        counts: list[int],
    ) -> Iterator[tuple[Record, SpoolPosition]]:
        """The records up to `end`, each with the position behind it; the collector is divided at
        each of the `marks`."""
        newest, size, behind = self._reader.end(), 0, cursor
        for mark in (*marks, end):
            for record, after in self._reader.read(behind, min(mark, newest)):
                if size > self._most:
                    break  # more than an honest spool holds: a call must come to an end
                yield record, after
                behind, size = after, size + len(record.data)
            if len(counts) < len(marks):
                counts.append(collector.divide())

    def _collector(self, policy: PollPolicy) -> Collector:
        encoding = BASE64 if policy.base64 else TEXT
        if policy.frames:
            return FrameCollector(encoding)
        limit = self._limit if policy.room is None else policy.room
        return Collector(limit, encoding) if policy.whole else CuttingCollector(limit)

    def silent_since(self, position: int) -> bool:
        """Whether there is no output behind `position`."""
        with self._lock:
            return self._closed or self._reader.end() <= max(position, START)

    def at(self, seen: int) -> SpoolPosition:
        """The cursor behind `seen` bytes of output."""
        with self._lock:
            return SpoolPosition(START) if self._closed else self._reader.at(seen)

    def size(self) -> int:
        """Bytes of disk that the console takes."""
        with self._lock:
            return 0 if self._closed else os.fstat(self._console).st_blocks * 512

    def close(self) -> None:
        """Give the descriptors back; later reads return nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._console)
                os.close(self._journal)
