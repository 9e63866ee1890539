"""The link of a run to the broker: it ends with the run, also when the shim stays for another."""

from __future__ import annotations

import selectors
import socket

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
