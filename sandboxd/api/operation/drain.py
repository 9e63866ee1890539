"""The drain: nothing new begins, so that the operator can wait until nothing runs on the host.

    begin      new sessions, folders, runs and terminals are refused (Draining). Accepted runs
               that wait stay in the queue, for afterwards or for the next daemon. The clients of
               running runs are notified
    deadline   optional: at that time what still runs gets SIGTERM, and SIGKILL KILL_S later
    drained    nothing runs any more
    undo       new work begins again; runs that the deadline has ended stay ended

The drain exists in memory only: a daemon that is started again takes on work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TypedDict

from ...errors import SandboxdError
from ...runs.run import Run
from ..admission.admission import Admission

_log = logging.getLogger(__name__)

KILL_S = 10.0


class DrainProgress(TypedDict):
    """The progress of a drain; `deadline` in seconds since 1970, null: none."""

    draining: bool
    drained: bool
    running: int
    waiting: int
    deadline: float | None


class Drain:
    """The drain of one daemon.

    until    seconds since 1970 at which running runs are ended; None: without a deadline
    drained  set while the daemon is being drained and nothing runs
    """

    def __init__(self, admission: Admission) -> None:
        self.until: float | None = None
        self.drained = asyncio.Event()
        self._admission = admission
        self._deadline: asyncio.Task[None] | None = None
        self._begun = False
        admission.runs.on_release = self._check_drained

    @property
    def on(self) -> bool:
        """The daemon is being drained. Admission may pause for another reason, too."""
        return self._begun

    def begin(self, deadline_s: float | None) -> None:
        """Begin to drain, or change the deadline."""
        if not self.on:
            _log.info("draining: nothing new begins")
        self._cancel_deadline()
        self._begun = True
        self._admission.pause("drain")
        notice = "this server is being drained"
        self.until = None
        if deadline_s is not None:
            self.until = time.time() + deadline_s
            self._deadline = asyncio.create_task(self._end_all(deadline_s), name="drain")
            notice += f": what still runs in {deadline_s:g} s is ended"
        for run in self._admission.going_on:
            run.notice(notice)
        self._check_drained()

    def undo(self) -> None:
        """Take on work again."""
        if self.on:
            _log.info("draining is undone: work is taken on again")
        self._cancel_deadline()
        self.until = None
        self.drained.clear()
        self._begun = False
        self._admission.resume("drain")

    def _check_drained(self) -> None:
        if self.on and not self._admission.going_on and not self.drained.is_set():
            _log.info("drained: nothing runs")
            self.drained.set()

    def _cancel_deadline(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    async def _end_all(self, deadline_s: float) -> None:
        await asyncio.sleep(deadline_s)
        await asyncio.gather(*(_terminate(run) for run in self._admission.going_on))
        await asyncio.sleep(KILL_S)
        await asyncio.gather(*(_kill(run) for run in self._admission.going_on))

    def progress(self) -> DrainProgress:
        """The progress, as GET /admin/drain shows it."""
        running = len(self._admission.going_on)
        return {
            "draining": self.on,
            "drained": self.on and not running,
            "running": running,
            "waiting": self._admission.runs.queue.queued,
            "deadline": self.until,
        }


async def _terminate(run: Run) -> None:
    run.notice("this run is ended: the server is being drained, and the deadline has passed")
    with contextlib.suppress(SandboxdError):  # SIGKILL comes next
        await run.signal("SIGTERM", "sandboxd")


async def _kill(run: Run) -> None:
    try:
        await run.kill("sandboxd")
    except SandboxdError as error:
        _log.warning("run %s cannot be ended: %s", run.id, error)
