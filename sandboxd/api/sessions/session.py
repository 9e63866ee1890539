"""A session while it lives: its row, its runs and terminals, and its life on the disk.

The session is the host of its run queue and of its terminals (QueueHost, TerminalHost): it records
runs, has them admitted and started, accounts for them and forgets them.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from ...errors import Deleted, Full, NotFound, SandboxdError, Unavailable
from ...runs.channel import Channel
from ...runs.console_items import text
from ...runs.follower import StartedRun
from ...runs.plan import Plan
from ...runs.polling import POLL, PollPolicy
from ...runs.queue import RunQueue
from ...runs.run import Run
from ...runs.terminals import Terminals
from ...store import runs as run_table
from ...store import sessions as table
from ...store.clock_jump import ClockJump
from ...store.runs import RunEnd
from ...store.sessions import SessionRow
from ..admission.admission import AdmissionMode, QueuePlace
from ..processes.file_client import HelperPermits
from ..processes.warden_client import RunStart
from . import lifecycle
from .pending import PendingSession
from .run_records import EphemeralRecords, RunRecords, plan_text
from .sealed_memfd import sealed
from .services import Services
from .time_to_live import TimeToLive
from .waiting_inputs import WaitingInputs

SHELL = "/bin/bash"


class Session:
    """A session that lives.

    helpers   the bound of its file calls
    used_at   seconds since 1970 of the last request for it; more exact than the row
    requests  for it so far; of a session that an earlier daemon has made, at least its runs
    closed    it is being destroyed, and serves no requests any more
    over      its destruction has ended
    warned    its users have a warning that it ends soon
    pending   its wait for its turn, while it waits
    ephemeral it lives for one request and has no row on the disk: the daemon that is killed leaves
              only its slot, which the next daemon removes because no row names it
    inputs    the standard inputs of its runs that wait
    ttl       its time to live, and its holders
    """

    kind = "session"

    def __init__(self, row: SessionRow, services: Services, ephemeral: bool = False) -> None:
        self.row, self.ephemeral = row, ephemeral
        self.runs = RunQueue(self, services.config.console)
        self.terminals = Terminals(self, services.config.console)
        self.helpers = HelperPermits(services.helpers, row.owner)
        self.used_at, self.requests = row.used_at, row.runs
        self.ttl = TimeToLive(row.renewed_at)
        self.closed = self.warned = False
        self.over = asyncio.Event()
        self.pending: PendingSession | None = None
        self._services = services
        self._records = (EphemeralRecords if ephemeral else RunRecords)(row.id, services)
        self.inputs = WaitingInputs(services.bodies, row.owner)
        self._accounting_lock = asyncio.Lock()

    # -- state

    def check_begun(self) -> None:
        """Raise Full while it waits for its turn, NotFound when it has no slot."""
        if place := self.place:
            raise Full(f"the session has not begun yet, it waits for its turn: {place.reason}")
        if self.row.slot is None:
            raise self._missing()

    @property
    def slot(self) -> int:
        """The slot that it has leased. Raises as `check_begun`."""
        self.check_begun()
        assert self.row.slot is not None
        return self.row.slot

    @property
    def place(self) -> QueuePlace | None:
        """The position at which the session waits; None: the session has begun."""
        return self._services.admission.sessions.place(self.row.id)

    def place_of(self, run: Run) -> QueuePlace | None:
        """The position at which a run of the session waits; None: the run does not wait."""
        return self._services.admission.place(self.runs, run)

    @property
    def busy(self) -> bool:
        """A run or a terminal of it goes on, or a connection holds it."""
        return bool(self.runs.active or len(self.terminals) or self.ttl.is_held)

    def due_end(self, now: float) -> lifecycle.End | None:
        """Its end if nobody uses it from the date `now` on; None: it goes on."""
        unheld_at = self.ttl.end(self.row.ttl_s, now)
        if self.pending:  # it is neither idle nor old yet
            return None if unheld_at is None else lifecycle.End(unheld_at, lifecycle.UNHELD)
        settings = self._services.config.sessions
        return lifecycle.end(self.row, self.used_at, self.busy, settings, unheld_at)

    @property
    def is_terminating(self) -> bool:
        """It has the status TERMINATING: no run of it is started or accounted for any more."""
        return self.row.status == "TERMINATING"

    def _missing(self) -> NotFound:
        return NotFound("session", f"Session (id={self.row.id}) does not exist.")

    # -- requests

    async def submit(self, id: str, plan: Plan, policy: PollPolicy = POLL) -> Run:
        """The run called `id`, as RunQueue.submit has it; a new one if it may begin or wait now.

        Raises what RunQueue.submit, `check_begun` and Admission.check_pause do, and RateLimited
        when too many of the owner's runs wait.
        """
        if not self.runs.resumes(id):
            self.check_begun()
            self._services.admission.check_pause()
            self._services.admission.check_plan(plan)
            if not (self.ephemeral and self.row.runs):  # its request is checked once
                queued = self._services.queued_runs(self.row.owner)
                self._services.admission.check_queued(queued, "runs")
        return await self.runs.submit(id, plan, policy)

    async def restart(self) -> None:
        """Kill every run; the files stay, and the session's own runs begin again."""
        await self.terminals.clear("the session was restarted")
        await self.runs.clear()

    async def log(self) -> str:
        """The output of the run that was started last; as much as one reply holds."""
        last = self.runs.last
        return text(await last.printed()) if last else ""

    async def change(self, **values: Any) -> None:
        """Set columns of its row, on the disk and then in memory."""
        if not self.ephemeral:
            await self._services.database.run(table.change, self.row, **values)
        self.row = replace(self.row, **values)
        self._publish_result(values)

    def _publish_result(self, changes: dict[str, Any]) -> None:
        if changes.get("result") == "SUCCESS":
            self._services.events.publish("success", self.row, "task-done", self.row.exit_code)
        elif changes.get("result") == "FAILURE":
            self._services.events.publish("failure", self.row, "task-failed", self.row.exit_code)

    def shift_dates(self, jump: ClockJump) -> None:
        """Move all its dates: the host's clock was set."""
        self.row = jump.shifted_row(self.row)
        self.used_at = jump.shifted(self.used_at)
        self.ttl.renewed_at = jump.shifted(self.ttl.renewed_at)
        self.runs.shift_dates(jump.shifted)

    def suspend(self) -> None:
        """The daemon ends: nothing new begins, and calls that wait end at once."""
        self.ttl.over.set()
        self.runs.suspend()

    async def close(self) -> None:
        """Let go of everything: the daemon ends, the session lives on for the next one."""
        if self.pending:
            await self.pending.cancel()
        await self.terminals.close("the daemon ends")
        await self.runs.close()
        self.inputs.clear()

    # -- files (FilesOwner)

    async def open_helper(self) -> Channel:
        """A file helper of it, for one request. Raises Deleted when the session ends."""
        if self.closed:
            raise Deleted("session")
        return await self._services.warden.files(self.slot, self.row.id)

    def helper_gone(self) -> SandboxdError:
        """The reason why its file helper may have ended without an answer."""
        if self.closed:
            return Deleted("session")
        return Unavailable("the session's file helper is gone")

    def client_message(self, text: str) -> str:
        """A message of its file helper for clients: names are below /home/work for both."""
        return text

    # -- runs (QueueHost)

    async def record_runs(
        self, runs: Sequence[Run], replaced: Sequence[Run] = ()
    ) -> Awaitable[object]:
        """Number the runs and record their rows, in place of those `replaced`; the result comes
        when they are on the disk."""
        now = time.time()
        if not self.runs.active:  # one row less to write when the first of them begins at once
            runs[0].begun = self._services.admission.has_room(self.row.owner, runs[0])
        self.inputs.add(runs)
        try:
            durable = await self._records.add(runs, replaced, now)
        except BaseException:  # also when the request is cancelled
            for run in runs:
                self.inputs.remove(run)
            raise
        self._count(runs[-1].number, now)
        return durable

    def _count(self, number: int, now: float) -> None:
        self.row = replace(self.row, runs=number, used_at=now)

    @asynccontextmanager
    async def admit_run(self, run: Run) -> AsyncIterator[StartedRun | None]:
        """The admission of a run; a run that an earlier daemon has started needs no turn."""
        self._services.queues[self.row.owner].add(self.runs)
        self._check_alive()
        started = await self.find_run(run) if run.restored else None
        mode: AdmissionMode = "goes on" if started else "in turn"
        if started:
            self.inputs.remove(run)
        if not (run.restored or self._services.admission.has_room(self.row.owner, run)):
            self._records.note_waiting(run)
        async with self._services.admission.admit(self.row.owner, run, mode):
            yield started

    def _check_alive(self) -> None:
        if self.is_terminating:
            raise Deleted("session")

    async def start_run(self, run: Run) -> StartedRun:
        """Start an admitted run; its standard input goes along as a file."""
        stdin = None if run.plan.stdin is None else sealed(run.plan.stdin)
        started: StartedRun | None = None
        try:
            if run.begun:
                return await self._start(run, stdin)
            # Meanwhile: a power cut also loses the traces of a run that began a moment before.
            noting = asyncio.create_task(self._records.note_begun(run), name="begun")
            try:
                started = await self._start(run, stdin)
            finally:
                await noting
            return started
        except BaseException:  # also when the session is closed meanwhile
            if started:
                started.close()
            raise
        finally:
            if stdin is not None:
                os.close(stdin)
            self.inputs.remove(run)

    async def _start(self, run: Run, stdin: int | None, terminal: bool = False) -> StartedRun:
        self._check_alive()
        run.started_at = time.time()
        self._services.accounting.run_starts(self.row, run)
        start = RunStart(
            run.number, SHELL, run.plan.steps, run.plan.environ, self.row.runtime, terminal,
            run.plan.interactive,
        )  # fmt: skip
        return await self._services.warden.start(self.slot, self.row.id, start, stdin)

    async def find_run(self, run: Run) -> StartedRun | None:
        """A run that an earlier daemon has started; None: it never began."""
        if self.is_terminating or self.row.slot is None:
            return None
        # A run that began before a boot is over, even if the disk has no trace of it.
        begun = run.begun and run.other_boot
        return await self._services.warden.follow(self.row.slot, self.row.id, run.number, begun)

    async def run_over(self, run: Run) -> None:
        """Account for a run that is over; forget one that has never begun."""
        if run.started_at:
            await self._account(run)
        else:
            await self.forget_runs([run])

    async def _account(self, run: Run) -> None:
        if self.is_terminating:
            return
        async with self._accounting_lock:
            self._services.accounting.run_over(self.row, run, time.time())
            changes = lifecycle.after(self.row, run, time.time())
            self.runs.add_notice(changes.get("status_info", ""))
            self.row = replace(self.row, **changes)
            await self._write_end(run, changes)
            self._publish_result(changes)

    async def _write_end(self, run: Run, changes: dict[str, Any]) -> None:
        """Write the end of a run to the disk."""
        if self.ephemeral:
            return
        # While the disk is full, clients see the changes nevertheless, from memory.
        end = RunEnd(run.number, run.ended_at, partial(plan_text, run), changes)
        if run.plan.role:
            await self._services.deferred.write(run_table.ended, self.row.id, [end])
        else:  # the next daemon reads the files of a run whose end is not noted
            self._services.deferred.note_end(self.row.id, end)

    async def accounted(self) -> None:
        """Wait until every run whose end a client knows is accounted for in the row."""
        await self.runs.settled()
        async with self._accounting_lock:
            pass

    async def forget_runs(self, runs: Sequence[Run]) -> None:
        """Remove the rows and the files of runs that nobody can ask for any more."""
        for run in runs:
            self.inputs.remove(run)
        await self._records.forget(runs, None if self.is_terminating else self.row.slot)

    # -- terminals (TerminalHost)

    def admit_terminal(self, run: Run) -> AbstractAsyncContextManager[None]:
        """The admission of a terminal: at once, or not at all."""
        self._check_alive()
        self._services.admission.check_plan(run.plan)
        return self._services.admission.admit(self.row.owner, run, "at once")

    async def start_terminal(self, run: Run, seat: socket.socket) -> StartedRun:
        """Start a run on a terminal. It ends with the daemon, so it has a number, but no row."""
        now = time.time()
        self._count(await self._records.number(run, now), now)
        return await self._start(run, seat.fileno(), terminal=True)

    async def terminal_over(self, run: Run) -> None:
        """Account for a terminal that is over, and forget it: nobody can ask for it."""
        if run.started_at:
            await self._account(run)
            await self.forget_runs([run])
