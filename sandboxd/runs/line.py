"""The runs of one session: one at a time, in the order in which they were asked for.

One task works the line off while there is anything in it; it belongs to `Runs` and ends with
`close`. Finished runs can be asked for their result until newer ones push them out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from ..config import Console
from ..errors import Invalid, NotFound, QuotaExceeded, SandboxdError, Unavailable
from .follower import Started
from .run import Plan, Run

WAITING_MAX = 64
"""Runs of a session that may be in line, the active one included; and finished runs that wait
for their client to come back."""

_log = logging.getLogger(__name__)

CLEAR_S = 10.0
"""Seconds that a killed run may take to its end."""

Start = Callable[[Run], Awaitable[Started]]
"""Starts a run; raises SandboxdError when it cannot."""

Place = Callable[[Run], AbstractAsyncContextManager[None]]
"""Held while a run goes on; entered when its turn among all that is run has come. Raises
SandboxdError when it never will."""


@contextlib.asynccontextmanager
async def anywhere(_: Run) -> AsyncIterator[None]:
    """For who does not share the host with others."""
    yield


class Runs:
    """The line of a session and its finished runs. `over` is told of each that has ended.

    notice  what the client of the next run is to be told
    """

    def __init__(
        self,
        start: Start,
        keep: Console,
        over: Callable[[Run], Awaitable[None]] | None = None,
        place: Place = anywhere,
    ) -> None:
        self._start = start
        self._place = place
        self._over = over
        self._keep = keep
        self._runs: dict[str, Run] = {}
        self._line: deque[Run] = deque()
        self._ended: deque[Run] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self.notice = ""

    def get(self, id: str) -> Run:
        """The run called `id`. Raises NotFound."""
        if run := self._runs.get(id):
            return run
        raise NotFound("run", f"Run (id={id}) does not exist in this session.")

    def position(self, run: Run) -> int:
        """How many runs come before `run`; 0: none, or it has been started."""
        return self._line.index(run) if run in self._line else 0

    def knows(self, id: str) -> bool:
        """There is a run called `id` that is not over."""
        known = self._runs.get(id)
        return known is not None and not known.over

    @property
    def active(self) -> Run | None:
        """The run at the head of the line."""
        return self._line[0] if self._line else None

    @property
    def waiting(self) -> int:
        """How many runs wait for their turn."""
        return max(0, len(self._line) - 1)

    def ask(self, id: str, plan: Plan) -> Run:
        """The run called `id` doing `plan`: the one in line, as a client that asks twice means
        it once; else a new one at the end of the line.

        Raises Invalid when the one in line does something else, QuotaExceeded when the line is
        full, Unavailable when the session is gone.
        """
        known = self._runs.get(id)
        if known and not known.over:
            if known.plan.options != plan.options:
                raise Invalid(f"run {id} is not over yet and has other options")
            return known
        if self._closed:
            raise Unavailable("the session is being destroyed")
        if len(self._line) >= WAITING_MAX:
            raise QuotaExceeded(f"at most {WAITING_MAX} runs of a session may be in line")
        run = self._runs[id] = Run(id, plan, self._keep)
        self._line.append(run)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name=f"runs {id}")
        return run

    async def _work(self) -> None:
        """Carry out what is in line, until nothing is."""
        while self._line:
            run = self._line[0]
            if self.notice:
                run.notice(self.notice)
                self.notice = ""
            try:
                async with self._place(run):
                    await run.carry_out(self._start)
            except SandboxdError as error:
                run.fail(error)
            except Exception:  # a mistake of ours ends this run, not those behind it
                _log.exception("run %s cannot be followed", run.id)
                run.fail(Unavailable("the run cannot be followed any more"))
            finally:
                self._line.popleft()
                self._ended.append(run)
                run.done.set()
            if self._over:
                await self._over(run)
            await self._forget()

    async def _forget(self) -> None:
        """Give up the oldest finished runs: first of all those whose client knows the end."""
        told = [run for run in self._ended if run.told]
        old = told[: max(0, len(told) - self._keep.runs_kept)]
        old += list(self._ended)[: max(0, len(self._ended) - WAITING_MAX)]
        for run in dict.fromkeys(old):
            self._ended.remove(run)
            if self._runs.get(run.id) is run:
                del self._runs[run.id]
            await run.close()

    async def abandon(self, run: Run) -> None:
        """The client of `run` is gone for good: end it; if it has not begun, it never will."""
        if self.position(run):
            self._line.remove(run)
            self._runs.pop(run.id, None)
            run.vanish()
            run.done.set()
        else:
            await run.abandon()

    @property
    def last(self) -> Run | None:
        """The run that was started last."""
        return self._line[0] if self._line else self._ended[-1] if self._ended else None

    async def settled(self) -> None:
        """Wait for a run that is over, as its client may know, to be told to `over` as well."""
        if (active := self.active) and active.over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLEAR_S):
                    await active.done.wait()

    async def clear(self) -> list[Run]:
        """End every run that is not over, and return them; calls that wait for one are told that
        it vanished. New ones may follow.

        Raises Unavailable when the active one does not come to its end.
        """
        cleared = list(self._line)
        for run in cleared:
            run.vanish()
        while len(self._line) > 1:
            self._runs.pop(self._line.pop().id, None)
        if active := self.active:
            await active.kill()
            try:
                async with asyncio.timeout(CLEAR_S):
                    await active.done.wait()
            except TimeoutError:
                raise Unavailable("the active run does not come to its end") from None
        return cleared

    async def close(self) -> None:
        """Give everything back; calls that still wait are told that the session vanished."""
        self._closed = True
        everything = [*self._line, *self._ended]
        for run in everything:
            run.vanish()
        if self._worker:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
        for run in everything:
            await run.close()
        self._runs.clear()
        self._line.clear()
        self._ended.clear()
