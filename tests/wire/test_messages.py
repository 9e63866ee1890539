"""Packets: whole objects or an error, and descriptors that do not stay open."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import cast

import pytest

from sandboxd.wire import messages

from ..descriptors import open_descriptors

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ends
    for end in ends:
        end.close()


def test_message_arrives_with_its_descriptors(pair: Pair) -> None:
    with open("/dev/null") as null:
        messages.send(pair[0], {"op": "start", "run": 1}, [null.fileno(), null.fileno()])
    message, fds = messages.receive(pair[1])
    assert message == {"op": "start", "run": 1}
    assert len(fds) == 2
    messages.close_all(fds)


def test_received_descriptor_does_not_survive_exec(pair: Pair) -> None:
    with open("/dev/null") as null:
        messages.send(pair[0], {}, [null.fileno()])
    _, fds = messages.receive(pair[1])
    assert fcntl.fcntl(fds[0], fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    messages.close_all(fds)


@pytest.mark.parametrize("packet", [b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b"7"])
def test_packet_that_is_no_object_is_refused(pair: Pair, packet: bytes) -> None:
    pair[0].send(packet)
    with pytest.raises(messages.WireError):
        messages.receive(pair[1])


def test_descriptors_of_a_refused_packet_are_closed(pair: Pair) -> None:
    before = open_descriptors()
    with open("/dev/null") as null:
        socket.send_fds(pair[0], [b"nonsense"], [null.fileno()])
    with pytest.raises(messages.WireError):
        messages.receive(pair[1])
    assert open_descriptors() <= before


def test_message_comes_without_its_descriptors_when_none_is_left_and_the_next_one_arrives(
    pair: Pair,
) -> None:
    before = open_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open("/dev/null") as null:
        messages.send(pair[0], {"id": 1}, [null.fileno()] * 3)
    highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    try:
        with ExitStack() as stack:
            with suppress(OSError):
                while True:
                    stack.callback(os.close, os.dup(0))
            with pytest.raises(messages.Starved) as starved:
                messages.receive(pair[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert starved.value.message == {"id": 1}
    assert open_descriptors() <= before
    messages.send(pair[0], {"id": 2})
    assert messages.receive(pair[1]) == ({"id": 2}, [])


def test_message_that_is_too_large_is_not_sent(pair: Pair) -> None:
    with pytest.raises(messages.WireError, match="at most"):
        messages.send(pair[0], {"text": "x" * messages.PACKET})


def test_closed_socket_is_the_end_of_the_conversation(pair: Pair) -> None:
    pair[0].close()
    assert messages.receive(pair[1]) == (None, [])


def test_send_waits_while_the_kernel_collects_descriptors_of_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A program may have sent descriptors to itself and left them behind (ETOOMANYREFS)."""

    class Full:
        tries = 0

        def sendmsg(self, data: object, ancillary: object) -> None:
            self.tries += 1
            if self.tries < 3:
                raise OSError(errno.ETOOMANYREFS, "Too many references")

    full = Full()
    messages.send(cast("socket.socket", full), {"op": "start"}, [0])
    assert full.tries == 3
    monkeypatch.setattr(messages, "IN_FLIGHT_S", 0.05)
    full.tries = -1000
    with pytest.raises(OSError, match="Too many references"):
        messages.send(cast("socket.socket", full), {"op": "start"}, [0])


def test_buffer_of_messages_keeps_nothing_that_a_child_of_this_process_could_read(
    pair: Pair,
) -> None:
    messages.send(pair[0], {"environ": {"TOKEN": "secret"}})
    message, _ = messages.receive(pair[1])
    assert message == {"environ": {"TOKEN": "secret"}}
    assert messages._buffers and not any(any(buffer) for buffer in messages._buffers)
