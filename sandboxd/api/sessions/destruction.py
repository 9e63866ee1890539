"""The end of a session: its runs are ended, its slot is given back, its last row is written."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from dataclasses import replace

from ...errors import Gone, NotFound, Refused, SandboxdError, StageError
from ...store import sessions as table
from ...store.database import Unwritable
from ...store.sessions import SessionRow
from .index import SessionIndex
from .services import Services
from .session import Session


class Destruction:
    """Destroys the sessions of one daemon."""

    def __init__(self, services: Services, index: SessionIndex) -> None:
        self._services = services
        self._index = index

    async def destroy(self, session: Session, reason: str) -> SessionRow:
        """End everything of a session and free its slot; its last row.

        Raises NotFound when the session is being destroyed already; StageError or Unavailable
        when the session is over and its slot could not be freed; Gone when the next daemon will
        end the session.
        """
        if session.closed:
            raise NotFound("session", f"Session (id={session.row.id}) does not exist.")
        session.closed = True
        session.ttl.over.set()
        try:
            if session.pending:
                await session.pending.withdraw()
            await session.accounted()  # the last row includes every run whose end a client knows
            async with self._index.name_lock(session.row.owner, session.row.name):
                session.row = await self._condemn(session, reason)
                self._index.begin_end(session)
                error = await self._end(session, reason)
        finally:
            session.over.set()
        if error:
            raise error
        return session.row

    async def _condemn(self, session: Session, reason: str) -> SessionRow:
        """The row of a session that is to end. Where the row cannot be written the session ends
        nevertheless, since its end makes room on a full disk: if the daemon is killed then, the
        next start loses it with its slot."""
        row, now = session.row, time.time()
        with contextlib.suppress(sqlite3.Error):
            if not session.ephemeral:  # after a loss of power it lives on, as if not asked to end
                return await self._services.database.write(
                    table.move, row, "TERMINATING", now, status_info=reason
                )
        history = {**row.history, "TERMINATING": now}
        return replace(row, status="TERMINATING", status_info=reason, history=history)

    async def _end(self, session: Session, reason: str) -> SandboxdError | None:
        """Carry out the end of a session that nobody finds any more; the error of the warden."""
        services, row = self._services, session.row
        services.events.publish("terminating", row, reason)
        log = await session.log() if row.startup_command else None
        await session.terminals.close("the session has ended")
        cut_short = session.runs.active
        await session.runs.close()
        session.inputs.clear()
        if cut_short:
            services.accounting.run_over(row, cut_short, time.time())
        recorded = asyncio.create_task(self._record_end(session, log), name="end of a session")
        try:
            error = await self._free(row)
        finally:
            await recorded
        with contextlib.suppress(Unwritable):  # the slot has left room on a full disk
            await services.deferred.settle()
        self._index.end(session)
        services.admission.sessions.release(row.id)
        services.events.publish("terminated", row, reason)
        return error

    async def _record_end(self, session: Session, log: str | None) -> None:
        """Write the last row. The slot is freed meanwhile: if this daemon is killed before, the
        next one removes a slot that no row names."""
        if not session.ephemeral:
            keep = self._services.config.sessions.ended_kept
            await self._services.deferred.write(table.ended, session.row, time.time(), keep, log)

    async def _free(self, row: SessionRow) -> SandboxdError | None:
        """Have the warden empty and free the slot. An error does not keep the session from its
        end: the warden tries again, and so does the check for leaks. Raises Gone: no row says that
        the session lives, so the next daemon frees the slot."""
        try:
            if row.slot is not None:
                await self._services.warden.release(row.slot, row.id)
        except Gone:
            raise
        except Refused as error:  # our mistake, not the client's
            return StageError("release", str(error))
        except SandboxdError as error:
            return error
        return None
