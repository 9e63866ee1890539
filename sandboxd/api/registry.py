"""The sessions of this daemon: made, found, destroyed.

The database is written before the act, so that what is interrupted is found again at the next
start. Creating and destroying sessions of one name exclude each other; all else is concurrent.
"""

from __future__ import annotations

import asyncio
import fcntl
import functools
import logging
import os
import time
import uuid
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..config import Config
from ..errors import Exists, Invalid, NotFound, SandboxdError, Unavailable
from ..runs.channel import Channel
from ..runs.follower import Started
from ..runs.line import Runs
from ..runs.run import Run
from ..store import sessions as table
from ..store.database import Database
from ..store.sessions import Row
from .warden_client import WardenClient

_log = logging.getLogger(__name__)

SHELL = "/bin/bash"
HELPERS_MAX = 8
"""File calls that a session may have open at a time."""


@dataclass(slots=True)
class Session:
    """A session that runs: its row, its runs, and the turns for its file calls."""

    row: Row
    runs: Runs
    warden: WardenClient
    turns: asyncio.Semaphore
    closed: bool = False

    @property
    def slot(self) -> int:
        """The slot that it has leased."""
        if self.row.slot is None:
            raise NotFound("session", f"Session (id={self.row.id}) does not exist.")
        return self.row.slot

    async def open_helper(self) -> Channel:
        """A file helper of it, for one request."""
        return await self.warden.files(self.slot)

    def helper_gone(self) -> SandboxdError:
        """Why its file helper may have ended without an answer."""
        if self.closed:
            return NotFound("session", f"Session (id={self.row.id}) does not exist.")
        return Unavailable("the session's file helper is gone")


class Sessions:
    """All sessions, by UUID and by owner and name."""

    def __init__(self, config: Config, warden: WardenClient, database: Database) -> None:
        self.config = config
        self.warden = warden
        self._database = database
        self._by_id: dict[str, Session] = {}
        self._by_name: dict[tuple[str, str], Session] = {}
        self._locks: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )

    async def restore(self) -> None:
        """Take up the sessions of before the restart; forget those that the warden refuses."""
        for row in await asyncio.to_thread(table.all_rows, self._database):
            try:
                if row.slot is None:
                    raise Invalid("it was never completed")
                await self.warden.adopt(row.slot, row.id, row.mounts)
                if row.status == "TERMINATING":
    def told(self, text: str) -> str:
        """A message of its file helper: names are below /home/work here too."""
        return text

                    await self.warden.release(row.slot)
                    raise Invalid("it was being destroyed")
            except SandboxdError as error:
                if self.warden.gone:
                    raise  # it has refused nothing: the sessions are the next daemon's
                _log.warning("session %s (%s) is dropped: %s", row.id, row.name, error)
                await asyncio.to_thread(table.remove, self._database, row.id)
            else:
                self._keep(row)

    def _keep(self, row: Row) -> Session:
        runs = Runs(functools.partial(self._start, row.id), self.config.console)
        session = Session(row, runs, self.warden, asyncio.Semaphore(HELPERS_MAX))
        self._by_id[row.id] = self._by_name[row.owner, row.name] = session
        return session

    def find(self, owner: str, ref: str) -> Session:
        """The owner's session of this UUID, else of this name. Raises NotFound."""
        session = self._by_id.get(ref.lower())
        if session is None or session.row.owner != owner:
            session = self._by_name.get((owner, ref))
        if session is None:
            raise NotFound("session", f"Session (id={ref}) does not exist.")
        return session

    def of(self, owner: str) -> Iterable[Session]:
        """All sessions of an owner."""
        return [session for session in self._by_id.values() if session.row.owner == owner]

    def using(self, folder: str) -> list[Session]:
        """The sessions that see the virtual folder with this UUID."""
        mounted = [(one, mount) for one in self._by_id.values() for mount in one.row.mounts]
        return [one for one, mount in mounted if mount.folder == folder]

    async def get_or_create(self, wanted: Row, reuse: bool) -> tuple[Session, bool]:
        """The owner's session of `wanted`'s name, made from `wanted` if there is none; whether
        it was made.

        Raises Exists when there is one with another runtime, or `reuse` is false.
        """
        key = (wanted.owner, wanted.name)
        async with self._locks.setdefault(key, asyncio.Lock()):
            known = self._by_name.get(key)
            if known is None:
                return await self._create(wanted), True
        if not reuse or known.row.runtime != wanted.runtime:
            why = f"it runs {known.row.image}" if reuse else "reuseIfExists is false"
            data = {"existingSessionId": known.row.id}
            raise Exists(f"A session named {wanted.name} exists: {why}.", data)
        return known, False

    async def _create(self, wanted: Row) -> Session:
        scratch = self.config.scratch
        slot = None
        await asyncio.to_thread(table.add, self._database, wanted)
        try:
            slot = await self.warden.lease(
                wanted.id, scratch.size, scratch.inodes, wanted.mounts
            )
            await asyncio.to_thread(table.leased, self._database, wanted.id, slot)
        except Exception:  # whatever it was, nothing half made may stay
            if slot is not None:
                await self.warden.release(slot)
            await asyncio.to_thread(table.remove, self._database, wanted.id)
            raise
        return self._keep(replace(wanted, slot=slot, status="RUNNING"))

    async def destroy(self, session: Session) -> None:
        """End everything of a session and free its slot. Raises NotFound when somebody else
        does so already, StageError when the warden cannot prove the slot empty."""
        if session.closed:
            raise NotFound("session", f"Session (id={session.row.id}) does not exist.")
        session.closed = True
        row = session.row
        async with self._locks.setdefault((row.owner, row.name), asyncio.Lock()):
            del self._by_id[row.id], self._by_name[row.owner, row.name]
            await asyncio.to_thread(table.terminating, self._database, row.id)
            await session.runs.close()
            await self.warden.release(session.slot)
            await asyncio.to_thread(table.remove, self._database, row.id)

    async def _start(self, id: str, run: Run) -> Started:
        """Start a run under a number of its own; its standard input goes along as a file."""
        session = self._by_id.get(id)
        if session is None:
            raise Unavailable("the session is being destroyed")
        number = await asyncio.to_thread(table.next_run, self._database, id)
        session.row = replace(session.row, runs=number)
        plan = run.plan
        stdin = None if plan.stdin is None else sealed(plan.stdin)
        run.started_at = time.time()
        try:
            return await self.warden.start(
                session.slot, number, SHELL, plan.steps, plan.environ, stdin
            )
        finally:
            if stdin is not None:
                os.close(stdin)

    async def close(self) -> None:
        """Let go of everything; the sessions live on for the next daemon."""
        for session in self._by_id.values():
            await session.runs.close()


def new_id() -> str:
    """A UUID for a session."""
    return str(uuid.uuid4())


def sealed(text: bytes) -> int:
    """A file in memory with `text`, at its beginning, that nobody can change: memfd_create(2).

    It is ours to close. Without the seals a program could use it to grow the daemon's memory.
    """
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.lseek(fd, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd
