"""The stream of a client's input: every byte, in order, to the steps that read it."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Iterator

import pytest

from sandboxd.shim.input_stream import InputStream
from sandboxd.shim.stdin import Stdin
from sandboxd.wire import messages


class Client:
    """The api's end of a stream, and the event loop of the shim."""

    def __init__(self, closed: bool = False) -> None:
        self.selector = selectors.PollSelector()
        self.received = 0
        self.stream = InputStream(self.selector, self._count, closed)
        self.sock = self.connect()
        self._pipes: list[int] = []

    def _count(self) -> None:
        self.received += 1

    def connect(self) -> socket.socket:
        """A new connection, in place of the one before."""
        self.sock, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        self.stream.attach(end.detach())
        return self.sock

    def begin(self, is_last: bool = True) -> Stdin:
        """A step that begins; its program reads `child`."""
        stdin = Stdin(self.selector, self.stream.update, is_last)
        os.set_blocking(stdin.child, False)
        self._pipes.append(stdin.child)
        self.stream.begin(stdin, is_last)
        return stdin

    def end(self, stdin: Stdin) -> None:
        """The end of a step."""
        self.stream.finish()
        stdin.finish()

    def send(self, kind: bytes, data: bytes = b"") -> None:
        """Send a packet, and let the shim handle its events."""
        self.sock.send(kind + data)
        self.serve()

    def serve(self) -> None:
        """Handle all events that there are."""
        while events := self.selector.select(0):
            for key, _ in events:
                key.data(key.fd)

    def report(self) -> tuple[int, bool, bool]:
        """The next report: taken, ended, closed."""
        message, _ = messages.receive(self.sock)
        assert message is not None
        return message["taken"], message["ended"], message["closed"]

    def read(self, stdin: Stdin) -> bytes:
        """All that a program can read now; the shim goes on meanwhile."""
        data = b""
        self.serve()
        while True:
            try:
                piece = os.read(stdin.child, 1 << 20)
            except BlockingIOError:
                piece = b""
            self.serve()
            data += piece
            if not piece:
                return data

    def close(self) -> None:
        """Close everything."""
        self.sock.close()
        self.serve()
        self.selector.close()
        for pipe in self._pipes:
            os.close(pipe)


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.close()


def test_bytes_of_any_value_arrive_in_order(client: Client) -> None:
    stdin = client.begin()
    data = bytes(range(256)) * 8
    client.send(messages.INPUT_DATA, data[:1000])
    client.send(messages.INPUT_DATA, data[1000:])
    assert client.read(stdin) == data and client.received == 2
    client.send(messages.INPUT_END)
    assert client.report() == (0, False, False) and client.report() == (2048, True, False)
    assert stdin.fd is None  # a reader gets the end


def test_program_that_does_not_read_holds_its_client_back(client: Client) -> None:
    stdin, piece = client.begin(), b"x" * messages.INPUT_PIECE
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            client.send(messages.INPUT_DATA, piece)
            sent += len(piece)
    assert client.stream.taken <= 3 * messages.INPUT_PIECE  # the pipe, and one packet
    assert len(stdin.pending) <= messages.INPUT_PIECE
    assert len(client.read(stdin)) == sent == client.stream.taken


def test_nothing_is_read_before_a_step_begins(client: Client) -> None:
    client.send(messages.INPUT_DATA, b"early")
    assert client.stream.taken == 0
    assert client.read(client.begin()) == b"early"


def test_steps_share_the_input_and_no_byte_is_lost_between_them(client: Client) -> None:
    build = client.begin(is_last=False)
    client.send(messages.INPUT_DATA, b"for the build\nfor exec\n")
    assert os.read(build.child, 14) == b"for the build\n"
    client.end(build)
    exec = client.begin()
    client.send(messages.INPUT_DATA, b"more\n")
    assert client.read(exec) == b"for exec\nmore\n"


def test_end_of_input_during_the_build_is_the_end_for_exec_too(client: Client) -> None:
    build = client.begin(is_last=False)
    client.send(messages.INPUT_DATA, b"unread")
    client.send(messages.INPUT_END)
    client.end(build)
    exec = client.begin()
    assert client.read(exec) == b"unread" and exec.fd is None


def test_new_connection_goes_on_behind_the_bytes_that_were_taken(client: Client) -> None:
    stdin, piece = client.begin(), b"x" * messages.INPUT_PIECE
    first = client.sock
    with pytest.raises(BlockingIOError):
        while True:
            client.send(messages.INPUT_DATA, piece)
    taken = client.stream.taken
    client.connect()
    assert client.report() == (taken, False, False)
    client.serve()
    client.send(messages.INPUT_DATA, b"tail")
    assert client.read(stdin) == b"x" * taken + b"tail"
    first.close()


def test_program_that_reads_no_more_gets_the_rest_dropped(client: Client) -> None:
    stdin = client.begin()
    os.dup2(os.open("/dev/null", os.O_RDONLY), stdin.child)  # the last reading end is gone
    client.send(messages.INPUT_DATA, b"x")
    assert client.report() == (0, False, False) and client.report() == (1, False, True)
    for _ in range(20):
        client.send(messages.INPUT_DATA, b"x" * messages.INPUT_PIECE)
    client.send(messages.INPUT_END)
    assert client.report()[2]


def test_end_of_the_last_step_closes_the_stream(client: Client) -> None:
    client.report()
    client.end(client.begin())
    assert client.report() == (0, False, True)


def test_end_of_an_earlier_step_does_not(client: Client) -> None:
    client.report()
    client.end(client.begin(is_last=False))
    client.send(messages.INPUT_REPORT)
    assert client.read(client.begin()) == b""
    assert client.report() == (0, False, False)


def test_run_with_input_of_its_own_is_closed_from_the_beginning() -> None:
    client = Client(closed=True)
    assert client.report() == (0, False, True)
    client.close()


@pytest.mark.parametrize("packet", [b"", b"X", b"Xyz", b"D"])
def test_nonsense_from_a_client_harms_nothing(client: Client, packet: bytes) -> None:
    stdin = client.begin()
    client.sock.send(packet)
    client.serve()
    assert client.read(stdin) == b"" and client.stream.taken == 0


def test_data_after_the_end_is_not_input(client: Client) -> None:
    client.begin()
    client.send(messages.INPUT_END)
    client.send(messages.INPUT_DATA, b"late")
    assert client.stream.taken == 0
