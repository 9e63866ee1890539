"""Messages of WebSockets that do not come to their end, or that nobody takes, with small bounds."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from sandboxd.api.http import connections, http_protocol, ws_protocol
from sandboxd.api.http.body_budget import BodyBudget
from sandboxd.api.http.connections import Connections
from sandboxd.config.settings import HttpConfig

from ..waiting import eventually

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

MIB = 1 << 20
PATIENCE_S = 30


def frame(data: bytes, opcode: int = 1, fin: bool = True) -> bytes:
    """A client's frame (RFC 6455, section 5.2), masked with zeros."""
    return struct.pack("!BBQ4x", opcode | (0x80 if fin else 0), 0xFF, len(data)) + data


class WebSocketService:
    """An application with WebSockets that takes a message when the test lets it."""

    def __init__(self) -> None:
        self.budget = BodyBudget(MIB)
        self.takes = asyncio.Semaphore(0)
        self.owner = "ann"
        self.admitted = asyncio.Event()
        self.admitted.set()
        self.entered = False
        self.taken: list[Any] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.state = Connections(HttpConfig(), self.budget)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.entered = True
        await self.admitted.wait()
        connections.mark_known(scope, self.owner)
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while True:
            await self.takes.acquire()
            message = await receive()
            self.taken.append(message)
            if message["type"] == "websocket.disconnect":
                return

    @property
    def protocol(self) -> Any:
        """The protocol of the only connection."""
        (protocol,) = self.state.connections
        return protocol

    async def open(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self.writers.append(writer)
        return reader, writer

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.open(port)
        writer.write(HANDSHAKE)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return reader, writer

    async def holds(self, condition: Callable[[int], bool]) -> None:
        """The used bytes come to be as `condition` says."""
        await eventually(lambda: condition(self.budget.used))


Scenario = Callable[[WebSocketService, int], Awaitable[None]]


def play(scenario: Scenario) -> None:
    async def go() -> None:
        service = WebSocketService()
        config = uvicorn.Config(
            service.app, log_config=None, ws=ws_protocol.WebSocketProtocol,
            ws_per_message_deflate=False, interface="asgi3",
        )  # fmt: skip
        config.load()
        server = await asyncio.get_running_loop().create_server(
            lambda: http_protocol.HttpProtocol(config, service.state, {}), "127.0.0.1", 0
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                await scenario(service, server.sockets[0].getsockname()[1])
        finally:
            for writer in service.writers:
                writer.close()
            server.close()
            for task in list(service.state.tasks):
                task.cancel()
            await asyncio.gather(*service.state.tasks, return_exceptions=True)
            await eventually(lambda: not service.state.connections)

    asyncio.run(go())


async def close_code(reader: asyncio.StreamReader) -> int:
    """The code of the frame that closes the connection."""
    answer = await reader.readexactly(4)
    assert answer[0] == 0x88
    code: int = struct.unpack("!H", answer[2:4])[0]
    return code


def test_message_that_is_not_complete_in_time_closes_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ws_protocol, "MESSAGE_S", 0.2)

    async def scenario(service: WebSocketService, port: int) -> None:
        reader, writer = await service.connect(port)
        writer.write(frame(b"x" * 1000)[:-1])
        assert await close_code(reader) == 1008
        await service.holds(lambda used: used == 0)

    play(scenario)


def test_text_that_is_not_utf_8_closes_its_connection_and_is_no_error_of_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(service: WebSocketService, port: int) -> None:
        reader, writer = await service.connect(port)
        service.takes.release()
        writer.write(frame(b"\xc9(", fin=False) + frame(b"\xff", opcode=0))
        assert await close_code(reader) == 1007
        await service.holds(lambda used: used == 0)

    play(scenario)
    assert not caplog.records


def test_message_of_fragments_that_trickle_is_not_complete_in_time_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ws_protocol, "MESSAGE_S", 0.2)

    async def scenario(service: WebSocketService, port: int) -> None:
        reader, writer = await service.connect(port)
        writer.write(frame(b"x", fin=False))

        async def trickle() -> None:
            while True:
                writer.write(frame(b"x", opcode=0, fin=False))
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        assert await close_code(reader) == 1008
        trickling.cancel()

    play(scenario)


def test_time_in_which_the_application_takes_nothing_is_not_the_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ws_protocol, "MESSAGE_S", 0.2)

    async def scenario(service: WebSocketService, port: int) -> None:
        _, writer = await service.connect(port)
        second = frame(b"second")
        writer.write(frame(b"first") + second[:-1])
        await service.holds(lambda used: used > 0)
        assert service.protocol.transport.is_reading() is False
        assert service.protocol._timer is None
        writer.write(second[-1:])
        for _ in range(2):
            service.takes.release()
        await eventually(lambda: len(service.taken) == 2)
        assert [message.get("text") for message in service.taken] == ["first", "second"]

    play(scenario)


def test_unfinished_messages_of_one_owner_together_are_bounded_and_others_have_room() -> None:
    async def scenario(service: WebSocketService, port: int) -> None:
        unfinished = frame(b"x" * 400_000)[:-1]
        _, writer = await service.connect(port)
        writer.write(unfinished)
        await service.holds(lambda used: used > 390_000)
        reader, second = await service.connect(port)
        second.write(unfinished)
        assert await close_code(reader) == 1013
        service.owner = "ben"
        _, third = await service.connect(port)
        third.write(unfinished)
        await service.holds(lambda used: used > 780_000)
        for each in (writer, third):
            each.close()
        await service.holds(lambda used: used == 0)

    play(scenario)


def test_flood_of_empty_messages_that_nobody_takes_counts_and_is_given_back() -> None:
    async def scenario(service: WebSocketService, port: int) -> None:
        reader, writer = await service.connect(port)
        writer.write(frame(b"") * 4000)
        assert await close_code(reader) == 1013
        writer.close()
        for _ in range(5000):
            service.takes.release()
        await service.holds(lambda used: used == 0)

    play(scenario)


def test_message_counts_until_the_application_asks_for_the_next_one() -> None:
    async def scenario(service: WebSocketService, port: int) -> None:
        _, writer = await service.connect(port)
        writer.write(frame(b"x" * 100_000))
        await service.holds(lambda used: used > 100_000)
        service.takes.release()
        await eventually(lambda: service.taken)
        assert service.budget.used > 100_000
        service.takes.release()
        await service.holds(lambda used: used == 0)

    play(scenario)


def test_nothing_is_read_from_a_client_before_its_request_is_authenticated() -> None:
    async def scenario(service: WebSocketService, port: int) -> None:
        service.admitted.clear()
        reader, writer = await service.open(port)
        writer.write(HANDSHAKE)
        await eventually(lambda: service.entered)
        writer.write(frame(b"x" * 100_000))
        assert service.protocol.transport.is_reading() is False
        service.admitted.set()
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        await service.holds(lambda used: used > 100_000)

    play(scenario)
