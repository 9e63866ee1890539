"""How a session comes to be: promised, put down, given a slot; or put into line.

What is half made when something fails is undone, and its row removed; a daemon that is killed
leaves the row as PREPARING, and the next one forgets it, since nobody was told.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace

from ...config import Config
from ...errors import Exists, Full, NoSpace, QuotaExceeded, Unavailable
from ...store import sessions as table
from ...store.database import Database
from ...store.sessions import SessionRow
from . import sizes
from .admission import Admission
from .deferred_writes import DeferredWrites
from .event_bus import EventBus
from .fair_queue import Amount
from .session import Session
from .warden_client import WardenClient

RETRY_S = 0.5
"""How often a creation that may wait looks for a free slot."""


class Creation:
    """Makes the sessions of one daemon; `config` tells how it is configured now."""

    def __init__(
        self,
        config: Callable[[], Config],
        warden: WardenClient,
        database: Database,
        owed: DeferredWrites,
        admission: Admission,
        events: EventBus,
    ) -> None:
        self._config = config
        self._warden = warden
        self._database = database
        self._owed = owed
        self._admission = admission
        self._events = events

    def promise(self, row: SessionRow) -> Amount:
        """What a new session is promised."""
        return Amount(1, self._size(row))

    def _size(self, row: SessionRow) -> int:
        """Bytes of a session's scratch."""
        most = self._config().scratch.size
        return sizes.scratch_size(row.limits.get("disk", most), most)

    async def create(self, wanted: SessionRow, wait_s: float, may_wait: bool) -> SessionRow:
        """The row of a new session, RUNNING; for a free slot it waits `wait_s` at most. PENDING,
        if it `may_wait` and the bounds of admission leave no room for it now.

        Raises Full, NoSpace, QuotaExceeded, Draining, Unavailable, StageError, Exists.
        """
        try:
            await self._admission.promise_disk(wanted.id, wanted.owner, self.promise(wanted))
        except (Full, NoSpace, QuotaExceeded):
            if not may_wait:
                raise
            return await self._enqueue(wanted)
        try:
            return await self._make(wanted, wait_s)
        except BaseException:
            self._admission.sessions.leave(wanted.id)
            raise

    async def _enqueue(self, wanted: SessionRow) -> SessionRow:
        waiting = self._admission.sessions.turns.waiting_of(wanted.owner)
        self._admission.check_waiting(waiting, "sessions")
        row = replace(wanted, status="PENDING", history={"PENDING": wanted.created_at})
        await self._database.run(table.add, row)
        self._events.publish("enqueued", row)
        return row

    async def begin(self, session: Session) -> None:
        """The turn of a PENDING session has come. Raises what `create` does."""
        row, now = session.row, time.time()
        await self._owed.settle()
        slot = await self._lease(row, 0)
        try:
            row = await self._database.run(table.move, row, "RUNNING", now, slot=slot, used_at=now)
        except BaseException:
            await self._warden.release(slot, row.id)
            raise
        # what others have changed meanwhile stays
        session.row = replace(session.row, status=row.status, slot=slot, history=row.history)
        session.used_at = now
        for what in ("scheduled", "preparing", "started"):
            self._events.publish(what, session.row)

    async def _make(self, wanted: SessionRow, wait_s: float) -> SessionRow:
        slot = None
        wanted = replace(wanted, history={"PREPARING": wanted.created_at})
        await self._owed.settle()
        try:
            await self._database.run(table.add, wanted)
        except sqlite3.IntegrityError:  # one that could not be taken up for now
            raise Exists(f"A session named {wanted.name} exists and waits for a restart.") from None
        for what in ("enqueued", "scheduled", "preparing"):
            self._events.publish(what, wanted)
        try:
            slot = await self._lease(wanted, wait_s)
            now = time.time()
            row = await self._database.run(
                table.move, wanted, "RUNNING", now, slot=slot, used_at=now
            )
        except Exception as error:  # whatever it was, nothing half made may stay
            self._events.publish("cancelled", wanted, type(error).__name__)
            if slot is not None:
                await self._warden.release(slot, wanted.id)
            await self._owed.write(table.remove, wanted.id)
            raise
        self._events.publish("started", row)
        return row

    async def _lease(self, wanted: SessionRow, wait_s: float) -> int:
        config = self._config()
        size, inodes = self._size(wanted), config.scratch.inodes
        until = time.monotonic() + min(wait_s, config.sessions.wait_s)
        while True:
            try:
                return await self._warden.lease(wanted.id, size, inodes, wanted.mounts)
            except Unavailable:
                if self._warden.gone or time.monotonic() >= until:
                    raise
            await asyncio.sleep(RETRY_S)
