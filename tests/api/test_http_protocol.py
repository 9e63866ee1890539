"""Connections that are slow, silent or too many, with bounds short enough to be met."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from sandboxd.api import http_protocol

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Scenario = Callable[[Callable[[], Awaitable[Streams]]], Awaitable[None]]


async def never(scope: Any, receive: Any, send: Any) -> None:
    """An application that does not answer."""
    await asyncio.sleep(60)


def play(scenario: Scenario) -> None:
    async def go() -> None:
        loop, state = asyncio.get_running_loop(), ServerState()
        config = uvicorn.Config(never, log_config=None)
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
            async with asyncio.timeout(5):
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
    monkeypatch.setattr(http_protocol, "CONNECTIONS_MAX", 2)


def test_a_head_that_comes_too_slowly_is_408() -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")

    play(scenario)


def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, _ = await connect()
        assert await reader.read() == b""

    play(scenario)


def test_one_connection_too_many_is_503() -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        for _ in range(2):
            await connect()
        await asyncio.sleep(0.05)
        reader, _writer = await connect()
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")

    play(scenario)


def test_a_whole_head_ends_the_clock() -> None:
    async def scenario(connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await reader.read()

    play(scenario)
