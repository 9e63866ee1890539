"""The control socket of a run: who follows it, and what they want. See wire.py.

Anybody who holds the socket's directory, that is the warden, may connect at any time, more
than once and again after a restart; the run does not depend on anyone being there.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import wire

READERS_MAX = 16


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far the run is: end of its console, number of its events, waiting for input after so
    many input requests."""

    console: int
    journal: int
    waiting: bool
    inputs: int = 0

    def beyond(self, seen: RunProgress) -> bool:
        """There is something that a reader who knows `seen` does not know yet."""
        more = self.console > seen.console or self.journal > seen.journal
        return more or self.waiting != seen.waiting


class Control:
    """Answers `watch` when `state()` has gone beyond it; hands every other request to `act`."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        listener: socket.socket,
        state: Callable[[], RunProgress],
        act: Callable[[dict[str, Any]], None],
    ) -> None:
        self._selector = selector
        self._listener = listener
        self._state = state
        self._act = act
        self._watches: dict[socket.socket, RunProgress | None] = {}
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def _accept(self, _: int) -> None:
        try:
            sock, _address = self._listener.accept()
        except OSError:
            return  # it went away again, or descriptors are short: it may try once more
        if len(self._watches) >= READERS_MAX:
            sock.close()
            return
        sock.setblocking(False)
        self._watches[sock] = None
        self._selector.register(sock, selectors.EVENT_READ, lambda _: self._receive(sock))

    def _receive(self, sock: socket.socket) -> None:
        try:
            message = wire.receive_plain(sock)
        except BlockingIOError:
            return
        if message is None:
            self._drop(sock)
        elif message.get("op") == "watch":
            self._watches[sock] = RunProgress(
                int(message.get("console", 0)),
                int(message.get("journal", 0)),
                bool(message.get("waiting")),
            )
            self._answer(sock)
        else:
            self._act(message)

    def notify(self) -> None:
        """The run has moved on: tell those who wait for it."""
        for sock in list(self._watches):
            self._answer(sock)

    def _answer(self, sock: socket.socket) -> None:
        seen, state = self._watches[sock], self._state()
        if seen is None or not state.beyond(seen):
            return
        self._watches[sock] = None
        answer = {
            "console": state.console, "journal": state.journal, "waiting": state.waiting,
            "inputs": state.inputs,
        }  # fmt: skip
        try:
            wire.send(sock, answer)
        except OSError:  # one answer a watch: a reader that does not take it is gone
            self._drop(sock)

    def _drop(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        del self._watches[sock]
        sock.close()
