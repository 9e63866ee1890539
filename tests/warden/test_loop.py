"""Events of the warden that arrive together."""

from __future__ import annotations

import selectors
import socket

from sandboxd.warden.loop import serve


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
