"""Packets: whole objects or an error, and descriptors that cannot leak."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator

import pytest

from sandboxd import wire

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ends
    for end in ends:
        end.close()


def test_message_arrives_with_its_descriptors(pair: Pair) -> None:
    with open("/dev/null") as null:
        wire.send(pair[0], {"op": "start", "run": 1}, [null.fileno(), null.fileno()])
    message, fds = wire.receive(pair[1])
    assert message == {"op": "start", "run": 1}
    assert len(fds) == 2
    wire.close_all(fds)


def test_received_descriptor_does_not_survive_exec(pair: Pair) -> None:
    with open("/dev/null") as null:
        wire.send(pair[0], {}, [null.fileno()])
    _, fds = wire.receive(pair[1])
    assert fcntl.fcntl(fds[0], fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    wire.close_all(fds)


@pytest.mark.parametrize("packet", [b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b"7"])
def test_packet_that_is_no_object_is_refused(pair: Pair, packet: bytes) -> None:
    pair[0].send(packet)
    with pytest.raises(wire.WireError):
        wire.receive(pair[1])


def test_descriptors_of_a_refused_packet_are_closed(pair: Pair) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with open("/dev/null") as null:
        socket.send_fds(pair[0], [b"nonsense"], [null.fileno()])
    with pytest.raises(wire.WireError):
        wire.receive(pair[1])
    assert len(os.listdir("/proc/self/fd")) == before


def test_too_large_a_message_is_not_sent(pair: Pair) -> None:
    with pytest.raises(wire.WireError, match="at most"):
        wire.send(pair[0], {"text": "x" * wire.PACKET})


def test_end_of_the_conversation(pair: Pair) -> None:
    pair[0].close()
    assert wire.receive(pair[1]) == (None, [])
