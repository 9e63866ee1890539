"""The creation of sessions: reserved, given a slot, recorded; or put into the queue.

A creation that fails half-way is undone. A daemon that is killed leaves a slot that no row names,
and the next one removes the slot, since no client knows of the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from ...errors import Exists, Full, NoSpace, QuotaExceeded, SandboxdError, Unavailable
from ...runs.plan import Plan
from ...store import sessions as table
from ...store.sessions import SessionRow
from ..admission.fair_queue import Amount
from ..options import limit_values
from ..processes.leased_slot import LeasedSlot
from .destruction import Destruction
from .index import SessionIndex
from .pending import PendingSession
from .services import Services
from .session import Session

_log = logging.getLogger(__name__)

RETRY_S = 0.5
"""How often a creation that may wait tries to lease a slot."""

PENDING_RETRY_S = 1.0
"""How often a PENDING session whose turn came tries to lease a slot, which another daemon may have
to give back first."""

Attend = Callable[[Coroutine[Any, Any, bool]], Awaitable[bool]]
"""The result of a wait, which ends with an error when the client is gone."""


class Creation:
    """Creates the sessions of one daemon.

    leasing  the UUIDs of the sessions that may have a slot already, and that no client knows yet
    """

    def __init__(self, services: Services, index: SessionIndex, destruction: Destruction) -> None:
        self._services = services
        self._index = index
        self._destruction = destruction
        self._admission = services.admission
        self._reservations = services.admission.sessions
        self.leasing: set[str] = set()

    async def create(
        self, wanted: SessionRow, own: Sequence[tuple[str, Plan]], wait_s: float, may_wait: bool
    ) -> Session:
        """A new session of the row `wanted`, with its `own` runs, RUNNING; for a free slot the
        creation waits `wait_s` at most. A session that `may_wait` is PENDING where the bounds of
        admission leave no room for it now.

        Raises Full, NoSpace, QuotaExceeded, Draining, Unavailable, StageError, Exists.
        """
        try:
            await self._admission.reserve_disk(wanted.id, wanted.owner, self._amount(wanted))
        except (Full, NoSpace, QuotaExceeded):
            if not may_wait:
                raise
            session = self._register(await self._record_pending(wanted))
            self.enqueue(session, own)
            return session
        try:
            row = await self._prepare(wanted, wait_s)
        except BaseException:  # also when the request is cancelled
            self._reservations.release(wanted.id)
            raise
        session = self._register(row)
        await session.runs.submit_own(own)
        return session

    def restore(self, row: SessionRow) -> Session:
        """The session of a row that an earlier daemon has written, with its reservation."""
        if row.status != "PENDING":
            self._reservations.take(row.id, row.owner, self._amount(row))
        session = self._register(row)
        session.ttl.await_holder()
        return session

    async def create_ephemeral(
        self, wanted: SessionRow, wait_s: float, attend: Attend
    ) -> Session:  # fmt: skip
        """A new session of the row `wanted` that is not written to the disk. It waits `wait_s` at
        most for its turn, and for a free slot; `attend` ends the wait for the turn when the client
        is gone. Raises what `create` and `attend` do, but for Exists."""
        wait_s = min(wait_s, self._services.config.sessions.wait_s)
        until = time.monotonic() + wait_s
        try:
            await self._admission.reserve_disk(wanted.id, wanted.owner, self._amount(wanted))
        except (Full, NoSpace, QuotaExceeded) as error:
            if not wait_s or not await self._reserve_in_turn(wanted, wait_s, attend):
                raise error from None
        events = self._services.events
        self.leasing.add(wanted.id)
        try:
            slot = await self._lease(wanted, max(0.0, until - time.monotonic()))
        except BaseException:  # also when the daemon ends
            self._reservations.release(wanted.id)
            raise
        finally:
            self.leasing.discard(wanted.id)
        slot.close()
        now = time.time()
        row = replace(
            wanted, status="RUNNING", slot=slot.number, used_at=now, history={"RUNNING": now}
        )
        events.publish("started", row)
        return self._register(row, ephemeral=True)

    async def _reserve_in_turn(self, wanted: SessionRow, wait_s: float, attend: Attend) -> bool:
        """Reserve for a session when its turn comes within `wait_s`; whether it did."""
        queued = self._reservations.queue.queued_of(wanted.owner)
        self._admission.check_queued(queued, "sessions")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                return await attend(
                    self._reservations.reserve_in_turn(
                        wanted.id, wanted.owner, self._amount(wanted)
                    )
                )
        return False

    def _register(self, row: SessionRow, ephemeral: bool = False) -> Session:
        session = Session(row, self._services, ephemeral)
        self._index.add(session)
        return session

    def _amount(self, row: SessionRow) -> Amount:
        """The amount that a session reserves."""
        return Amount(1, self._scratch_size(row))

    def _scratch_size(self, row: SessionRow) -> int:
        most = self._services.config.scratch.size
        return limit_values.scratch_size(row.limits.get("disk", most), most)

    # -- at once

    async def _prepare(self, wanted: SessionRow, wait_s: float) -> SessionRow:
        """The row of a new session, RUNNING in a slot of its own. It is written once: before, the
        session is known to nobody, and the next daemon removes a slot that no row names."""
        services = self._services
        await services.deferred.settle()
        for kind in ("enqueued", "scheduled", "preparing"):
            services.events.publish(kind, wanted)
        self.leasing.add(wanted.id)
        try:
            slot = await self._lease(wanted, wait_s)
            now = time.time()
            row = replace(
                wanted, status="RUNNING", slot=slot.number, used_at=now, renewed_at=now,
                history={"PREPARING": wanted.created_at, "RUNNING": now},
            )  # fmt: skip
            await self._record(row, slot)
        except Exception as error:  # after any error, nothing may stay half made
            services.events.publish("cancelled", wanted, type(error).__name__)
            raise
        finally:
            self.leasing.discard(wanted.id)
        services.events.publish("started", row)
        return row

    async def _record(self, row: SessionRow, slot: LeasedSlot) -> None:
        """Bring the row and the lease of its slot to the disk, both at a time."""
        services = self._services
        added, flushed = await asyncio.gather(
            services.database.run(table.add, row), slot.flush(), return_exceptions=True
        )
        if added is None and flushed is None:
            return
        await services.warden.release(slot.number, row.id)
        if isinstance(added, sqlite3.IntegrityError):  # of a session that could not be restored
            raise Exists(f"A session named {row.name} exists and waits for a restart.")
        if added is None:
            await services.deferred.write(table.remove, row.id)
        raise added or flushed or AssertionError

    async def _lease(self, row: SessionRow, wait_s: float) -> LeasedSlot:
        config, warden = self._services.config, self._services.warden
        size = self._scratch_size(row)
        inodes = config.scratch.inodes_of(size)
        until = time.monotonic() + min(wait_s, config.sessions.wait_s)
        while True:
            try:
                return await warden.lease(
                    row.id, row.owner, size, inodes, row.mounts, row.network, row.workspace
                )
            except Unavailable:
                if warden.gone or time.monotonic() >= until:
                    raise
            await asyncio.sleep(RETRY_S)

    # -- in turn

    async def _record_pending(self, wanted: SessionRow) -> SessionRow:
        queued = self._reservations.queue.queued_of(wanted.owner)
        self._services.admission.check_queued(queued, "sessions")
        row = replace(wanted, status="PENDING", history={"PENDING": wanted.created_at})
        await self._services.database.run(table.add, row)
        self._services.events.publish("enqueued", row)
        return row

    def enqueue(self, session: Session, own: Sequence[tuple[str, Plan]]) -> None:
        """Have a PENDING session wait for its turn, and then begin with its `own` runs."""
        row = session.row
        session.pending = PendingSession(row.id, self._reservations)
        self._reservations.enqueue(row.id, row.owner, self._amount(row))
        session.pending.begin(self._begin_in_turn(session, own))

    async def _begin_in_turn(self, session: Session, own: Sequence[tuple[str, Plan]]) -> None:
        id = session.row.id
        try:
            if await self._reservations.granted(id) and await self._begin_with_retries(session):
                await session.runs.submit_own(own)
        except SandboxdError as error:
            _log.warning("session %s cannot begin: %s", id, error)
            session.pending = None  # its destruction must not wait for this task
            await self._destruction.destroy(session, error.public)
        finally:
            session.pending = None

    async def _begin_with_retries(self, session: Session) -> bool:
        """Make a PENDING session RUNNING; False: it was destroyed before."""
        while not session.closed:
            try:
                await self._begin(session)
                return True
            except Unavailable as error:  # no slot can be leased just now
                _log.info("session %s goes on waiting: %s", session.row.id, error)
                await asyncio.sleep(PENDING_RETRY_S)
        return False

    async def _begin(self, session: Session) -> None:
        """Make a PENDING session RUNNING. Raises what `create` does."""
        services, row, now = self._services, session.row, time.time()
        await services.deferred.settle()
        slot = await self._lease(row, 0)
        try:
            await slot.flush()
            row = await services.database.run(
                table.move, row, "RUNNING", now, slot=slot.number, used_at=now
            )
        except BaseException:  # also when the daemon ends
            await services.warden.release(slot.number, row.id)
            raise
        # Columns that others have changed meanwhile stay as they are.
        session.row = replace(session.row, status=row.status, slot=row.slot, history=row.history)
        session.used_at = now
        for kind in ("scheduled", "preparing", "started"):
            services.events.publish(kind, session.row)
