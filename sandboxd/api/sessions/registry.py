"""The registry of the sessions of this daemon: finds, creates, lists and destroys them.

The database is written before the act, so that the next start finds an act that was interrupted.
Creation and destruction of sessions of one name exclude each other; all else is concurrent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Sequence

from ...config.settings import Config
from ...errors import Exists, NotFound, SandboxdError
from ...runs.plan import Plan
from ...runtimes import Runtimes
from ...store import sessions as table
from ...store.clock_jump import ClockJump
from ...store.database import Unwritable
from ...store.sessions import SessionRow
from ..admission.admission import Admission
from .creation import Attend, Creation
from .destruction import Destruction
from .event_bus import EventBus
from .index import SessionIndex
from .recovery import Recovery
from .services import Services
from .session import Session

_log = logging.getLogger(__name__)


class SessionRegistry:
    """All sessions, by UUID and by owner and name.

    used  set when a session is used, for the periodic work
    """

    def __init__(self, services: Services) -> None:
        self.services = services
        self._index = SessionIndex()
        self._destruction = Destruction(services, self._index)
        self._creation = Creation(services, self._index, self._destruction)
        self._recovery = Recovery(services, self._index, self._creation, self._destruction)
        self._endings: set[asyncio.Task[None]] = set()
        self.used = asyncio.Event()

    @property
    def config(self) -> Config:
        """The configuration that is in use."""
        return self.services.config

    @property
    def admission(self) -> Admission:
        """The admission of runs and sessions."""
        return self.services.admission

    @property
    def events(self) -> EventBus:
        """The events of all sessions."""
        return self.services.events

    # -- start and end of the daemon

    async def restore(self) -> None:
        """Restore the sessions of an earlier daemon; forget those that are no longer there."""
        await self._recovery.restore()

    async def resume(self, runtimes: Runtimes) -> None:
        """Begin the restored sessions that an earlier daemon has not begun."""
        await self._recovery.resume(runtimes)

    def suspend(self) -> None:
        """The daemon ends: nothing new begins, though reservations are released now; calls that
        wait for a run reply at once that it goes on."""
        self.admission.pause("end")
        self.events.close()
        for session in self._index:
            session.suspend()

    async def close(self) -> None:
        """Let go of everything; the sessions live on for the next daemon."""
        self.events.close()
        for session in self._index:
            await session.close()
        with contextlib.suppress(Unwritable):  # the next daemon recovers without these writes
            await self.services.deferred.settle()
        await self.services.deferred.close()

    # -- find and list

    def unrecorded_ids(self) -> set[str]:
        """The UUIDs of sessions that may have a slot and no row: those that are created or end just
        now, and the ephemeral ones."""
        ephemeral = {session.row.id for session in self._index if session.ephemeral}
        return ephemeral | self._creation.leasing | {one.row.id for one in self._index.ending}

    def find(self, owner: str, ref: str) -> Session:
        """The owner's session of this UUID, else of this name; this counts as a use of it.

        Raises NotFound.
        """
        session = self._index.find(owner, ref)
        session.used_at = time.time()
        self.used.set()
        session.requests += 1
        return session

    def has(self, ref: str) -> bool:
        """There is a session of this UUID or name, of any owner."""
        return self._index.has(ref)

    def of(self, owner: str | None) -> list[Session]:
        """All sessions of an owner; of all owners, if it is None."""
        return [session for session in self._index if owner in (session.row.owner, None)]

    def using(self, folder: str) -> list[Session]:
        """The sessions that see the virtual folder with this UUID."""
        return [
            session for session in self._index
            if any(attachment.folder == folder for attachment in session.row.mounts)
        ]  # fmt: skip

    def rows(self) -> list[tuple[SessionRow, float, int]]:
        """The rows of all sessions, also of those that are being destroyed, with their last use and
        the number of requests for them."""
        sessions = [*self._index, *self._index.ending]
        return [(session.row, session.used_at, session.requests) for session in sessions]

    def ended_rows(self, owner: str | None) -> list[SessionRow]:
        """The sessions of an owner, None: of all owners, that are over. Blocks: for threads."""
        return table.ended_rows(self.services.database, owner)

    async def ended(self, owner: str, ref: str) -> SessionRow:
        """The owner's session that is over and had this UUID or name. Raises NotFound."""
        row = await self.services.database.run(table.ended_row, owner, ref)
        if row is None:
            raise NotFound("session", f"Session (id={ref}) does not exist.")
        return row

    async def log_of_ended(self, owner: str, ref: str) -> str:
        """The stored console text of such a session. Raises NotFound."""
        row = await self.ended(owner, ref)
        return await self.services.database.run(table.log, row.id)

    # -- create, rename, destroy

    async def get_or_create(
        self,
        wanted: SessionRow,
        own: Sequence[tuple[str, Plan]],
        reuse: bool,
        wait_s: float = 0,
        may_wait: bool = False,
    ) -> tuple[Session, bool]:
        """The owner's session of the name in `wanted`, or else a new one of this row, with its
        `own` runs; whether it is new. For a free slot the creation waits `wait_s` at most. A
        session that `may_wait` is PENDING where the bounds of admission leave no room for it now.

        Raises Exists when there is one with another runtime, or `reuse` is false.
        """
        self.used.set()
        while True:
            async with self._index.name_lock(wanted.owner, wanted.name):
                session = self._index.named(wanted.owner, wanted.name)
                if session is None:
                    return await self._creation.create(wanted, own, wait_s, may_wait), True
            if not session.closed or session.over.is_set():
                break
            await session.over.wait()  # its name is free then
        if reuse and wanted.network not in (None, session.row.network):
            raise Exists(f"A session named {wanted.name} exists: it has another network.")
        if not reuse or session.row.runtime != wanted.runtime:
            why = f"it runs {session.row.image}" if reuse else "reuseIfExists is false"
            data = {"existingSessionId": session.row.id}
            raise Exists(f"A session named {wanted.name} exists: {why}.", data)
        return session, False

    @contextlib.asynccontextmanager
    async def ephemeral(
        self, wanted: SessionRow, wait_s: float, attend: Attend
    ) -> AsyncIterator[Session]:
        """A session for the time of the block; however the block ends, nothing of the session is
        left. Arguments and errors are those of Creation.create_ephemeral."""
        self.used.set()
        session = await self._creation.create_ephemeral(wanted, wait_s, attend)
        try:
            yield session
        finally:
            ending = asyncio.create_task(self._end(session), name=f"end {session.row.id}")
            self._endings.add(ending)  # the loop alone would not keep a task alive
            ending.add_done_callback(self._endings.discard)
            await asyncio.shield(ending)  # also when the request is cancelled

    async def _end(self, session: Session) -> None:
        """Destroy an ephemeral session, or wait until another request has destroyed it."""
        try:
            await self.destroy(session, "request-over")
        except NotFound:
            await session.over.wait()
        except SandboxdError as error:  # the check for leaks frees its slot, or the next daemon
            _log.error("session %s has ended with an error: %s", session.row.id, error)

    async def rename(self, session: Session, name: str) -> None:
        """Give a session another name. Raises Exists when the owner has one of that name."""
        owner, old = session.row.owner, session.row.name
        async with contextlib.AsyncExitStack() as stack:
            for each in sorted({old, name}):
                await stack.enter_async_context(self._index.name_lock(owner, each))
            if session.closed or session.row.name != old:
                raise NotFound("session", f"Session (id={old}) does not exist.")
            other = self._index.named(owner, name)
            if other not in (None, session):
                raise Exists(f"A session named {name} exists.", {"existingSessionId": other.row.id})
            try:
                await session.change(name=name)
            except sqlite3.IntegrityError:  # the name of a session that could not be restored
                raise Exists(f"A session named {name} exists and waits for a restart.") from None
            self._index.rename(session, old)

    async def destroy(self, session: Session, reason: str = "user-requested") -> SessionRow:
        """End everything of a session and free its slot; its last row. Raises NotFound when the
        session is being destroyed already, SandboxdError when its slot could not be freed."""
        return await self._destruction.destroy(session, reason)

    def shift_dates(self, jump: ClockJump) -> None:
        """Move the dates of all sessions: the host's clock was set."""
        for session in self._index:
            session.shift_dates(jump)


def new_id() -> str:
    """A UUID for a session."""
    return str(uuid.uuid4())
