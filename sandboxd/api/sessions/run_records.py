"""The records of one session's runs in the database, by which runs outlive the daemon.

A run is accepted when its row is on the disk. The warden names the directory of a run by the number
in the row, and the presence of the directory shows that the run was started. So a restart finds
each run in one of three states, and does one thing for each:

    no directory, or it never began    it is started, in its turn
    its shim is there                  it is followed from the client's cursor
    its shim is gone                   its journal has the result, or shows that there is none
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from ...config.settings import ConsoleConfig
from ...errors import Deleted, Gone, SandboxdError
from ...runs.plan import Plan
from ...runs.run import Run
from ...store import runs as table
from ...store.runs import RunRow
from ..options.batch import compact
from .services import Services

_log = logging.getLogger(__name__)

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
"""Tells one run of the kernel from another."""


class RunRecords:
    """The records of the runs of the session `id`."""

    def __init__(self, id: str, services: Services) -> None:
        self._id = id
        self._database = services.database
        self._warden = services.warden
        self._deferred = services.deferred

    async def add(
        self, runs: Sequence[Run], replaced: Sequence[Run], now: float
    ) -> Awaitable[object]:
        """Number the runs and record their rows, in one transaction with the removal of those
        `replaced`, which the next daemon would begin. No end of the daemon undoes this any more;
        the result comes when no loss of power does. Raises Unavailable when the session is gone.
        """
        rows = [_row(self._id, run) for run in runs]
        old = [run.number for run in replaced]
        commit = self._database.begin(table.add, self._id, now, rows, old)
        try:
            numbers = await commit.written
        except KeyError:
            raise Deleted("session") from None
        for run, number in zip(runs, numbers, strict=True):
            run.number = number
        return commit.durable

    async def number(self, run: Run, now: float) -> int:
        """Number a run without a row: one that ends with the daemon. Raises Unavailable when the
        session is gone."""
        try:
            run.number = await self._database.run(table.number, self._id, now)
        except KeyError:
            raise Deleted("session") from None
        return run.number

    def note_waiting(self, run: Run) -> None:
        """Note that the run waits after all, if its row says that it was begun."""
        if run.begun:
            run.begun = False
            self._database.begin(table.begun, self._id, run.number, False)

    async def note_begun(self, run: Run) -> None:
        """Note that the run is being started: after a power cut the disk may not show it."""
        run.begun = True
        try:
            await self._database.run(table.begun, self._id, run.number, True)
        except (SandboxdError, sqlite3.Error) as error:  # its files show it, but for a power cut
            _log.warning("the start of run %s cannot be noted: %s", run.id, error)

    async def forget(self, runs: Sequence[Run], slot: int | None) -> None:
        """Remove the rows and the files of runs. The rows first: at a restart, files without a
        row are removed, but a row without files would have its run begin."""
        numbers = [run.number for run in runs]
        # A row that a loss of power brings back has a run begin, unless the run has ended.
        is_over = all(run.ended_at and run.begun for run in runs)
        try:
            if is_over:  # together with the usage of these runs
                self._deferred.note_removal(self._id, numbers)
            await self._deferred.settle()
            if not is_over:
                await self._database.run(table.remove, self._id, numbers)
            if slot is not None:
                await self._warden.forget(slot, self._id, numbers)
        except Gone:
            pass
        except (SandboxdError, sqlite3.Error) as error:  # they go with the session at the latest
            _log.warning("old runs of session %s cannot be removed: %s", self._id, error)


class EphemeralRecords(RunRecords):
    """The records of an ephemeral session: numbers, and no row in the database."""

    def __init__(self, id: str, services: Services) -> None:
        super().__init__(id, services)
        self._last = 0

    async def add(
        self, runs: Sequence[Run], replaced: Sequence[Run], now: float
    ) -> Awaitable[object]:
        """Number the runs. The result is there at once: nothing is written."""
        for run in runs:
            await self.number(run, now)
        nothing = asyncio.get_running_loop().create_future()
        nothing.set_result(None)
        return nothing

    async def number(self, run: Run, now: float) -> int:
        """Number a run."""
        self._last += 1
        run.number = self._last
        return run.number

    def note_waiting(self, run: Run) -> None:
        """Note that the run waits after all."""
        run.begun = False

    async def note_begun(self, run: Run) -> None:
        """Note that the run is being started, in memory: it is never started again."""
        run.begun = True

    async def forget(self, runs: Sequence[Run], slot: int | None) -> None:
        """Remove the files of runs."""
        if slot is not None:
            with contextlib.suppress(SandboxdError):  # they go with the session at the latest
                await self._warden.forget(slot, self._id, [run.number for run in runs])


def _row(session: str, run: Run) -> RunRow:
    return RunRow(session, 0, run.id, plan_text(run), run.plan.stdin, BOOT, begun=run.begun)


def plan_text(run: Run) -> str:
    """The plan of a run as its row has it."""
    plan = run.plan if run.plan.stdin is None else replace(run.plan, stdin=None)
    try:
        return msgspec.json.encode(plan).decode()
    except UnicodeEncodeError:  # variables may have bytes that UTF-8 cannot carry
        return json.dumps(msgspec.to_builtins(plan))


def recorded_run(row: RunRow, config: ConsoleConfig) -> Run:
    """The run of a row that an earlier daemon has written."""
    is_used = row.stdin is not None and row.ended_at
    stdin = b"" if is_used else row.stdin
    plan = msgspec.convert(json.loads(row.plan), Plan)
    plan = replace(plan, stdin=stdin, options=compact(plan.options))
    run = Run(row.id, plan, config, row.number)
    run.ended_at = row.ended_at or 0.0
    run.begun, run.other_boot = row.begun, row.boot != BOOT
    return run
