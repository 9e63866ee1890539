"""The control socket of a run, on which the warden's clients follow and steer the run.

The first connection comes with the order of the run, and watches the end of the run. Only the
warden can reach the directory of the socket. It may connect at any time, several times, and again
after a restart. The run does not depend on a connection.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..model import STEPS
from ..wire import messages
from ..wire.control_ops import WATCH

READERS_MAX = 16
"""Connections at one time."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """The progress of a run.

    console       position of the console's end
    journal       count of the events
    awaits_input  the program waits for input, after `inputs` input requests
    """

    console: int
    journal: int
    awaits_input: bool
    inputs: int = 0

    def beyond(self, known: RunProgress) -> bool:
        """Whether this progress has news for a reader who knows `known`."""
        more = self.console > known.console or self.journal > known.journal
        return more or self.awaits_input != known.awaits_input


END = RunProgress(messages.NUMBER_MAX, len(STEPS), False)
"""The watch of a reader that waits for the end of the run, which closes the connection, or until
the program waits for input."""


class Control:
    """The server of the socket. It answers `watch` when `progress()` has gone beyond the request,
    and passes every other request to `handle`, with its descriptors, which `handle` closes."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        listener: socket.socket,
        progress: Callable[[], RunProgress],
        handle: Callable[[dict[str, Any], list[int]], None],
    ) -> None:
        self._selector = selector
        self._listener = listener
        self._progress = progress
        self._handle = handle
        self._watches: dict[socket.socket, RunProgress | None] = {}
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def _accept(self, _: int) -> None:
        try:
            sock, _address = self._listener.accept()
        except OSError:
            return  # the client has gone, or descriptors are short: the client may try again
        if len(self._watches) >= READERS_MAX:
            sock.close()
            return
        self.add(sock)

    def add(self, sock: socket.socket, watch: RunProgress | None = None) -> None:
        """Serve a connection, of a reader that has sent this `watch`."""
        sock.setblocking(False)
        self._watches[sock] = watch
        self._selector.register(sock, selectors.EVENT_READ, lambda _: self._receive(sock))

    def _receive(self, sock: socket.socket) -> None:
        try:
            message, fds = messages.receive(sock)
        except BlockingIOError:
            return
        except (OSError, messages.WireError):
            message, fds = None, []
        if message is None:
            self._drop(sock)
        elif message.get("op") == WATCH.name:
            self._watches[sock] = RunProgress(
                messages.number(message, "console"),
                messages.number(message, "journal"),
                bool(message.get("waiting")),
            )
            messages.close_all(fds)
            self._answer(sock)
        else:
            self._handle(message, fds)

    def notify(self) -> None:
        """Answer the watches that the run has gone beyond."""
        for sock in list(self._watches):
            self._answer(sock)

    def _answer(self, sock: socket.socket) -> None:
        known, progress = self._watches[sock], self._progress()
        if known is None or not progress.beyond(known):
            return
        self._watches[sock] = None
        answer = {
            "console": progress.console, "journal": progress.journal,
            "waiting": progress.awaits_input, "inputs": progress.inputs,
        }  # fmt: skip
        try:
            messages.send(sock, answer)
        except OSError:  # there is one answer to a watch, so a full socket means a dead reader
            self._drop(sock)

    def close(self) -> None:
        """Close the socket and all connections: the run is over."""
        for sock in list(self._watches):
            self._drop(sock)
        self._selector.unregister(self._listener)
        self._listener.close()

    def _drop(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        del self._watches[sock]
        sock.close()
