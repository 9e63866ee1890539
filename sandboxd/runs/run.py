"""One run: what it was asked to do, and the calls that follow it.

A run waits in its session's line, is started, followed to its end, and can then be asked for
its result until newer runs push it out. Calls of one run are served one after the other. A
call waits for the first line of next_answer.py that applies, as long as its terms say (polling.py).

What a call tells counts as told when its answer has been handed over, and not before: an answer
that its client did not get is told again (cursor.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ..config import ConsoleConfig
from ..errors import Invalid, SandboxdError
from ..model import Sender, Step
from ..spool import START, SpoolPosition
from .console_items import Item, log
from .cursor import ClientCursor, CursorFile, Offset, nothing
from .follower import Follower, StartedRun, writable
from .journal import HOST_RESTARTED, NO_POSITION, SHIM_GONE, JournalEvent
from .next_answer import NextAnswer, Progress, answer
from .polling import POLL, PollPolicy

GRACE_S = 3.0
"""Seconds that a run has to end by itself when its client is gone."""

NOTICES_MAX = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does.

    steps    clean, build, exec
    environ  variables besides those that every program has
    stdin    the whole of exec's standard input; None: the client may type
    clamped  names of the limits that had to be lowered, as clients write them
    options  what the client sent, in a form that can be compared
    role     "" of a client's run; else what the session itself has it for
    """

    steps: tuple[Step, ...]
    environ: dict[str, str] = field(default_factory=dict)
    stdin: bytes | None = None
    clamped: tuple[str, ...] = ()
    options: str = ""
    role: Literal["", "bootstrap", "startup"] = ""


