"""The recovery of sessions after a restart; a session of which nothing is left is ended.

Runs that go on have their reservations before any run that waits is admitted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from ...errors import Gone, Invalid, SandboxdError, StageError, Unavailable
from ...runtimes import Runtimes
from ...store import runs as run_table
from ...store import sessions as table
from ...store.runs import RunRow
from ...store.sessions import SessionRow
from . import lifecycle
from .creation import Creation
from .destruction import Destruction
from .index import SessionIndex
from .run_records import recorded_run
from .services import Services
from .session import Session

_log = logging.getLogger(__name__)

SETTLE_S = 10.0
"""Seconds in which the shims of runs that go on must be found."""


class Recovery:
    """Restores the sessions of an earlier daemon, once."""

    def __init__(
        self, services: Services, index: SessionIndex, creation: Creation, destruction: Destruction
    ) -> None:
        self._services = services
        self._index = index
        self._creation = creation
        self._destruction = destruction

    async def restore(self) -> None:
        """Restore every session in the database. Raises Gone when the warden is gone."""
        admission, database = self._services.admission, self._services.database
        admission.runs.pause("restore")
        runs = await database.run(run_table.all_rows)
        for row in await database.run(table.all_rows):
            try:
                await self._restore(row, runs.get(row.id, []))
            except Gone:
                raise  # the warden has refused nothing: the next daemon restores the sessions
            except Unavailable as error:
                _log.error("session %s (%s) waits for a restart: %s", row.id, row.name, error)
                self._index.add_unadopted(row, error.public)
            except SandboxdError as error:
                await self._lose(row, error)
        deadline = time.monotonic() + SETTLE_S
        while self._undecided() and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        admission.runs.resume("restore")

    def _undecided(self) -> bool:
        """At least one run at the head of a queue neither goes on nor waits yet."""
        admission = self._services.admission
        heads = {head for session in self._index if (head := session.runs.active)}
        queued = {head for head in heads if admission.runs.place(head)}
        return bool(heads - queued - set(admission.going_on))

    async def _restore(self, row: SessionRow, runs: Sequence[RunRow]) -> None:
        """Restore one session, or end it if its destruction was interrupted."""
        if row.status == "PENDING":
            self._creation.restore(row)
            return
        if row.slot is None:
            raise Invalid("it was never completed")
        ending = row.status == "TERMINATING"
        numbers = [] if ending else [run.number for run in runs]
        try:
            await self._services.warden.adopt(
                row.slot, row.id, row.owner, row.mounts, numbers, row.network, row.workspace
            )
        except StageError as error:  # it can still be destroyed, and the next start may succeed
            _log.error("session %s (%s) cannot use its files: %s", row.id, row.name, error)
        if ending:
            await self._services.warden.release(row.slot, row.id)
            await self._end(row)
            return
        session = self._creation.restore(row)
        console = self._services.config.console
        restored = [recorded_run(run, console) for run in runs]
        session.inputs.take(restored)
        await session.runs.restore(restored)

    async def _lose(self, row: SessionRow, error: SandboxdError) -> None:
        """End a session without any remains; forget a session that no client knows."""
        _log.warning("session %s (%s) is dropped: %s", row.id, row.name, error)
        if row.status == "PREPARING":
            await self._services.deferred.write(table.remove, row.id)
            return
        if row.status == "RUNNING":
            row = replace(row, status_info=f"lost at a restart: {error.public}")
            await self._services.deferred.write(table.change, row, status_info=row.status_info)
        await self._end(row)

    async def _end(self, row: SessionRow) -> None:
        keep = self._services.config.sessions.ended_kept
        await self._services.deferred.write(table.ended, row, time.time(), keep)

    # -- own runs that never began

    async def resume(self, runtimes: Runtimes) -> None:
        """Begin the restored sessions that an earlier daemon has not begun: those that are
        PENDING, and those whose own runs were never submitted."""
        for session in self._index:
            row = session.row
            if row.status == "PENDING":
                await self._resume_pending(session, runtimes)
            elif not row.runs and (row.bootstrap_script or row.startup_command):
                await self._resume_own_runs(session, runtimes)

    async def _resume_pending(self, session: Session, runtimes: Runtimes) -> None:
        row = session.row
        try:
            runtime = runtimes.resolve(row.runtime)
            own = lifecycle.own_runs(row, runtime, self._services.config)
            self._creation.enqueue(session, own)
        except SandboxdError as error:  # the runtime is gone, or its limits are others now
            _log.warning("session %s (%s) cannot begin: %s", row.id, row.name, error)
            await self._destruction.destroy(session, error.public)

    async def _resume_own_runs(self, session: Session, runtimes: Runtimes) -> None:
        row = session.row
        try:
            runtime = runtimes.resolve(row.runtime)
            await session.runs.submit_own(lifecycle.own_runs(row, runtime, self._services.config))
        except SandboxdError as error:  # as above
            _log.warning("session %s (%s) cannot begin: %s", row.id, row.name, error)
            await session.change(**lifecycle.failed(row, error.public, time.time()))
