"""The connections of runs: their bounds, and what becomes of those beyond them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from sandboxd.broker import open_connections as connections_module
from sandboxd.broker.open_connections import OpenConnections
from sandboxd.broker.shares import NetworkBounds
from sandboxd.config.network_profiles import NetworkConfig
from sandboxd.wire import messages

from .links import Run, bounded, eventually, serving


async def whole(sock: socket.socket) -> bytes:
    """All bytes of a connection up to its end."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := await asyncio.get_running_loop().sock_recv(sock, 65536):
            data += more
    return data


async def many(run: Run, count: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    return [stack.enter_context(await run.connect()) for _ in range(count)]


def test_connections_beyond_the_bound_wait_and_get_the_places_that_become_free() -> None:
    async def act() -> None:
        async with serving(3, 99) as world:
            run = world.run()
            first = await many(run, 3, world.stack)
            await eventually(lambda: world.broker.connections.open == 3)
            later = await many(run, 2, world.stack)
            for sock in first:
                sock.close()
            for sock in later:
                await asyncio.get_running_loop().sock_sendall(sock, b"GET / HTTP/1.1\r\n\r\n")
                assert b" 400 " in await whole(sock)
            assert world.broker.connections.outcomes == {"cut": 3, "bad-request": 2}

    bounded(act)


def test_connections_beyond_a_bound_that_stays_reached_are_refused_and_reported_once() -> None:
    async def act() -> None:
        async with serving(3, 99, connect_s=0.01) as world:
            run, other = world.run(), world.run("t")
            held = await many(run, 3, world.stack)
            await eventually(lambda: world.broker.connections.open == 3)
            for sock in await many(run, 20, world.stack):
                answer = await whole(sock)
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"the session has 3 connections open, the bound of profile p" in answer
            messages = await run.messages()
            text = "the session has 3 connections open, the bound of profile p"
            assert messages == [{"refused": text}] * 20  # the shim tells the same text once
            assert world.broker.connections.outcomes == {"too-many": 20}
            await many(other, 3, world.stack)
            await eventually(lambda: world.broker.connections.open == 6)
            held[0].close()
            await eventually(lambda: world.broker.connections.open == 5)
            (again,) = await many(run, 1, world.stack)
            await eventually(lambda: world.broker.connections.open == 6)
            again.close()

    bounded(act)


def test_sessions_of_one_owner_have_its_connections_together() -> None:
    async def act() -> None:
        async with serving(8, 10, connect_s=0.01) as world:
            runs = [world.run(str(number)) for number in range(4)]
            tasks = [asyncio.create_task(many(run, 8, world.stack)) for run in runs]
            socks = [sock for task in tasks for sock in await task]
            await eventually(lambda: world.broker.connections.outcomes["too-many"] == 22)
            assert world.broker.connections.open == 10
            other = await many(world.run("5", "another"), 8, world.stack)
            await eventually(lambda: world.broker.connections.open == 18)
            assert len(socks) + len(other) == 40

    bounded(act)


def test_all_runs_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections_module, "CONNECTIONS_MAX", 5)

    async def act() -> None:
        async with serving(4, 8, connect_s=0.01) as world:
            for owner in ("o", "p"):
                await many(world.run(owner, owner), 4, world.stack)
            await eventually(lambda: world.broker.connections.outcomes["too-many"] == 3)
            assert world.broker.connections.open == 5

    bounded(act)


@contextlib.contextmanager
def no_descriptor() -> Iterator[None]:
    """Leave this process no further descriptor."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_want_of_descriptors_pauses_and_takes_no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []
    take = socket.socket.accept

    def accept(listener: socket.socket) -> tuple[socket.socket, object]:
        tries.append(1)
        return take(listener)

    async def act() -> None:
        async with serving(9, 9) as world:
            run = world.run()
            await eventually(lambda: any(link._ready for link in world.broker.links))
            with socket.socket() as sock:
                monkeypatch.setattr(socket.socket, "accept", accept)
                with no_descriptor():
                    sock.setblocking(False)
                    await asyncio.get_running_loop().sock_connect(sock, run.address)
                    for _ in range(200):  # as often as a loop without a pause would try
                        await asyncio.sleep(0)
                    assert len(tries) == 1
                await eventually(lambda: world.broker.connections.open == 1)

    bounded(act)


def test_link_for_which_no_descriptor_is_free_is_made_again() -> None:
    async def act() -> None:
        async with serving(9, 9) as world:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, theirs:
                of = {"owner": "o", "profile": "p", "hosts": [], "session": "s", "run": 7}
                messages.send(world.warden, {"link": of}, [theirs.fileno()])
                with no_descriptor():
                    for _ in range(10):
                        await asyncio.sleep(0)
            assert messages.receive_plain(world.warden) == {"lost": {"session": "s", "run": 7}}
            assert not world.broker.links

    bounded(act)


def test_session_that_has_used_bytes_up_does_not_get_them_anew_by_many_sessions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections_module, "SHARES_MAX", 50)
    connections, bounds = OpenConnections(NetworkConfig(), {}), NetworkBounds(1, 1000, 1000)
    keys = [("owner", "o", "p"), ("session", "s")]
    for key in keys:
        connections.share(key, bounds).spend(1000)
    for number in range(500):
        connections.share(("session", str(number)), bounds).spend(1)
    assert all(connections.share(key, bounds).is_used_up for key in keys)


def test_run_whose_listening_socket_found_no_descriptor_is_linked_again() -> None:
    async def act() -> None:
        async with serving(9, 9) as world:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, theirs, socket.create_server(("127.0.0.1", 0)) as listener:
                of = {"owner": "o", "profile": "p", "hosts": [], "session": "s", "run": 7}
                messages.send(world.warden, {"link": of}, [theirs.fileno()])
                await eventually(lambda: len(world.broker.links) == 1)
                messages.send(ours, {"listener": True}, [listener.fileno()])
                with no_descriptor():
                    for _ in range(10):
                        await asyncio.sleep(0)
                assert messages.receive_plain(world.warden) == {"lost": {"session": "s", "run": 7}}
                await eventually(lambda: not world.broker.links)

    bounded(act)