@dataclass(frozen=True, slots=True)
class Input:
    """What the user typed; `eof` is the end of input after it."""

    text: str
    eof: bool = False

    def line(self) -> str:
        """The text as a program reads it: with a newline, unless there is only the end."""
        text = writable(self.text)
        return text if text.endswith("\n") or (self.eof and not text) else text + "\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a call, with the console text that goes with it.

    offset  where the client is when it has got it
    note    to be called when all but the last of it has been handed over
    """

    answer: NextAnswer
    console: list[Item]
    offset: Offset = Offset()
    note: Callable[[], Awaitable[None]] = field(default=nothing, compare=False)


class Run:
    """A run of a session.

    number      of the session's runs; 0 until the daemon has taken it down
    restored    an earlier daemon has taken it down, and may have had it started
    asked_at    seconds since 1970
    started_at  the same, 0.0 before the start
    ended_at    the same of its end
    called_off  its client has had it taken out of the line before it began
    done        set when it has left the line
    """

    def __init__(self, id: str, plan: Plan, keep: ConsoleConfig, number: int = 0) -> None:
        self.id = id
        self.plan = plan
        self.number = number
        self.restored = number > 0
        self.other_boot = False  # taken down before the host was restarted
        self.begun = False  # an earlier daemon was about to have it started
        self.asked_at = time.time()
        self.started_at = self.ended_at = 0.0
        self.error: SandboxdError | None = None
        self.vanished = self.suspended = self.called_off = False
        self.done = asyncio.Event()
        self._keep = keep
        self._follower: Follower | None = None
        self._file: CursorFile | None = None
        self._news = asyncio.Event()
        self._lock = asyncio.Lock()
        self._told = ClientCursor()
        self._more = False
        self._inputs = 0
        self._doomed: Sender | None = None
        self._abandoned = False
        self._withdraw: Callable[[], None] | None = None
        self._notices = [
            log("warning", f"{name} was lowered to what this server allows")
            for name in plan.clamped
        ]

    def notice(self, text: str, level: str = "warning") -> None:
        """Sandboxd's own word, to be told with the next answer."""
        if len(self._notices) < NOTICES_MAX:
            self._notices.append(log(level, text))
            self._news.set()

    @property
    def over(self) -> bool:
        """Nothing of it will happen any more."""
        return bool(self.error or self.vanished or (self._follower and self._follower.over))

    @property
    def ending(self) -> bool:
        """Its end can be answered already, a moment before it is over."""
        return self.over or bool(self.events and self.events[-1].final)

    @property
    def unwanted(self) -> bool:
        """It need not be started any more."""
        return bool(self._doomed) or self.vanished or self.called_off

    @contextlib.contextmanager
    def withdrawing(self, withdraw: Callable[[], None]) -> Iterator[None]:
        """While it waits to be started: `withdraw` is called as soon as it is unwanted."""
        self._withdraw = withdraw
        try:
            yield
        finally:
            self._withdraw = None

    @property
    def events(self) -> Sequence[JournalEvent]:
        """What has happened in it."""
        return self._follower.events if self._follower else ()

    @property
    def told(self) -> bool:
        """A call has answered its end, or nobody will ask for it."""
        follower = self._follower
        known = self._abandoned or follower is None or self._told.answered >= len(follower.events)
        return self.over and known

    @property
    def wanted(self) -> bool:
        """Who asks for it again means this one: it is not over, or its end was not told."""
        return not (self.told or self.vanished)

    async def carry_out(self, start: Callable[[Run], Awaitable[StartedRun]]) -> None:
        """Start the run and follow it to its end. Raises what `start` raises."""
        started = await start(self)
        self._file = CursorFile(started.told)
        if started.found:
            self._told = replace(self._file.read(), asked=False)  # it may be told twice
            self.started_at = self._told.started_at
            if self._told != ClientCursor(started_at=self.started_at):
                self._notices.clear()  # they came with the first answer
        else:
            self._told = ClientCursor(started_at=self.started_at)
            await self._file.write(self._told)
        why_lost = HOST_RESTARTED if self.other_boot else SHIM_GONE
        self._follower = Follower(started, self._keep, self._news.set, why_lost)
        self._news.set()
        if self._doomed:
            await self._follower.kill(self._doomed)
        await self._follower.follow()
        self.ended_at = self.ended_at or time.time()

    def fail(self, error: SandboxdError) -> None:
        """The run ends with our failure, which each of its calls raises."""
        self.error = error
        self.ended_at = time.time()
        self._news.set()

    def vanish(self) -> None:
        """The session is gone: calls end at once."""
        self.vanished = True
        self._news.set()
        if self._withdraw:
            self._withdraw()

    def suspend(self) -> None:
        """The daemon ends, the run does not: calls are told at once that it goes on."""
        self.suspended = True
        self._news.set()

    async def close(self) -> None:
        """Give all descriptors back, also when this is cancelled."""
        if self._file:
            self._file.close()
        if self._follower:
            self._follower.close()
            await asyncio.to_thread(self._follower.spool.close)

    async def printed(self) -> list[Item]:
        """The console so far, as much of it as an answer holds; no call's position moves."""
        if self._follower is None:
            return []
        spool = self._follower.spool
        return (await asyncio.to_thread(spool.console, SpoolPosition(START), NO_POSITION))[0]

    async def size(self) -> int:
        """Bytes of disk that its console takes."""
        return await asyncio.to_thread(self._follower.spool.size) if self._follower else 0

    def call_off(self) -> bool:
        """If it waits to be started, it never is; whether it waits. Its calls are told when the
        line has forgotten it: what they know to be over, the next daemon does not begin."""
        if self._withdraw is None:
            return False
        self.called_off = True
        self._withdraw()
        return True

    async def interrupt(self) -> None:
        """SIGINT to the running step, if there is one."""
        await self.signal("SIGINT")

    async def signal(self, name: str, by: Sender = "client") -> None:
        """A signal to the running step, if there is one; `by` whom, its verdict will tell."""
        if self._follower and not self._follower.over:
            await self._follower.signal(name, by)

    async def kill(self, by: Sender = "client") -> None:
        """End it now, or as soon as it has started; `carry_out` comes to its end."""
        self._doomed = by
        if self._withdraw:
            self._withdraw()
        elif self._follower and not self._follower.over:
            await self._follower.kill(by)

    async def abandon(self) -> None:
        """Its client is gone for good: SIGINT, and SIGKILL if it does not end for that."""
        self._abandoned = True
        if self._follower:
            await self.interrupt()
            try:
                async with asyncio.timeout(GRACE_S):
                    await self.done.wait()
            except TimeoutError:
                pass
        await self.kill()

    @contextlib.asynccontextmanager
    async def call(
        self, given: Input | None = None, terms: PollPolicy = POLL, since: Offset | None = None
    ) -> AsyncIterator[Reply | None]:
        """Serve one call: its reply, None when the session vanished meanwhile. What it says is
        told when the block ends, unless that raises; `Reply.note` is for within.

        `given` is typed input; `since` where the client is, which it knows better than we.
        Raises the error that kept the run from starting, Invalid for input that it cannot take.
        """
        async with self._lock:
            if since is not None:
                await self._go_to(since)
            if given:
                await self.type(given)
            elif self._told.asked and self._follower and not terms.patient:
                await self._follower.decline()
            found = await self._next(terms)
            if found is None:
                yield None
                return
            inputs, begun = self._inputs, self._file is not None
            reply, told, more, notices = await self._reply(found, terms)
            if not begun:  # and may begin while this is handed over, with a place of its own
                yield reply
                self._notices = self._notices[notices:]
                return
            try:
                yield replace(reply, note=lambda: self._note(told))
            except BaseException:
                await self._note(self._told)
                raise
            await self._note(told)
            answered = inputs != self._inputs  # what was asked for has come meanwhile
            self._told = replace(told, asked=told.asked and not answered)
            self._more = more
            self._notices = self._notices[notices:]

    async def _note(self, told: ClientCursor) -> None:
        if self._file:
            await self._file.write(told)

    async def _go_to(self, since: Offset) -> None:
        """The client is at `since`, whatever has been told."""
        if self._follower is None:
            return
        if since == self._told.offset:  # if the end is told again, so is nothing before it
            self._told = replace(self._told, final_from=self._told.cursor)
            return
        cursor = await asyncio.to_thread(self._follower.spool.at, since.console)
        answered = min(since.steps, len(self._follower.events))
        self._told = ClientCursor(cursor, cursor, answered, False, self.started_at)

    async def type(self, given: Input) -> None:
        """Give the program input, also while a call waits. Raises Invalid, Unavailable."""
        if self._follower is None:
            raise Invalid("the run has not started yet: it cannot take input")
        if not self._follower.over:
            self._told = replace(self._told, asked=False)
            self._inputs += 1
            await self._follower.input(given.line(), given.eof)

    async def _next(self, terms: PollPolicy) -> NextAnswer | None:
        """The first answer that the state table allows; None when the session vanished."""
        loop = asyncio.get_running_loop()
        until = None if terms.wait_s is None else loop.time() + terms.wait_s
        watched = False
        while not self.vanished:
            if self.error:
                raise self.error.with_traceback(None)  # it is raised by every call
            if terms.live and self._follower and not watched:
                watched = True
                await self._follower.want_output(self._told.cursor.position)
            self._news.clear()
            expired = self.suspended or (until is not None and loop.time() >= until)
            found = answer(self._progress(terms, expired))
            if found and found.status == "continued" and not (expired or self._more):
                found = await self._gather(found, terms)
            if found:
                return found
            await self._news_until(until)
        return None

    async def _gather(self, found: NextAnswer, terms: PollPolicy) -> NextAnswer:
        """Leave output a moment, for more of it; what the table has meanwhile comes first."""
        until = asyncio.get_running_loop().time() + terms.gather_s
        while found.status == "continued" and await self._news_until(until):
            self._news.clear()
            found = answer(self._progress(terms, False)) or found
        return found

    async def _news_until(self, until: float | None) -> bool:
        """There is news; False: there was none until then."""
        try:
            async with asyncio.timeout_at(until):
                await self._news.wait()
                return True
        except TimeoutError:
            return False

    def _progress(self, terms: PollPolicy, expired: bool) -> Progress:
        follower = self._follower
        if follower is None:
            return Progress(expired=expired)
        return Progress(
            follower.events,
            self._told.answered,
            follower.waiting,
            self._told.asked and follower.waiting,
            terms.live and (follower.output or self._more or bool(self._notices)),
            expired,
        )

    async def _reply(
        self, found: NextAnswer, terms: PollPolicy
    ) -> tuple[Reply, ClientCursor, bool, int]:
        """The reply with its console; what is told with it, whether there is more console for
        the same answer, and how many notices it has."""
        told, more = self._told, False
        final = found.event is not None and found.event.final
        if found.again:
            told = replace(told, cursor=told.final_from)
        elif final:
            told = replace(told, final_from=told.cursor)
        items = list(self._notices)
        notices = len(items)
        if self._follower:
            faulty = found.event is None or bool(found.event.fault)
            end = NO_POSITION if faulty or not found.event else found.event.console
            read, cursor, more = await asyncio.to_thread(
                self._follower.spool.console, told.cursor, end, terms.whole
            )
            told = replace(told, cursor=cursor)
            items += read
            if more:  # what was found comes when all before it has been told
                return Reply(NextAnswer("continued"), items, told.offset), told, more, notices
        if found.event:
            items += _explained(found.event)
        answered = told.answered + (found.event is not None and not found.again)
        asked = found.status == "waiting-input" or (terms.patient and told.asked)
        told = replace(told, answered=answered, asked=asked)
        return Reply(found, items, told.offset), told, more, notices


def _explained(event: JournalEvent) -> list[Item]:
    """A log item for an end that needs an explanation: old clients know of no verdict."""
    if event.fault:
        return [log("error", event.fault)]
    verdict = event.verdict
    if not verdict or not verdict.advice or verdict.outcome == "skipped":
        return []
    return [log("warning", f"{event.step}: {verdict.advice}")]
