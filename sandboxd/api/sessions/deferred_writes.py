"""The deferred writes: changes that have happened, and that a full disk keeps from being written.

A session that is over, or was never completed, is so whether its row says it or not. Its end is not
undone for want of disk space: the write is deferred, and the periodic work tries again. Until all
of them are written, nothing new is created, since a new row could meet an old row of the same name
or slot. If the daemon is killed before, the next one finds the rows without a slot behind them, and
forgets them.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ...errors import Invalid
from ...store import runs
from ...store.database import Database, Unwritable
from ...store.runs import RunEnd
from ...store.secret_removal import SecretRemoval

NOTE_S = 0.5
"""How long a note waits for others."""

_log = logging.getLogger(__name__)


class _Notes:
    """The ends and removals of runs of one session that are written together. Most runs of a
    session in use are removed before their end is written, which then needs no write."""

    def __init__(self, session: str) -> None:
        self._session = session
        self.ends: list[RunEnd] = []
        self.removed: set[int] = set()

    def __call__(self, database: Database) -> None:
        """Write them."""
        runs.ended(database, self._session, self.ends, self.removed)


class DeferredWrites:
    """The writes to `database` that are due, oldest first."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due: deque[Callable[[Database], object]] = deque()
        self._notes: dict[str, _Notes] = {}  # by session: those of `_due` that may still change
        self._is_urgent = False
        self._trying: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._removal = SecretRemoval(database)

    @property
    def are_due(self) -> bool:
        """Some have not been written yet."""
        return bool(self._due)

    async def write(self, act: Callable[..., object], *args: Any, **values: Any) -> None:
        """Have `act` write now, after all writes that are due before it; or later."""
        self._due.append(lambda database: act(database, *args, **values))
        self._notes.clear()  # later notes come after it
        self._is_urgent = True
        await self._try()

    def note_end(self, session: str, end: RunEnd) -> None:
        """Have the end of a run written. All notes of NOTE_S are one transaction. An end of the
        daemon before that undoes them, and a loss of power a second later (Database.write)."""
        self._notes_of(session).ends.append(end)
        if self._trying is None or self._trying.done():
            self._trying = asyncio.create_task(self._write_notes(), name="deferred writes")

    def note_removal(self, session: str, numbers: Iterable[int]) -> None:
        """Have the rows of runs that are over removed, with the next `settle`."""
        self._notes_of(session).removed.update(numbers)

    def _notes_of(self, session: str) -> _Notes:
        if session not in self._notes:
            self._notes[session] = _Notes(session)
            self._due.append(self._notes[session])
        return self._notes[session]

    async def _write_notes(self) -> None:
        await asyncio.sleep(NOTE_S)
        await self._try()

    async def _try(self) -> None:
        try:
            await self.settle()
        except Unwritable as error:
            _log.error("%d writes wait for room on the disk: %s", len(self._due), error)

    async def settle(self) -> None:
        """Carry out all writes that are due, in one transaction. Raises Unwritable.

        A task of its own does so: the thread of the database goes on when a caller is cancelled,
        and the writes that it has carried out must not be carried out again.
        """
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settle(), name="settle writes")
            self._settling.add_done_callback(_retrieve)
        await asyncio.shield(self._settling)

    async def _settle(self) -> None:
        while self._due:
            acts, is_urgent = tuple(self._due), self._is_urgent
            self._notes.clear()
            work = partial(_write_all, acts=acts)
            await (self._database.run(work) if is_urgent else self._database.write(work))
            self._is_urgent = self._is_urgent and len(self._due) > len(acts)
            for _ in acts:
                self._due.popleft()
        self._removal.begin_if_due()

    async def close(self) -> None:
        """End what goes on, after the last `settle`."""
        await self._removal.close()


def _retrieve(task: asyncio.Task[None]) -> None:
    """Take the error, if there is one: all that wait for the task may have been cancelled."""
    if not task.cancelled():
        task.exception()


def _write_all(database: Database, acts: Iterable[Callable[[Database], object]]) -> None:
    """Carry out all writes, or none and raise Unwritable."""
    with database.transaction():
        for act in acts:
            try:
                act(database)
            except Unwritable:
                raise
            except (sqlite3.Error, Invalid) as error:  # it never can be; memory has it until we end
                _log.error("the end of a session or run cannot be stored: %s", error)
