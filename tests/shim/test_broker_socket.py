"""The link of a run to the broker: it ends with the run, also when the shim stays for another."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator

import pytest

from sandboxd.shim import broker_socket
from sandboxd.shim.broker_socket import BrokerSocket
from sandboxd.wire import messages


def test_broker_of_a_run_that_is_over_gets_no_connection_of_the_next_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old link has the listening socket, too. A connection that came to it before the next run
    had its own link was cut with it, and the audit log named the earlier run."""
    monkeypatch.setattr(broker_socket, "PORT", 0)
    run = BrokerSocket()
    for _ in range(2):
        selector = selectors.PollSelector()
        run.begin(selector, lambda _: None)
        assert not selector.get_map(), "a run begins without a link"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            run.attach(theirs.detach())
            message, fds = messages.receive(ours)
            messages.close_all(fds)
            assert (message, len(fds)) == ({"listener": True}, 1)
            run.end()
            ours.setblocking(False)
            assert messages.receive(ours) == (None, [])
        assert not selector.get_map()
        selector.close()
    run._listener.close()


class Run:
    """A run whose broker cannot be started, and its console."""

    def __init__(self) -> None:
        self.socket = BrokerSocket()
        self.begin()

    def begin(self) -> None:
        self.selector, self.log = selectors.PollSelector(), list[str]()
        self.socket.begin(self.selector, self.log.append)

    @property
    def watches(self) -> int:
        return len(self.selector.get_map())

    def ask(self) -> bytes:
        """The answer to one more connection; b"": it waits."""
        with socket.create_connection(self.socket._listener.getsockname()) as client:
            client.sendall(b"CONNECT index.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
            while events := self.selector.select(0):
                for key, _ in events:
                    key.data(key.fd)
            client.setblocking(False)
            try:
                return client.recv(4096)
            except BlockingIOError:
                return b""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr(broker_socket, "PORT", 0)
    run = Run()
    yield run
    run.socket.end()
    run.socket._listener.close()


def test_connections_wait_until_the_warden_says_that_there_is_no_broker(run: Run) -> None:
    assert run.ask() == b""
    run.socket.turn_away()
    assert run.ask().startswith(b"HTTP/1.1 503 ")


def test_connections_that_are_turned_away_have_one_line_in_the_console_of_each_run(
    run: Run,
) -> None:
    run.socket.turn_away()
    run.socket.turn_away()
    for _ in range(2):
        assert [run.ask().split()[1] for _ in range(3)] == [b"503"] * 3
        assert run.log == list(run.socket.refusals) == [broker_socket.NO_BROKER]
        run.socket.end()
        assert run.watches == 0
        run.begin()


def test_connections_of_a_run_that_has_a_link_again_are_the_brokers(run: Run) -> None:
    run.socket.turn_away()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        run.socket.attach(theirs.detach())
        assert run.ask() == b""
        assert run.log == []
        run.socket.turn_away()
        assert run.ask().startswith(b"HTTP/1.1 503 ")


def test_flood_of_connections_does_not_keep_the_shim(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_socket, "TURNED_AWAY_MAX", 3)
    run.socket.turn_away()
    assert [bool(run.ask()) for _ in range(4)] == [True] * 3 + [False]
    assert run.watches == 0
