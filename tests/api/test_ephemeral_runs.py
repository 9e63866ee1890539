"""The runs of a request: what the daemon keeps of their output."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from sandboxd.api.sessions import ephemeral_runs
from sandboxd.api.sessions.ephemeral_runs import CONSOLE_MAX, EphemeralRuns, console_sizes
from sandboxd.api.sessions.session import Session
from sandboxd.runs.journal import JournalEvent
from sandboxd.runs.next_answer import NextAnswer
from sandboxd.runs.plan import Plan
from sandboxd.runs.polling import PollPolicy
from sandboxd.runs.reply import Reply, StepEnd
from sandboxd.runs.run import Run


class _Items(list[Any]):
    """A console that can be watched."""


class _Flood:
    """A run with far more output than a response has room for. `alive` has, at each call, how many
    of the consoles are still in memory."""

    def __init__(self, calls: int) -> None:
        self.alive = list[int]()
        self._left = calls
        self._consoles = list[weakref.ref[_Items]]()

    @contextlib.asynccontextmanager
    async def call(self, policy: PollPolicy) -> AsyncIterator[Reply]:
        self.alive.append(sum(console() is not None for console in self._consoles))
        items = _Items([["stdout", f"{self._left}"]])
        self._consoles.append(weakref.ref(items))
        self._left -= 1
        if self._left:
            yield Reply(NextAnswer("continued"), items, more=True)
            return
        event = JournalEvent("exec", 0, 0, True)
        yield Reply(NextAnswer("finished", 0, event), items, ends=(StepEnd(event, 1),))


def test_flood_beyond_the_room_of_a_response_takes_no_memory_of_the_daemon() -> None:
    """The first reply has all that the response gets, and the last one the end."""
    flood = _Flood(50)
    runs = EphemeralRuns(cast(Session, None), (), 1000, False, lambda _: None)
    reply, cut = asyncio.run(runs._whole(cast(Run, flood), 1000))
    assert cut and reply.console == [["stdout", "50"]]
    assert (reply.answer.status, len(reply.ends)) == ("finished", 1)
    assert max(flood.alive) <= 2


PIECE = 1000


class _Chatter:
    """A session whose runs print a piece to stdout and one to stderr in turn, 400 times."""

    async def submit(self, *_: object) -> Any:
        return self

    @contextlib.asynccontextmanager
    async def call(self, policy: PollPolicy) -> AsyncIterator[Reply]:
        pieces = min(policy.room or 0, 400 * PIECE) // PIECE
        items = [[kind, "x" * PIECE] for _ in range(pieces) for kind in ("stdout", "stderr")]
        if pieces < 400:
            yield Reply(NextAnswer("continued"), items, more=True)
            return
        event = JournalEvent("exec", 0, 0, True)
        yield Reply(NextAnswer("finished", 0, event), items, ends=(StepEnd(event, len(items)),))


def test_output_in_small_pieces_of_many_cases_keeps_to_the_bound_of_a_response() -> None:
    """The length of the longest piece is not what a stream has taken."""
    room = 500 * PIECE
    runs = EphemeralRuns(cast(Session, _Chatter()), (), room, False, lambda _: None)

    async def act() -> tuple[Counter[str], int]:
        total, cuts = Counter[str](), 0
        for _ in range(40):
            outcome = await runs._follow(cast(Plan, None))
            total += console_sizes(outcome.reply.console)
            cuts += outcome.cut
        return total, cuts

    total, cuts = asyncio.run(act())
    assert CONSOLE_MAX - PIECE < total["stdout"] == total["stderr"] <= CONSOLE_MAX
    assert cuts == 40 - CONSOLE_MAX // (400 * PIECE)


class _Helper(contextlib.AsyncExitStack):
    """A file helper with one file; `acts` has what was done, in its order."""

    def __init__(self, acts: list[str]) -> None:
        super().__init__()
        self._acts = acts

    async def ask(self, _: object) -> dict[str, int]:
        return {"size": 3}

    async def data(self) -> AsyncIterator[bytes]:
        self._acts.append("read")
        yield b"abc"


def test_file_counts_before_its_first_byte_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred requests at a time have 8 MiB of files each."""
    acts = list[str]()
    monkeypatch.setattr(ephemeral_runs, "FileClient", lambda _: _Helper(acts))
    runs = EphemeralRuns(
        cast(Session, None), ("a",), 0, False, lambda size: acts.append(f"hold {size}")
    )
    files = asyncio.run(runs._files())
    assert files and files["a"].content == b"abc" and acts == ["hold 3", "read"]
