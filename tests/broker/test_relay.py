"""The relay of bytes: all of them, in their order, by copies and through pipes."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest

from sandboxd.broker import relay
from sandboxd.broker.outcomes import Stopped
from sandboxd.broker.relay import LONG, PIPE, PIPES_MAX, Meter, Pipes, copy
from sandboxd.broker.shares import NetworkBounds, Share

LIMIT_S = 20
DATA = random.Random(1).randbytes(3 * LONG)

Pair = tuple[socket.socket, socket.socket]


def meter(rate: int = 1 << 40, size: int = 1 << 40) -> Meter:
    return Meter([Share(NetworkBounds(1, size, rate), lambda: 0.0)], 60)


def connected() -> Pair:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    for end in (one, other):
        end.setblocking(False)
    return one, other


@pytest.fixture
def pairs() -> Iterator[tuple[Pair, Pair]]:
    """The connections of a source and of a destination; the relay has the second ends."""
    one, other = connected(), connected()
    yield one, other
    for end in (*one, *other):
        end.close()


@pytest.fixture
def pipes(monkeypatch: pytest.MonkeyPatch) -> Pipes:
    own = Pipes()
    monkeypatch.setattr(relay, "PIPES", own)
    return own


def go(act: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LIMIT_S):
            await act()

    asyncio.run(bounded())


async def received(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (more := await asyncio.get_running_loop().sock_recv(sock, 99999)):
        data += more
    return bytes(data)


@pytest.mark.parametrize("taken", [0, PIPES_MAX])
def test_long_transfer_arrives_whole_with_pipes_and_where_all_are_taken(
    pairs: tuple[Pair, Pair], pipes: Pipes, taken: int
) -> None:
    (source, ours), (destination, theirs) = pairs
    held = [pipes.take() for _ in range(taken)]
    assert all(held)

    async def act() -> None:
        loop, counter = asyncio.get_running_loop(), meter()
        reading = asyncio.create_task(received(destination, len(DATA)))
        copying = asyncio.create_task(copy(ours, theirs, counter, False))
        await loop.sock_sendall(source, DATA)
        source.shutdown(socket.SHUT_WR)
        assert await reading == DATA
        assert await copying == counter.received == len(DATA)

    go(act)
    used = pipes.take()
    assert (used is None) == bool(taken)
    for pipe in (*held, used):
        if pipe:
            pipes.put_back(pipe, False)


def test_bytes_behind_the_size_stay_in_the_source(pairs: tuple[Pair, Pair], pipes: Pipes) -> None:
    (source, ours), (destination, theirs) = pairs
    size = LONG + 12345

    async def act() -> None:
        loop = asyncio.get_running_loop()
        reading = asyncio.create_task(received(destination, size))
        copying = asyncio.create_task(copy(ours, theirs, meter(), False, size))
        await loop.sock_sendall(source, DATA[:size] + b"behind")
        assert await copying == size
        assert await reading == DATA[:size]
        assert await loop.sock_recv(ours, 100) == b"behind"

    go(act)


def test_bytes_that_a_slow_reader_leaves_in_a_pipe_reach_no_other_connection(
    pairs: tuple[Pair, Pair], pipes: Pipes
) -> None:
    (source, ours), (destination, theirs) = pairs

    async def act() -> None:
        loop, counter = asyncio.get_running_loop(), meter()
        sending = asyncio.create_task(loop.sock_sendall(source, bytes(40 * LONG)))
        copying = asyncio.create_task(copy(ours, theirs, counter, False))
        await received(destination, 2 * LONG)
        while not pipes.taken:  # the transfer waits for its reader, with a pipe
            await asyncio.sleep(0)
        for task in (sending, copying):
            task.cancel()
        await asyncio.gather(sending, copying, return_exceptions=True)

    go(act)
    pipe = pipes.take()
    assert pipe
    with pytest.raises(BlockingIOError):
        os.read(pipe[0], 1)
    pipes.put_back(pipe, False)


def test_pipes_have_a_bound(pipes: Pipes) -> None:
    taken = [pipe for _ in range(PIPES_MAX + 1) if (pipe := pipes.take())]
    assert len(taken) == PIPES_MAX
    pipes.put_back(taken.pop(), True)
    again = pipes.take()
    assert again
    for pipe in (*taken, again):
        pipes.put_back(pipe, False)


@pytest.mark.parametrize(("rate", "piece"), [(1, 4096), (80_000, 10_000), (1 << 40, PIPE)])
def test_slow_rate_passes_small_pieces(rate: int, piece: int) -> None:
    assert meter(rate).piece == piece


def test_transfer_ends_with_the_bytes_of_the_day(pairs: tuple[Pair, Pair], pipes: Pipes) -> None:
    (source, ours), (destination, theirs) = pairs

    async def act() -> None:
        loop = asyncio.get_running_loop()
        counter = meter(size=2 * LONG)
        sending = asyncio.create_task(loop.sock_sendall(source, DATA))
        reading = asyncio.create_task(received(destination, len(DATA)))
        with pytest.raises(Stopped, match="used up"):
            await copy(ours, theirs, counter, False)
        assert 2 * LONG <= counter.received < 2 * LONG + counter.piece
        for task in (sending, reading):
            task.cancel()

    go(act)


def test_reader_that_takes_nothing_ends_its_connection(
    pairs: tuple[Pair, Pair], pipes: Pipes
) -> None:
    (source, ours), (_, theirs) = pairs

    async def act() -> None:
        loop = asyncio.get_running_loop()
        counter = Meter([Share(NetworkBounds(1, 1 << 40, 1 << 40), lambda: 0.0)], 0.1)
        sending = asyncio.create_task(loop.sock_sendall(source, bytes(40 * LONG)))
        with pytest.raises(Stopped, match="no byte has come"):
            async with counter.idle_bound():
                await copy(ours, theirs, counter, False)
        sending.cancel()

    go(act)
    assert pipes.taken == 0


@pytest.mark.parametrize("size", [relay.CHUNK, len(DATA)])
def test_bytes_for_a_reader_that_leaves_in_the_middle_count(
    pairs: tuple[Pair, Pair], pipes: Pipes, size: int
) -> None:
    """A run could else have most of each piece without an effect on its bytes of the day: `size` is
    for a piece that is copied, or goes through a pipe."""
    (source, ours), (destination, theirs) = pairs
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    least = size - relay.CHUNK if size < LONG else size - PIPE
    counter = meter()

    async def act() -> None:
        loop = asyncio.get_running_loop()
        copying = asyncio.create_task(copy(ours, theirs, counter, False))
        sending = asyncio.create_task(loop.sock_sendall(source, DATA[:size]))
        had = len(await received(destination, least + 1))
        destination.close()
        source.shutdown(socket.SHUT_RD)
        with pytest.raises(OSError):
            await copying
        ours.close()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert counter.received >= had > least

    go(act)
