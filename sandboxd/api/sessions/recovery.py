"""The sessions of before a restart, taken up again; those of which nothing is left are ended.

Runs that go on have their places before any that waits may have one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ...config import Config
from ...errors import Gone, Invalid, SandboxdError, StageError, Unavailable
from ...store import runs as run_table
from ...store import sessions as table
from ...store.database import Database
from ...store.runs import RunRow
from ...store.sessions import SessionRow
from .admission import Admission
from .deferred_writes import DeferredWrites
from .fair_queue import Amount
from .orders import restored
from .session import Session
from .warden_client import WardenClient

_log = logging.getLogger(__name__)

SETTLE_S = 10.0
"""Seconds that the shims of runs that go on may take to be found."""


class Recovery:
    """One restoration. `keep` makes a session of a row, `promise` tells what it was promised."""

    def __init__(
        self,
        config: Config,
        warden: WardenClient,
        database: Database,
        owed: DeferredWrites,
        admission: Admission,
        keep: Callable[[SessionRow], Session],
        promise: Callable[[SessionRow], Amount],
    ) -> None:
        self._config = config
        self._warden = warden
        self._database = database
        self._owed = owed
        self._admission = admission
        self._keep = keep
        self._promise = promise
        self._kept: list[Session] = []

    async def all(self) -> None:
        """Every session that the database has. Raises Gone when the warden is."""
        self._admission.runs.pause(True)
        orders = await self._database.run(run_table.all_orders)
        for row in await self._database.run(table.all_rows):
            try:
                await self._restore(row, orders.get(row.id, []))
            except Gone:
                raise  # it has refused nothing: the sessions are the next daemon's
            except Unavailable as error:
                _log.error("session %s (%s) waits for a restart: %s", row.id, row.name, error)
            except SandboxdError as error:
                await self._lose(row, str(error))
        deadline = time.monotonic() + SETTLE_S
        while self._undecided() and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        self._admission.runs.pause(False)

    def _undecided(self) -> bool:
        """Of a run at the head of a line it is not known yet whether it goes on or waits."""
        heads = {head for session in self._kept if (head := session.runs.active)}
        waiting = {head for head in heads if self._admission.runs.waiting(head)}
        return bool(heads - waiting - set(self._admission.going_on))

    async def _restore(self, row: SessionRow, orders: Sequence[RunRow]) -> None:
        """Take up one session, or end it if that was under way."""
        if row.status == "PENDING":
            self._kept.append(self._keep(row))
            return
        if row.slot is None:
            raise Invalid("it was never completed")
        ending = row.status == "TERMINATING"
        numbers = [] if ending else [order.number for order in orders]
        try:
            await self._warden.adopt(row.slot, row.id, row.mounts, numbers)
        except StageError as error:  # it can still be destroyed, and the next start may succeed
            _log.error("session %s (%s) cannot use its files: %s", row.id, row.name, error)
        if ending:
            await self._warden.release(row.slot, row.id)
            await self._end(row)
            return
        session = self._keep(row)
        self._kept.append(session)
        self._admission.sessions.take(row.id, row.owner, self._promise(row))
        await session.runs.restore([restored(order, self._config.console) for order in orders])

    async def _lose(self, row: SessionRow, why: str) -> None:
        """There is nothing left of a session. One that was never told of is forgotten."""
        _log.warning("session %s (%s) is dropped: %s", row.id, row.name, why)
        if row.status == "PREPARING":
            await self._owed.write(table.remove, row.id)
            return
        if row.status == "RUNNING":
            row = replace(row, status_info=f"lost at a restart: {why}")
            await self._owed.write(table.change, row, status_info=row.status_info)
        await self._end(row)

    async def _end(self, row: SessionRow) -> None:
        kept = self._config.sessions.ended_kept
        await self._owed.write(table.ended, row, time.time(), kept)
