"""The sessions of this daemon: found, kept, destroyed; creation.py makes them.

The database is written before the act, so that what is interrupted is found again at the next
start. Creating and destroying sessions of one name exclude each other; all else is concurrent.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sqlite3
import time
import uuid
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ...config import Config
from ...errors import (
    Draining,
    Exists,
    NotFound,
    StageError,
)
from ...runs.queue import RunQueue
from ...runs.run import Plan, Run
from ...runs.terminals import Terminals
from ...store import runs as run_table
from ...store import sessions as table
from ...store.clock_jump import ClockJump
from ...store.database import Database, Unwritable
from ...store.sessions import SessionRow
from ..telemetry.accounting import RunAccounting
from . import lifecycle
from .admission import DRAINED, Admission
from .creation import Creation
from .deferred_writes import DeferredWrites
from .event_bus import EventBus
from .orders import Orders
from .pending import PendingSession
from .recovery import Recovery
from .session import HELPERS_MAX, Session
from .warden_client import WardenClient

_log = logging.getLogger(__name__)


class SessionRegistry:
    """All sessions, by UUID and by owner and name."""

    def __init__(
        self,
        config: Config,
        warden: WardenClient,
        database: Database,
        admission: Admission,
        account: RunAccounting,
    ) -> None:
        self.config = config
        self.admission = admission
        self._account = account
        self.warden = warden
        self.events = EventBus()
        self._database = database
        self._by_id: dict[str, Session] = {}
        self._by_name: dict[tuple[str, str], Session] = {}
        self._ending: dict[str, Session] = {}
        self._locks: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )
        self.owed = DeferredWrites(database)
        self._creation = Creation(
            lambda: self.config, warden, database, self.owed, admission, self.events
        )

    async def restore(self) -> None:
        """Take up the sessions of before the restart; forget those that are no longer there."""
        restoring = Recovery(
            self.config, self.warden, self._database, self.owed, self.admission, self._keep,
            self._creation.promise,
        )  # fmt: skip
        await restoring.all()

    def _keep(self, row: SessionRow) -> Session:
        orders = Orders(
            row.id, self.warden, self._database, self.admission, self._account,
            lambda: self._by_id.get(row.id), functools.partial(self._over, row.id),
        )  # fmt: skip
        runs = RunQueue(orders, self.config.console)
        at_once = functools.partial(orders.place, waits=False)
        terminals = Terminals(orders.sit, self.config.console, orders.left, at_once)
        turns = asyncio.Semaphore(HELPERS_MAX)
        used = row.used_at, row.runs
        session = Session(row, runs, terminals, self.warden, turns, self.admission, *used)
        self._by_id[row.id] = self._by_name[row.owner, row.name] = session
        return session

    def find(self, owner: str, ref: str) -> Session:
        """The owner's session of this UUID, else of this name, which is used thereby.

        Raises NotFound.
        """
        session = self._by_id.get(ref.lower())
        if session is None or session.row.owner != owner:
            session = self._by_name.get((owner, ref))
        if session is None:
            raise NotFound("session", f"Session (id={ref}) does not exist.")
        session.used_at = time.time()
        session.requests += 1
        return session

    def has(self, ref: str) -> bool:
        """There is a session, whosever it is, of this UUID or name."""
        return ref.lower() in self._by_id or any(ref == name for _, name in self._by_name)

    def of(self, owner: str | None) -> Iterable[Session]:
        """All sessions of an owner; of everybody, if it is None."""
        return [one for one in self._by_id.values() if owner in (one.row.owner, None)]

    async def ended(self, owner: str, ref: str) -> SessionRow:
        """The owner's session that is over and had this UUID or name. Raises NotFound."""
        row = await self._database.run(table.ended_row, owner, ref)
        if row is None:
            raise NotFound("session", f"Session (id={ref}) does not exist.")
        return row

    async def log_of_ended(self, owner: str, ref: str) -> str:
        """The console text that was kept of such a session. Raises NotFound."""
        row = await self.ended(owner, ref)
        return await self._database.run(table.log, row.id)

    def rows(self) -> list[tuple[SessionRow, float, int]]:
        """The rows of all sessions, also of those that are being destroyed, with their last use and
        the number of requests for them."""
        found = [*self._by_id.values(), *self._ending.values()]
        return [(session.row, session.used_at, session.requests) for session in found]

    def ended_rows(self, owner: str | None) -> list[SessionRow]:
        """The sessions of an owner, None: of everybody, that are over. Blocks: for threads."""
        return table.ended_rows(self._database, owner)

    def using(self, folder: str) -> list[Session]:
        """The sessions that see the virtual folder with this UUID."""
        mounted = [(one, mount) for one in self._by_id.values() for mount in one.row.mounts]
        return [one for one, mount in mounted if mount.folder == folder]

    async def get_or_create(
        self,
        wanted: SessionRow,
        first: Sequence[tuple[str, Plan]],
        reuse: bool,
        wait_s: float = 0,
        may_wait: bool = False,
    ) -> tuple[Session, bool]:
        """The owner's session of `wanted`'s name, made from `wanted` if there is none, with its
        `first` runs; whether it was made. For a free slot it waits `wait_s` at most. One that
        `may_wait` is PENDING where the bounds of admission leave no room for it now.

        Raises Exists when there is one with another runtime, or `reuse` is false.
        """
        key = (wanted.owner, wanted.name)
        async with self._lock(*key):
            known = self._by_name.get(key)
            if known is None:
                return await self._create(wanted, first, wait_s, may_wait), True
        if not reuse or known.row.runtime != wanted.runtime:
            why = f"it runs {known.row.image}" if reuse else "reuseIfExists is false"
            data = {"existingSessionId": known.row.id}
            raise Exists(f"A session named {wanted.name} exists: {why}.", data)
        return known, False

    def _lock(self, owner: str, name: str) -> asyncio.Lock:
        """Held while there is made or unmade what goes by the name."""
        return self._locks.setdefault((owner, name), asyncio.Lock())

    async def _create(
        self, wanted: SessionRow, first: Sequence[tuple[str, Plan]], wait_s: float, may_wait: bool
    ) -> Session:
        row = await self._creation.create(wanted, wait_s, may_wait)
        session = self._keep(row)
        if row.status == "PENDING":
            self.hold(session, first)
        else:
            await session.runs.begin(first)
        return session

    def hold(self, session: Session, first: Sequence[tuple[str, Plan]]) -> None:
        """Have a PENDING session wait for its turn, and then begin with its `first` runs."""
        session.pending = PendingSession(session, self.admission.sessions, first)
        promise = self._creation.promise(session.row)
        session.pending.begin(promise, self._creation.begin, self.destroy)

    async def ask(self, session: Session, id: str, plan: Plan) -> Run:
        """The run called `id` in a session, as Runs.ask; a new one if it may begin or wait now.

        Raises what Runs.ask does, Draining, and RateLimited when too many of the owner's wait.
        """
        if not session.runs.knows(id):
            _ = session.slot  # it has begun
            if self.admission.paused:
                raise Draining(DRAINED)
            owner = session.row.owner
            waiting = sum(one.runs.waiting for one in self.of(owner))
            waiting += self.admission.runs.turns.waiting_of(owner)
            self.admission.check_waiting(waiting, "runs")
        return await session.runs.ask(id, plan)

    async def change(self, session: Session, **values: Any) -> None:
        """Set columns of a session's row, on the disk and then here."""
        await self._database.run(table.change, session.row, **values)
        session.row = replace(session.row, **values)
        self._publish_result(session.row, values)

    def _publish_result(self, row: SessionRow, values: dict[str, Any]) -> None:
        if values.get("result") == "SUCCESS":
            self.events.publish("success", row, "task-done", row.exit_code)
        elif values.get("result") == "FAILURE":
            self.events.publish("failure", row, "task-failed", row.exit_code)

    async def rename(self, session: Session, name: str) -> None:
        """Give a session another name. Raises Exists when the owner has one of that name."""
        owner, old = session.row.owner, session.row.name
        async with contextlib.AsyncExitStack() as stack:
            for each in sorted({old, name}):
                await stack.enter_async_context(self._lock(owner, each))
            other = self._by_name.get((owner, name), session)
            if session.closed or session.row.name != old:
                raise NotFound("session", f"Session (id={old}) does not exist.")
            if other is not session:
                data = {"existingSessionId": other.row.id}
                raise Exists(f"A session named {name} exists.", data)
            try:
                await self.change(session, name=name)
            except sqlite3.IntegrityError:  # of one that could not be taken up for now
                raise Exists(f"A session named {name} exists and waits for a restart.") from None
            del self._by_name[owner, old]
            self._by_name[owner, name] = session

    async def restart(self, session: Session) -> None:
        """Kill every run of a session; its files stay, and its own runs begin again."""
        await session.terminals.clear("the session was restarted")
        await session.runs.clear()

    async def destroy(self, session: Session, reason: str = "user-requested") -> SessionRow:
        """End everything of a session and free its slot; its last row. Raises NotFound when
        somebody else does so already, StageError when the warden cannot prove the slot empty."""
        if session.closed:
            raise NotFound("session", f"Session (id={session.row.id}) does not exist.")
        session.closed = True
        if session.pending:
            await session.pending.end()
        await session.runs.settled()
        async with session.accounts:
            pass  # what its client knows to be over is in the usage that the last row tells
        async with self._lock(session.row.owner, session.row.name):
            row = session.row = await self._condemn(session.row, reason)
            del self._by_id[row.id], self._by_name[row.owner, row.name]
            self._ending[row.id] = session
            self.events.publish("terminating", row, reason)
            log = await session.log() if row.startup_command else None
            await session.terminals.close("the session has ended")
            cut = session.runs.active
            await session.runs.close()
            if cut:
                self._account.run_over(row, cut, time.time())
            stuck = await self._free(row)
            kept = self.config.sessions.ended_kept
            await self.owed.write(table.ended, row, time.time(), kept, log)
            del self._ending[row.id]
            self.admission.sessions.leave(row.id)
            self.events.publish("terminated", row, reason)
        if stuck:
            raise stuck
        return row

    async def _condemn(self, row: SessionRow, reason: str) -> SessionRow:
        """The row of a session that is to end. On a full disk it ends unwritten, since that is
        what makes room: interrupted, it is lost with its slot at the next start."""
        now = time.time()
        try:
            return await self._database.run(table.move, row, "TERMINATING", now, status_info=reason)
        except Unwritable:
            history = {**row.history, "TERMINATING": now}
            return replace(row, status="TERMINATING", status_info=reason, history=history)

    async def _free(self, row: SessionRow) -> StageError | None:
        """Have the slot of a session emptied. What keeps it from being empty is no reason not to
        end the session: the warden tries again."""
        try:
            if row.slot is not None:
                await self.warden.release(row.slot, row.id)
        except StageError as error:
            return error
        return None

    async def _over(self, id: str, run: Run) -> None:
        """Account for a run that is over."""
        session = self._by_id.get(id)
        if session is None:
            return
        async with session.accounts:
            self._account.run_over(session.row, run, time.time())
            values = lifecycle.after(session.row, run, time.time())
            session.runs.notice = values.get("status_info", session.runs.notice)
            session.row = replace(session.row, **values)
            # Told nevertheless, from memory, while it cannot be written.
            await self.owed.write(run_table.ended, id, run.number, run.ended_at, **values)
            self._publish_result(session.row, values)

    def move(self, step: ClockJump) -> None:
        """The host's clock was set: so are the dates of all that lives."""
        for session in self._by_id.values():
            session.row = step.moved_row(session.row)
            session.used_at = step.moved(session.used_at)
            session.runs.move(step.moved)

    def suspend(self) -> None:
        """The daemon ends: nothing new begins, though places are given back now; calls that wait
        for a run are told at once that it goes on."""
        self.admission.pause(True)
        self.events.close()
        for session in self._by_id.values():
            session.runs.suspend()

    async def close(self) -> None:
        """Let go of everything; the sessions live on for the next daemon."""
        self.events.close()
        for session in self._by_id.values():
            if session.pending:
                await session.pending.cancel()
            await session.terminals.close("the daemon ends")
            await session.runs.close()
        with contextlib.suppress(Unwritable):  # the next one finds out by itself
            await self.owed.settle()


def new_id() -> str:
    """A UUID for a session."""
    return str(uuid.uuid4())
