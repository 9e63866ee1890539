"""The queue of one session's runs: one at a time, in the order of the requests.

One task works while the queue has runs; it belongs to `RunQueue` and ends with `close`. The result
of a finished run can be fetched until newer runs push it out, or its time is over. The host of the
queue, its session, keeps the runs on the disk: it records each run before a client hears that the
run was accepted, and after a restart hands over the runs that are left (`restore`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ..config.settings import ConsoleConfig
from ..errors import Deleted, Gone, Invalid, NotFound, QuotaExceeded, SandboxdError, Unavailable
from .finished_runs import FinishedRuns
from .follower import StartedRun
from .plan import Plan
from .polling import POLL, PollPolicy
from .run import Run

QUEUE_MAX = 64
"""Runs of a session that may be in the queue, the active one included."""

_log = logging.getLogger(__name__)

CLEAR_S = 10.0
"""Seconds that a killed run may take to its end."""


class QueueHost(Protocol):
    """The services that a queue needs from its session."""

    async def record_runs(
        self, runs: Sequence[Run], replaced: Sequence[Run] = ()
    ) -> Awaitable[object]:
        """Number the runs, and record them in place of those `replaced`: both or neither, also
        when the daemon is killed. When the result has come, both are on the disk."""

    def admit_run(self, run: Run) -> AbstractAsyncContextManager[StartedRun | None]:
        """The admission of a run, for the time that it goes on; entered when the run may begin.
        Its value is what an earlier daemon has started of the run; None: nothing. Raises
        SandboxdError when the run may never begin."""

    async def start_run(self, run: Run) -> StartedRun:
        """Start a run. Raises SandboxdError when it cannot start, Gone when the warden is gone."""

    async def find_run(self, run: Run) -> StartedRun | None:
        """A run that an earlier daemon has started; None: nothing is left of it."""

    async def run_over(self, run: Run) -> None:
        """A run has ended: account for it."""

    async def forget_runs(self, runs: Sequence[Run]) -> None:
        """Forget runs: nobody can ask for them any more, and none of them will begin."""


class RunQueue:
    """The queue of a session, and its finished runs.

    notice  messages for the client of the next run; the session's own runs have no client
    """

    def __init__(self, host: QueueHost, config: ConsoleConfig) -> None:
        self._host = host
        self._config = config
        self._runs: dict[str, Run] = {}
        self._queue: deque[Run] = deque()
        self._finished = FinishedRuns(host, config, self._forgotten)
        self._worker: asyncio.Task[None] | None = None
        self._submitting = asyncio.Lock()
        self._closed = self._suspended = False
        self._closing = asyncio.Event()
        self.notice = ""

    def get(self, id: str) -> Run:
        """The run called `id`. Raises NotFound."""
        if run := self._runs.get(id):
            return run
        raise NotFound("run", f"Run (id={id}) does not exist in this session.")

    @property
    def expires_at(self) -> float:
        """The date at which `expire` has something to do."""
        return self._finished.expires_at

    def position(self, run: Run) -> int:
        """How many runs come before `run`; 0: none, or it has been started."""
        return self._queue.index(run) if run in self._queue else 0

    def resumes(self, id: str) -> bool:
        """Whether a request for the run `id` goes on with a known run."""
        run = self._runs.get(id)
        return run is not None and run.resumable

    @property
    def active(self) -> Run | None:
        """The run at the head of the queue."""
        return self._queue[0] if self._queue else None

    @property
    def queued(self) -> int:
        """How many runs wait behind the active one."""
        return max(0, len(self._queue) - 1)

    @property
    def last(self) -> Run | None:
        """The run that was started last."""
        return self.active or self._finished.newest

    async def submit(self, id: str, plan: Plan, policy: PollPolicy = POLL) -> Run:
        """The run called `id` that carries out `plan`, on the disk when this returns. Its first
        call, which follows, has this `policy`.

        A client that repeats its request means the same run: the one whose end has not been
        served. Else the run is a new one at the end of the queue.

        Raises Invalid when the known one has other options, QuotaExceeded when the queue is
        full, Deleted when the session is gone.
        """
        async with self._submitting:
            known = self._runs.get(id)
            if known and known.resumable and known.plan.options == plan.options:
                run = known
            elif known and not known.ending:
                raise Invalid(f"run {id} is not over yet and has other options")
            else:
                run = Run(id, plan, self._config)
                run.expect(policy)
                await self._append([run])
        try:
            await run.recorded()
        except SandboxdError:  # the client learns of no run: none goes on
            await self.abandon(run)
            raise
        return run

    async def submit_own(self, plans: Iterable[tuple[str, Plan]]) -> None:
        """Submit the session's own runs, all or none; called before clients submit any."""
        async with self._submitting:
            if runs := [Run(id, plan, self._config) for id, plan in plans]:
                await self._append(runs)
                await runs[0].recorded()

    def _refusal(self) -> SandboxdError:
        """The reason why a closed or suspended queue does nothing more."""
        return Unavailable("the daemon is ending") if self._suspended else Deleted("session")

    async def _append(self, runs: list[Run]) -> None:
        if self._closed or self._suspended:
            raise self._refusal()
        if len(self._queue) + len(runs) > QUEUE_MAX:
            raise QuotaExceeded(f"at most {QUEUE_MAX} runs of a session may be in its queue")
        durable = asyncio.ensure_future(await self._host.record_runs(runs))
        for run in runs:
            run.durable = durable
        self._put(runs)
        if self._closed:  # meanwhile
            for run in runs:
                run.vanish()

    def _put(self, runs: Iterable[Run]) -> None:
        for run in runs:
            self._runs[run.id] = run
            self._queue.append(run)
        if self._queue and not self._closed and (self._worker is None or self._worker.done()):
            self._worker = asyncio.create_task(self._work(), name=f"runs {self._queue[0].id}")

    async def restore(self, runs: Sequence[Run]) -> None:
        """Restore runs of an earlier daemon, in their order. Those with an `ended_at` are over.

        Raises Gone.
        """
        for run in runs:
            if not run.ended_at:
                continue
            try:
                started = await self._host.find_run(run)
            except Gone:
                raise
            except SandboxdError as error:  # this run is lost, the others are not
                _log.error("the finished run %s cannot be read: %s", run.id, error)
                continue
            if started is None:
                await self._host.forget_runs([run])
            else:
                await run.follow(started)
                self._runs[run.id] = run
                self._finished.add(run)
                run.done.set()
        self._put(run for run in runs if not run.ended_at)
        # An earlier daemon may have forgotten more runs than it has removed.
        await self._finished.forget_oldest()

    async def _work(self) -> None:
        """Carry out the runs of the queue, until it is empty."""
        while self._queue:
            run = self._queue[0]
            if self.notice and not run.plan.role:
                run.notice(self.notice)
                self.notice = ""
            try:
                async with self._host.admit_run(run) as restored:
                    await run.follow(restored or await self._host.start_run(run))
            except Gone:  # the next daemon will start it
                self.suspend()
                return
            except SandboxdError as error:
                if run.state == "called off":
                    await self._host.forget_runs([run])
                    run.vanish()
                else:
                    run.fail(error)
            except Exception:  # a bug in sandboxd ends this run, and not the runs behind it
                _log.exception("run %s cannot be followed", run.id)
                run.fail(Unavailable("the run cannot be followed any more"))
            self._queue.popleft()
            self._finished.add(run)
            run.done.set()
            await self._account(run)
            self._finished.make_room()

    async def _account(self, run: Run) -> None:
        """Have the host account for a run; if it cannot, the runs behind it go on nevertheless."""
        try:
            await self._host.run_over(run)
        except Exception:  # of any kind, such as that of a damaged database
            _log.exception("the end of run %s cannot be accounted for", run.id)

    def add_notice(self, text: str) -> None:
        """Add a message for the client of the next run."""
        self.notice = "; ".join(filter(None, (self.notice, text)))

    async def expire(self, now: float) -> None:
        """Forget finished runs whose time is over, at `now` seconds since 1970."""
        await self._finished.expire(now)

    def shift_dates(self, shifted: Callable[[float], float]) -> None:
        """Move all dates: the host's clock was set, `shifted` is a date by the new clock."""
        self._finished.shift_dates(shifted)

    def _forgotten(self, run: Run) -> None:
        """No client can ask for a finished run any more."""
        if self._runs.get(run.id) is run:
            del self._runs[run.id]

    async def abandon(self, run: Run) -> None:
        """The client of `run` is gone for good: end it; if it has not begun, it never will."""
        if self.position(run):
            self._queue.remove(run)
            self._runs.pop(run.id, None)
            # First on the disk: whether its client hears of it or not, it does not begin any more.
            await self._host.forget_runs([run])
            run.vanish()
            run.done.set()
        else:
            await run.abandon()

    async def settled(self) -> None:
        """Wait until a run whose end its client may know has been accounted for, too."""
        if (active := self.active) and active.ending:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLEAR_S):
                    await active.done.wait()

    async def clear(self) -> list[Run]:
        """End every run that is not over, and return them; calls that wait for one end as if the
        session had vanished. The session's own runs begin again, and new ones may follow.

        Raises Unavailable when the active one does not come to its end, Deleted when the session
        is deleted meanwhile.
        """
        async with self._submitting:
            own = [run for run in self._queue if run.plan.role and not run.unwanted]
            again = [Run(run.id, run.plan, self._config) for run in own]
            if own:  # first of all: a run that ends before it would not begin again after a crash
                await (await self._host.record_runs(again, own))
            cleared = list(self._queue)
            self._put(again)
            if not cleared:
                return []
            active, waiting = cleared[0], cleared[1:]
            if not active.call_off():
                active.vanish()
            for run in waiting:
                self._queue.remove(run)
                if self._runs.get(run.id) is run:
                    del self._runs[run.id]
        if others := [run for run in waiting if run not in own]:
            await self._host.forget_runs(others)
        for run in waiting:
            run.vanish()
        await active.kill()
        await self._ended(active)
        return cleared

    async def interrupt(self, terminate: bool = False) -> None:
        """SIGINT to the step that runs, or the end of its run by SIGTERM. An active run
        that waits to be started leaves the queue, and no later daemon starts it. Raises Unavailable
        when it does not leave the queue."""
        if not (active := self.active):
            return
        if active.call_off():
            await self._ended(active)
        else:
            await (active.terminate() if terminate else active.interrupt())

    async def _ended(self, active: Run) -> None:
        """Wait until `active`, which was ended, has left the queue. A queue that closes meanwhile
        does not end it any more."""
        events = [asyncio.ensure_future(each.wait()) for each in (active.done, self._closing)]
        try:
            await asyncio.wait(events, timeout=CLEAR_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in events:
                each.cancel()
        if self._closed and not active.done.is_set():
            raise self._refusal()
        if not active.done.is_set():
            raise Unavailable("the active run does not come to its end")

    def suspend(self) -> None:
        """The daemon ends: no new runs, and calls that wait end at once. The runs go on."""
        self._suspended = True
        for run in (*self._queue, *self._finished):
            run.suspend()

    async def close(self) -> None:
        """Give everything back; calls that still wait end as the session vanishes, unless it is
        the daemon that ends."""
        self._closed = True
        self._closing.set()
        runs = [*self._queue, *self._finished]
        if not self._suspended:
            for run in runs:
                run.vanish()
        if self._worker:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
        for run in self._queue:
            await run.close()
        await self._finished.close()
        self._runs.clear()
        self._queue.clear()
