"""The stub of the warden: each reply reaches its caller, and descriptors do not stay open."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import pytest

from sandboxd.api.processes.warden_client import RunStart, WardenClient
from sandboxd.errors import Invalid, SandboxdError, StageError, Unavailable
from sandboxd.runs.channel import Channel
from sandboxd.wire import messages

from ..descriptors import open_descriptors
from ..each_case import each_case
from ..waiting import PATIENCE_S

Scenario = Callable[[WardenClient, Channel], Awaitable[None]]


def play(scenario: Scenario) -> None:
    """Play `scenario` with a client that is served, and the warden's end of its socket."""

    async def go() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client, warden = WardenClient(ours), Channel(theirs)
        link = asyncio.create_task(client.serve())
        try:
            async with asyncio.timeout(PATIENCE_S):
                await scenario(client, warden)
        finally:
            warden.close()
            await link

    before = open_descriptors()
    asyncio.run(go())
    assert open_descriptors() <= before, "descriptors stay open"


def socket_pair() -> tuple[int, int]:
    """Two connected descriptors."""
    one, other = socket.socketpair()
    return one.detach(), other.detach()


async def next_id(warden: Channel) -> int:
    """The id of the next request."""
    message, _ = await warden.receive_message()
    assert message
    return int(message["id"])


def test_replies_may_come_in_any_order() -> None:
    async def scenario(client: WardenClient, warden: Channel) -> None:
        first = asyncio.create_task(client.lease("a", "o", 1, 1, ()))
        one = await next_id(warden)
        second = asyncio.create_task(client.lease("b", "o", 1, 1, ()))
        two = await next_id(warden)
        await warden.send_message({"id": two, "ok": True, "slot": 2})
        await warden.send_message({"id": one, "ok": True, "slot": 1})
        assert ((await first).number, (await second).number) == (1, 2)

    play(scenario)


@pytest.mark.parametrize("answered", [False, True])
def test_descriptors_for_a_cancelled_request_are_closed(answered: bool) -> None:
    async def scenario(client: WardenClient, warden: Channel) -> None:
        request = asyncio.create_task(client.files(1, "s"))
        id, (end, fd) = await next_id(warden), socket_pair()
        if not answered:
            request.cancel()
            await asyncio.sleep(0)
        await warden.send_message({"id": id, "ok": True}, [fd])
        messages.close_all([end, fd])
        if answered:
            while client._pending:
                await asyncio.sleep(0)
            request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await asyncio.sleep(0.05)

    play(scenario)


@each_case("count", [0, 1, 3, 4, 5])
def test_reply_with_other_descriptors_than_those_of_the_table_is_refused(count: int) -> None:
    async def scenario(client: WardenClient, warden: Channel) -> None:
        request = asyncio.create_task(client.start(1, "s", RunStart(1, "/bin/bash", (), {}), None))
        id, fd = await next_id(warden), os.memfd_create("x")
        await warden.send_message({"id": id, "ok": True}, [fd] * count)
        os.close(fd)
        with pytest.raises(Unavailable):
            await request

    play(scenario)


@pytest.mark.parametrize("fields", [{}, {"slot": "1"}, {"slot": -1}, {"slot": 1, "uid": 0}])
def test_reply_with_other_fields_than_those_of_the_table_is_refused(
    fields: dict[str, object],
) -> None:
    async def scenario(client: WardenClient, warden: Channel) -> None:
        request = asyncio.create_task(client.lease("a", "o", 1, 1, ()))
        await warden.send_message({"id": await next_id(warden), "ok": True} | fields)
        with pytest.raises(Unavailable, match="not as expected"):
            await request

    play(scenario)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"kind": "stage", "stage": "mounts", "errno": 1, "error": "no"}, StageError),
        ({"kind": "invalid", "error": "no"}, Invalid),
        ({"kind": "unavailable", "error": "no"}, Unavailable),
        ({}, Unavailable),
    ],
)
def test_refusal_raises_the_exception_of_its_kind(
    answer: dict[str, object], kind: type[SandboxdError]
) -> None:
    async def scenario(client: WardenClient, warden: Channel) -> None:
        request = asyncio.create_task(client.release(1, "s"))
        await warden.send_message({"id": await next_id(warden), "ok": False} | answer)
        with pytest.raises(kind):
            await request

    play(scenario)


def test_end_of_the_warden_fails_every_request() -> None:
    async def scenario(client: WardenClient, warden: Channel) -> None:
        requests = [asyncio.create_task(client.release(n, "s")) for n in range(3)]
        await next_id(warden)
        warden.close()
        replies = await asyncio.gather(*requests, return_exceptions=True)
        assert all(isinstance(reply, Unavailable) for reply in replies)
        with pytest.raises(Unavailable):
            await client.ready()

    play(scenario)
