"""Draining: nothing new begins, so that the host can be left by what runs on it.

    begun      new sessions, folders, runs and terminals are refused (Draining); runs that were
               accepted and wait stay in line, for afterwards or for the next daemon; clients of
               those that go on are told
    deadline   if one was given: what still runs gets SIGTERM, and SIGKILL KILL_S later
    drained    nothing runs any more
    undone     as if nothing had been; what was ended by then stays ended

It is known in memory only: a daemon that is started again takes on work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...errors import Invalid, SandboxdError
from ...runs.run import Run
from ..access.ownership import by_admin
from ..access.parameters import parameters
from ..http.responses import JsonResponse
from ..sessions.admission import Admission

_log = logging.getLogger(__name__)

KILL_S = 10.0
DEADLINE_MAX_S = 30 * 24 * 3600.0


class Drain:
    """Whether the daemon is being drained.

    until    seconds since 1970 at which what runs is ended; None: it may take its time
    drained  set while it is being drained and nothing runs
    """

    def __init__(self, admission: Admission) -> None:
        self.until: float | None = None
        self.drained = asyncio.Event()
        self._admission = admission
        self._ending: asyncio.Task[None] | None = None
        admission.runs.on_release = self._look

    @property
    def on(self) -> bool:
        """Nothing new begins."""
        return self._admission.paused

    def begin(self, deadline_s: float | None) -> None:
        """Begin, or go on with another deadline."""
        if not self.on:
            _log.info("draining: nothing new begins")
        self._stop_ending()
        self._admission.pause(True)
        told = "this server is being drained"
        self.until = None
        if deadline_s is not None:
            self.until = time.time() + deadline_s
            self._ending = asyncio.create_task(self._end_all(deadline_s), name="drain")
            told += f": what still runs in {deadline_s:g} s is ended"
        for run in self._admission.going_on:
            run.notice(told)
        self._look()

    def undo(self) -> None:
        """Take on work again."""
        if self.on:
            _log.info("draining is undone: work is taken on again")
        self._stop_ending()
        self.until = None
        self.drained.clear()
        self._admission.pause(False)

    def _look(self) -> None:
        if self.on and not self._admission.going_on and not self.drained.is_set():
            _log.info("drained: nothing runs")
            self.drained.set()

    def _stop_ending(self) -> None:
        if self._ending:
            self._ending.cancel()
            self._ending = None

    async def _end_all(self, deadline_s: float) -> None:
        await asyncio.sleep(deadline_s)
        await asyncio.gather(*(_terminate(run) for run in self._admission.going_on))
        await asyncio.sleep(KILL_S)
        await asyncio.gather(*(_kill(run) for run in self._admission.going_on))

    def told(self) -> dict[str, Any]:
        """How far it is."""
        running = len(self._admission.going_on)
        return {
            "draining": self.on,
            "drained": self.on and not running,
            "running": running,
            "waiting": self._admission.runs.queue.waiting,
            "deadline": self.until,
        }


async def _terminate(run: Run) -> None:
    run.notice("this run is ended: the server is being drained, and the time for it is over")
    with contextlib.suppress(SandboxdError):  # SIGKILL comes next
        await run.signal("SIGTERM", "sandboxd")


async def _kill(run: Run) -> None:
    try:
        await run.kill("sandboxd")
    except SandboxdError as error:
        _log.warning("run %s cannot be ended: %s", run.id, error)


class DrainRequest(msgspec.Struct):
    """The body of a request to drain; `deadline` in seconds from now, null: none."""

    deadline: float | None = None
    undo: bool = False


async def change(request: Request) -> Response:
    """POST /admin/drain: begin, change the deadline, or undo. Raises Forbidden, Invalid."""
    by_admin(request)
    asked = await parameters(request, DrainRequest)
    drain: Drain = request.app.state.sandboxd.drain
    if asked.deadline is not None and not 0 <= asked.deadline <= DEADLINE_MAX_S:
        allowed = f"seconds from 0 to {DEADLINE_MAX_S:g}"
        raise Invalid("Input validation error", {"deadline": allowed})
    if asked.undo:
        drain.undo()
    else:
        drain.begin(asked.deadline)
    return JsonResponse(drain.told())


async def show(request: Request) -> Response:
    """GET /admin/drain: how far it is. Raises Forbidden."""
    by_admin(request)
    drain: Drain = request.app.state.sandboxd.drain
    return JsonResponse(drain.told())
