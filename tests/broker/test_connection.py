"""A connection of a run through the broker, with names that the test resolves."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from sandboxd.broker import connection as connection_module
from sandboxd.broker import upstream
from sandboxd.broker.connection import BrokeredConnection, Permission
from sandboxd.broker.relay import CHUNK
from sandboxd.broker.shares import NetworkBounds, Share
from sandboxd.network_hosts import Address, HostPort, parse_pattern

from ..each_case import each_case
from ..waiting import PATIENCE_S

PATTERNS = (parse_pattern("slow.example:443"),)
PERMISSION = Permission("s", "o", 1, "packages", PATTERNS, PATTERNS, connect_s=0.01, idle_s=300)


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


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A listening socket of a host that the profile lists by its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def of(listener: socket.socket, name: str = "") -> Permission:
    """The permission for a host at this address."""
    port = listener.getsockname()[1]
    patterns = [parse_pattern(f"{host}:{port}") for host in ("127.0.0.1", name) if host]
    return replace(PERMISSION, patterns=tuple(patterns), listed=tuple(patterns), connect_s=15)


def served(permission: Permission, share: Share, request: bytes) -> tuple[str, bytes]:
    """The outcome of a connection, and the answer that its client has read."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(request)
        connection = BrokeredConnection(theirs, permission, [share], asyncio.Semaphore(1))
        outcome, _ = asyncio.run(connection.serve(lambda _: None))
        ours.settimeout(PATIENCE_S)
        return outcome, ours.recv(65536)


def unbounded() -> Share:
    return Share(NetworkBounds(1, 1 << 40, 1 << 40), lambda: 0.0)


def test_name_that_resolves_otherwise_a_moment_later_is_connected_as_it_was_checked(
    monkeypatch: pytest.MonkeyPatch, server: socket.socket
) -> None:
    answers = [["127.0.0.1"], ["127.0.0.2"]]

    async def getaddrinfo(self: object, host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", (address, port)) for address in answers.pop(0)]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    port = server.getsockname()[1]
    get = b"GET http://rebound.example:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % port
    replying = threading.Thread(target=reply, args=(server, b"HTTP/1.1 204 No Content\r\n\r\n"))
    replying.start()
    one = unbounded()
    outcome, answer = served(of(server, "rebound.example"), one, get)
    replying.join()
    assert (outcome, answer.split()[1]) == ("ok", b"204")
    assert answers == [["127.0.0.2"]]  # asked once
    outcome, answer = served(of(server, "rebound.example"), one, get)
    assert (outcome, answer.split()[1]) == ("not-public", b"403")


def reply(listener: socket.socket, answer: bytes) -> None:
    with listener.accept()[0] as sock:
        sock.recv(65536)
        sock.sendall(answer)


@pytest.mark.parametrize("beginning", [b"", b"GET http://index", b"CONNECT x:1 HTTP/1.1\r\nA: b"])
def test_client_that_never_ends_its_head_is_ended(
    monkeypatch: pytest.MonkeyPatch, server: socket.socket, beginning: bytes
) -> None:
    monkeypatch.setattr(connection_module, "HEAD_S", 0.01)
    one = unbounded()
    outcome, answer = served(of(server), one, beginning)
    assert (outcome, answer.split()[1]) == ("bad-request", b"400")


def test_head_of_a_server_without_an_end_is_cut(server: socket.socket) -> None:
    endless = b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100_000
    replying = threading.Thread(target=reply_as_far_as_read, args=(server, endless))
    replying.start()
    port = server.getsockname()[1]
    get = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % port
    outcome, answer = served(of(server), unbounded(), get)
    replying.join()
    assert (outcome, answer.split()[1]) == ("cut", b"502")


def reply_as_far_as_read(listener: socket.socket, answer: bytes) -> None:
    try:
        reply(listener, answer)
    except (ConnectionResetError, BrokenPipeError):
        pass


_BODY = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + b"\0\0"
HELLO = b"\x16\3\1" + (len(_BODY) + 4).to_bytes(2) + b"\1" + len(_BODY).to_bytes(3) + _BODY
"""A ClientHello for an address."""

ALERT = b"\x15\3\3\0\2\2\x28"


def test_debt_of_the_rate_takes_nothing_from_the_time_of_the_greeting(
    monkeypatch: pytest.MonkeyPatch, server: socket.socket
) -> None:
    """A tunnel of a session that has used up its rate for a moment would fail for want of time."""
    monkeypatch.setattr(connection_module, "HEAD_S", 2.0)

    async def act() -> str:
        loop = asyncio.get_running_loop()
        one = Share(NetworkBounds(1, 1 << 40, 1000), loop.time)
        one.spend(3500)  # 2.5 s of debt
        ours, theirs = socket.socketpair()
        port = server.getsockname()[1]
        with ours:
            ours.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % port + HELLO)
            ours.shutdown(socket.SHUT_WR)
            connection = BrokeredConnection(theirs, of(server), [one], asyncio.Semaphore(1))
            replying = loop.run_in_executor(None, reply, server, ALERT)
            outcome, _ = await connection.serve(lambda _: None)
            await replying
        return outcome

    assert asyncio.run(act()) == "ok"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"5;a\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"


