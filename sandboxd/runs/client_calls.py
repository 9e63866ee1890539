"""The calls of one run's client: input and replies, the client's cursor, and notices for it.

Calls are served one after the other. A call waits for the first row of the table in
next_answer.py that applies, as long as its policy says (polling.py).

A reply counts as served when it has been handed over, and not before: a reply that the client did
not receive is served again (cursor.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace

from ..errors import Invalid, SandboxdError
from .console_items import log
from .cursor import ClientCursor, CursorFile, Offset
from .follower import Follower, StartedRun, writable
from .journal import NO_POSITION, JournalEvent
from .next_answer import NextAnswer, Progress, next_answer
from .polling import PollPolicy
from .reply import Reply, divided

NOTICES_MAX = 20

SILENT_QUESTION = (
    "the program waits for input and has printed nothing: a C program shows a prompt without a "
    "newline only after fflush(stdout), or with options.interactive"
)


@dataclass(frozen=True, slots=True)
class Input:
    """Text that the user typed; `eof` is the end of input after it."""

    text: str
    eof: bool = False

    def line(self) -> str:
        """The text as a program reads it: with a newline, unless there is only the end."""
        text = writable(self.text)
        return text if text.endswith("\n") or (self.eof and not text) else text + "\n"


@dataclass(frozen=True, slots=True)
class _Draft:
    """A reply, and the state of the calls once the reply has been served.

    notices  how many of the notices are in the reply
    """

    reply: Reply
    cursor: ClientCursor
    notices: int


class ClientCalls:
    """The calls of one run.

    error      our failure, which each call raises
    vanished   the session is gone: calls end at once, without a reply
    suspended  the daemon ends: calls reply at once that the run goes on
    wants_output  a call waits that replies at the first output
    wants_end     a call waits that passes over the ends of steps
    """

    def __init__(self, warnings: Iterable[str], interactive: bool = False) -> None:
        """`interactive`: the program has a terminal, so its prompts come before its questions."""
        self.error: SandboxdError | None = None
        self.vanished = self.suspended = False
        self.wants_output = self.wants_end = False
        self._follower: Follower | None = None
        self._cursor = ClientCursor()
        self._cursor_file: CursorFile | None = None
        self._more = False
        # The program has waited for input, and its client knows why it may have printed nothing.
        self._questioned = interactive
        self._inputs = 0
        self._notices = [log("warning", warning) for warning in warnings]
        self._news = asyncio.Event()
        self._lock = asyncio.Lock()

    def begin(self, started: StartedRun, started_at: float) -> float:
        """Take over the cursor file of a run that was started at `started_at`; the time of its
        start, which for a run of an earlier daemon only the file knows."""
        self._cursor_file = CursorFile(started.cursor)
        if started.restored:
            self._questioned = True
            # The client may be prompted twice for the same input.
            self._cursor = replace(self._cursor_file.read(), prompted=False)
            if self._cursor != ClientCursor(started_at=self._cursor.started_at):
                self._notices.clear()  # they were in the first reply
        else:
            self._cursor = ClientCursor(started_at=started_at)
            self._cursor_file.post(self._cursor)
        return self._cursor.started_at

    def expect(self, policy: PollPolicy) -> None:
        """A call with this policy waits, or will in a moment."""
        self.wants_output, self.wants_end = policy.live, policy.holds

    def follow(self, follower: Follower) -> None:
        """Serve from now on what `follower` sees of the run."""
        self._follower = follower
        self.wake()

    def wake(self) -> None:
        """Have waiting calls look at the run again."""
        self._news.set()

    def fail(self, error: SandboxdError) -> None:
        """Have every call raise `error`."""
        self.error = error
        self.wake()

    def vanish(self) -> None:
        """End all calls: the session is gone."""
        self.vanished = True
        self.wake()

    def suspend(self) -> None:
        """Have calls reply at once: the daemon ends."""
        self.suspended = True
        self.wake()

    def notice(self, text: str, level: str) -> None:
        """Add a message of sandboxd itself to the next reply."""
        if len(self._notices) < NOTICES_MAX:
            self._notices.append(log(level, text))
            self.wake()

    @property
    def up_to_date(self) -> bool:
        """The client has been served all events so far."""
        return self._follower is None or self._cursor.answered >= len(self._follower.events)

    def close(self) -> None:
        """Give the cursor file back."""
        if self._cursor_file:
            self._cursor_file.close()

    async def closed(self) -> None:
        """Wait until nothing writes into the cursor file any more, after `close`."""
        if self._cursor_file:
            await self._cursor_file.closed()

    @contextlib.asynccontextmanager
    async def call(
        self, input: Input | None, policy: PollPolicy, since: Offset | None
    ) -> AsyncIterator[Reply | None]:
        """Serve one call, see Run.call."""
        async with self._lock:
            if since is not None:
                await self._move_to(since)
            if input:
                await self.type(input)
            elif self._cursor.prompted and self._follower and not policy.patient:
                await self._follower.decline()
            answer = await self._next(policy)
            self.wants_output = self.wants_end = False
            if answer is None:
                yield None
                return
            await self._note_question()
            inputs, started = self._inputs, self._cursor_file is not None
            draft = await self._draft(answer, policy)
            if not started:  # the run may start during the hand-over, with a cursor of its own
                yield draft.reply
                self._notices = self._notices[draft.notices :]
                return
            try:
                yield replace(draft.reply, note=lambda: self._note(draft.cursor))
            except BaseException:  # the hand-over failed or was cancelled: take the note back
                await self._note(self._cursor)
                raise
            await self._note(draft.cursor)
            self._cursor = draft.cursor
            if inputs != self._inputs:  # the program got its input during the hand-over
                self._cursor = replace(draft.cursor, prompted=False)
            self._more = draft.reply.more
            self._notices = self._notices[draft.notices :]

    async def _note(self, cursor: ClientCursor) -> None:
        if self._cursor_file:
            await self._cursor_file.write(cursor)

    async def _move_to(self, since: Offset) -> None:
        """Move the cursor to `since`, the client's own word, whatever has been served."""
        if self._follower is None:
            return
        if since == self._cursor.offset:  # the last reply is served again without console text
            self._cursor = _from_here(self._cursor)
            return
        spool = self._follower.spool
        console = await spool.promptly(spool.at, since.console)
        answered = min(since.steps, len(self._follower.events))
        self._cursor = _from_here(
            ClientCursor(console, console, answered, False, self._cursor.started_at)
        )

    async def type(self, input: Input) -> None:
        """Give the program input, also while a call waits. Raises Invalid, Unavailable."""
        if self._follower is None:
            raise Invalid("the run has not started yet: it cannot take input")
        if not self._follower.over:
            self._cursor = replace(self._cursor, prompted=False)
            self._inputs += 1
            await self._follower.input(input.line(), input.eof)

    async def _next(self, policy: PollPolicy) -> NextAnswer | None:
        """The first answer that the table of next_answer.py has; None when the session vanished."""
        loop = asyncio.get_running_loop()
        until = None if policy.wait_s is None else loop.time() + policy.wait_s
        watched = False
        while not self.vanished:
            if self.error:
                raise self.error.with_traceback(None)  # every call raises it
            self.expect(policy)
            self._news.clear()
            await self._note_question()
            expired = self.suspended or (until is not None and loop.time() >= until)
            await self._catch_up(policy, expired)
            answer = next_answer(self._progress(policy, expired, watched))
            if not watched and (follower := self._unwatched(policy, answer)):
                watched = True
                await self._watch(follower, policy)
                continue
            if answer and answer.status == "continued" and not (expired or self._more):
                answer = await self._gather(answer, policy)
            if answer:
                return answer
            await self._news_until(until)
        return None

    async def _catch_up(self, policy: PollPolicy, expired: bool) -> None:
        """Have all events of the run, unless a call can go on without those of skipped steps."""
        if self._follower and (expired or not policy.holds):
            await self._follower.catch_up()

    def _unwatched(self, policy: PollPolicy, answer: NextAnswer | None) -> Follower | None:
        """The run, if a call that would have this answer has to watch its output."""
        return self._follower if policy.live and (policy.base64 or not answer) else None

    async def _watch(self, follower: Follower, policy: PollPolicy) -> None:
        """Have the run report output that the client has not been served."""
        await follower.want_output(self._cursor.console.position)
        if policy.base64:
            await follower.hold(self._cursor.console.position)

    async def _note_question(self) -> None:
        """Explain the first question of a program that has printed nothing in this step."""
        follower = self._follower
        if self._questioned or follower is None or not follower.awaits_input:
            return
        self._questioned = True
        begin = follower.events[-1].console if follower.events else 0
        if await follower.spool.promptly(follower.spool.silent_since, begin):
            self._notices.append(log("info", SILENT_QUESTION))

    async def _gather(self, answer: NextAnswer, policy: PollPolicy) -> NextAnswer:
        """Wait a moment for more output; an answer that comes first in the table ends the wait."""
        until = asyncio.get_running_loop().time() + policy.gather_s
        while answer.status == "continued" and await self._news_until(until):
            self._news.clear()
            answer = next_answer(self._progress(policy, False, True)) or answer
        return answer

    async def _news_until(self, until: float | None) -> bool:
        """Wait for news until then; whether there is any."""
        try:
            async with asyncio.timeout_at(until):
                await self._news.wait()
                return True
        except TimeoutError:
            return False

    def _progress(self, policy: PollPolicy, expired: bool, watched: bool) -> Progress:
        """The progress for a call, which has had output `watched` or not."""
        follower = self._follower
        if follower is None:
            return Progress(expired=expired)
        return Progress(
            follower.events,
            self._cursor.answered,
            follower.awaits_input and not policy.streams,
            self._cursor.prompted and follower.awaits_input,
            policy.live and ((watched and follower.output) or self._more or bool(self._notices)),
            expired,
            policy.holds,
        )

    def _unserved(self, answer: NextAnswer, policy: PollPolicy) -> Sequence[JournalEvent]:
        """The events whose ends go with the answer."""
        if self._follower is None or not policy.holds:
            return [answer.event] if answer.event else []
        events, cursor = self._follower.events, self._cursor
        if answer.again:
            return events[min(cursor.final_steps, len(events) - 1) :]
        unserved = events[cursor.answered :]
        # The run may have ended since the answer was chosen: its end has an answer of its own.
        return unserved if answer.event else [event for event in unserved if not event.final]

    async def _draft(self, answer: NextAnswer, policy: PollPolicy) -> _Draft:
        """The reply with its console text."""
        cursor, notices = self._cursor, list(self._notices)
        events = self._unserved(answer, policy)
        if answer.again:
            cursor = replace(cursor, console=cursor.final_from)
        elif answer.event and answer.event.final:
            cursor = _from_here(cursor)
        if self._follower is None:
            return _Draft(Reply(answer, notices, cursor.offset), cursor, len(notices))
        marks = [NO_POSITION if event.fault else event.console for event in events]
        end = marks.pop() if answer.event else NO_POSITION
        spool = self._follower.spool
        part = await spool.promptly(spool.console, cursor.console, end, policy, marks)
        prompted = cursor.prompted
        if part.more:  # the answer follows when all output before it has been served
            events = events[: len(part.counts)]
            steps = len(events) + (cursor.final_steps if answer.again else cursor.answered)
            cursor = replace(cursor, final_from=part.behind, final_steps=steps)
            answer = NextAnswer("continued", again=answer.again)
        else:
            prompted = answer.status == "waiting-input" or (policy.patient and prompted)
        answered = cursor.answered + (0 if answer.again else len(events))
        cursor = replace(cursor, console=part.behind, prompted=prompted, answered=answered)
        items, ends = divided(notices, part, events)
        offset = Offset(part.delivered.seen, cursor.answered)
        return _Draft(Reply(answer, items, offset, ends, part.more), cursor, len(notices))


def _from_here(cursor: ClientCursor) -> ClientCursor:
    """`cursor`, with the next reply as the one that may be the last of all."""
    return replace(cursor, final_from=cursor.console, final_steps=cursor.answered)
