"""A connection of a run through the broker, with names that the test resolves."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sandboxd.broker import upstream
from sandboxd.broker.connection import BrokeredConnection, Permission
from sandboxd.broker.shares import NetworkBounds, Share
from sandboxd.network_hosts import Address, HostPort, parse_pattern

PATTERNS = (parse_pattern("slow.example:443"),)
PERMISSION = Permission("s", "o", 1, "packages", PATTERNS, PATTERNS, connect_s=0.01)


def test_resolution_counts_until_its_own_end_and_not_until_the_time_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name server that never answers would else take all threads of the resolver, for all."""
    asyncio.run(_abandoned(monkeypatch))


async def _abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = asyncio.Event()

    async def addresses(_: HostPort) -> list[Address]:
        await answered.wait()
        return []

    monkeypatch.setattr(upstream, "addresses", addresses)
    share, resolving = Share(NetworkBounds(1, 1000, 1000), lambda: 0.0), asyncio.Semaphore(1)
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(b"CONNECT slow.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        connection = BrokeredConnection(theirs, PERMISSION, [share], resolving)
        outcome, _ = await connection.serve(lambda _: None)
    assert (outcome, resolving.locked()) == ("timeout", True)
    answered.set()
    async with resolving:
        pass
