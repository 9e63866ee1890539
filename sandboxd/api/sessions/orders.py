"""The runs of one session as they outlive the daemon: its rows, and what the warden has of them.

A run is accepted when its row is on the disk. From its number follows its directory at the
warden, whose presence tells whether the run was started; so a restart finds each run in one of
three states, and does one thing for each:

    no directory, or it never began    it is started, in its turn
    its shim is there                  it is followed from where its client was
    its shim is gone                   its journal tells the result, or that there is none
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path

import msgspec

from ...config import ConsoleConfig
from ...errors import Gone, SandboxdError, Unavailable
from ...runs.follower import StartedRun
from ...runs.run import Plan, Run
from ...store import runs as table
from ...store.database import Database
from ...store.runs import RunRow
from ..telemetry.accounting import RunAccounting
from .admission import Admission
from .sealed_memfd import sealed
from .session import Session
from .warden_client import WardenClient

_log = logging.getLogger(__name__)

SHELL = "/bin/bash"

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
"""Tells one run of the kernel from another."""


class Orders:
    """Of the session `id`; the host of its line (runs/queue.py).

    session  the session, None once it is being destroyed
    over     accounts for a run that has ended
    """

    def __init__(
        self,
        id: str,
        warden: WardenClient,
        database: Database,
        admission: Admission,
        account: RunAccounting,
        session: Callable[[], Session | None],
        over: Callable[[Run], Awaitable[None]],
    ) -> None:
        self._id = id
        self._warden = warden
        self._database = database
        self._admission = admission
        self._account = account
        self._found: StartedRun | None = None
        self._session = session
        self._over = over

    async def take_down(self, runs: Sequence[Run], instead: Sequence[Run] = ()) -> None:
        """Number the runs and put their rows on the disk, in place of those `instead`, which the
        next daemon would end."""
        orders = [_order(self._id, run) for run in runs]
        now = time.time()
        try:
            old = [run.number for run in instead]
            numbers = await self._database.run(table.add, self._id, now, orders, old)
        except KeyError:
            raise Unavailable("the session is being destroyed") from None
        self._counted(numbers[-1], now)
        for run, number in zip(runs, numbers, strict=True):
            run.number = number

    def _counted(self, number: int, now: float) -> None:
        if session := self._session():
            session.row = replace(session.row, runs=number, used_at=now)

    @asynccontextmanager
    async def place(self, run: Run, waits: bool = True) -> AsyncIterator[None]:
        """Held while a run goes on; one that an earlier daemon has had started needs no turn."""
        session = self._session()
        if session is None:
            raise Unavailable("the session is being destroyed")
        self._found = await self.find(run) if run.restored else None
        has = self._found is not None
        async with self._admission.place(session.row.owner, run, waits, has):
            yield

    async def start(self, run: Run) -> StartedRun:
        """Start the run that has its place, its standard input goes along as a file; or take up
        the one that was found."""
        if found := self._found:
            self._found = None
            return found
        stdin = None if run.plan.stdin is None else sealed(run.plan.stdin)
        # Meanwhile: what a program has done that began a moment before is lost with the power, too.
        noting = asyncio.create_task(self._note_begun(run), name="begun")
        try:
            return await self._begin(run, stdin)
        finally:
            await noting
            if stdin is not None:
                os.close(stdin)

    async def _note_begun(self, run: Run) -> None:
        try:
            await self._database.run(table.begun, self._id, run.number)
        except (SandboxdError, sqlite3.Error) as error:  # its files tell it, but for a power cut
            _log.warning("that run %s has begun cannot be noted: %s", run.id, error)

    async def _begin(self, run: Run, given: int | None, terminal: bool = False) -> StartedRun:
        session, plan = self._session(), run.plan
        if session is None:
            raise Unavailable("the session is being destroyed")
        run.started_at = time.time()
        self._account.run_starts(session.row, run, run.number)
        return await self._warden.start(
            session.slot, self._id, run.number, SHELL, plan.steps, plan.environ, given, terminal,
            session.row.runtime,
        )  # fmt: skip

    async def sit(self, run: Run, seat: socket.socket) -> StartedRun:
        """Start a run on a terminal; `seat` is the socket of who sits at it. It ends with the
        daemon, so it has a number, but no row."""
        now = time.time()
        try:
            run.number = await self._database.run(table.number, self._id, now)
        except KeyError:
            raise Unavailable("the session is being destroyed") from None
        self._counted(run.number, now)
        return await self._begin(run, seat.fileno(), terminal=True)

    async def left(self, run: Run) -> None:
        """Account for a terminal that is over; nobody can ask for it."""
        if run.started_at:
            await self._over(run)
            await self.forget([run])

    async def find(self, run: Run) -> StartedRun | None:
        """What is there of a run that an earlier daemon had; None: it never began."""
        slot = self._slot()
        if slot is None:
            return None
        # Of one that began before a boot the disk may know nothing; it is over nevertheless.
        begun = run.begun and run.other_boot
        return await self._warden.follow(slot, self._id, run.number, begun)

    async def over(self, run: Run) -> None:
        """Account for a run that is over; one that has never begun is forgotten."""
        if run.started_at:
            await self._over(run)
        else:
            await self.forget([run])

    async def forget(self, runs: Sequence[Run]) -> None:
        """Remove the rows and the files of runs that nobody can ask for any more. The rows first:
        files without a row go at a restart, and a row without files would have its run begin."""
        numbers = [run.number for run in runs]
        slot = self._slot()
        try:
            await self._database.run(table.remove, self._id, numbers)
            if slot is not None:
                await self._warden.forget(slot, self._id, numbers)
        except Gone:
            pass
        except (SandboxdError, sqlite3.Error) as error:  # they go with the session at the latest
            _log.warning("old runs of session %s cannot be removed: %s", self._id, error)

    def _slot(self) -> int | None:
        session = self._session()
        return session.row.slot if session else None


def _order(session: str, run: Run) -> RunRow:
    # In ASCII: variables may have bytes that UTF-8 cannot carry.
    plan = json.dumps(asdict(replace(run.plan, stdin=None)))
    return RunRow(session, 0, run.id, plan, run.plan.stdin, BOOT)


def restored(order: RunRow, keep: ConsoleConfig) -> Run:
    """The run that an earlier daemon has taken down."""
    plan = replace(msgspec.convert(json.loads(order.plan), Plan), stdin=order.stdin)
    run = Run(order.id, plan, keep, order.number)
    run.ended_at = order.ended_at or 0.0
    run.begun, run.other_boot = order.begun, order.boot != BOOT
    return run
