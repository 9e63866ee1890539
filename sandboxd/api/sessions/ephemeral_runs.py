"""The runs of an ephemeral session: one, or a build and then the cases, one after the other.

Each case begins with the files of the session as the build left them. A file helper holds a copy of
them while the cases run, where no program sees it (files/checkpoint.py), and restores them before
each case but the first. No case runs beside another or beside the helper's work.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ...errors import Deleted, Invalid, NotFound, OutsideHome, Unavailable
from ...runs.console_items import Item
from ...runs.plan import Plan
from ...runs.polling import PollPolicy
from ...runs.reply import Reply, StepEnd
from ...runs.run import RESTARTS, Run
from ..options.cases import Case, is_expected
from ..processes.file_client import FileClient
from .session import Session

CONSOLE_MAX = 8 << 20
"""Characters (or bytes) of each stream that one response has, of all runs together."""

FILES_MAX = 8 << 20
"""Bytes of the files that one response has."""

EXPECTED_MARGIN = 1024
"""Characters of white space behind the expected output that are looked at."""


@dataclass(frozen=True, slots=True)
class ReturnedFile:
    """A file of the session after a run; `refusal` says why it has no content."""

    content: bytes = b""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run.

    reply   its console, and the ends of its steps
    cut     the console has more output
    passed  it printed what its case expects; None: its case expects nothing
    files   by the names that the client gave
    """

    run: Run
    reply: Reply
    cut: bool = False
    passed: bool | None = None
    files: dict[str, ReturnedFile] | None = None

    @property
    def failed(self) -> bool:
        """The build or the program failed, or its output is not the expected one."""
        # A skipped exec ends with 0, also after a build that has failed.
        builds = [end.event for end in self.reply.ends if end.event.step == "build"]
        if any(event.exit != 0 for event in builds):
            return True
        return self.reply.answer.exit_code != 0 or self.passed is False


class EphemeralRuns:
    """The runs of one request in `session`.

    names   of the files that each run returns
    room    characters of a stream that a run may have in the response
    base64  the console is bytes
    count   counts bytes that are kept in memory up to the response; raises when they are too many
    """

    def __init__(
        self, session: Session, names: Sequence[str], room: int, base64: bool, queued: int,
        count: Callable[[int], None],
    ) -> None:  # fmt: skip
        """`waiting`: runs of the owner that wait already."""
        self._session, self._names, self._count = session, names, count
        self._room, self._base64, self._queued = room, base64, queued
        self._console_left, self._files_left = CONSOLE_MAX, FILES_MAX

    async def first(self, plan: Plan, has_cases: bool) -> Outcome:
        """The outcome of the only run; or of the build, if the task `has_cases`. Raises the errors
        that keep a run from its end."""
        outcome = await self._follow(plan)
        return outcome if has_cases else replace(outcome, files=await self._files())

    async def cases(self, cases: Sequence[Case], stop: bool) -> AsyncGenerator[Outcome]:
        """The outcome of each case, as soon as it is there; with `stop` none after the first that
        failed. Raises as `first`, and QuotaExceeded without room for a copy of the files."""
        async with contextlib.AsyncExitStack() as stack:
            helper: FileClient | None = None
            if len(cases) > 1:
                helper = await stack.enter_async_context(FileClient(self._session))
                await helper.ask({"op": "checkpoint"})
            for number, case in enumerate(cases):
                if helper and number:
                    await helper.restore()
                outcome = await self._follow(case.plan, case.expected)
                yield replace(outcome, files=await self._files())
                if stop and outcome.failed:
                    return

    async def _follow(self, plan: Plan, expected: bytes | None = None) -> Outcome:
        """Start a run, and wait for its end."""
        run = await self._session.submit(secrets.token_hex(16), plan, self._queued)
        room = min(self._room, self._console_left)
        if expected is not None:  # all of it can be compared
            room = max(room, len(expected) + EXPECTED_MARGIN)
        reply, cut = await self._whole(run, room)
        items = reply.console
        used = max(console_sizes(items).values(), default=0)
        self._console_left -= min(room, used, self._console_left)
        passed = None
        if expected is not None:
            passed = not cut and is_expected(self._stdout(items), expected)
            passed = passed and reply.answer.exit_code == 0
        return Outcome(run, reply, cut, passed)

    async def _whole(self, run: Run, room: int) -> tuple[Reply, bool]:
        """The reply to a run, with all ends of its steps, and as much of its console as there is
        room for; whether there is more of that, which is read and dropped."""
        policy = PollPolicy(wait_s=None, holds=True, whole=True, base64=self._base64, room=room)
        first = last = await self._reply(run, policy)
        later = list[StepEnd]()
        while last.more:
            last = await self._reply(run, replace(policy, room=self._room))
            later += last.ends
        if last.answer.event is None:
            raise Unavailable(RESTARTS)
        return replace(last, console=first.console, ends=_ends(first, later)), last is not first

    @staticmethod
    async def _reply(run: Run, policy: PollPolicy) -> Reply:
        async with run.call(policy=policy) as reply:
            if reply is None:
                raise Deleted("session")
        return reply

    def _stdout(self, items: list[Item]) -> bytes:
        texts = [data for kind, data in items if kind == "stdout"]
        if self._base64:
            return b"".join(base64.b64decode(text) for text in texts)
        return "".join(texts).encode("utf-8", "surrogateescape")

    # -- files

    async def _files(self) -> dict[str, ReturnedFile] | None:
        """The files that the client wants; None: it wants none."""
        if not self._names:
            return None
        return {name: await self._file(name) for name in self._names}

    async def _file(self, name: str) -> ReturnedFile:
        try:
            async with FileClient(self._session) as helper:
                answer = await helper.ask({"op": "read", "path": name})
                size = int(answer["size"])
                if size > self._files_left:
                    text = f"{size} bytes are too large, a response has {FILES_MAX} bytes of files"
                    return ReturnedFile(refusal=text)
                self._count(size)  # before the first byte is read
                content = bytearray()
                async for packet in helper.data():
                    if isinstance(packet, bytes):
                        content += packet
        except (NotFound, Invalid, OutsideHome) as error:
            if self._session.closed:
                raise
            return ReturnedFile(refusal=error.public)
        self._files_left -= len(content)
        return ReturnedFile(bytes(content))


def console_sizes(items: Iterable[Item]) -> Counter[str]:
    """The characters of each stream in a console."""
    counts = Counter[str]()
    for kind, data in items:
        if isinstance(data, str):
            counts[kind] += len(data)
    return counts


def _ends(first: Reply, later: Sequence[StepEnd]) -> tuple[StepEnd, ...]:
    """The ends of the steps in the `first` reply and `later`. Items are counted in the first one:
    those of a step that was not over there are of the first step that ends later."""
    items = len(first.console) - sum(end.items for end in first.ends)
    return (
        *first.ends,
        *(StepEnd(end.event, 0 if number else items) for number, end in enumerate(later)),
    )
