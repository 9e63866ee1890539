"""One run of a session: from its place in the queue to its end and its result.

A run waits in its session's queue, is started, is followed to its end, and keeps its result until
newer runs push it out of the queue's memory. Its states are in life.py, and its calls are served
by client_calls.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager

from ..config.settings import ConsoleConfig
from ..errors import Invalid, SandboxdError, Unavailable
from ..model import Sender
from ..spool import START, SpoolPosition
from .client_calls import ClientCalls, Input
from .console_items import Item
from .cursor import Offset
from .follower import Follower, StartedRun
from .journal import HOST_RESTARTED, NO_POSITION, SHIM_GONE, JournalEvent
from .life import BEFORE, ENDED, TRANSITIONS, UNWANTED, RunEvent, RunState
from .plan import Plan
from .polling import POLL, PollPolicy
from .reply import Reply
from .spool_reader import ConsolePart, SpoolReader
from .stdin_stream import RunInput, StdinStream

RESTARTS = "the server restarts, and the run goes on: continue behind the bytes that it has taken"

GRACE_S = 3.0
"""Seconds that a run has to end by itself when its client is gone."""


class Run:
    """A run of a session.

    number      of the session's runs; 0 until the run is recorded on the disk
    restored    an earlier daemon has recorded it, and may have had it started
    asked_at    seconds since 1970 of the request for it
    started_at  the same of its start, 0.0 before it
    ended_at    the same of its end
    state       see life.py
    done        set when it has left the queue
    """

    def __init__(self, id: str, plan: Plan, config: ConsoleConfig, number: int = 0) -> None:
        self.id = id
        self.plan = plan
        self.number = number
        self.restored = number > 0
        self.other_boot = False  # recorded before the host was restarted
        self.begun = False  # its start was requested, by this daemon or an earlier one
        self.durable: asyncio.Future[object] | None = None  # its record comes to the disk
        self.asked_at = time.time()
        self.started_at = self.ended_at = 0.0
        self.state: RunState = "queued"
        self.done = asyncio.Event()
        self._config = config
        self._calls = ClientCalls(
            (f"{clamp.name} was lowered {clamp.text}" for clamp in plan.clamped), plan.interactive
        )
        self._follower: Follower | None = None
        self._input = RunInput()
        self._settled = asyncio.Event()  # it has begun, or will not
        self._killed_by: Sender | None = None
        self._abandoned = False
        self._size: int | None = None
        self._withdraw: Callable[[], None] | None = None

    def _become(self, event: RunEvent) -> None:
        """Change the state by an event."""
        assert event in TRANSITIONS[self.state], f"{event} while {self.state}"
        self.state = TRANSITIONS[self.state][event]
        if self.state not in BEFORE and self.state != "called off":
            self._settled.set()

    @property
    def error(self) -> SandboxdError | None:
        """Our failure that has ended it, which each of its calls raises."""
        return self._calls.error

    @property
    def vanished(self) -> bool:
        """Its session is gone, or it was taken out of the queue: calls end without a reply."""
        return self.state == "vanished"

    @property
    def suspended(self) -> bool:
        """The daemon ends: calls reply at once that the run goes on."""
        return self._calls.suspended

    @property
    def events(self) -> Sequence[JournalEvent]:
        """Its events so far."""
        return self._follower.events if self._follower else ()

    @property
    def over(self) -> bool:
        """Nothing more will happen in it."""
        return self.state in ENDED

    @property
    def ending(self) -> bool:
        """A call can serve its end already, a moment before it is over."""
        return self.over or bool(self.events and self.events[-1].final)

    @property
    def unwanted(self) -> bool:
        """It need not be started any more."""
        return bool(self._killed_by) or self.state in UNWANTED

    @property
    def served(self) -> bool:
        """A call has served its end, or no client will ask for it; it is over a moment later."""
        return self.ending and (self._abandoned or self._calls.up_to_date)

    @property
    def resumable(self) -> bool:
        """A repeated request means this run: its end has not been served."""
        return not (self.served or self.vanished)

    async def recorded(self) -> None:
        """Wait until no loss of power undoes the record of the run. Raises Unwritable."""
        if self.durable:
            await asyncio.shield(self.durable)
            self.durable = None

    @contextlib.contextmanager
    def withdrawing(self, withdraw: Callable[[], None]) -> Iterator[None]:
        """While it waits for admission: `withdraw` is called as soon as it is unwanted. It has
        been admitted when the block ends, unless that raises."""
        self._become("wait")
        self._withdraw = withdraw
        try:
            yield
        finally:
            self._withdraw = None
        self._become("admit")

    async def follow(self, started: StartedRun) -> None:
        """Follow the run, which has been started, to its end.

        The run owns the descriptors of `started` from the first moment, also if this is cancelled.
        """
        why_lost = HOST_RESTARTED if self.other_boot else SHIM_GONE
        wanted = START if self._calls.wants_output and not started.restored else NO_POSITION
        passes_over = self._calls.wants_end and not started.restored
        self._follower = Follower(
            started, self._config, self._calls.wake, why_lost, wanted, passes_over
        )
        self.started_at = self._calls.begin(started, self.started_at)
        self._calls.follow(self._follower)
        self._become("follow")
        if self._killed_by:
            await self._follower.kill(self._killed_by)
        await self._follower.follow()
        self._become("end")
        self.plan = self.plan.without_commands()
        self.ended_at = self.ended_at or time.time()

    def fail(self, error: SandboxdError) -> None:
        """End the run with our failure, which each of its calls raises."""
        self.ended_at = time.time()
        self._become("fail")
        self.plan = self.plan.without_commands()
        self._calls.fail(error)

    def vanish(self) -> None:
        """End all calls: the session is gone, or the run never begins."""
        self.ended_at = self.ended_at or time.time()
        self._become("vanish")
        self._calls.vanish()
        self._input.end(None)
        if self._withdraw:
            self._withdraw()

    def suspend(self) -> None:
        """Have calls reply at once that the run goes on: the daemon ends, the run does not."""
        self._calls.suspend()
        self._settled.set()
        self._input.end(Unavailable(RESTARTS))

    def expect(self, policy: PollPolicy) -> None:
        """A call with this policy comes in a moment: the run may be started before."""
        self._calls.expect(policy)

    def notice(self, text: str, level: str = "warning") -> None:
        """Add a message of sandboxd itself to the next reply."""
        self._calls.notice(text, level)

    def call(
        self, input: Input | None = None, policy: PollPolicy = POLL, since: Offset | None = None
    ) -> AbstractAsyncContextManager[Reply | None]:
        """Serve one call: its reply, None when the session vanished meanwhile. The reply counts as
        served when the block ends, unless that raises; `Reply.note` is for within.

        `since` is the client's place in the run, which the client knows better than we.
        Raises the error that kept the run from starting, Invalid for input that it cannot take.
        """
        return self._calls.call(input, policy, since)

    async def type(self, input: Input) -> None:
        """Give the program input, also while a call waits. Raises Invalid, Unavailable."""
        await self._calls.type(input)

    @contextlib.asynccontextmanager
    async def stream_stdin(self, offset: int | None) -> AsyncIterator[StdinStream]:
        """A stream of standard input behind `offset` bytes, see RunInput.stream. Waits until the
        run has begun. Raises the error that kept the run from starting, Invalid for a run whose
        input came with its request."""
        if self.plan.stdin is not None:
            raise Invalid("this run has its whole input already, from options.stdin")
        await self._settled.wait()
        if self.error:
            raise self.error.with_traceback(None)
        if self.suspended and not self.vanished:
            raise Unavailable(RESTARTS)
        async with self._input.stream(self._follower, offset) as stream:
            yield stream

    async def printed(self) -> list[Item]:
        """The console so far, as much as one reply holds; the client's cursor does not move."""
        if self._follower is None:
            return []
        spool = self._follower.spool
        start = SpoolPosition(START)
        return (await spool.promptly(spool.console, start, NO_POSITION)).items

    async def printed_since(self, seen: int) -> ConsolePart:
        """The console behind `seen` bytes of output as exact bytes, as much as one reply holds; the
        client's cursor does not move."""
        if self._follower is None:
            return ConsolePart([], SpoolPosition(START), SpoolPosition(START))
        spool = self._follower.spool
        start = await spool.promptly(spool.at, seen)
        policy = PollPolicy(whole=True, base64=True)
        return await spool.promptly(spool.console, start, NO_POSITION, policy)

    async def size(self) -> int:
        """Bytes of disk that its console takes, of a run that is over."""
        if self._size is None:
            spool = self._follower.spool if self._follower else None
            self._size = await spool.promptly(spool.size) if spool else 0
        return self._size

    def call_off(self) -> bool:
        """Take the run out if it waits to be started; True if it did.

        Its calls end when the queue has forgotten it: the next daemon must not begin a run whose
        end a client knows."""
        if self._withdraw is None or self.state != "waiting":
            return False
        self._become("call off")
        self._withdraw()
        return True

    async def interrupt(self) -> None:
        """Send SIGINT to the running step, if there is one."""
        await self.signal("SIGINT")

    async def terminate(self) -> None:
        """End the run with the running step, if there is one: SIGTERM, and SIGKILL when the grace
        of the step is over."""
        if self._follower and not self._follower.over:
            await self._follower.terminate("client")

    async def signal(self, name: str, by: Sender = "client") -> None:
        """Send a signal to the running step, if there is one; the verdict names the sender."""
        if self._follower and not self._follower.over:
            await self._follower.signal(name, by)

    async def kill(self, by: Sender = "client") -> None:
        """End it now, or as soon as it has started; `follow` comes to its end."""
        self._killed_by = by
        if self._withdraw:
            self._withdraw()
        elif self._follower and not self._follower.over:
            await self._follower.kill(by)

    async def abandon(self) -> None:
        """Its client is gone for good: SIGINT, and SIGKILL if it does not end for that."""
        self._abandoned = True
        if self._follower:
            await self.interrupt()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    await self.done.wait()
        await self.kill()

    async def close(self) -> None:
        """Give all descriptors back, also when this is cancelled."""
        await close_all([self])

    def detach(self) -> SpoolReader | None:
        """Give all descriptors back but those of the spool, which is to be closed in a thread."""
        self._calls.close()
        if self._follower is None:
            return None
        self._follower.close()
        return self._follower.spool

    async def closed(self) -> None:
        """Wait until nothing writes into the files of the run any more, after `close`."""
        await self._calls.closed()


async def close_all(runs: Iterable[Run]) -> None:
    """Give the descriptors of all these runs back."""
    spools = [spool for run in runs if (spool := run.detach())]
    if spools:
        await asyncio.to_thread(_close_spools, spools)


def _close_spools(spools: Iterable[SpoolReader]) -> None:
    for spool in spools:
        spool.close()
