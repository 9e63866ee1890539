"""Connections that are slow, silent, greedy or too many, with bounds short enough to be met."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette

from sandboxd.api.http import connections, http_protocol
from sandboxd.api.http.body_budget import BodyBudget
from sandboxd.api.http.connections import Bounded, Connections
from sandboxd.api.uvicorn_servers import MonitorServer
from sandboxd.config.settings import HttpConfig

from ..waiting import PATIENCE_S, eventually

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Scenario = Callable[[Callable[[], Awaitable[Streams]]], Awaitable[None]]


async def never(scope: Any, receive: Any, send: Any) -> None:
    """An application that does not answer."""
    await asyncio.sleep(60)


async def at_once(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers without reading."""
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


async def known(scope: Any, receive: Any, send: Any) -> None:
    """An application that knows its clients, and answers without reading."""
    connections.mark_known(scope, "ann")
    await at_once(scope, receive, send)


async def endless(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers without end."""
    await send({"type": "http.response.start", "status": 200})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await asyncio.sleep(0)


async def ends(reader: asyncio.StreamReader) -> bool:
    """The connection comes to its end, or is reset, which `play` waits for."""
    try:
        while await reader.read(1 << 20):
            pass
    except ConnectionResetError:
        pass
    return True


HTTP = HttpConfig(connections=4, source_connections=2)


def play(scenario: Scenario, app: Any = never, http: HttpConfig = HTTP) -> None:
    async def go() -> None:
        loop, state = asyncio.get_running_loop(), Connections(http, BodyBudget(1 << 20))
        config = uvicorn.Config(app, log_config=None)
        config.load()
        server = await loop.create_server(
            lambda: http_protocol.HttpProtocol(config, state, {}), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        opened: list[asyncio.StreamWriter] = []

        async def connect() -> Streams:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            opened.append(writer)
            return reader, writer

        try:
            async with asyncio.timeout(PATIENCE_S):
                await scenario(connect)
        finally:
            for writer in opened:
                writer.close()
            for task in state.tasks:
                task.cancel()
            server.close()
            await asyncio.sleep(0.05)

    asyncio.run(go())


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_S", 0.2)
    monkeypatch.setattr(http_protocol, "REST_S", 0.2)


def test_a_head_that_comes_too_slowly_is_408() -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")

    play(scenario)


def test_a_silent_connection_is_closed_without_a_response() -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, _ = await connect()
        assert await reader.read() == b""

    play(scenario)


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def served(connect: Callable[[], Awaitable[Streams]]) -> Streams:
    """A connection that has carried a request."""
    reader, writer = await connect()
    writer.write(GET)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
    return reader, writer


def test_one_connection_too_many_is_503_where_all_others_are_of_known_clients() -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        for _ in range(2):
            await served(connect)
        reader, _writer = await connect()
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1\r\n" in answer

    play(scenario, known, HttpConfig(connections=2))


def test_connection_too_many_takes_the_place_of_a_silent_one_and_not_of_a_known_client() -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await served(connect)
        silent, _ = await connect()
        await served(connect)
        assert await silent.read() == b"", "it is closed without a response"
        writer.write(GET)
        assert (await reader.readline()).startswith(b"HTTP/1.1 204 "), "it has kept its place"

    play(scenario, known, HttpConfig(connections=2))


def test_connection_too_many_takes_the_place_of_a_stranger_that_waits_for_its_answer() -> None:
    entered: list[Any] = []

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        entered.append(scope)
        await never(scope, receive, send)

    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(GET)
        await eventually(lambda: entered)
        await connect()
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1\r\n" in answer

    play(scenario, waits, HttpConfig(connections=1))


def test_one_connection_too_many_from_one_address_is_429_until_a_known_one_goes() -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        first, second = await served(connect), await served(connect)
        reader, _writer = await connect()
        assert (await reader.read()).startswith(b"HTTP/1.1 429 ")
        for _, writer in (first, second):
            writer.close()
        await asyncio.sleep(0.05)
        await served(connect)

    play(scenario, known)


def test_address_with_too_many_connections_pays_with_its_own_silent_one() -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        first, _ = await connect()
        await connect()
        await served(connect)
        assert await first.read() == b""

    play(scenario, at_once)


def test_connection_with_the_oldest_unfinished_head_gives_way_when_all_hold_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "HEADS_MAX", 50_000)
    monkeypatch.setattr(http_protocol, "HEAD_S", 30)
    head_of, sizes = Connections.head, list[int]()

    def head(self: Connections, holder: Bounded, size: int) -> None:
        sizes.append(size)
        head_of(self, holder, size)

    monkeypatch.setattr(Connections, "head", head)

    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        unfinished = b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 30_000
        reader, writer = await connect()
        writer.write(unfinished)
        await eventually(lambda: sum(sizes) >= len(unfinished))
        other, second = await connect()
        second.write(unfinished)
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        second.write(b"\r\nHost: x\r\n\r\n")
        assert (await other.readline()).startswith(b"HTTP/1.1 204 ")

    play(scenario, at_once)


def test_a_complete_head_stops_the_deadline_for_heads() -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await reader.read()

    play(scenario)


@pytest.mark.parametrize(
    "head", [b"a: b\r\n" * 200, b"a: " + b"b" * 70000 + b"\r\n", b"a: b\r\n" * 70000]
)
def test_too_many_or_too_large_headers_are_431(head: bytes) -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\n" + head)
        assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")

    play(scenario)


def test_flood_of_trailers_ends_the_connection() -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        writer.write(b"trailer: yes\r\n" * 10000)
        assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")

    play(scenario)


def test_flood_of_requests_that_do_not_await_answers_ends_the_connection() -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        assert await ends(reader)

    play(scenario)


def test_body_that_is_still_not_complete_long_after_the_response_ends_the_connection() -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")

        async def trickle() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        try:
            assert await reader.readexactly(13) == b"HTTP/1.1 204 "
            with contextlib.suppress(ConnectionResetError):  # its body came to a closed socket
                await reader.read()
        finally:
            trickling.cancel()

    play(scenario, at_once)


def test_connection_lives_on_when_the_body_comes_soon_after_the_answer() -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        for _ in range(2):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
            writer.write(b"body")
            await asyncio.sleep(0.15)

    play(scenario, at_once)


def test_connection_of_a_client_that_never_reads_is_aborted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "STALLED_S", 0.3)

    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(1)
        assert await ends(reader)

    play(scenario, endless)


def test_connection_that_was_paused_first_is_aborted_when_all_hold_too_much_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "HELD_MAX", 100_000)

    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        clients = []
        for _ in range(2):
            clients.append(await connect())
            clients[-1][1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(0.5)
        assert await ends(clients[0][0])
        assert await clients[1][0].read(1 << 20)

    play(scenario, endless)


def test_date_of_a_response_is_that_of_its_second(monkeypatch: pytest.MonkeyPatch) -> None:
    state = Connections(HTTP, BodyBudget(1))
    dates = []
    for now in (0.0, 0.9, 86400.0):
        monkeypatch.setattr("sandboxd.api.http.connections.time.time", lambda now=now: now)
        dates.append(dict(state.default_headers))
    first = {b"date": b"Thu, 01 Jan 1970 00:00:00 GMT", b"server": b"BackendAI"}
    assert dates == [first, first, first | {b"date": b"Fri, 02 Jan 1970 00:00:00 GMT"}]


def test_server_at_rest_is_woken_up_by_its_end_and_by_nothing_else() -> None:
    async def scenario() -> None:
        server = MonitorServer(Starlette(), HTTP)
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(server.main_loop())
        await asyncio.sleep(0)
        assert not loop._scheduled  # type: ignore[attr-defined]  # the timers of asyncio's loops
        server.ended.set()
        await task

    asyncio.run(scenario())
