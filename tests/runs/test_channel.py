"""A channel hands on whole packets, holds back the sender, and ends everybody when closed."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from sandboxd.runs.channel import Channel
from sandboxd.wire.messages import WireError


def pair() -> tuple[Channel, Channel]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(ours), Channel(theirs)


def test_message_arrives_whole_with_its_descriptors() -> None:
    async def go() -> None:
        ours, theirs = pair()
        fd = os.memfd_create("x")
        await ours.send_message({"op": "x"}, [fd])
        message, fds = await theirs.receive_message()
        assert message == {"op": "x"} and len(fds) == 1
        os.close(fd)
        os.close(fds[0])
        ours.close()
        theirs.close()

    asyncio.run(go())


def test_sender_waits_for_a_slow_receiver() -> None:
    async def go() -> int:
        ours, theirs = pair()

        async def flood() -> None:
            for _ in range(100):
                await ours.send_packet(b"x" * 60_000)

        sender = asyncio.create_task(flood())
        await asyncio.sleep(0.05)
        assert not sender.done()
        received = 0
        for _ in range(100):
            received += len(await theirs.receive_packet(1 << 17))
        await sender
        ours.close()
        assert await theirs.receive_packet(10) == memoryview(b"")
        theirs.close()
        return received

    assert asyncio.run(go()) == 6_000_000


def test_closed_channel_ends_its_receiver_and_its_sender() -> None:
    async def go() -> None:
        ours, theirs = pair()
        receiver = asyncio.create_task(ours.receive_message())
        await asyncio.sleep(0)
        ours.close()
        ours.close()
        assert await receiver == (None, [])
        with pytest.raises(OSError):
            await ours.send_packet(b"x")
        with pytest.raises(OSError):
            await theirs.send_packet(b"x")
        theirs.close()

    asyncio.run(go())


def test_packet_that_is_not_a_message_is_an_error() -> None:
    async def go() -> None:
        ours, theirs = pair()
        await ours.send_packet(b"[1]")
        with pytest.raises(WireError):
            await theirs.receive_message()
        ours.close()
        theirs.close()

    asyncio.run(go())
