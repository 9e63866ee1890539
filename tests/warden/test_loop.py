"""Events of the warden that arrive together."""

from __future__ import annotations

import os
import selectors
import signal
import socket
from unittest import mock

import pytest

from sandboxd.crash import TracePipe
from sandboxd.warden.loop import Api, WardenLoop, serve

from ..sandbox import BareWarden


def test_event_of_a_socket_that_an_act_before_has_closed_is_passed_over() -> None:
    """The api's request takes an entry whose end has arrived at the same moment."""
    served: list[str] = []
    pairs = [socket.socketpair() for _ in range(2)]
    (first, one), (second, other) = pairs
    with selectors.DefaultSelector() as selector, first, one, second, other:

        def act(name: str, victim: socket.socket) -> None:
            served.append(name)
            selector.unregister(victim)
            victim.close()

        selector.register(first, selectors.EVENT_READ, lambda: act("first", second))
        selector.register(second, selectors.EVENT_READ, lambda: act("second", first))
        for end in (one, other):
            end.send(b"x")
        serve(selector, selector.select())
        assert len(served) == 1


@pytest.mark.root
def test_signal_to_stop_that_comes_when_the_api_has_been_collected_ends_nothing_else(
    warden: BareWarden, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (pid := os.fork()) == 0:
        os._exit(0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        loop = WardenLoop(
            warden.resources, Api(pid, ours, TracePipe()), mock.Mock(), mock.Mock(), mock.Mock()
        )
        os.waitpid(pid, 0)
        with monkeypatch.context() as patch:
            patch.setattr(os, "kill", mock.Mock(side_effect=ProcessLookupError))
            loop._stop()
            loop._stop()
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN
