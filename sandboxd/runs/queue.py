"""The runs of one session: one at a time, in the order in which they were asked for.

One task works the line off while there is anything in it; it belongs to `Runs` and ends with
`close`. Finished runs can be asked for their result until newer ones push them out, or their
time is over. What outlives the daemon is the host's: it takes each run down before anybody is
told that it was accepted, and after a restart hands over those that are left (`restore`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ..config import ConsoleConfig
from ..errors import Gone, Invalid, NotFound, QuotaExceeded, SandboxdError, Unavailable
from .follower import StartedRun
from .run import Plan, Run

WAITING_MAX = 64
"""Runs of a session that may be in line, the active one included; and finished runs that wait
for their client to come back."""

_log = logging.getLogger(__name__)

CLEAR_S = 10.0
"""Seconds that a killed run may take to its end."""


class QueueHost(Protocol):
    """What the line needs of who has it."""

    async def take_down(self, runs: Sequence[Run], instead: Sequence[Run] = ()) -> None:
        """Number the runs and remember them, and forget those that they are `instead` of: both
        or neither is on the disk, also when we are killed, and it is when this returns."""

    def place(self, run: Run) -> AbstractAsyncContextManager[None]:
        """Held while a run goes on; entered when its turn among all that is run has come. Raises
        SandboxdError when it never will."""

    async def start(self, run: Run) -> StartedRun:
        """Start a run, or find it. Raises SandboxdError when it cannot, Gone when nobody can."""

    async def find(self, run: Run) -> StartedRun | None:
        """A run that has ended under an earlier daemon; None: nothing is left of it."""

    async def over(self, run: Run) -> None:
        """A run has ended."""

    async def forget(self, runs: Sequence[Run]) -> None:
        """Nobody can ask for the runs any more; nor will those begin that have not."""


class RunQueue:
    """The line of a session and its finished runs.

    notice  what the client of the next run is to be told
    """

    def __init__(self, host: QueueHost, keep: ConsoleConfig) -> None:
        self._host = host
        self._keep = keep
        self._runs: dict[str, Run] = {}
        self._line: deque[Run] = deque()
        self._ended: deque[Run] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._asking = asyncio.Lock()
        self._closed = self._suspended = False
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
        """There is a run called `id` that who asks for it again means."""
        known = self._runs.get(id)
        return known is not None and known.wanted

    @property
    def active(self) -> Run | None:
        """The run at the head of the line."""
        return self._line[0] if self._line else None

    @property
    def waiting(self) -> int:
        """How many runs wait for their turn."""
        return max(0, len(self._line) - 1)

    async def ask(self, id: str, plan: Plan) -> Run:
        """The run called `id` doing `plan`: the one that is not over, or whose end its client has
        not been told, as a client that asks twice means it once; else a new one at the end of
        the line, on the disk when this returns.

        Raises Invalid when the one in line does something else, QuotaExceeded when the line is
        full, Unavailable when the session is gone.
        """
        async with self._asking:
            known = self._runs.get(id)
            if known and known.wanted and known.plan.options == plan.options:
                return known
            if known and not known.over:
                raise Invalid(f"run {id} is not over yet and has other options")
            return (await self._append([Run(id, plan, self._keep)]))[0]

    async def begin(self, own: Iterable[tuple[str, Plan]]) -> None:
        """Ask for the session's own runs, before all others: for all of them or none."""
        async with self._asking:
            if runs := [Run(id, plan, self._keep) for id, plan in own]:
                await self._append(runs)

    async def _append(self, runs: list[Run]) -> list[Run]:
        if self._closed or self._suspended:
            gone = "session is being destroyed" if self._closed else "daemon is ending"
            raise Unavailable(f"the {gone}")
        if len(self._line) + len(runs) > WAITING_MAX:
            raise QuotaExceeded(f"at most {WAITING_MAX} runs of a session may be in line")
        await self._host.take_down(runs)
        self._put(runs)
        if self._closed:  # meanwhile
            for run in runs:
                run.vanish()
        return runs

    def _put(self, runs: Iterable[Run]) -> None:
        for run in runs:
            self._runs[run.id] = run
            self._line.append(run)
        if self._line and not self._closed and (self._worker is None or self._worker.done()):
            self._worker = asyncio.create_task(self._work(), name=f"runs {self._line[0].id}")

    async def restore(self, runs: Sequence[Run]) -> None:
        """Take up runs of an earlier daemon, in their order: `ended_at` tells which are over.

        Raises Gone.
        """
        for run in runs:
            if not run.ended_at:
                continue
            try:
                found = await self._host.find(run)
            except Gone:
                raise
            except SandboxdError as error:  # nobody can ask for it, but for all the others
                _log.error("run %s, which is over, cannot be read: %s", run.id, error)
                continue
            if found is None:
                await self._host.forget([run])
            else:
                await run.carry_out(lambda _, found=found: _ready(found))  # type: ignore[misc]  # no type for defaults
                self._runs[run.id] = run
                self._ended.append(run)
                run.done.set()
        self._put(run for run in runs if not run.ended_at)

    async def _work(self) -> None:
        """Carry out what is in line, until nothing is."""
        while self._line:
            run = self._line[0]
            if self.notice:
                run.notice(self.notice)
                self.notice = ""
            try:
                async with self._host.place(run):
                    await run.carry_out(self._host.start)
            except Gone:  # the next daemon will start it
                self.suspend()
                return
            except SandboxdError as error:
                if run.called_off:
                    await self._host.forget([run])
                    run.vanish()
                else:
                    run.fail(error)
            except Exception:  # a mistake of ours ends this run, not those behind it
                _log.exception("run %s cannot be followed", run.id)
                run.fail(Unavailable("the run cannot be followed any more"))
            self._line.popleft()
            self._ended.append(run)
            run.done.set()
            await self._host.over(run)
            await self._forget()

    async def _forget(self) -> None:
        """Give up the oldest finished runs: first of all those whose client knows the end."""
        told = [run for run in self._ended if run.told]
        old = told[: max(0, len(told) - self._keep.runs_kept)]
        old += list(self._ended)[: max(0, len(self._ended) - WAITING_MAX)]
        sizes = [(run, await run.size()) for run in self._ended if run not in old]
        size = sum(size for _, size in sizes)
        for run, each in sizes[:-1]:  # the newest stays, however large it is
            if size <= self._keep.kept_size:
                break
            old.append(run)
            size -= each
        await self._give_up(old)

    async def expire(self, now: float) -> None:
        """Give up finished runs whose time is over, at `now` seconds since 1970."""
        if self._keep.keep_s:
            await self._give_up([r for r in self._ended if now - r.ended_at >= self._keep.keep_s])

    def move(self, moved: Callable[[float], float]) -> None:
        """The host's clock was set: `moved` tells a date anew."""
        for run in self._ended:
            run.ended_at = moved(run.ended_at)

    async def _give_up(self, old: Iterable[Run]) -> None:
        gone = [run for run in dict.fromkeys(old) if run in self._ended]
        for run in gone:
            self._ended.remove(run)
            if self._runs.get(run.id) is run:
                del self._runs[run.id]
            await run.close()
        if gone:
            await self._host.forget(gone)

    async def abandon(self, run: Run) -> None:
        """The client of `run` is gone for good: end it; if it has not begun, it never will."""
        if self.position(run):
            self._line.remove(run)
            self._runs.pop(run.id, None)
            await self._host.forget([run])  # first: told of or not, it does not begin any more
            run.vanish()
            run.done.set()
        else:
            await run.abandon()

    @property
    def last(self) -> Run | None:
        """The run that was started last."""
        return self._line[0] if self._line else self._ended[-1] if self._ended else None

    async def settled(self) -> None:
        """Wait for a run whose end its client may know to be told to `over` as well."""
        if (active := self.active) and active.ending:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLEAR_S):
                    await active.done.wait()

    async def clear(self) -> list[Run]:
        """End every run that is not over, and return them; calls that wait for one are told that
        it vanished. The session's own begin again, and new ones may follow.

        Raises Unavailable when the active one does not come to its end.
        """
        async with self._asking:
            own = [run for run in self._line if run.plan.role and not run.unwanted]
            again = [Run(run.id, run.plan, self._keep) for run in own]
            if own:  # before anything ends that the next daemon would have to begin again
                await self._host.take_down(again, own)
            cleared = list(self._line)
            self._put(again)
            if not cleared:
                return []
            active, waiting = cleared[0], cleared[1:]
            if not active.call_off():
                active.vanish()
            for run in waiting:
                self._line.remove(run)
                if self._runs.get(run.id) is run:
                    del self._runs[run.id]
        if others := [run for run in waiting if run not in own]:
            await self._host.forget(others)
        for run in waiting:
            run.vanish()
        await active.kill()
        await self._gone(active)
        return cleared

    async def interrupt(self) -> None:
        """SIGINT to the step that runs. If the active run waits to be started it never is, by the
        next daemon neither. Raises Unavailable when it does not leave the line."""
        if not (active := self.active):
            return
        if active.call_off():
            await self._gone(active)
        else:
            await active.interrupt()

    async def _gone(self, active: Run) -> None:
        try:
            async with asyncio.timeout(CLEAR_S):
                await active.done.wait()
        except TimeoutError:
            raise Unavailable("the active run does not come to its end") from None

    def suspend(self) -> None:
        """The daemon ends: no new runs, and calls that wait end at once. The runs go on."""
        self._suspended = True
        for run in (*self._line, *self._ended):
            run.suspend()

    async def close(self) -> None:
        """Give everything back; calls that still wait are told that the session vanished, unless
        it is the daemon that ends."""
        self._closed = True
        everything = [*self._line, *self._ended]
        for run in everything:
            if not self._suspended:
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


async def _ready(started: StartedRun) -> StartedRun:
    return started
