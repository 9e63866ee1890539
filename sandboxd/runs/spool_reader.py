"""The reader of a run's spool files, for threads: reads block on the disk.

Descriptors are closed under the lock that reads hold. Without the lock, a descriptor number that
is closed while a thread is about to read could by then name another session's file.
"""

from __future__ import annotations

import os
import threading

from ..config import ConsoleConfig
from ..spool import START, ConsoleReader, SpoolPosition, read_events
from .console_items import Collector, FrameCollector, Item
from .journal import JournalEvent, parse


class SpoolReader:
    """The console and journal of one run; owns both descriptors."""

    def __init__(self, console: int, journal: int, config: ConsoleConfig) -> None:
        self._reader = ConsoleReader(console, config.head, config.tail)
        self._console, self._journal = console, journal
        self._limit = config.response_chars
        self._most = 2 * (config.head + config.tail)
        self._lock = threading.Lock()
        self._closed = False

    def events(self) -> list[JournalEvent]:
        """The events that are in the journal by now."""
        with self._lock:
            return [] if self._closed else parse(read_events(self._journal))

    def console(
        self, cursor: SpoolPosition, end: int, whole: bool = False
    ) -> tuple[list[Item], SpoolPosition, bool]:
        """The console items from `cursor` up to position `end` or as far as there are any, the
        cursor behind them, and whether there is more: if `whole`, text without room is left for
        the next time instead of cut."""
        collector = FrameCollector() if whole else Collector(self._limit)
        more = False
        with self._lock:
            if self._closed:
                return [], cursor, False
            chars, behind = 0, cursor
            for record, after in self._reader.read(cursor, min(end, self._reader.end())):
                if not collector.add(record):
                    more = True
                    break
                behind = after
                chars += len(record.text)
                if chars > self._most:
                    break  # more than an honest spool holds: a call must come to an end
        return collector.items(), behind, more

    def at(self, seen: int) -> SpoolPosition:
        """The cursor behind `seen` bytes of console text."""
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
