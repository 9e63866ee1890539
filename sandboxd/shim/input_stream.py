"""The input that a client streams: the packets of a socket, written to the pipe of one step after
the other.

The api connects the socket, at most one at a time; a newer one replaces it, after the daemon was
restarted for example. wire/messages.py has the messages. A packet is read only when the pipe has
taken the one before. So the shim holds one packet at most, and a program that reads slowly holds
the client back through the kernel.

`taken` counts the bytes that were read from all sockets. Bytes in a socket that is replaced are not
counted: the client sends them again.

The steps share the input as the commands of a script do: the bytes that a step has not read are
for the next one.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable

from ..wire import messages
from .stdin import Stdin

_AT_ONCE = 16
"""Packets that are read in one round of the event loop."""


class InputStream:
    """The input of one run.

    received  called for each packet of data
    taken     bytes so far
    closed    no step reads any more: the rest is read and dropped
    """

    def __init__(
        self, selector: selectors.BaseSelector, received: Callable[[], None], closed: bool
    ) -> None:
        self._selector = selector
        self._received = received
        self._sock: socket.socket | None = None
        self._stdin: Stdin | None = None
        self._is_last = self._ended = False
        self._unread = b""
        self.taken = 0
        self.closed = closed

    @property
    def attached(self) -> bool:
        """Whether a client may send more."""
        return self._sock is not None and not self._ended

    def attach(self, fd: int) -> None:
        """Read from the socket `fd` from now on. It becomes the stream's own."""
        self.detach()
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(False)
        self._report()
        self.update()

    def begin(self, stdin: Stdin, is_last: bool) -> None:
        """Feed `stdin`, of a step that begins."""
        self._stdin, self._is_last = stdin, is_last
        unread, self._unread = self._unread, b""
        if unread or self._ended:
            stdin.write(unread, self._ended)
        self.update()

    def finish(self) -> None:
        """The step has ended, and its pipe is still open."""
        if self._stdin:
            self._unread = self._stdin.unread()
            self._stdin = None
        if self._is_last and not (self._ended or self.closed):
            self.closed = True
            self._report()
        self.update()

    def update(self) -> None:
        """Read from the socket only if there is a use for a packet now."""
        stdin = self._stdin
        if stdin and stdin.fd is None and self._is_last and not (self._ended or self.closed):
            self.closed = True
            self._report()
        if self._sock is None:
            return
        wanted = self.closed or self._ended or self._is_ready()
        watched = self._sock in self._selector.get_map()
        if wanted and not watched:
            self._selector.register(self._sock, selectors.EVENT_READ, self._receive)
        elif watched and not wanted:
            self._selector.unregister(self._sock)

    def _is_ready(self) -> bool:
        stdin = self._stdin
        return stdin is not None and stdin.fd is not None and not stdin.pending

    def _receive(self, _: int) -> None:
        for _round in range(_AT_ONCE):
            if self._sock is None or not (self.closed or self._ended or self._is_ready()):
                break
            try:
                packet = self._sock.recv(messages.INPUT_PIECE + 1)
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            if packet:
                self._handle(packet[:1], packet[1:])
            else:
                self.detach()
        self.update()

    def _handle(self, kind: bytes, data: bytes) -> None:
        if kind == messages.INPUT_DATA and not self._ended:
            self.taken += len(data)
            self._received()
            if self._stdin and not self.closed:
                self._stdin.write(data, False)
                self._stdin.streamed = True
        elif kind == messages.INPUT_END:
            self._ended = True
            if self._stdin:
                self._stdin.write(b"", True)
            self._report()
        elif kind == messages.INPUT_REPORT:
            self._report()

    def _report(self) -> None:
        if self._sock is None:
            return
        report = {"taken": self.taken, "ended": self._ended, "closed": self.closed}
        try:
            messages.send(self._sock, report)
        except OSError:  # reports are few, so a full socket means a dead reader
            self.detach()

    def detach(self) -> None:
        """Close the socket. The client may connect another."""
        if self._sock is None:
            return
        if self._sock in self._selector.get_map():
            self._selector.unregister(self._sock)
        self._sock.close()
        self._sock = None
