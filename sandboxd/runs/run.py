"""One run: what it was asked to do, and the calls that follow it.

A run waits in its session's line, is started, followed to its end, and can then be asked for
its result until newer runs push it out. Calls of one run are served one after the other. A
call waits for the first line of table.py that applies, as long as its terms say (terms.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from ..config import Console
from ..errors import Invalid, SandboxdError
from ..model import Step
from ..spool import START, Cursor
from .console import Item, log
from .events import NO_POSITION, Event
from .follower import Follower, Started, writable
from .table import Answer, Progress, answer
from .terms import POLL, Terms

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
    """The answer to a call, with the console text that goes with it."""

    answer: Answer
    console: list[Item]


class Run:
    """A run of a session.

    asked_at    seconds since 1970
    started_at  the same, 0.0 before the start
    done        set when it has left the line
    """

    def __init__(self, id: str, plan: Plan, keep: Console) -> None:
        self.id = id
        self.plan = plan
        self.asked_at = time.time()
        self.started_at = 0.0
        self.error: SandboxdError | None = None
        self.vanished = False
        self.done = asyncio.Event()
        self._keep = keep
        self._follower: Follower | None = None
        self._news = asyncio.Event()
        self._lock = asyncio.Lock()
        self._cursor = self._final_from = Cursor(START)
        self._answered = 0
        self._asked = self._more = False
        self._doomed = self._abandoned = False
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
    def unwanted(self) -> bool:
        """It need not be started any more."""
        return self._doomed or self.vanished

    @contextmanager
    def withdrawing(self, withdraw: Callable[[], None]) -> Iterator[None]:
        """While it waits to be started: `withdraw` is called as soon as it is unwanted."""
        self._withdraw = withdraw
        try:
            yield
        finally:
            self._withdraw = None

    @property
    def events(self) -> Sequence[Event]:
        """What has happened in it."""
        return self._follower.events if self._follower else ()

    @property
    def told(self) -> bool:
        """A call has answered its end, or nobody will ask for it."""
        follower = self._follower
        known = self._abandoned or follower is None or self._answered >= len(follower.events)
        return self.over and known

    async def carry_out(self, start: Callable[[Run], Awaitable[Started]]) -> None:
        """Start the run and follow it to its end. Raises what `start` raises."""
        self._follower = Follower(await start(self), self._keep, self._news.set)
        self._news.set()
        if self._doomed:
            await self._follower.kill()
        await self._follower.follow()

    def fail(self, error: SandboxdError) -> None:
        """The run ends with our failure, which each of its calls raises."""
        self.error = error
        self._news.set()

    def vanish(self) -> None:
        """The session is gone: calls end at once."""
        self.vanished = True
        self._news.set()
        if self._withdraw:
            self._withdraw()

    async def close(self) -> None:
        """Give all descriptors back."""
        if self._follower:
            self._follower.close()
            await asyncio.to_thread(self._follower.spool.close)

    async def printed(self) -> list[Item]:
        """The console so far, as much of it as an answer holds; no call's position moves."""
        if self._follower is None:
            return []
        spool = self._follower.spool
        return (await asyncio.to_thread(spool.console, Cursor(START), NO_POSITION))[0]

    async def interrupt(self) -> None:
        """SIGINT to the running step, if there is one; a run that waits to be started never is."""
        if self._withdraw:
            self.vanish()
        elif self._follower and not self._follower.over:
            await self.signal("SIGINT")

    async def signal(self, name: str) -> None:
        """A signal to the running step, if there is one."""
        if self._follower and not self._follower.over:
            await self._follower.signal(name)

    async def kill(self) -> None:
        """End it now, or as soon as it has started; `carry_out` comes to its end."""
        self._doomed = True
        if self._withdraw:
            self._withdraw()
        elif self._follower and not self._follower.over:
            await self._follower.kill()

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

    async def call(self, given: Input | None = None, terms: Terms = POLL) -> Reply | None:
        """Serve one call; None when the session vanished meanwhile.

        `given` is typed input. Raises the error that kept the run from starting, Invalid for
        input that it cannot take.
        """
        async with self._lock:
            if given:
                await self.type(given)
            elif self._asked and self._follower and not terms.patient:
                await self._follower.decline()
            found = await self._next(terms)
            return None if found is None else await self._reply(found, terms)

    async def type(self, given: Input) -> None:
        """Give the program input, also while a call waits. Raises Invalid, Unavailable."""
        if self._follower is None:
            raise Invalid("the run has not started yet: it cannot take input")
        if not self._follower.over:
            self._asked = False
            await self._follower.input(given.line(), given.eof)

    async def _next(self, terms: Terms) -> Answer | None:
        """The first answer that the state table allows; None when the session vanished."""
        loop = asyncio.get_running_loop()
        until = None if terms.wait_s is None else loop.time() + terms.wait_s
        watched = False
        while not self.vanished:
            if self.error:
                raise self.error.with_traceback(None)  # it is raised by every call
            if terms.live and self._follower and not watched:
                watched = True
                await self._follower.want_output(self._cursor.position)
            self._news.clear()
            expired = until is not None and loop.time() >= until
            found = answer(self._progress(terms, expired))
            if found and found.status == "continued" and not (expired or self._more):
                found = await self._gather(found, terms)
            if found:
                return found
            await self._news_until(until)
        return None

    async def _gather(self, found: Answer, terms: Terms) -> Answer:
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

    def _progress(self, terms: Terms, expired: bool) -> Progress:
        follower = self._follower
        if follower is None:
            return Progress(expired=expired)
        return Progress(
            follower.events,
            self._answered,
            follower.waiting,
            self._asked and follower.waiting,
            terms.live and (follower.output or self._more or bool(self._notices)),
            expired,
        )

    async def _reply(self, found: Answer, terms: Terms) -> Reply:
        """The answer with its console, and the client's position moved behind it."""
        final = found.event is not None and found.event.final
        if found.again:
            self._cursor = self._final_from
        elif final:
            self._final_from = self._cursor
        items, self._notices = self._notices, []
        if self._follower:
            faulty = found.event is None or bool(found.event.fault)
            end = NO_POSITION if faulty or not found.event else found.event.console
            read, self._cursor, self._more = await asyncio.to_thread(
                self._follower.spool.console, self._cursor, end, terms.whole
            )
            items += read
            if self._more:  # what was found comes when all before it has been told
                return Reply(Answer("continued"), items)
        if found.event:
            items += _explained(found.event)
        if found.event and not found.again:
            self._answered += 1
        self._asked = found.status == "waiting-input" or (terms.patient and self._asked)
        return Reply(found, items)


def _explained(event: Event) -> list[Item]:
    """A log item for an end that needs an explanation: old clients know of no verdict."""
    if event.fault:
        return [log("error", event.fault)]
    verdict = event.verdict
    if not verdict or not verdict.advice or verdict.outcome in ("success", "skipped"):
        return []
    return [log("warning", f"{event.step}: {verdict.advice}")]