def forwarded(
    listener: socket.socket, answer: bytes, method: bytes = b"GET", version: bytes = b"1.1"
) -> tuple[str, bytes, int]:
    """The outcome of a request, the body that its client has read, and the bytes that count."""
    replying, share = threading.Thread(target=reply, args=(listener, answer)), unbounded()
    replying.start()
    port = listener.getsockname()[1]
    request = b"%b http://127.0.0.1:%d/ HTTP/%b\r\nHost: x\r\n\r\n" % (method, port, version)
    outcome, response = served(of(listener), share, request)
    replying.join()
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    return outcome, body, share.bounds.bytes - share.left


@each_case(
    ("sent", "outcome", "received"),
    [
        (CHUNKS, "ok", CHUNKS),
        (CHUNKS + b"HTTP/1.1 200 OK\r\n\r\n", "ok", CHUNKS),
        (CHUNKS[:-1], "cut", CHUNKS[:-2]),
        (CHUNKS[:8], "cut", CHUNKS[:8]),
        (b"5\r\nhello\n0\r\n\r\n", "cut", b""),
        (b"", "cut", b""),
    ],
)
def test_body_in_chunks_reaches_the_client_as_it_is_up_to_its_end(
    server: socket.socket, sent: bytes, outcome: str, received: bytes
) -> None:
    assert forwarded(server, CHUNKED + sent)[:2] == (outcome, received)


def test_all_bytes_of_a_body_in_chunks_count(server: socket.socket) -> None:
    empty = forwarded(server, CHUNKED + b"0\r\n\r\n")[2]
    assert forwarded(server, CHUNKED + CHUNKS)[2] - empty == len(CHUNKS) - len(b"0\r\n\r\n")


def test_body_in_chunks_ends_with_the_bytes_of_the_day(server: socket.socket) -> None:
    share = Share(NetworkBounds(1, 500_000, 1 << 40), lambda: 0.0)
    answer = CHUNKED + b"ffffffff\r\n" + bytes(8 << 20)
    replying = threading.Thread(target=reply_as_far_as_read, args=(server, answer))
    replying.start()
    ours, theirs = socket.socketpair()
    request = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % server.getsockname()[1]
    with ours:
        ours.sendall(request)
        reading = threading.Thread(target=read_all, args=(ours,))
        reading.start()
        connection = BrokeredConnection(theirs, of(server), [share], asyncio.Semaphore(1))
        outcome, meter = asyncio.run(connection.serve(lambda _: None))
        reading.join()
    replying.join()
    assert outcome == "used-up"
    assert 500_000 <= meter.received < 500_000 + 2 * CHUNK


def read_all(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


def test_client_of_an_old_version_gets_the_content_without_chunks(server: socket.socket) -> None:
    assert forwarded(server, CHUNKED + CHUNKS, version=b"1.0")[:2] == ("ok", b"hello")


def test_answer_to_head_has_no_body_even_if_it_names_chunks(server: socket.socket) -> None:
    assert forwarded(server, CHUNKED, method=b"HEAD")[:2] == ("ok", b"")


def test_bytes_that_come_with_the_greeting_count(server: socket.socket) -> None:
    """A run could else send 64 KiB with each connection, as often as it likes."""
    behind = bytes(20_000)
    replying = threading.Thread(target=reply_to, args=(server, len(HELLO + behind), ALERT))
    replying.start()
    ours, theirs = socket.socketpair()
    connect = b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % server.getsockname()[1]
    with ours:
        ours.sendall(connect + HELLO + behind)
        ours.shutdown(socket.SHUT_WR)
        one = unbounded()
        connection = BrokeredConnection(theirs, of(server), [one], asyncio.Semaphore(1))
        outcome, meter = asyncio.run(connection.serve(lambda _: None))
    replying.join()
    assert (outcome, meter.sent, meter.received) == ("ok", len(HELLO + behind), len(ALERT))
    assert one.left == one.bounds.bytes - meter.sent - meter.received


def reply_to(listener: socket.socket, size: int, answer: bytes) -> None:
    """Answer the first bytes, and then take all `size` bytes."""
    with listener.accept()[0] as sock:
        sock.settimeout(PATIENCE_S)
        left = size - len(sock.recv(65536))
        sock.sendall(answer)
        while left > 0 and (data := sock.recv(65536)):
            left -= len(data)
