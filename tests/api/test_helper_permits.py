"""File helpers are processes: all owners together have a bounded number of them."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from sandboxd.api.admission.admission import Reservations
from sandboxd.api.processes import file_client
from sandboxd.api.processes.file_client import FileClient, HelperPermits, all_helper_permits
from sandboxd.api.routes.files import opened as answered
from sandboxd.errors import SandboxdError, Unavailable
from sandboxd.runs.channel import Channel

ALL = 4


class Files:
    """A session, whose helpers do nothing."""

    def __init__(self, all: Reservations, owner: str) -> None:
        self.helpers = HelperPermits(all, owner)
        self.opened = 0

    async def open_helper(self) -> Channel:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.close()
        self.opened += 1
        return Channel(ours)

    def helper_gone(self) -> SandboxdError:
        return Unavailable("gone")

    def client_message(self, text: str) -> str:
        return text


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_client, "ALL_HELPERS_MAX", ALL)


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test, in an event loop of its own."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


async def opened(stack: AsyncExitStack, files: Files) -> FileClient:
    return await stack.enter_async_context(FileClient(files))


async def waits(files: Files) -> bool:
    """A further call waits, until the block around it has had its turn."""
    call = asyncio.create_task(FileClient(files).open())
    for _ in range(10):
        await asyncio.sleep(0)
    is_waiting = not call.done()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    return is_waiting


@in_loop
async def test_owner_of_many_file_calls_leaves_half_of_the_helpers_to_others() -> None:
    all = all_helper_permits()
    async with AsyncExitStack() as stack:
        for _ in range(ALL // 2):
            await opened(stack, Files(all, "attacker"))
        assert await waits(Files(all, "attacker"))
        for _ in range(ALL // 2):
            await opened(stack, Files(all, "victim"))


@in_loop
async def test_owner_would_take_all_helpers_without_a_share() -> None:
    all = all_helper_permits()
    all.queue.owner = all.queue.total
    async with AsyncExitStack() as stack:
        for _ in range(ALL):
            await opened(stack, Files(all, "attacker"))
        assert await waits(Files(all, "victim"))


@in_loop
async def test_call_beyond_the_total_waits_for_a_place_and_gets_it() -> None:
    all = all_helper_permits()
    async with AsyncExitStack() as stack:
        first = await opened(stack, Files(all, "one"))
        for owner in ("one", "two", "two"):
            await opened(stack, Files(all, owner))
        third = Files(all, "three")
        client = FileClient(third)
        call = asyncio.create_task(client.open())
        await asyncio.sleep(0)
        assert not call.done() and not third.opened
        first.close()
        await call
        assert third.opened
        client.close()


@in_loop
async def test_call_that_gets_no_place_in_time_is_refused_and_takes_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(file_client, "TURN_S", 0.01)
    all = all_helper_permits()
    files = Files(all, "two")
    async with AsyncExitStack() as stack:
        for owner in ("one", "one", "two", "two"):
            await opened(stack, Files(all, owner))
        with pytest.raises(Unavailable, match="too many file calls are open"):
            await FileClient(files).open()
    assert all.queue.used.count == 0 and all.queue.queued == 0
    async with AsyncExitStack() as stack:
        for _ in range(ALL // 2):
            await opened(stack, files)


@in_loop
async def test_helper_that_does_not_start_gives_its_place_back() -> None:
    all = all_helper_permits()
    files = Files(all, "one")

    async def fail() -> Channel:
        raise Unavailable("no process")

    files.open_helper = fail  # type: ignore[method-assign]  # as with a warden that is short of them
    for _ in range(2 * ALL):
        with pytest.raises(Unavailable, match="no process"):
            await FileClient(files).open()
    assert all.queue.used.count == 0


@in_loop
async def test_client_that_hangs_up_before_the_first_answer_gives_its_place_back() -> None:
    all = all_helper_permits()
    files = Files(all, "attacker")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    async def silent() -> Channel:
        files.opened += 1
        return Channel(ours)

    async def receive() -> Message:
        while not files.opened:
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    files.open_helper = silent  # type: ignore[method-assign]  # its first walk takes hours
    with theirs, pytest.raises(ClientDisconnect):
        await answered(Request({"type": "http"}, receive), files, {"op": "pack"})
    assert all.queue.used.count == 0 and ours.fileno() < 0
